"""GridSample and AffineGrid: an image read at computed places, in any number of dimensions.

Source: torch's ``grid_sample`` and ``affine_grid``. onnx's reference and onnxruntime agree with
them, but for the reference's cubic samples with the padding "border", and for an axis of one
element whose corners are aligned: its place is -1 by the reference and here, 0 by torch's
``affine_grid``, 1 by onnxruntime's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.convolution import single
from vledge.graph.operators.lists import integers
from vledge.graph.operators.matrix import matmul
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import PIECE

_PADDINGS: Final = ("zeros", "border", "reflection")
_MODES: Final = ("nearest", "linear", "cubic")
_MODES_UNTIL_19: Final = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
_FARTHEST: Final = float(1 << 30)  # where a place is cut: an integer of any type
_CUBIC: Final = -0.75  # Keys' coefficient


@dataclass(frozen=True)
class _Sampling:
    """How an element is made of those around its place."""

    mode: str
    padding: str
    align_corners: bool

    def __call__(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """x [N, C, *sizes], grid [N, *steps, rank], innermost axis first → [N, C, *steps]."""
        rank = x.ndim - 2
        if rank < 1 or grid.ndim != x.ndim or grid.shape[0] != x.shape[0]:
            raise ValueError(
                f"X has the shape {x.shape} and grid {grid.shape}, expected as many axes and "
                "samples"
            )
        if grid.shape[-1] != rank:
            raise ValueError(
                f"grid has the shape {grid.shape}, expected {rank} coordinates on its last axis"
            )
        steps = grid.shape[1:-1]
        result = np.empty((*x.shape[:2], math.prod(steps)), x.dtype)
        if result.size and 0 in x.shape[2:]:
            raise ValueError(f"X has the shape {x.shape}: no elements to sample")
        places = single(grid).reshape(len(grid), -1, rank)[..., ::-1]
        size = max(PIECE // max(x.shape[1], 1), 1)
        for sample, own, target in zip(x, places, result, strict=True):
            flat = single(sample).reshape(len(sample), -1)
            for begin in range(0, own.shape[0], size):
                piece = slice(begin, begin + size)
                target[:, piece] = self._read(flat, sample.shape[1:], own[piece])
        return result.reshape(*x.shape[:2], *steps)

    def _read(self, flat: np.ndarray, sizes: tuple[int, ...], grid: np.ndarray) -> np.ndarray:
        """flat [C, elements], grid [P, rank] → [C, P]."""
        axes = [self._taps(grid[:, axis], size) for axis, size in enumerate(sizes)]
        total = np.zeros((len(flat), len(grid)), flat.dtype)
        for taps in itertools.product(*axes):
            at = np.zeros(len(grid), np.int64)
            weight: np.ndarray | None = None
            for (place, share), size in zip(taps, sizes, strict=True):
                at = at * size + place
                weight = share if weight is None else weight * share
            total += flat[:, at] * np.asarray(weight, flat.dtype)
        return total

    def _taps(self, grid: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Elements of an axis around each coordinate, and their weights, 0 outside."""
        low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
        # -1 and 1 are the axis's ends, or the middles of its first and last element
        place = (grid + 1) / 2 * (size - 1) if self.align_corners else ((grid + 1) * size - 1) / 2
        place = np.nan_to_num(place, nan=-_FARTHEST).clip(-_FARTHEST, _FARTHEST)
        if self.mode == "nearest":
            place = np.rint(place)
        outside = (place < low) | (place > high)
        if self.mode != "cubic":  # whose elements are padded, but not its place
            if self.padding == "border":
                place = np.where(outside, place.clip(0, size - 1), place)
            elif self.padding == "reflection":
                place = np.where(outside, _reflected(place, low, high), place)
        if self.mode == "nearest":
            return [self._tap(place.astype(np.int64), np.ones_like(place), low, high, size)]
        base = np.floor(place)
        first = base.astype(np.int64)
        if self.mode == "linear":
            shares = [1 - (place - base), place - base]
            return [self._tap(first + k, w, low, high, size) for k, w in enumerate(shares)]
        shares = _cubic_shares(place - base)
        return [self._tap(first + k - 1, w, low, high, size) for k, w in enumerate(shares)]

    def _tap(
        self, at: np.ndarray, share: np.ndarray, low: float, high: float, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        inside = (at >= 0) & (at < size)
        if self.padding == "zeros":
            share = np.where(inside, share, share.dtype.type(0))
        elif self.padding == "reflection":
            at = np.where(inside, at, np.trunc(_reflected(at, low, high)).astype(np.int64))
        return at.clip(0, size - 1), share


def _reflected(place: np.ndarray, low: float, high: float) -> np.ndarray:
    """Thrown back at both ends until it is between them."""
    width = high - low
    if width == 0:
        return np.full_like(place, low)
    below = place < low
    over = np.where(below, low - place, place - high)
    turns = np.floor(over / width)
    rest = over - turns * width
    from_low = below == (turns % 2 == 0)
    return np.where(from_low, low + rest, high - rest)


def _cubic_shares(t: np.ndarray) -> list[np.ndarray]:
    """Weights of the elements at -1, 0, 1 and 2 of a place at t, by R. Keys' cubic convolution."""
    a = t.dtype.type(_CUBIC)

    def near(d: np.ndarray) -> np.ndarray:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: np.ndarray) -> np.ndarray:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _sampling(mode: str, padding_mode: str, align_corners: int) -> _Sampling:
    if padding_mode not in _PADDINGS:
        raise FormatError(f"padding_mode is {padding_mode!r}, expected {', '.join(_PADDINGS)}")
    return _Sampling(mode, padding_mode, bool(align_corners))


