"""Pools over time: the largest or the mean of windows, or of as many parts as are wanted.

``input`` is ``[B, C, T]`` or ``[C, T]``, and a window slides over T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vledge.array_like import ArrayLike, array_of, possible_shape
from vledge.nn.dtype import float_dtype
from vledge.nn.module import Module
from vledge.pieces import PIECE

__all__ = ["AdaptiveAvgPool1d", "AdaptiveMaxPool1d", "AvgPool1d", "MaxPool1d"]

_Size = int | tuple[int, ...]


class _Some(NamedTuple):
    """Some rows' windows ``[rows, windows, kernel]``: which, and of what places of them."""

    rows: slice
    columns: slice
    windows: np.ndarray
    places: np.ndarray  # [windows, kernel]
    outside: np.ndarray  # which of these are padding


class _Windows(Module):
    """What both sliding pools have in common: their windows' places."""

    def __init__(
        self, kernel_size: _Size, stride: _Size | None, padding: _Size, ceil_mode: bool
    ) -> None:
        super().__init__()
        self.kernel_size = _one(kernel_size)
        self.stride = self.kernel_size if stride is None else _one(stride)
        self.padding = _one(padding)
        self.ceil_mode = ceil_mode
        if self.kernel_size < 1 or self.stride < 1:
            raise ValueError(
                f"{type(self).__name__}: kernel_size and stride must be at least 1, got "
                f"{self.kernel_size} and {self.stride}"
            )
        if not 0 <= self.padding <= self.kernel_size // 2:
            raise ValueError(
                f"pad should be at most half of effective kernel size, but got pad={self.padding}, "
                f"kernel_size={self.kernel_size}"
            )

    def _starts(self, steps: int, span: int) -> np.ndarray:
        """Where windows of ``span`` begin, counted from the first real step: int64."""
        room = steps + 2 * self.padding - span
        count = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
        if self.ceil_mode and (count - 1) * self.stride >= steps + self.padding:
            count -= 1  # the last window would begin behind all that there is
        if count < 1:
            raise RuntimeError(
                f"{type(self).__name__}: {steps} steps, padded by {self.padding}, are fewer than "
                f"the window of {span}"
            )
        return np.arange(count) * self.stride - self.padding

    def _some(self, x: np.ndarray, starts: np.ndarray, dilation: int = 1) -> Iterator[_Some]:
        """All windows of ``x [rows, steps]``, as many at a time as Ctrl-C can wait for."""
        within = np.arange(self.kernel_size) * dilation
        width = max(PIECE // self.kernel_size, 1)
        height = max(PIECE // (min(width, len(starts)) * self.kernel_size), 1)
        for column in range(0, len(starts), width):
            columns = slice(column, column + width)
            places = starts[columns, None] + within
            outside = (places < 0) | (places >= x.shape[1])
            inside = np.clip(places, 0, x.shape[1] - 1)
            for row in range(0, len(x), height):
                rows = slice(row, row + height)
                yield _Some(rows, columns, x[rows][:, inside], places, outside)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_Windows):
    """The largest of each window; padding counts as minus infinity. Source: torch.nn.MaxPool1d."""

    def __init__(
        self,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        dilation: _Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation = _one(dilation)
        self.return_indices = return_indices
        if self.dilation < 1:
            raise ValueError(f"MaxPool1d: dilation must be at least 1, got {self.dilation}")

    def forward(self, input: ArrayLike) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """``[B, C, T]`` or ``[C, T]`` -> the same with a step a window; with ``return_indices``
        also where each maximum was found, int64."""
        x = _checked_input(self, input)
        starts = self._starts(x.shape[-1], self.dilation * (self.kernel_size - 1) + 1)
        shape = (*x.shape[:-1], len(starts))
        x = x.reshape(math.prod(shape[:-1]), x.shape[-1])
        maxima = np.empty((len(x), len(starts)), x.dtype)
        found = np.empty(maxima.shape if self.return_indices else 0, np.int64)
        for rows, columns, windows, places, outside in self._some(x, starts, self.dilation):
            windows[:, outside] = -np.inf
            if not self.return_indices:
                maxima[rows, columns] = windows.max(-1)
                continue
            # argmax takes the first NaN for the largest, and of equal ones the first, as torch does
            within = windows.argmax(-1)
            maxima[rows, columns] = np.take_along_axis(windows, within[..., None], -1)[..., 0]
            found[rows, columns] = places[np.arange(len(places)), within]
        if not self.return_indices:
            return maxima.reshape(shape)
        return maxima.reshape(shape), found.reshape(shape)


class AvgPool1d(_Windows):
    """The mean of each window; padding counts as zeros, and as steps unless told otherwise.

    Source: torch.nn.AvgPool1d.
    """

    def __init__(
        self,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``[B, C, T]`` or ``[C, T]`` -> the same with a step a window."""
        x = _checked_input(self, input)
        steps = x.shape[-1]
        starts = self._starts(steps, self.kernel_size)
        shape = (*x.shape[:-1], len(starts))
        x = x.reshape(math.prod(shape[:-1]), steps)
        means = np.empty((len(x), len(starts)), x.dtype)
        for rows, columns, windows, places, outside in self._some(x, starts):
            windows[:, outside] = 0
            # with ceil_mode a window may reach behind the padding, where nothing counts
            counted = places < steps + self.padding if self.count_include_pad else ~outside
            means[rows, columns] = windows.sum(-1) / counted.sum(-1).astype(x.dtype)
        return means.reshape(shape)


class _Parts(Module):
    """What both adaptive pools have in common: T steps as ``output_size`` parts, which may lap
    over each other by a step."""

    def __init__(self, output_size: _Size | None) -> None:
        super().__init__()
        self.output_size = None if output_size is None else _one(output_size)
        if self.output_size is not None and self.output_size < 0:
            raise ValueError(f"output_size must be 0 or more, got {self.output_size}")

    def _parts(self, steps: int) -> Iterator[slice]:
        size = steps if self.output_size is None else self.output_size
        if size and not steps:
            raise RuntimeError(f"{type(self).__name__}: no steps cannot make {size} parts")
        return (slice(i * steps // size, -(-(i + 1) * steps // size)) for i in range(size))

    def _room(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """For the result: what is too large is refused before any work."""
        size = x.shape[-1] if self.output_size is None else self.output_size
        return np.empty(
            possible_shape(f"{type(self).__name__}'s output", (*x.shape[:-1], size), dtype), dtype
        )

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Parts):
    """The mean of each part. Source: torch.nn.AdaptiveAvgPool1d."""

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``[B, C, T]`` or ``[C, T]`` -> the same with ``output_size`` steps."""
        x = _checked_input(self, input)
        means = self._room(x, x.dtype)
        for i, part in enumerate(self._parts(x.shape[-1])):
            means[..., i] = x[..., part].mean(-1)
        return means


class AdaptiveMaxPool1d(_Parts):
    """The largest of each part. Source: torch.nn.AdaptiveMaxPool1d."""

    def __init__(self, output_size: _Size | None, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: ArrayLike) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """``[B, C, T]`` or ``[C, T]`` -> the same with ``output_size`` steps; with
        ``return_indices`` also where each maximum was found, int64."""
        x = _checked_input(self, input)
        largest = self._room(x, x.dtype)
        for i, part in enumerate(self._parts(x.shape[-1])):
            largest[..., i] = x[..., part].max(-1)
        if not self.return_indices:
            return largest
        # argmax takes the first NaN for the largest, and of equal ones the first, as torch does
        places = self._room(x, np.dtype(np.int64))
        for i, part in enumerate(self._parts(x.shape[-1])):
            places[..., i] = part.start + x[..., part].argmax(-1)
        return largest, places


def _checked_input(module: Module, input: ArrayLike) -> np.ndarray:
    x = array_of(input, "input")
    float_dtype(x.dtype)
    if x.ndim not in (2, 3):
        raise RuntimeError(
            f"{type(module).__name__}: input has shape {x.shape}, expected [B, C, T] or [C, T]"
        )
    return x


def _one(size: _Size) -> int:
    return int(size[0]) if isinstance(size, (tuple, list)) else int(size)
