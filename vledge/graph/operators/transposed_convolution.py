"""ConvTranspose and Col2Im: what windows make of each element is added up where they overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, prepared_operator
from vledge.nn.windows import Pads, Window, check_auto_pad, window_of


def _overlaid(columns: np.ndarray, window: Window, sizes: Sequence[int], pads: Pads) -> np.ndarray:
    """columns [N, C, *kernel, *steps] → [N, C, *sizes]; pads are cut off of the windows' sum."""
    rank, both = len(window.kernel), (slice(None), slice(None))
    steps = columns.shape[2 + rank :]
    extents = [
        max((count - 1) * stride + span, before + size)
        for count, stride, span, (before, _), size in zip(
            steps, window.strides, window.spans, pads, sizes, strict=True
        )
    ]
    result = np.zeros((*columns.shape[:2], *extents), columns.dtype)
    if columns.size:
        for place in itertools.product(*(range(k) for k in window.kernel)):
            taps = (window.tap(axis, k, steps[axis]) for axis, k in enumerate(place))
            result[both + tuple(taps)] += columns[both + place]
    inner = (*both, *(slice(p, p + size) for (p, _), size in zip(pads, sizes, strict=True)))
    return result[inner]


@prepared_operator("ConvTranspose", since=1)
def conv_transpose(
    context: Context,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    check_auto_pad(auto_pad)
    known = (*context.constants, None, None)

    def prepared(w: np.ndarray) -> tuple[Window, np.ndarray]:
        """The window, and the weights as [groups, M / groups * kernel, C / groups]."""
        window = window_of(kernel_shape or w.shape[2:], strides, dilations, pads, auto_pad)
        if w.shape[2:] != window.kernel:
            raise FormatError(f"W has the shape {w.shape}, kernel_shape is {list(window.kernel)}")
        if group < 1 or w.shape[0] % group:
            raise FormatError(f"group is {group}, W has {w.shape[0]} input channels")
        for name, given in (("output_padding", output_padding), ("output_shape", output_shape)):
            if given is not None and len(given) != len(window.kernel):
                raise FormatError(f"{name} is {given}, expected {len(window.kernel)} items")
        matrix = w.reshape(group, w.shape[0] // group, -1).swapaxes(1, 2)
        if w.dtype == np.float16:  # computed in single precision and rounded once
            matrix = matrix.astype(np.float32)
        return window, np.ascontiguousarray(matrix)

    constant = None
    if known[1] is not None:
        constant = prepared(known[1])
        context.release(1)

    def run(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        window, matrix = constant or prepared(w)
        channels = matrix.shape[0] * matrix.shape[2]
        if x.ndim != 2 + len(window.kernel) or x.shape[1] != channels:
            raise ValueError(
                f"X has the shape {x.shape}, expected {2 + len(window.kernel)} axes and "
                f"{channels} channels"
            )
        n, steps = len(x), x.shape[2:]
        count = math.prod(steps)
        sizes, cut = _placed(window, steps, output_padding, output_shape)
        grouped = x.astype(matrix.dtype, copy=False).reshape(n, group, matrix.shape[2], count)
        if matrix.shape[2] == 1:
            columns = matrix * grouped
        else:
            columns = np.matmul(matrix, grouped)
        columns = columns.reshape(n, -1, *window.kernel, *steps)
        result = _overlaid(columns, window, sizes, cut)
        if b is not None:
            result += b.reshape(-1, *(1,) * len(steps))
        return result.astype(x.dtype, copy=False)

    return run


def _placed(
    window: Window, steps: Sequence[int], more: list[int] | None, wanted: list[int] | None
) -> tuple[list[int], Pads]:
    """The output's sizes, and what is cut off before and after them."""
    more = more or [0] * len(steps)
    full = [
        (count - 1) * stride + span + extra
        for count, stride, span, extra in zip(
            steps, window.strides, window.spans, more, strict=True
        )
    ]
    if wanted is None and window.auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [count * stride for count, stride in zip(steps, window.strides, strict=True)]
    if wanted is None:
        cut = window.pads(steps)
        return [size - sum(pair) for size, pair in zip(full, cut, strict=True)], cut
    totals = [max(size - out, 0) for size, out in zip(full, wanted, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    if window.auto_pad != "SAME_UPPER":
        halves = [(more, less) for less, more in halves]
    return list(wanted), halves


@prepared_operator("Col2Im", since=18)
def col2im(
    context: Context,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    def run(x: np.ndarray, image_shape: np.ndarray, block_shape: np.ndarray) -> np.ndarray:
        window = window_of(integers(block_shape, "block_shape"), strides, dilations, pads)
        sizes = integers(image_shape, "image_shape")
        cut = window.pads(sizes)
        steps = window.steps([size + sum(pair) for size, pair in zip(sizes, cut, strict=True)])
        columns = x.reshape(len(x), -1, *window.kernel, *steps)
        return _overlaid(columns, window, sizes, cut)

    return run
