"""Choosing elements by their values or places: TopK, NonZero, Unique, OneHot, Trilu and others."""

from __future__ import annotations

import math

import numpy as np

from vledge.graph.operators.sorting import stable_order, unique_of_row
from vledge.graph.registry import operator
from vledge.pieces import in_slices


def _top_k(x: np.ndarray, k: int, axis: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sorted; of equal elements the one with the lower index comes first."""
    size = x.shape[axis]
    if not 0 <= k <= size:
        raise ValueError(f"K is {k}, expected at most the {size} elements of the axis")
    moved = x.swapaxes(axis, -1)
    rows = moved.reshape(math.prod(moved.shape[:-1]), size)

    def order_of(rows: np.ndarray) -> np.ndarray:
        if largest:
            return np.asarray(size - 1 - _orders(rows[:, ::-1])[:, : -k - 1 : -1])
        return _orders(rows)[:, :k]

    order = in_slices(order_of, rows, [0])
    values = rows[np.arange(len(rows))[:, None], order]
    shape = (*moved.shape[:-1], k)
    order = order.astype(np.int64, copy=False)
    return values.reshape(shape).swapaxes(axis, -1), order.reshape(shape).swapaxes(axis, -1)


def _orders(rows: np.ndarray) -> np.ndarray:
    """Stable orders of each row."""
    return stable_order(rows[0])[None] if len(rows) == 1 else rows.argsort(1, kind="stable")


@operator("TopK", since=1, until=9)
def top_k_by_attribute(x: np.ndarray, *, k: int, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    return _top_k(x, k, axis, True)


@operator("TopK", since=10)
def top_k(
    x: np.ndarray, k: np.ndarray, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    return _top_k(x, int(k.item()), axis, bool(largest))


@operator("NonZero", since=9)
def non_zero(x: np.ndarray) -> np.ndarray:
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


@operator("Compress", since=9)
def compress(x: np.ndarray, condition: np.ndarray, *, axis: int | None = None) -> np.ndarray:
    return np.compress(np.atleast_1d(condition), x, axis)


@operator("Unique", since=11)
def unique(
    x: np.ndarray, *, axis: int | None = None, sorted: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    if axis is None:
        values, first, inverse, counts = unique_of_row(x.reshape(-1))
    else:
        values, first, inverse, counts = np.unique(x, True, True, True, axis)
    inverse = inverse.reshape(-1)
    if not sorted:  # in the order of first appearance
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        values = values.take(order, 0 if axis is None else axis)
        first, inverse, counts = first[order], rank[inverse], counts[order]
    first, inverse, counts = (a.astype(np.int64, copy=False) for a in (first, inverse, counts))
    return values, first, inverse, counts


@operator("OneHot", since=9)
def one_hot(
    indices: np.ndarray, depth: np.ndarray, values: np.ndarray, *, axis: int = -1
) -> np.ndarray:
    """Indices outside of [-depth, depth) are nowhere hot; a fraction is cut off, as by a Cast."""
    size = int(depth.item())
    if size < 0:
        raise ValueError(f"depth is {size}, expected no less than 0")
    if values.shape != (2,):
        raise ValueError(f"values has the shape {values.shape}, expected (2,): off and on")
    if indices.dtype.kind == "f":
        indices = np.trunc(indices)
    indices = np.where(indices < 0, indices + size, indices)
    hot = np.expand_dims(indices, axis) == np.expand_dims(
        np.arange(size), [a for a in range(indices.ndim + 1) if a != axis % (indices.ndim + 1)]
    )
    return np.where(hot, values[1], values[0])


@operator("Trilu", since=14)
def trilu(x: np.ndarray, k: np.ndarray | None = None, *, upper: int = 1) -> np.ndarray:
    offset = 0 if k is None else int(k.item())
    return np.triu(x, offset) if upper else np.tril(x, offset)


@operator("ReverseSequence", since=10)
def reverse_sequence(
    x: np.ndarray, sequence_lens: np.ndarray, *, batch_axis: int = 1, time_axis: int = 0
) -> np.ndarray:
    """Each sequence backwards up to its own length, the rest as it is."""
    steps = np.arange(x.shape[time_axis])
    lengths = sequence_lens[:, None]
    if ((lengths < 0) | (lengths > len(steps))).any():
        raise ValueError(
            f"sequence_lens has lengths outside of 0 to {len(steps)}, the time steps of the input"
        )
    places = np.where(steps < lengths, lengths - 1 - steps, steps)
    rows = np.arange(len(places))
    if (batch_axis, time_axis) == (1, 0):
        return x[places.T, rows]
    if (batch_axis, time_axis) == (0, 1):
        return x[rows[:, None], places]
    moved = np.moveaxis(x, (batch_axis, time_axis), (0, 1))
    return np.moveaxis(moved[rows[:, None], places], (0, 1), (batch_axis, time_axis))
