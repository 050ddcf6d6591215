"""Rows that hold no sequence a model can run: why, how many, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np

__all__ = ["MOST_PLACES", "POLICIES", "BadRows", "Reason", "checked_policy"]

#: What becomes of them: the file fails, their outputs are null, or they are left out.
POLICIES: Final = ("error", "null", "skip")
#: Rows that are remembered by their place; beyond that they are only counted.
MOST_PLACES: Final = 10_000
#: Of those in a message.
SHOWN: Final = 5


class Reason(IntEnum):
    """What is wrong with a row; 0 is nothing."""

    GOOD = 0
    NULL = 1
    HOLE = 2
    EMPTY = 3
    WIDTH = 4
    NOT_FINITE = 5
    RANGE = 6
    STEPS = 7

    @property
    def words(self) -> str:
        """As messages and manifests say it."""
        return _WORDS[self]


_WORDS: Final = {
    Reason.GOOD: "nothing",
    Reason.NULL: "null",
    Reason.HOLE: "a null inside of the sequence",
    Reason.EMPTY: "no steps",
    Reason.WIDTH: "a step of another number of features",
    Reason.NOT_FINITE: "NaN or infinity",
    Reason.RANGE: "a number beyond the model's integers",
    Reason.STEPS: "another number of steps than the model takes",
}


def checked_policy(on_bad: str) -> str:
    """The policy, or ValueError."""
    if on_bad not in POLICIES:
        raise ValueError(f"on_bad is {on_bad!r}, expected one of " + ", ".join(map(repr, POLICIES)))
    return on_bad


@dataclass
class BadRows:
    """Counted by reason; the places are rows of a file, from 0, up to `MOST_PLACES` of them."""

    counts: dict[str, int] = field(default_factory=dict)
    places: list[tuple[int, str]] = field(default_factory=list)

    def add(self, reasons: np.ndarray, first: int, rows: np.ndarray | None = None) -> None:
        """What is wrong with the next rows of a file, the first of which is row ``first``; of a
        long table, with the sequences that begin at ``rows`` of them."""
        bad = np.flatnonzero(reasons)
        if not len(bad):
            return
        kinds, counts = np.unique(reasons[bad], return_counts=True)
        for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            words = Reason(kind).words
            self.counts[words] = self.counts.get(words, 0) + count
        for place in bad[: MOST_PLACES - len(self.places)].tolist():
            row = place if rows is None else int(rows[place])
            self.places.append((first + row, Reason(int(reasons[place])).words))

    @property
    def total(self) -> int:
        """Of all reasons."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        shown = [f"row {place} ({words})" for place, words in self.places[:SHOWN]]
        more = self.total - len(shown)
        return ", ".join([*shown, *([f"and {more:,} more"] if more else [])])
