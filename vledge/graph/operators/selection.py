"""Choosing elements by their values or places: TopK, NonZero, Unique, OneHot, Trilu and others."""

from __future__ import annotations

import math

import numpy as np

from vledge.graph.operators.sorting import stable_order, unique_of_row
from vledge.graph.registry import operator
from vledge.pieces import PIECE, in_pieces, in_slices, spans


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
    x = np.atleast_1d(x)
    if x.size < 2 * PIECE:
        return np.array(np.nonzero(x), np.int64)
    places = _places(x.reshape(-1))
    found = np.empty((x.ndim, len(places)), np.int64)
    for some in spans(len(places)):
        found[:, some] = np.unravel_index(places[some], x.shape)
    return found


def _places(row: np.ndarray) -> np.ndarray:
    """Where one axis is not zero."""
    places = np.empty(sum(np.count_nonzero(row[some]) for some in spans(len(row))), np.int64)
    end = 0
    for some in spans(len(row)):
        own = some.start + np.flatnonzero(row[some])
        places[end : end + len(own)] = own
        end += len(own)
    return places


@operator("Compress", since=9)
def compress(x: np.ndarray, condition: np.ndarray, *, axis: int | None = None) -> np.ndarray:
    condition = np.atleast_1d(condition)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if x.size < 2 * PIECE or condition.ndim > 1 or not -x.ndim <= axis < x.ndim:
        return np.compress(condition, x, axis)
    axis %= x.ndim
    places = _places(condition)
    taken = np.empty((*x.shape[:axis], len(places), *x.shape[axis + 1 :]), x.dtype)
    for some in spans(len(places), PIECE * x.shape[axis] // x.size):
        taken[(slice(None),) * axis + (some,)] = x.take(places[some], axis)
    return taken


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
    off, on = values
    wanted = np.expand_dims(
        np.arange(size), [a for a in range(indices.ndim + 1) if a != axis % (indices.ndim + 1)]
    )

    def chosen(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        if places.dtype.kind == "f":
            places = np.trunc(places)
        places = np.where(places < 0, places + size, places)
        return np.where(places == wanted, on, off)

    result: np.ndarray = in_pieces(chosen)(np.expand_dims(indices, axis), wanted)
    return result


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
