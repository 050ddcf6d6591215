"""What convolutions of any number of axes are made of: a kernel's weights, ready to slide.

Channels stand last inside, so that a window's elements of one row are neighbours in memory: the
windows are rows of a matrix that is multiplied by packed weights, and along one axis, undilated,
they are not even copied. Results are views with the channels moved back to the second axis, which
the next convolution takes as they are.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from vledge._ext.product import Product, Taps
from vledge.errors import FormatError
from vledge.nn.windows import Window

__all__ = ["Kernel"]

# Windows that overlap on several axes are copied out in blocks of about this size.
_BLOCK_BYTES: Final = 1 << 20
# Shapes of inputs whose layout is remembered.
_MOST_FITS: Final = 64


class Kernel:
    """Weights ``[M, C / groups, *kernel]``, a bias ``[M]`` or None, and the window they slide in.

    Source: torch.nn.Conv1d, the ONNX operator Conv.
    """

    def __init__(self, w: np.ndarray, b: np.ndarray | None, window: Window, groups: int) -> None:
        if w.shape[2:] != window.kernel:
            raise FormatError(f"W has the shape {w.shape}, kernel_shape is {list(window.kernel)}")
        if groups < 1 or w.shape[0] % groups:
            raise FormatError(f"group is {groups}, W has {w.shape[0]} output channels")
        self.window, self.groups, self.dtype = window, groups, w.dtype
        self.out_channels, self.in_channels = w.shape[0], w.shape[1] * groups
        self._taps: Taps | None = None
        self._products: list[Product] = []
        self._fits: dict[tuple[int, ...], _Fit] = {}
        if groups > 1 and w.shape[1] == 1 and w.shape[0] == groups:
            self._taps = Taps(np.moveaxis(w[:, 0], 0, -1), b)
            return
        wide = w.shape[0] // groups
        for first in range(0, w.shape[0], wide):
            part = slice(first, first + wide)
            matrix = np.moveaxis(w[part], 1, -1).reshape(wide, math.prod(w.shape[1:]))
            self._products.append(Product(matrix, None if b is None else b[part]))

    def weight(self) -> np.ndarray:
        """``[M, C / groups, *kernel]``, bit for bit as given."""
        if self._taps is not None:
            return np.ascontiguousarray(np.moveaxis(self._taps.weight, -1, 0)[:, None])
        matrix = np.concatenate([product.weight() for product in self._products])
        shape = (self.out_channels, *self.window.kernel, self.in_channels // self.groups)
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape), -1, 1))

    def bias(self) -> np.ndarray | None:
        """``[M]`` or None."""
        if self._taps is not None:
            return self._taps.bias
        parts = [b for b in (product.bias() for product in self._products) if b is not None]
        return np.concatenate(parts) if parts else None

    def convolved(self, x: np.ndarray, relu: bool = False) -> np.ndarray:
        """``x [N, C, *spatial]`` → ``[N, M, *steps]``, of the weights' dtype, with channels last in
        memory; with ``relu`` its positive part."""
        fit = self._fits.get(x.shape) or self._fitted(x.shape)
        x = x.transpose(fit.channels_last)
        if fit.inner is None:
            x = np.ascontiguousarray(x)
        else:
            padded = np.zeros(fit.padded, x.dtype)
            padded[fit.inner] = x
            x = padded
        if fit.run_shape is not None:
            rows: np.ndarray = np.ndarray(fit.run_shape, x.dtype, x, 0, fit.run_strides)
            result = self._products[0](rows, relu)
        elif self._taps is not None:
            result = self._taps(self.window.view(x, fit.steps), relu)
        elif self.groups > 1:
            result = self._by_groups(x, fit.steps, relu)
        else:
            result = self._by_blocks(x, fit.steps, relu)
        return result.transpose(fit.channels_second)

    def _fitted(self, shape: tuple[int, ...]) -> _Fit:
        """How inputs of this shape are laid out: worked out once, for a stream's step is short."""
        rank = len(self.window.kernel)
        if len(shape) != 2 + rank or shape[1] != self.in_channels:
            raise ValueError(
                f"X has the shape {shape}, expected {2 + rank} axes and {self.in_channels} channels"
            )
        fit = _Fit(self.window, shape, self.dtype.itemsize, len(self._products) == 1)
        if len(self._fits) >= _MOST_FITS:
            self._fits.clear()
        self._fits[shape] = fit
        return fit

    def _by_blocks(self, x: np.ndarray, steps: tuple[int, ...], relu: bool) -> np.ndarray:
        """Windows are copied into rows, as many at a time as stay in the cache."""
        (product,) = self._products
        row_bytes = product.depth * x.itemsize * math.prod(steps[1:])
        height = max(_BLOCK_BYTES // max(row_bytes, 1), 1)
        if len(x) * steps[0] <= height:
            rows = self.window.view(x, steps).reshape(len(x), *steps, -1)
            return product(rows, relu)
        result = np.empty((len(x), *steps, self.out_channels), x.dtype)
        for n in range(len(x)):
            for first in range(0, steps[0], height):
                block = (min(height, steps[0] - first), *steps[1:])
                rows = self.window.view(x[n : n + 1], block, first).reshape(*block, -1)
                product(rows, relu, result[n, first : first + height])
        return result

    def _by_groups(self, x: np.ndarray, steps: tuple[int, ...], relu: bool) -> np.ndarray:
        """Each group's channels are copied out of the windows."""
        inside, outside = self.in_channels // self.groups, self.out_channels // self.groups
        windows = self.window.view(x, steps)  # [N, *steps, *kernel, C]
        result = np.empty((len(x), *steps, self.out_channels), x.dtype)
        for g, product in enumerate(self._products):
            own = windows[..., g * inside : (g + 1) * inside].reshape(len(x), *steps, -1)
            product(own, relu, result[..., g * outside : (g + 1) * outside])
        return result


class _Fit:
    """A window over inputs of one shape ``[N, C, *spatial]``: sizes, pads, places."""

    def __init__(
        self, window: Window, shape: tuple[int, ...], itemsize: int, one_product: bool
    ) -> None:
        count, channels, *sizes = shape
        rank = len(sizes)
        pads = window.pads(sizes)
        wide = [size + before + after for size, (before, after) in zip(sizes, pads, strict=True)]
        self.channels_last = (0, *range(2, 2 + rank), 1)
        self.channels_second = (0, 1 + rank, *range(1, 1 + rank))
        self.padded = (count, *wide, channels)
        self.inner: tuple[slice, ...] | None = None
        if any(map(any, pads)):
            self.inner = (
                slice(None),
                *(slice(before, before + n) for (before, _), n in zip(pads, sizes, strict=True)),
            )
        self.steps = window.steps(wide)
        # A window that is one run of memory is not copied: rows of a matrix that overlap.
        self.run_shape: tuple[int, ...] | None = None
        self.run_strides: tuple[int, ...] = ()
        is_run = window.kernel[-1] == 1 or window.dilations[-1] == 1
        if not one_product or not is_run or max(window.kernel[:-1], default=1) > 1:
            return
        strides = [itemsize * channels]  # not the array's: those of axes of 1 mean nothing
        for size in reversed(wide):
            strides.append(strides[-1] * size)
        strides.reverse()  # of N and each spatial axis
        steps = (stride * n for stride, n in zip(strides[1:], window.strides, strict=True))
        self.run_shape = (count, *self.steps, window.kernel[-1] * channels)
        self.run_strides = (strides[0], *steps, itemsize)
