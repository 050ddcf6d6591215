"""What convolutions are made of, transposed or not: a kernel's weights in the window they slide in.

Results are views with channels last in memory, which the next convolution takes as they are.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np

from vledge._ext.convolution import Convolution
from vledge.convolution.windows import Window
from vledge.errors import FormatError

__all__ = ["Kernel", "winograd_allowed"]

# Shapes of inputs whose places are remembered.
_MOST_FITS: Final = 64
_MOST_AXES: Final = 3


def winograd_allowed() -> bool:
    """Whether Winograd's products may be used where nobody asks for exact ones: VLEDGE_WINOGRAD."""
    return os.environ.get("VLEDGE_WINOGRAD", "1") != "0"


class Kernel:
    """Weights ``[M, C / groups, *kernel]`` (transposed: ``[C, M / groups, *kernel]``), a bias
    ``[M]`` or None, and the window they slide in, over one to three spatial axes.

    ``winograd`` lets kernels of 3x3 be multiplied by Winograd's F(2x2, 3x3), where that is quicker:
    other bits, no larger errors, and the weights cannot be given back. ``leaves_out`` lets taps go
    that only meet padding, of an input that is small enough: other bits, too.

    Source: torch.nn.Conv1d, torch.nn.ConvTranspose1d, the ONNX operators Conv and ConvTranspose.
    """

    def __init__(
        self,
        w: np.ndarray,
        b: np.ndarray | None,
        window: Window,
        groups: int,
        transposed: bool = False,
        winograd: bool = False,
        leaves_out: bool = False,
    ) -> None:
        if w.shape[2:] != window.kernel:
            raise FormatError(f"W has the shape {w.shape}, kernel_shape is {list(window.kernel)}")
        if groups < 1 or w.shape[0] % groups:
            kind = "input" if transposed else "output"
            raise FormatError(f"group is {groups}, W has {w.shape[0]} {kind} channels")
        if len(window.kernel) > _MOST_AXES:
            raise FormatError(
                f"W has {len(window.kernel)} spatial axes, at most {_MOST_AXES} can run"
            )
        self.window, self.groups, self.dtype = window, groups, w.dtype
        try:
            self.convolution = Convolution(
                w,
                b,
                window.strides,
                window.dilations,
                groups,
                transposed,
                winograd,
                leaves_out,
            )
        except ValueError as error:
            raise FormatError(str(error)) from None
        self.in_channels = self.convolution.in_channels
        self.out_channels = self.convolution.out_channels
        self._fits: dict[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def weight(self) -> np.ndarray:
        """The weights, bit for bit as given."""
        return self.convolution.weight()

    def bias(self) -> np.ndarray | None:
        """``[M]`` or None."""
        return self.convolution.bias()

    def convolved(self, x: np.ndarray, relu: bool = False) -> np.ndarray:
        """``x [N, C, *spatial]`` → ``[N, M, *steps]``, of the weights' dtype, with channels last in
        memory; with ``relu`` its positive part. Not for a transposed kernel: `overlaid` is."""
        steps, before = self._fits.get(x.shape) or self._fitted(x.shape)
        return self.convolution(x, steps, before, 0.0 if relu else None)

    def overlaid(self, x: np.ndarray, sizes: tuple[int, ...], cut: tuple[int, ...]) -> np.ndarray:
        """A transposed kernel's ``x [N, C, *spatial]`` → ``[N, M, *sizes]``, from ``cut`` on."""
        self._check(x.shape)
        return self.convolution(x, sizes, cut)

    def _check(self, shape: tuple[int, ...]) -> None:
        rank = len(self.window.kernel)
        if len(shape) != 2 + rank or shape[1] != self.in_channels:
            raise ValueError(
                f"X has the shape {shape}, expected {2 + rank} axes and {self.in_channels} channels"
            )

    def _fitted(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The output's sizes and the pads in front: worked out once, a stream's step is short."""
        self._check(shape)
        sizes = shape[2:]
        pads = self.window.pads(sizes)
        steps = self.window.steps([n + sum(pair) for n, pair in zip(sizes, pads, strict=True)])
        if len(self._fits) >= _MOST_FITS:
            self._fits.clear()
        self._fits[shape] = steps, tuple(before for before, _ in pads)
        return self._fits[shape]
