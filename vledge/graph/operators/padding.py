"""Pad in all its modes, and CenterCropPad."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import copy_into

__all__ = ["padded"]

Pads = list[tuple[int, int]]  # before and after, for each axis; below 0 they crop

_MODES: Final = ("constant", "reflect", "edge", "wrap")


def padded(x: np.ndarray, pads: Pads, value: float | np.ndarray = 0) -> np.ndarray:
    """x with ``value`` around it, always a new C-contiguous array."""
    sizes = [size + before + after for size, (before, after) in zip(x.shape, pads, strict=True)]
    result = np.zeros(sizes, x.dtype)
    if value != 0:
        copy_into(result, np.full((), value, x.dtype))
    source, target = [], []
    for size, (before, after) in zip(x.shape, pads, strict=True):
        source.append(slice(max(-before, 0), size - max(-after, 0)))
        target.append(slice(max(before, 0), size + before + after - max(after, 0)))
    copy_into(result[tuple(target)], x[tuple(source)])
    return result


def _mirrored(x: np.ndarray, pads: Pads, mode: str) -> np.ndarray:
    """Padding by elements of x: one take for each axis that is padded."""
    for axis, (before, after) in enumerate(pads):
        if before == 0 and after == 0:
            continue
        x = x.take(_mirror_places(x.shape[axis], before, after, mode), axis)
    return x


@functools.lru_cache(maxsize=64)
def _mirror_places(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Which element of an axis stands at each place of the padded one."""
    places = np.arange(-before, size + after)
    if size == 0 and len(places):
        raise ValueError(f"an axis has no elements to pad with in mode {mode!r}")
    if mode == "edge":
        return places.clip(0, size - 1)
    if mode == "wrap":
        return places % max(size, 1)
    places %= max(2 * size - 2, 1)
    return np.minimum(places, max(2 * size - 2, 0) - places)


def _check_mode(mode: str) -> None:
    if mode not in _MODES:
        raise FormatError(f"mode is {mode!r}, expected one of {', '.join(_MODES)}")


def _pad(
    x: np.ndarray, pads: list[int], axes: list[int] | None, mode: str, value: float | np.ndarray
) -> np.ndarray:
    axes = list(range(x.ndim)) if axes is None else axes
    if len(pads) != 2 * len(axes):
        raise ValueError(f"pads has {len(pads)} items, expected {2 * len(axes)}")
    by_axis: Pads = [(0, 0)] * x.ndim
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        by_axis[axis] = (before, after)
    return padded(x, by_axis, value) if mode == "constant" else _mirrored(x, by_axis, mode)


@prepared_operator("Pad", since=2, until=10)
def pad_by_attributes(
    context: Context, *, pads: list[int], mode: str = "constant", value: float = 0.0
) -> Callable[..., np.ndarray]:
    _check_mode(mode)
    return lambda x: _pad(x, pads, None, mode, value)


@prepared_operator("Pad", since=11)
def pad(context: Context, *, mode: str = "constant") -> Callable[..., np.ndarray]:
    _check_mode(mode)

    def run(
        x: np.ndarray,
        pads: np.ndarray,
        value: np.ndarray | None = None,
        axes: np.ndarray | None = None,
    ) -> np.ndarray:
        over = None if axes is None else integers(axes, "axes")
        fill = 0 if value is None or not value.size else value.item()
        return _pad(x, integers(pads, "pads"), over, mode, fill)

    return run


@operator("CenterCropPad", since=18)
def center_crop_pad(
    x: np.ndarray, shape: np.ndarray, *, axes: list[int] | None = None
) -> np.ndarray:
    by_axis: Pads = [(0, 0)] * x.ndim
    sizes = integers(shape, "shape", scalar=True)
    for axis, wanted in zip(range(x.ndim) if axes is None else axes, sizes, strict=True):
        more = wanted - x.shape[axis]
        before = more // 2 if more > 0 else -(-more // 2)  # the odd one is cropped or padded after
        by_axis[axis] = (before, more - before)
    return padded(x, by_axis)
