"""Every way of handling sequences of different lengths, with one answer."""

from vledge.lengths.semantics import PRESETS, Semantics
from vledge.lengths.strategies import STRATEGIES, run

__all__ = ["PRESETS", "STRATEGIES", "Semantics", "run"]
