"""What reading a file gives: the weights, and an account of all that was not taken."""

from typing import NamedTuple

import numpy as np

__all__ = ["Checkpoint"]


class Checkpoint(NamedTuple):
    """The weights of a file, with what else the file holds.

    ``format``: the file's format, in words. ``key``: the dotted path of the part that the weights
    were taken from, empty for the whole file. ``weights``: name → array, in the file's order,
    read-only. ``skipped``: name → reason, for what belongs to that part and is not among the
    weights. ``elsewhere``: path → description, for the other parts of the file.
    """

    format: str
    key: str
    weights: dict[str, np.ndarray]
    skipped: dict[str, str]
    elsewhere: dict[str, str]

    def __repr__(self) -> str:
        left = f", {len(self.skipped)} left out, {len(self.elsewhere)} not read"
        return f"Checkpoint({self.format}, key={self.key!r}{left}:\n  {self.weights!r})"
