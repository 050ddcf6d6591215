"""Windows that slide over spatial axes, for convolutions and pools: sizes, pads, views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from vledge.errors import FormatError

__all__ = ["Slide", "Window", "along", "check_auto_pad", "window_of"]

_AUTO_PADS: Final = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
_MOST: Final = (1 << 31) - 1  # so that sums of these and of sizes are integers of 64 bits

Sizes = tuple[int, ...]
Pads = list[tuple[int, int]]


class Slide(NamedTuple):
    """A window along one axis, which has ``steps`` places."""

    kernel: int
    steps: int
    stride: int = 1
    dilation: int = 1

    def tap(self, k: int) -> slice:
        """Where the kernel's element k is, for each place of the window."""
        start = k * self.dilation
        return slice(start, start + (self.steps - 1) * self.stride + 1, self.stride)


class Window(NamedTuple):
    """A kernel's sizes and how it moves, one number for each spatial axis."""

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    before: Sizes
    after: Sizes
    auto_pad: str

    @property
    def spans(self) -> Sizes:
        """From a kernel's first element to past its last, dilated."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def pads(self, sizes: Sequence[int]) -> Pads:
        """Before and after each spatial axis of these sizes."""
        if self.auto_pad == "NOTSET":
            return list(zip(self.before, self.after, strict=True))
        if self.auto_pad == "VALID":
            return [(0, 0)] * len(sizes)
        pads = []
        for size, stride, span in zip(sizes, self.strides, self.spans, strict=True):
            total = max((-(-size // stride) - 1) * stride + span - size, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if self.auto_pad == "SAME_UPPER" else (more, less))
        return pads

    def steps(self, padded: Sequence[int]) -> Sizes:
        """How many places the window has on each axis of these sizes, pads included."""
        for size, span in zip(padded, self.spans, strict=True):
            if size < span:
                raise ValueError(f"the padded input has {size} steps, the kernel spans {span}")
        return tuple(
            (size - span) // stride + 1
            for size, span, stride in zip(padded, self.spans, self.strides, strict=True)
        )

    def view(self, x: np.ndarray, steps: Sizes, first: int = 0) -> np.ndarray:
        """x [N, *spatial, C], C-contiguous → [N, *steps, *kernel, C], no copy.

        On the first spatial axis the places start at ``first``.
        """
        spatial = x.strides[1:-1]
        return np.ndarray(
            (len(x), *steps, *self.kernel, x.shape[-1]),
            x.dtype,
            x,
            first * self.strides[0] * spatial[0] if x.size else 0,
            (
                x.strides[0],
                *(s * d for s, d in zip(spatial, self.strides, strict=True)),
                *(s * d for s, d in zip(spatial, self.dilations, strict=True)),
                x.strides[-1],
            ),
        )

    def slide(self, axis: int, steps: int) -> Slide:
        """Along one spatial axis."""
        return Slide(self.kernel[axis], steps, self.strides[axis], self.dilations[axis])


def check_auto_pad(auto_pad: str) -> None:
    """FormatError if it is none of ONNX's ways of padding."""
    if auto_pad not in _AUTO_PADS:
        raise FormatError(f"auto_pad is {auto_pad!r}, expected one of {', '.join(_AUTO_PADS)}")


def window_of(
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
) -> Window:
    """A node's attributes, checked: FormatError where they contradict one another."""
    rank = len(kernel)
    ones = (1,) * rank
    strides = tuple(strides or ones)
    dilations = tuple(dilations or ones)
    pads = tuple(pads or (0,) * 2 * rank)
    if rank == 0 or min(kernel) < 1:
        raise FormatError(f"the kernel has the shape {list(kernel)}")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise FormatError(
            f"the kernel has {rank} axes; strides, dilations and pads have {len(strides)}, "
            f"{len(dilations)} and {len(pads)} items, expected {rank}, {rank} and {2 * rank}"
        )
    if min(strides) < 1 or min(dilations) < 1 or min(pads) < 0:
        raise FormatError(f"strides {strides}, dilations {dilations} or pads {pads} too small")
    if max(pads) > _MOST:
        raise FormatError(f"pads {pads} too large, expected no more than {_MOST}")
    check_auto_pad(auto_pad)
    return Window(tuple(kernel), strides, dilations, pads[:rank], pads[rank:], auto_pad)


def along(x: np.ndarray, axis: int, slide: Slide, ufunc: np.ufunc) -> np.ndarray:
    """The sum, or the greatest, of the elements in each place of a window along an axis.

    That of a long window is made of those of 1, 2, 4, … elements, so that time grows with the
    logarithm of its length.
    """
    by_taps = slide.kernel * slide.steps
    by_doubling = 2 * slide.kernel.bit_length() * x.shape[axis]
    return (_by_taps if by_taps <= by_doubling else _by_doubling)(x, axis, slide, ufunc)


def _by_taps(x: np.ndarray, axis: int, slide: Slide, ufunc: np.ufunc) -> np.ndarray:
    before = (slice(None),) * axis
    first, *others = (x[before + (slide.tap(k),)] for k in range(slide.kernel))
    result: np.ndarray = ufunc(first, others[0]) if others else first
    for other in others[1:]:
        ufunc(result, other, out=result)
    return result


def _by_doubling(x: np.ndarray, axis: int, slide: Slide, ufunc: np.ufunc) -> np.ndarray:
    """``runs[i]`` is that of ``power`` elements from i on; the kernel is a sum of powers of two."""
    before = (slice(None),) * axis
    runs, power, done = x, 1, 0
    result: np.ndarray | None = None
    while power <= slide.kernel:
        if power > 1:
            apart = power // 2 * slide.dilation
            low, high = (slice(-apart),), (slice(apart, None),)
            runs = ufunc(runs[before + low], runs[before + high])
        if slide.kernel & power:
            part = runs[before + (slide.tap(done),)]
            result = part.copy() if result is None else ufunc(result, part, out=result)
            done += power
        power *= 2
    assert result is not None  # a kernel has one element or more
    return result
