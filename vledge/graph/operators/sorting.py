"""The order of a long row's elements, and what is there once, a part at a time.

NumPy sorts without looking at signals, a hundred million elements for ten seconds. Here elements
are dealt out to buckets of neighbouring values, between those of a sample, and each bucket is
sorted: Ctrl-C is heard between two.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.pieces import PIECE, in_pieces

_OVERSAMPLING: Final = 16  # drawn for each bucket: few buckets get twice their share
_MOST_BUCKETS: Final = 1 << 14  # two of them a splitter, numbered in 16 bits


def stable_order(row: np.ndarray) -> np.ndarray:
    """``row.argsort(kind="stable")`` of one axis."""
    if row.size < 2 * PIECE or row.dtype.kind not in "fiu":
        return row.argsort(kind="stable")
    buckets, size = _buckets(row)
    counts = np.zeros(size, np.int64)
    for begin in range(0, row.size, PIECE):
        counts += np.bincount(buckets[begin : begin + PIECE], minlength=size)
    ends = counts.cumsum()
    places = ends - counts
    order = np.empty(row.size, np.int64)
    for begin in range(0, row.size, PIECE):
        some = buckets[begin : begin + PIECE]
        own = np.bincount(some, minlength=size)
        within = np.arange(len(some)) - np.repeat(own.cumsum() - own, own)
        order[np.repeat(places, own) + within] = begin + some.argsort(kind="stable")
        places += own
    for begin, end in zip((ends - counts)[::2], ends[::2], strict=True):
        part = order[begin:end]
        part[:] = part[row[part].argsort(kind="stable")]
    return order


def unique_of_row(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``numpy.unique`` of one axis, with all that it returns."""
    if row.size < 2 * PIECE or row.dtype.kind not in "fiu":
        return np.unique(row, True, True, True)
    order = stable_order(row)
    ordered = in_pieces(row.take)(order)
    firsts = np.concatenate([_where_new(ordered, begin) for begin in range(0, row.size, PIECE)])
    inverse = np.empty(row.size, np.int64)
    for begin in range(0, row.size, PIECE):
        places = np.arange(begin, min(begin + PIECE, row.size))
        inverse[order[begin : begin + PIECE]] = np.searchsorted(firsts, places, "right") - 1
    counts = np.diff(firsts, append=row.size)
    return ordered[firsts], order[firsts], inverse, counts


def _where_new(ordered: np.ndarray, begin: int) -> np.ndarray:
    """Where in a piece of ordered elements other ones begin; all NaN are one."""
    some = ordered[max(begin - 1, 0) : begin + PIECE]
    before, after = some[:-1], some[1:]
    new = np.flatnonzero((before != after) & ((before == before) | (after == after)))
    return np.append(0, new + 1) if begin == 0 else new + begin


def _buckets(row: np.ndarray) -> tuple[np.ndarray, int]:
    """For each element 2 i + 1 where it is the i-th splitter, 2 i where it stands before that; and
    how many buckets there are."""
    count = min(2 * row.size // PIECE, _MOST_BUCKETS)
    sample = row[np.random.default_rng(0).integers(0, row.size, count * _OVERSAMPLING)]
    splitters = np.unique(np.sort(sample)[::_OVERSAMPLING])

    def bucket(some: np.ndarray) -> np.ndarray:
        behind = np.searchsorted(splitters, some, "right")
        last = splitters[np.maximum(behind - 1, 0)]
        same = (behind > 0) & ((last == some) | ((last != last) & (some != some)))
        return np.asarray(2 * behind - same, np.uint16)

    return in_pieces(bucket)(row), 2 * len(splitters) + 1
