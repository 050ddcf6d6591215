"""ConvTranspose and Col2Im: what windows make of each element is added up where they overlap."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from vledge.convolution.correlation import Kernel
from vledge.convolution.windows import Pads, Window, check_auto_pad, window_of
from vledge.errors import FormatError
from vledge.graph.operators.convolution import single
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, prepared_operator
from vledge.pieces import in_slices


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
            taps = (window.slide(axis, steps[axis]).tap(k) for axis, k in enumerate(place))
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
    _, known_w, known_b = (*context.constants, None, None)[:3]
    has_bias = len(context.node.inputs) > 2 and context.node.inputs[2] != ""

    def prepared(w: np.ndarray, b: np.ndarray | None) -> KnownConvTranspose:
        window = window_of(kernel_shape or w.shape[2:], strides, dilations, pads, auto_pad)
        for name, given in (("output_padding", output_padding), ("output_shape", output_shape)):
            if given is not None and len(given) != len(window.kernel):
                raise FormatError(
                    f"{name} is {given}, expected one number for each of {len(window.kernel)} axes"
                )
        if output_padding and min(output_padding) < 0:
            raise FormatError(f"output_padding is {output_padding}, expected none below 0")
        dtype, w, b = w.dtype, single(w), None if b is None else single(b)
        folded = 1
        fits = w.ndim == 2 + len(window.kernel) and (b is None or b.shape == w.shape[1:2])
        if group == 1 and fits and _folds(window, w, output_padding, output_shape):
            folded = window.kernel[-1]
            w, b, window = _folded(w, b, window)
        kernel = Kernel(w, b, window, group, transposed=True)
        return KnownConvTranspose(kernel, output_padding, output_shape, dtype, folded)

    if known_w is None or (has_bias and known_b is None):

        def run_with_weights(
            x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None
        ) -> np.ndarray:
            return prepared(w, b)(x)

        return run_with_weights

    known = prepared(known_w, known_b)
    context.release(1)
    context.release(2)
    return known


def _folds(window: Window, w: np.ndarray, more: list[int] | None, wanted: list[int] | None) -> bool:
    """Whether windows lie side by side along the last axis, and nothing is cut off there."""
    explicit = window.auto_pad == "NOTSET"
    return (
        1 < window.kernel[-1] == window.strides[-1] == w.shape[-1]
        and window.dilations[-1] == 1
        and window.auto_pad in ("NOTSET", "VALID")
        and not (explicit and (window.before[-1] or window.after[-1]))
        and not (more and more[-1])
        and wanted is None
    )


def _folded(
    w: np.ndarray, b: np.ndarray | None, window: Window
) -> tuple[np.ndarray, np.ndarray | None, Window]:
    """The same with the last axis of the kernel among the channels: ``[C, M, ..., s]`` as
    ``[C, s M, ..., 1]``. With channels last, what it makes lies in memory as before."""
    taps = window.kernel[-1]
    folded = np.moveaxis(w, -1, 1).reshape(w.shape[0], taps * w.shape[1], *w.shape[2:-1], 1)
    ones = window._replace(kernel=(*window.kernel[:-1], 1), strides=(*window.strides[:-1], 1))
    return np.ascontiguousarray(folded), None if b is None else np.tile(b, taps), ones


class KnownConvTranspose:
    """A transposed convolution with packed weights, which the native program takes from here.

    ``folded`` is how many neighbours on the last axis of the result are channels of the kernel's.
    """

    def __init__(
        self,
        kernel: Kernel,
        output_padding: list[int] | None,
        output_shape: list[int] | None,
        dtype: np.dtype,
        folded: int = 1,
    ) -> None:
        self.kernel, self.dtype, self.folded = kernel, dtype, folded
        self.output_padding, self.output_shape = output_padding, output_shape

    def __call__(self, x: np.ndarray, *_: np.ndarray | None) -> np.ndarray:
        window = self.kernel.window
        if x.ndim != 2 + len(window.kernel):
            raise ValueError(f"X has the shape {x.shape}, expected {2 + len(window.kernel)} axes")
        if 0 in x.shape[2:]:
            raise ValueError(f"X has the shape {x.shape}, expected a step or more on every axis")
        sizes, cut = _placed(window, x.shape[2:], self.output_padding, self.output_shape)
        if min(sizes) < 0:
            raise ValueError(f"the pads cut off more than there is: the output would be {sizes}")
        before = tuple(first for first, _ in cut)
        result = self.kernel.overlaid(single(x), tuple(sizes), before)
        if self.folded > 1:
            last = np.moveaxis(result, 1, -1)
            shape = (*last.shape[:-2], last.shape[-2] * self.folded, last.shape[-1] // self.folded)
            result = np.moveaxis(last.reshape(shape), -1, 1)
        return result.astype(self.dtype, copy=False)


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
        return in_slices(lambda some: _overlaid(some, window, sizes, cut), columns, (0, 1))

    return run
