"""A few numbers that stand for an array, so that a bundle can hold every value of a model.

They are some of its elements, at places that depend on nothing but its size (multiples of the
golden ratio, which fall evenly over it whatever its shape is), and two sums over all of it, which
any element that is wrong changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["INSIDE", "WEIGHTS", "Sample", "count_of", "places", "sampled"]

INSIDE = 128  # elements of a value inside of a graph, in each run
WEIGHTS = 512  # elements of a tensor of weights
_STEP = 2654435769  # 2^32 / golden ratio
_LEAST = 1e-12  # below it numbers count as 0


@dataclass
class Sample:
    """An array's shape, some elements of it, and its sums, plain and weighted: float64."""

    shape: tuple[int, ...]
    most: int  #: elements of a larger array
    numbers: np.ndarray

    @property
    def elements(self) -> np.ndarray:
        return self.numbers[:-2]

    @property
    def total(self) -> float:
        return float(self.numbers[-2])

    def error(self, array: np.ndarray) -> float:
        """How far another array is from this one, as a part of the largest element."""
        if array.shape != self.shape:
            return math.inf
        if not array.size:
            return 0.0
        mine, theirs = self.numbers, sampled(array, self.most).numbers
        finite = np.isfinite(mine)
        if not np.array_equal(finite, np.isfinite(theirs)):
            return math.inf
        known = np.abs(mine[:-2][finite[:-2]])
        weights = np.full(mine.size, max(float(known.max(initial=0)), _LEAST))
        weights[-2:] *= math.sqrt(array.size)
        with np.errstate(all="ignore"):
            errors = np.abs(theirs - mine)[finite] / weights[finite]
        odd = ~finite & ~np.isnan(mine) & (mine != theirs)
        return math.inf if odd.any() else float(errors.max(initial=0))


def count_of(size: int, most: int) -> int:
    """How many numbers a sample of an array of that size has."""
    return len(places(size, most)) + 2


def places(size: int, most: int) -> np.ndarray:
    """The indices, ascending, of the elements of a flat array that a sample has."""
    if size <= most:
        return np.arange(size)
    scattered = np.arange(most, dtype=np.uint64) * np.uint64(_STEP) % np.uint64(1 << 32)
    return np.unique((scattered.astype(np.float64) / 2**32 * size).astype(np.int64))


def sampled(array: np.ndarray, most: int) -> Sample:
    """The sample of an array."""
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        ramp = np.arange(1, flat.size + 1) * _STEP % (1 << 32) / 2**32
        every = flat.astype(np.float64)
        sums = [every.sum(), every @ ramp]
        return Sample(array.shape, most, np.append(every[places(flat.size, most)], sums))
