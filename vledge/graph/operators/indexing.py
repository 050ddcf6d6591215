"""Reading and writing elements by index: Slice, and the Gather and Scatter operators.

Indices count from the end where they are negative; one out of bounds is an error of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import PIECE, copy_into

# ---- Slice


@prepared_operator("Slice", since=1, until=9)
def slice_by_attributes(
    context: Context, *, starts: list[int], ends: list[int], axes: list[int] | None = None
) -> Callable[..., np.ndarray]:
    return _slicing(starts, ends, axes, None)


@prepared_operator("Slice", since=10)
def slice_(context: Context) -> Callable[..., np.ndarray]:
    known = context.constants
    names = context.node.inputs
    if len(names) > 2 and all(
        array is not None or not name for array, name in zip(known[1:], names[1:], strict=True)
    ):
        starts, ends, axes, steps = (
            None if array is None else _ints(array) for array in (*known[1:], None, None)[:4]
        )
        if starts is None or ends is None:
            raise FormatError("starts or ends is missing")
        return _slicing(starts, ends, axes, steps)

    def run(
        x: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        axes: np.ndarray | None = None,
        steps: np.ndarray | None = None,
    ) -> np.ndarray:
        over = None if axes is None else _ints(axes)
        by = None if steps is None else _ints(steps)
        return x[_slices(_ints(starts), _ints(ends), over, by, x.shape)]

    return run


def _slicing(
    starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None
) -> Callable[..., np.ndarray]:
    """Slice by what is known at load time; the slices are made once for each number of axes."""
    by_rank: dict[int, tuple[slice, ...]] = {}
    if steps and any(step < 0 and start < -1 for start, step in zip(starts, steps, strict=False)):
        return lambda x, *_: x[_slices(starts, ends, axes, steps, x.shape)]

    def run(x: np.ndarray, *_: object) -> np.ndarray:
        index = by_rank.get(x.ndim)
        if index is None:
            index = by_rank[x.ndim] = _slices(starts, ends, axes, steps, x.shape)
        return x[index]

    return run


def _slices(
    starts: list[int],
    ends: list[int],
    axes: list[int] | None,
    steps: list[int] | None,
    shape: tuple[int, ...],
) -> tuple[slice, ...]:
    """ONNX clamps starts and ends as Python does, but for a start before the first element.

    Going backwards, such a one is the first element, where Python takes nothing.
    """
    rank = len(shape)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ValueError(
            f"starts, ends, axes and steps have {len(starts)}, {len(ends)}, {len(axes)} and "
            f"{len(steps)} items, expected the same"
        )
    index = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -rank <= axis < rank:
            raise ValueError(f"axes has {axis}, the input has {rank} axes")
        # from the last element back to before the first: the smallest int64 means so, -1 does not
        index[axis] = slice(max(start, -shape[axis]) if step < 0 else start, end, step)
    return tuple(index)


def _ints(array: np.ndarray) -> list[int]:
    """A list, also of what should have one axis and has none (an exporter's habit)."""
    return array.reshape(-1).tolist()


# ---- Gather


@prepared_operator("Gather", since=1)
def gather(context: Context, *, axis: int = 0) -> Callable[..., np.ndarray]:
    indices = context.constants[1] if len(context.constants) > 1 else None
    if indices is not None and indices.ndim == 0 and axis >= 0:
        index = (*(slice(None),) * axis, int(indices))
        return lambda x, _: x[index]
    return lambda x, indices: x.take(indices, axis)


@operator("GatherElements", since=11)
def gather_elements(x: np.ndarray, indices: np.ndarray, *, axis: int = 0) -> np.ndarray:
    return x[_along(indices, axis)]


def _along(indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """The index that takes each element's own place on every axis but one."""
    own = _own_places(indices.shape)
    axis = range(indices.ndim)[axis]
    return (*own[:axis], indices, *own[axis + 1 :])


@functools.lru_cache(maxsize=64)
def _own_places(shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """For each axis, each element's place on it, broadcastable over the others."""
    return tuple(np.ogrid[tuple(slice(size) for size in shape)])


@operator("GatherND", since=11)
def gather_nd(x: np.ndarray, indices: np.ndarray, *, batch_dims: int = 0) -> np.ndarray:
    if x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise ValueError(
            f"indices has the shape {indices.shape} and data {x.shape}: their first {batch_dims} "
            "axes are not the same"
        )
    if batch_dims and indices.size >= 2 * PIECE and len(x) > 1:
        half = len(x) // 2
        parts = (slice(0, half), slice(half, None))
        first, last = (gather_nd(x[p], indices[p], batch_dims=batch_dims) for p in parts)
        whole = np.empty((len(x), *first.shape[1:]), x.dtype)
        copy_into(whole[:half], first)
        copy_into(whole[half:], last)
        return whole
    own = np.ogrid[tuple(slice(size) for size in indices.shape[:batch_dims])] if batch_dims else []
    extra = indices.ndim - 1 - batch_dims
    batch = [place.reshape(place.shape + (1,) * extra) for place in own]
    place = (*batch, *np.moveaxis(indices, -1, 0))
    return x[place]


# ---- Scatter

_REDUCTIONS: Final[dict[str, np.ufunc]] = {
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


def _check_reduction(reduction: str) -> None:
    if reduction != "none" and reduction not in _REDUCTIONS:
        raise FormatError(f"reduction is {reduction!r}, expected none, {', '.join(_REDUCTIONS)}")


def _scattered(
    x: np.ndarray, index: tuple[np.ndarray, ...], updates: np.ndarray, reduction: str
) -> np.ndarray:
    result = np.empty_like(x)
    copy_into(result, x)
    places = np.broadcast_arrays(*index)  # of which the first axes are those of the updates
    count = len(updates) if updates.ndim and places[0].shape[:1] == updates.shape[:1] else 1
    step = max(PIECE * count // max(updates.size, 1), 1)
    for begin in range(0, max(count, 1), step):
        # without a first axis of updates there is one piece: all of it
        piece = slice(begin, begin + step) if count > 1 else ...
        some = tuple(place[piece] for place in places)
        if reduction == "none":
            result[some] = updates[piece]
        else:
            _REDUCTIONS[reduction].at(result, some, updates[piece])
    return result


@prepared_operator("Scatter", since=9, until=10)
@prepared_operator("ScatterElements", since=11)
def scatter_elements(
    context: Context, *, axis: int = 0, reduction: str = "none"
) -> Callable[..., np.ndarray]:
    _check_reduction(reduction)

    def run(x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        if indices.shape != updates.shape:
            raise ValueError(
                f"updates has the shape {updates.shape}, expected {indices.shape} as indices has"
            )
        return _scattered(x, _along(indices, axis), updates, reduction)

    return run


@prepared_operator("ScatterND", since=11)
def scatter_nd(context: Context, *, reduction: str = "none") -> Callable[..., np.ndarray]:
    _check_reduction(reduction)

    def run(x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        return _scattered(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)

    return run


@prepared_operator("TensorScatter", since=24)
def tensor_scatter(
    context: Context, *, axis: int = -2, mode: str = "linear"
) -> Callable[..., np.ndarray]:
    """A cache with each sequence's update written at its own place."""
    if mode not in ("linear", "circular"):
        raise FormatError(f"mode is {mode!r}, expected 'linear' or 'circular'")

    def run(
        cache: np.ndarray, update: np.ndarray, write_indices: np.ndarray | None = None
    ) -> np.ndarray:
        result = np.empty_like(cache)
        copy_into(result, cache)
        moved, updates = np.moveaxis(result, axis, 1), np.moveaxis(update, axis, 1)
        starts = np.zeros(len(cache), np.int64) if write_indices is None else write_indices
        places = starts[:, None] + np.arange(updates.shape[1])
        if mode == "circular":
            places %= moved.shape[1]
        elif (places < 0).any():
            raise ValueError("write_indices has a negative index")
        for row, own, new in zip(moved, places, updates, strict=True):
            row[own] = new
        return result

    return run
