"""MaxPool, AveragePool and LpPool, over windows or over everything; MaxUnpool.

A window's maximum or sum is taken along one axis after the other.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from operator import gt

import numpy as np

from vledge.convolution.windows import Pads, Window, along, window_of
from vledge.errors import FormatError
from vledge.graph.operators.lists import integers
from vledge.graph.operators.padding import padded
from vledge.graph.operators.reduction import extreme
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import PIECE, in_pieces, in_slices


@functools.lru_cache(maxsize=64)
def _placed(
    window: Window, sizes: tuple[int, ...], ceil_mode: bool
) -> tuple[tuple[int, ...], Pads]:
    """The number of the window's places on each spatial axis, and the pads that they reach over.

    With ``ceil_mode`` the last place may reach past the pads, but not begin past the input; there
    may be none then.
    """
    pads = window.pads(sizes)
    if not ceil_mode or window.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        steps = window.steps([size + sum(pair) for size, pair in zip(sizes, pads, strict=True)])
        return steps, pads
    steps_: list[int] = []
    for axis, (size, (before, after)) in enumerate(zip(sizes, pads, strict=True)):
        span, stride = window.spans[axis], window.strides[axis]
        count = -(-(size + before + after - span) // stride) + 1
        if (count - 1) * stride >= size + before:
            count -= 1
        if count < 0:
            raise ValueError(
                f"the padded input has {size + before + after} steps, the kernel spans {span}"
            )
        steps_.append(count)
        pads[axis] = (before, max((count - 1) * stride + span - size - before, after))
    return tuple(steps_), pads


def _reduced(x: np.ndarray, window: Window, steps: Sequence[int], ufunc: np.ufunc) -> np.ndarray:
    """x [N, C, *padded spatial] → [N, C, *steps]."""
    if 0 in steps:
        return np.empty((*x.shape[:2], *steps), x.dtype)
    for axis, count in enumerate(steps):
        x = along(x, 2 + axis, window.slide(axis, count), ufunc)
    return x


def _spatial_pads(x: np.ndarray, pads: Pads, value: float | np.ndarray = 0) -> np.ndarray:
    if any(before or after for before, after in pads):
        return padded(x, [(0, 0), (0, 0), *pads], value)
    return x


# ---- MaxPool


@prepared_operator("MaxPool", since=1)
def max_pool(
    context: Context,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
) -> Callable[..., tuple[np.ndarray, np.ndarray | None]]:
    window = window_of(kernel_shape, strides, dilations, pads, auto_pad)
    if storage_order not in (0, 1):
        raise FormatError(f"storage_order is {storage_order}, expected 0 or 1")

    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        steps, around = _placed(window, x.shape[2:], bool(ceil_mode))
        surrounded = _spatial_pads(x, around, extreme(x.dtype, greatest=False))
        if context.wants(1):
            return _max_with_indices(surrounded, x.shape[2:], window, steps, around, storage_order)
        return _reduced(surrounded, window, steps, np.maximum), None

    return run


def _max_with_indices(
    x: np.ndarray,
    sizes: tuple[int, ...],
    window: Window,
    steps: tuple[int, ...],
    pads: Pads,
    column_major: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The maxima, and where in the whole input, before it was padded, each one is."""
    rank = len(sizes)
    view = window.view(np.ascontiguousarray(np.moveaxis(x, 1, -1)), steps)
    flat = np.moveaxis(view, -1, 1).reshape(*x.shape[:2], *steps, -1)
    best = flat.argmax(-1)
    maxima = np.take_along_axis(flat, best[..., None], -1)[..., 0]
    places = np.unravel_index(best, window.kernel)
    weights = [
        math.prod(sizes[:axis] if column_major else sizes[axis + 1 :]) for axis in range(rank)
    ]
    samples, channels = x.shape[:2]
    indices = np.arange(samples * channels).reshape(samples, channels, *(1,) * rank)
    indices = indices * math.prod(sizes)
    for axis in range(rank):
        start = np.arange(steps[axis]) * window.strides[axis] - pads[axis][0]
        start = start.reshape(-1, *(1,) * (rank - 1 - axis))
        indices = indices + (places[axis] * window.dilations[axis] + start) * weights[axis]
    return maxima, indices.astype(np.int64, copy=False)


# ---- AveragePool, LpPool


