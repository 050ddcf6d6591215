"""A convolution over one axis with small weights: its windows as rows of a product."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from vledge._ext.product import Product
from vledge.convolution.windows import Window
from vledge.small_matrix import SmallMatrix

__all__ = ["SmallKernel"]


class SmallKernel:
    """Weights ``[M, C * K]``, each row the ``[C, K]`` of an output channel, and a bias ``[M]`` or
    None; called as `vledge.convolution.correlation.Kernel` is."""

    def __init__(self, w: SmallMatrix, b: np.ndarray | None, window: Window) -> None:
        self.window = window
        self.product = Product(w, b)
        self.dtype = self.product.dtype

    def weight(self) -> np.ndarray:
        """The weights as given."""
        return self.product.weight()

    def bias(self) -> np.ndarray | None:
        """``[M]`` or None."""
        return self.product.bias()

    def convolved(self, x: np.ndarray) -> np.ndarray:
        """``x [N, C, T]`` → ``[N, M, steps]``, with channels last in memory."""
        (dilation,), (stride,), (size,) = (
            self.window.dilations,
            self.window.strides,
            self.window.kernel,
        )
        padded = np.pad(x, ((0, 0), (0, 0), *self.window.pads(x.shape[2:])))
        seen = sliding_window_view(padded, dilation * (size - 1) + 1, axis=2)
        seen = seen[:, :, ::stride, ::dilation].transpose(0, 2, 1, 3)
        rows = np.ascontiguousarray(seen).reshape(*seen.shape[:2], self.product.depth)
        return self.product(rows).transpose(0, 2, 1)
