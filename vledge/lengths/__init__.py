"""Every way of handling sequences of different lengths, with one answer."""

from vledge.lengths.many import run_many
from vledge.lengths.pooling import last_output, max_over_steps, mean_over_steps, truncate
from vledge.lengths.semantics import PRESETS, Semantics
from vledge.lengths.states import initial_state, keep_states
from vledge.lengths.strategies import STRATEGIES, run
from vledge.lengths.windows import windows

__all__ = [
    "PRESETS",
    "STRATEGIES",
    "Semantics",
    "initial_state",
    "keep_states",
    "last_output",
    "max_over_steps",
    "mean_over_steps",
    "run",
    "run_many",
    "truncate",
    "windows",
]
