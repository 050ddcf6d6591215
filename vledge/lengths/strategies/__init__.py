"""The table of strategies, made from the file of each."""

from __future__ import annotations

from typing import Final

from vledge.lengths.strategies.bucketed import BUCKETED
from vledge.lengths.strategies.lanes import LANES
from vledge.lengths.strategies.masked import MASKED
from vledge.lengths.strategies.packed import PACKED
from vledge.lengths.strategies.padded import PADDED
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.streaming import STREAMING

__all__ = ["AUTO", "STRATEGIES", "named", "natural"]

STRATEGIES: Final[dict[str, Strategy]] = {
    strategy.name: strategy for strategy in (PADDED, PACKED, MASKED, BUCKETED, LANES, STREAMING)
}

#: The name for what :func:`vledge.plan` ranks first.
AUTO: Final = "auto"

_NATURAL: Final = {form: one.name for one in STRATEGIES.values() for form in one.natural_for}


def natural(form: str) -> Strategy:
    """The strategy that runs a form as it is."""
    return STRATEGIES[_NATURAL[form]]


def named(strategy: str) -> Strategy:
    """The strategy of a name; ValueError for an unknown one."""
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy is {strategy!r}, expected one of "
            + ", ".join(map(repr, [*STRATEGIES, AUTO]))
        )
    return STRATEGIES[strategy]
