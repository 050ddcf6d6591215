"""Conv over any number of spatial axes, with groups, strides, dilations and every way of padding.

The windows of the input are laid out as the columns of a matrix, in blocks that stay in the cache,
and multiplied by the weights on BLAS; a kernel of one element needs no columns. Constant weights
are laid out once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.padding import padded
from vledge.graph.registry import Context, prepared_operator
from vledge.graph.windows import Window, window_of

__all__ = ["Kernel", "spatially_padded"]

# Columns are made in blocks of about this size.
_BLOCK_BYTES: Final = 4 << 20


class Kernel:
    """Weights ``[M, C / groups, *kernel]`` and the window that they slide in, ready to convolve."""

    def __init__(self, w: np.ndarray, window: Window, groups: int) -> None:
        if w.shape[2:] != window.kernel:
            raise FormatError(f"W has the shape {w.shape}, kernel_shape is {list(window.kernel)}")
        if groups < 1 or w.shape[0] % groups:
            raise FormatError(f"group is {groups}, W has {w.shape[0]} output channels")
        self.window, self.groups = window, groups
        self.out_channels, self.in_channels = w.shape[0], w.shape[1] * groups
        shape = (groups, w.shape[0] // groups, -1) if groups > 1 else (w.shape[0], -1)
        self.matrix = np.ascontiguousarray(w).reshape(shape)

    def convolved(self, x: np.ndarray, pad_value: float = 0) -> np.ndarray:
        """x [N, C, *spatial] → a new array [N, M, *steps], without the bias."""
        if x.ndim != 2 + len(self.window.kernel) or x.shape[1] != self.in_channels:
            raise ValueError(
                f"X has the shape {x.shape}, expected {2 + len(self.window.kernel)} axes and "
                f"{self.in_channels} channels"
            )
        x = spatially_padded(x, self.window, pad_value)
        steps = self.window.steps(x.shape[2:])
        if self.window.is_pointwise:
            return self._product(x, len(x), math.prod(steps)).reshape(len(x), -1, *steps)
        sample_bytes = self.matrix.shape[-1] * self.groups * math.prod(steps) * x.itemsize
        if len(x) * sample_bytes <= _BLOCK_BYTES:
            columns = self.window.view(x, steps)
            return self._product(columns, len(x), math.prod(steps)).reshape(len(x), -1, *steps)
        result = np.empty((len(x), self.out_channels, *steps), x.dtype)
        samples = max(_BLOCK_BYTES // sample_bytes, 1)
        rows = max(_BLOCK_BYTES * steps[0] // sample_bytes, 1) if samples == 1 else steps[0]
        for n in range(0, len(x), samples):
            part = x[n : n + samples]
            for first in range(0, steps[0], rows):
                block = (min(rows, steps[0] - first), *steps[1:])
                columns = self.window.view(part, block, first)
                made = self._product(columns, len(part), math.prod(block))
                target = result[n : n + samples, :, first : first + rows]
                target[...] = made.reshape(target.shape)
        return result

    def _product(self, columns: np.ndarray, n: int, count: int) -> np.ndarray:
        """[N, C, *kernel, *steps] → [N, groups, M / groups, steps], or without groups if 1."""
        if self.groups > 1:
            return np.matmul(self.matrix, columns.reshape(n, self.groups, -1, count))
        if count == 1:  # one product for all samples
            return np.matmul(columns.reshape(n, -1), self.matrix.T)
        return np.matmul(self.matrix, columns.reshape(n, -1, count))


def spatially_padded(x: np.ndarray, window: Window, value: float = 0) -> np.ndarray:
    """x with the window's pads around it, C-contiguous."""
    pads = window.pads(x.shape[2:])
    if any(before or after for before, after in pads):
        return padded(x, [(0, 0), (0, 0), *pads], value)
    return np.ascontiguousarray(x)


@prepared_operator("Conv", since=1)
def conv(
    context: Context,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    known = (*context.constants, None, None, None)

    def prepared(w: np.ndarray) -> Kernel:
        window = window_of(kernel_shape or w.shape[2:], strides, dilations, pads, auto_pad)
        return Kernel(_single(w), window, group)

    constant = None
    if known[1] is not None:
        constant = prepared(known[1])
        context.release(1)

    def run(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        result = (constant or prepared(w)).convolved(_single(x))
        if b is not None:
            result += b.reshape(-1, *(1,) * (x.ndim - 2))
        return result.astype(x.dtype, copy=False)

    return run


def _single(x: np.ndarray) -> np.ndarray:
    """float16 is convolved in single precision and rounded once."""
    return x.astype(np.float32) if x.dtype == np.float16 else x
