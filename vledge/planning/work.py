"""What each strategy does with sequences of given lengths, as its own file counts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vledge.lengths.strategies import STRATEGIES
from vledge.lengths.strategies.work import Case, Work
from vledge.recurrent.shape import LayerShape

__all__ = ["left_out", "work"]

# Bytes of a chunk's projected input and of the state that the kernel holds besides.
SCRATCH = 512 * 1024


def left_out(form: str, backwards: bool = False) -> dict[str, str]:
    """The strategies that cannot run a form or a layer, and why."""
    reasons = {
        name: strategy.refused[form]
        for name, strategy in STRATEGIES.items()
        if form in strategy.refused
    }
    if backwards:
        for name, strategy in STRATEGIES.items():
            if strategy.forward_only:
                reasons[name] = "begins before a sequence's end is known: forward layers only"
    return reasons


def work(strategy: str, case: Case, shape: LayerShape, options: Mapping[str, int]) -> Work:
    """What the strategy does with the case; its peak with the kernel's own memory."""
    done = STRATEGIES[strategy].work(case, shape, **options)
    return replace(done, peak=done.peak + SCRATCH)
