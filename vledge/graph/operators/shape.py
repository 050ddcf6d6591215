"""What changes only the shape or the order of axes: views of the input wherever NumPy has one.

Joining and splitting are in ``joining``; choosing elements is in ``indexing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError
from vledge.graph.registry import Context, operator, prepared_operator


@operator("Identity", since=1)
def identity(x: np.ndarray) -> np.ndarray:
    return x


@operator("Shape", since=1)
def shape(x: np.ndarray, *, start: int = 0, end: int | None = None) -> np.ndarray:
    return np.array(x.shape[start:end], np.int64)


@operator("Size", since=1)
def size(x: np.ndarray) -> np.ndarray:
    return np.array(x.size, np.int64)


@prepared_operator("Reshape", since=5)
def reshape(context: Context, *, allowzero: int = 0) -> Callable[..., np.ndarray]:
    """A 0 in the shape copies the input's size on that axis, unless ``allowzero``."""

    def resolved(x: np.ndarray, wanted: list[int]) -> list[int]:
        if 0 not in wanted or allowzero:
            return wanted
        copied = [axis for axis, size in enumerate(wanted) if size == 0]
        sizes = [x.shape[axis] if axis in copied else size for axis, size in enumerate(wanted)]
        if -1 in sizes and 0 in sizes:  # NumPy cannot tell; what is copied does not matter
            rest = [size for axis, size in enumerate(x.shape) if axis not in copied]
            others = [size for size in wanted if size > 0]
            sizes[sizes.index(-1)] = math.prod(rest) // math.prod(others)
        return sizes

    def run(x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return x.reshape(resolved(x, wanted.tolist()))

    constant = context.constants[1] if len(context.constants) > 1 else None
    if constant is None:
        return run
    fixed: list[int] = constant.tolist()
    if 0 in fixed:
        return lambda x, _: x.reshape(resolved(x, fixed))
    return lambda x, _: x.reshape(fixed)


@operator("Flatten", since=1)
def flatten(x: np.ndarray, *, axis: int = 1) -> np.ndarray:
    """Two axes: those before ``axis``, and the rest."""
    start = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:start]), math.prod(x.shape[start:]))


@operator("Transpose", since=1)
def transpose(x: np.ndarray, *, perm: list[int] | None = None) -> np.ndarray:
    return x.transpose(perm)


@prepared_operator("Squeeze", since=1, until=12)
def squeeze_by_attribute(
    context: Context, *, axes: list[int] | None = None
) -> Callable[..., np.ndarray]:
    away = None if axes is None else tuple(axes)
    return lambda x: x.squeeze(away)


@operator("Squeeze", since=13)
def squeeze(x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return x.squeeze(None if axes is None else tuple(axes.reshape(-1).tolist()))


@prepared_operator("Unsqueeze", since=1, until=12)
def unsqueeze_by_attribute(context: Context, *, axes: list[int]) -> Callable[..., np.ndarray]:
    return lambda x: _unsqueezed(x, axes)


@operator("Unsqueeze", since=13)
def unsqueeze(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return _unsqueezed(x, axes.reshape(-1).tolist())


def _unsqueezed(x: np.ndarray, axes: list[int]) -> np.ndarray:
    rank = x.ndim + len(axes)
    places = {axis + rank if axis < 0 else axis for axis in axes}
    if len(places) != len(axes) or not all(0 <= axis < rank for axis in places):
        raise ValueError(f"axes is {axes}, expected different axes of {rank}")
    sizes = iter(x.shape)
    return x.reshape([1 if axis in places else next(sizes) for axis in range(rank)])


@operator("Expand", since=8)
def expand(x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(wanted.tolist())))


@prepared_operator("DepthToSpace", since=1)
def depth_to_space(
    context: Context, *, blocksize: int, mode: str = "DCR"
) -> Callable[..., np.ndarray]:
    _check_mode(mode)

    def run(x: np.ndarray) -> np.ndarray:
        n, c, h, w = x.shape
        depth = c // blocksize**2
        if mode == "DCR":
            blocks = x.reshape(n, blocksize, blocksize, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            blocks = x.reshape(n, depth, blocksize, blocksize, h, w).transpose(0, 1, 4, 2, 5, 3)
        return blocks.reshape(n, depth, h * blocksize, w * blocksize)

    return run


@prepared_operator("SpaceToDepth", since=1)
def space_to_depth(
    context: Context, *, blocksize: int, mode: str = "DCR"
) -> Callable[..., np.ndarray]:
    _check_mode(mode)

    def run(x: np.ndarray) -> np.ndarray:
        n, c, h, w = x.shape
        h, w = h // blocksize, w // blocksize
        blocks = x.reshape(n, c, h, blocksize, w, blocksize)
        order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return blocks.transpose(order).reshape(n, c * blocksize**2, h, w)

    return run


def _check_mode(mode: str) -> None:
    if mode not in ("DCR", "CRD"):
        raise FormatError(f"mode is {mode!r}, expected 'DCR' or 'CRD'")