@prepared_operator("AveragePool", since=1)
def average_pool(
    context: Context,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    window = window_of(kernel_shape, strides, dilations, pads, auto_pad)

    def run(x: np.ndarray) -> np.ndarray:
        wide = x.astype(np.float32) if x.dtype == np.float16 else x
        sizes = x.shape[2:]
        steps, around = _placed(window, sizes, bool(ceil_mode))
        totals = _reduced(_spatial_pads(wide, around), window, steps, np.add)
        counts = _counts(window, sizes, steps, bool(count_include_pad))
        return np.divide(totals, counts.astype(wide.dtype)).astype(x.dtype, copy=False)

    return run


@functools.lru_cache(maxsize=64)
def _counts(
    window: Window, sizes: tuple[int, ...], steps: tuple[int, ...], with_pads: bool
) -> np.ndarray:
    """How many elements each place of a window averages; what ceil_mode adds never counts."""
    counts = np.ones((), np.int64)
    for axis, (size, count, pair) in enumerate(zip(sizes, steps, window.pads(sizes), strict=True)):
        before, after = pair
        low, high = (-before, size + after) if with_pads else (0, size)
        starts = np.arange(count) * window.strides[axis] - before
        first, end = (-((starts - place) // window.dilations[axis]) for place in (low, high))
        most = window.kernel[axis]
        counts = counts[..., None] * (end.clip(0, most) - first.clip(0, most))
    return counts


@prepared_operator("LpPool", since=2)
def lp_pool(
    context: Context,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    p: int = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    window = window_of(kernel_shape, strides, dilations, pads, auto_pad)
    _check_power(p)

    def run(x: np.ndarray) -> np.ndarray:
        steps, around = _placed(window, x.shape[2:], bool(ceil_mode))

        def pooled(some: np.ndarray) -> np.ndarray:
            powers = _powers(some, p)
            totals = _reduced(_spatial_pads(powers, around), window, steps, np.add)
            return np.power(totals, x.dtype.type(1 / p))

        return in_slices(pooled, x, (0, 1))

    return run


def _powers(x: np.ndarray, p: int) -> np.ndarray:
    of_magnitudes = in_pieces(lambda some: np.power(np.abs(some), x.dtype.type(p)))
    return np.asarray(of_magnitudes(x))


# ---- MaxUnpool


@prepared_operator("MaxUnpool", since=9)
def max_unpool(
    context: Context,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    """What MaxPool took, back where it was; 0 elsewhere."""
    window = window_of(kernel_shape, strides, None, pads, "NOTSET")

    def run(
        x: np.ndarray, indices: np.ndarray, output_shape: np.ndarray | None = None
    ) -> np.ndarray:
        if x.ndim != 2 + len(kernel_shape) or indices.shape != x.shape:
            raise ValueError(
                f"X has the shape {x.shape} and I {indices.shape}, expected the same, with "
                f"{2 + len(kernel_shape)} axes"
            )
        sizes = [
            (count - 1) * stride + span - before - after
            for count, stride, span, before, after in zip(
                x.shape[2:], window.strides, window.spans, window.before, window.after, strict=True
            )
        ]
        shape = (*x.shape[:2], *sizes)
        wanted = shape if output_shape is None else tuple(integers(output_shape, "output_shape"))
        if min(shape) < 0 or len(wanted) != len(shape) or any(map(gt, shape, wanted)):
            raise ValueError(
                f"output_shape is {list(wanted)}, expected no less than {list(shape)}, which the "
                "windows cover"
            )
        whole = np.zeros(math.prod(shape), x.dtype)
        if ((indices < 0) | (indices >= whole.size)).any():
            raise ValueError(f"I has indices outside of the {whole.size} elements of the output")
        places, values = indices.reshape(-1), x.reshape(-1)
        for begin in range(0, x.size, PIECE):
            whole[places[begin : begin + PIECE]] = values[begin : begin + PIECE]
        whole = whole.reshape(shape)
        if wanted == shape:
            return whole
        result = np.zeros(wanted, x.dtype)
        result[tuple(map(slice, shape))] = whole
        return result

    return run


# ---- over everything


def _spatial(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@operator("GlobalAveragePool", since=1)
def global_average_pool(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    total: np.ndarray = np.add.reduce(wide, _spatial(x), keepdims=True)
    count = wide.dtype.type(x.size // max(total.size, 1))
    return np.divide(total, count).astype(x.dtype, copy=False)


@operator("GlobalMaxPool", since=1)
def global_max_pool(x: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(x, _spatial(x), keepdims=True)


@prepared_operator("GlobalLpPool", since=2)
def global_lp_pool(context: Context, *, p: int = 2) -> Callable[..., np.ndarray]:
    _check_power(p)

    def run(x: np.ndarray) -> np.ndarray:
        def pooled(some: np.ndarray) -> np.ndarray:
            totals = np.add.reduce(_powers(some, p), _spatial(x), keepdims=True)
            return np.power(totals, x.dtype.type(1 / p))

        return in_slices(pooled, x, (0, 1))

    return run


def _check_power(p: int) -> None:
    if p < 1:
        raise FormatError(f"p is {p}, expected 1 or more")