@prepared_operator("GridSample", since=16, until=19)
def grid_sample_of_images(
    context: Context,
    *,
    align_corners: int = 0,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if mode not in _MODES_UNTIL_19:
        raise FormatError(f"mode is {mode!r}, expected {', '.join(_MODES_UNTIL_19)}")
    return _sampling(_MODES_UNTIL_19[mode], padding_mode, align_corners)


@prepared_operator("GridSample", since=20)
def grid_sample(
    context: Context, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if mode not in _MODES:
        raise FormatError(f"mode is {mode!r}, expected {', '.join(_MODES)}")
    return _sampling(mode, padding_mode, align_corners)


@operator("AffineGrid", since=20)
def affine_grid(theta: np.ndarray, size: np.ndarray, *, align_corners: int = 0) -> np.ndarray:
    """theta [N, rank, rank + 1] and the size [N, C, *sizes] → the places of GridSample's grid."""
    sizes = integers(size, "size")
    rank = len(sizes) - 2
    if theta.shape != (sizes[0] if sizes else 0, rank, rank + 1) or rank not in (2, 3):
        raise ValueError(
            f"theta has the shape {theta.shape} and size is {sizes}, expected [N, 2, 3] and "
            "[N, C, H, W], or [N, 3, 4] and [N, C, D, H, W]"
        )
    if min(sizes) < 0:
        raise ValueError(f"size is {sizes}, expected no less than 0")
    wide = single(theta)
    axes = []
    for count in sizes[2:]:
        steps = np.arange(count, dtype=wide.dtype)
        if align_corners:
            axes.append(steps * wide.dtype.type(2 / max(count - 1, 1)) - 1)
        else:
            axes.append((steps * 2 + 1) / wide.dtype.type(max(count, 1)) - 1)
    shape = (math.prod(sizes[2:]), 1)
    grid = [axis.reshape(shape) for axis in np.meshgrid(*axes, indexing="ij")][::-1]
    places = np.concatenate([*grid, np.ones(shape, wide.dtype)], 1)  # [places, rank + 1]
    result = matmul(places, wide.transpose(0, 2, 1))
    return result.reshape(sizes[0], *sizes[2:], rank).astype(theta.dtype, copy=False)
