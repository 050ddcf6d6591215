"""DeformConv: a convolution whose window's elements are each read at a place of their own.

Source: Zhu et al., "Deformable ConvNets v2", 2018 (arXiv 1811.11168); torchvision's deform_conv2d.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.convolution import single
from vledge.graph.registry import Context, prepared_operator
from vledge.pieces import PIECE, spans


@prepared_operator("DeformConv", since=19)
def deform_conv(
    context: Context,
    *,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    offset_group: int = 1,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    """x [N, C, H, W], w [M, C / group, kh, kw], offset [N, groups * kh * kw * 2, H', W'], b [M],
    and mask [N, groups * kh * kw, H', W'], by which what is read is multiplied."""
    steps = _sizes("strides", strides, 2, 1)
    apart = _sizes("dilations", dilations, 2, 1)
    around = _sizes("pads", pads, 4, 0)
    if group < 1 or offset_group < 1:
        raise FormatError(f"group is {group} and offset_group {offset_group}, expected 1 or more")

    def run(
        x: np.ndarray,
        w: np.ndarray,
        offset: np.ndarray,
        b: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> np.ndarray:
        if x.ndim != 4 or w.ndim != 4 or offset.ndim != 4:
            raise ValueError(
                f"X, W and offset have the shapes {x.shape}, {w.shape} and {offset.shape}, "
                "expected images of 4 axes"
            )
        rows, columns = w.shape[2:]
        if kernel_shape and list(kernel_shape) != [rows, columns]:
            raise ValueError(f"kernel_shape is {kernel_shape} for W of the shape {w.shape}")
        count, channels = x.shape[:2]
        taps = rows * columns
        sizes = [
            (x.shape[2 + a] + around[a] + around[2 + a] - apart[a] * (w.shape[2 + a] - 1) - 1)
            // steps[a]
            + 1
            for a in range(2)
        ]
        wanted = (count, offset_group * taps * 2, *sizes)
        if channels != w.shape[1] * group or w.shape[0] % group or channels % offset_group:
            raise ValueError(
                f"X has {channels} channels for W of the shape {w.shape}, group={group} and "
                f"offset_group={offset_group}"
            )
        if offset.shape != wanted or min(sizes) < 0:
            raise ValueError(f"offset has the shape {offset.shape}, expected {wanted}")
        if mask is not None and mask.shape != (count, offset_group * taps, *sizes):
            raise ValueError(
                f"mask has the shape {mask.shape}, expected {(count, offset_group * taps, *sizes)}"
            )
        at = _places(sizes, (rows, columns), steps, apart, around)
        shifts = single(offset).reshape(count, offset_group, taps, 2, -1)
        shares = None if mask is None else single(mask).reshape(count, offset_group, taps, -1)
        weights = single(w).reshape(group, w.shape[0] // group, -1)
        result = np.empty((count, w.shape[0], sizes[0] * sizes[1]), x.dtype)
        for n in range(count):
            image = single(x[n]).reshape(offset_group, channels // offset_group, -1)
            for piece in spans(result.shape[2], PIECE // max(channels * taps, 1)):
                read = np.stack(
                    [
                        _read(image[g], x.shape[2:], at[..., piece] + shifts[n, g, ..., piece])
                        for g in range(offset_group)
                    ]
                )
                if shares is not None:
                    read *= shares[n, :, None, :, piece]
                products = weights @ read.reshape(group, -1, read.shape[-1])
                result[n, :, piece] = products.reshape(w.shape[0], -1)
        if b is not None:
            result += b[:, None]
        return result.reshape(count, w.shape[0], *sizes)

    return run


def _sizes(name: str, given: list[int] | None, count: int, least: int) -> list[int]:
    sizes = list(given) if given else [least] * count
    if len(sizes) != count or min(sizes) < least:
        raise FormatError(f"{name} is {given}, expected {count} numbers from {least}")
    return sizes


def _places(
    sizes: list[int], kernel: tuple[int, int], steps: list[int], apart: list[int], around: list[int]
) -> np.ndarray:
    """[taps, 2, H' * W']: the row and column of each of the window's elements."""
    axes = [
        np.arange(kernel[a])[:, None] * apart[a] + np.arange(sizes[a]) * steps[a] - around[a]
        for a in range(2)
    ]
    both = np.empty((*kernel, 2, *sizes), np.float32)
    both[:, :, 0] = axes[0][:, None, :, None]
    both[:, :, 1] = axes[1][None, :, None, :]
    return both.reshape(kernel[0] * kernel[1], 2, -1)


def _read(image: np.ndarray, sizes: tuple[int, ...], places: np.ndarray) -> np.ndarray:
    """image [C, H * W], places [taps, 2, P] → [C, taps, P]: linear between four elements, of which
    those outside are zero."""
    bounds = np.array(sizes, places.dtype)[:, None]
    with np.errstate(invalid="ignore"):
        inside = np.clip(places, -2, bounds + 1)  # farther off everything is zero as well
    low = np.floor(inside)
    share = inside - low
    low = np.nan_to_num(low).astype(np.int64)
    total = np.zeros((len(image), *places[:, 0].shape), image.dtype)
    for down in (0, 1):
        for right in (0, 1):
            row, column = low[:, 0] + down, low[:, 1] + right
            there = (row >= 0) & (row < sizes[0]) & (column >= 0) & (column < sizes[1])
            weight = (share[:, 0] if down else 1 - share[:, 0]) * (
                share[:, 1] if right else 1 - share[:, 1]
            )
            place = np.where(there, row * sizes[1] + column, 0)
            total += image[:, place] * np.where(there, weight, 0).astype(image.dtype)
    return total
