"""What a value of a loop's body is for all steps at once."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stacked"]


@dataclass(frozen=True)
class Stacked:
    """A body's value for all steps, along a new first axis, in the graph around."""

    name: str
    rank: int | None  #: of the value of one step
    heavy: bool  #: whether a product or a layer is in it, so that it is worth taking out
