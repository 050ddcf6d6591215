"""What changes only the shape or the order of axes: views of the input wherever NumPy has one.

Joining and splitting are in ``joining``; choosing elements is in ``indexing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from vledge._ext.room import ask
from vledge.errors import FormatError
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator, prepared_operator


@operator("Identity", since=1, pointwise=True)
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
        return x.reshape(resolved(x, integers(wanted, "shape")))

    constant = context.constants[1] if len(context.constants) > 1 else None
    if constant is None:
        return run
    fixed = integers(constant, "shape")
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
    away = tuple(axes) if axes else None
    return lambda x: x.squeeze(away)


@prepared_operator("Squeeze", since=13)
def squeeze(context: Context) -> Callable[..., np.ndarray]:
    """No axes at all and an empty list of them both mean every axis of size 1."""
    known = _known_axes(context)
    if known is not None:
        away = known or None
        return lambda x, _: x.squeeze(away)

    def run(x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
        if axes is None or not axes.size:
            return x.squeeze()
        return x.squeeze(tuple(integers(axes, "axes", scalar=True)))

    return run


@prepared_operator("Unsqueeze", since=1, until=12)
def unsqueeze_by_attribute(context: Context, *, axes: list[int]) -> Callable[..., np.ndarray]:
    return _unsqueezing(axes)


@prepared_operator("Unsqueeze", since=13)
def unsqueeze(context: Context) -> Callable[..., np.ndarray]:
    known = _known_axes(context)
    if known is None:
        return lambda x, axes: _unsqueezing(integers(axes, "axes", scalar=True))(x)
    unsqueezed = _unsqueezing(known)
    return lambda x, _: unsqueezed(x)


def _known_axes(context: Context) -> tuple[int, ...] | None:
    """The second input, where it is constant; it is taken, then."""
    axes = context.constants[1] if len(context.constants) > 1 else None
    if axes is None:
        return None
    context.release(1)
    return tuple(integers(axes, "axes", scalar=True))


def _unsqueezing(axes: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """New axes by indexing: the least that NumPy asks for a view."""
    indices: dict[int, tuple[slice | None, ...]] = {}  # by the input's number of axes

    def run(x: np.ndarray) -> np.ndarray:
        index = indices.get(x.ndim)
        if index is None:
            rank = x.ndim + len(axes)
            places = {axis + rank if axis < 0 else axis for axis in axes}
            if len(places) != len(axes) or not all(0 <= axis < rank for axis in places):
                raise ValueError(
                    f"axes is {list(axes)}, expected different ones of the {rank} axes"
                )
            index = tuple(None if axis in places else slice(None) for axis in range(rank))
            indices[x.ndim] = index
        return x[index]

    return run


# Up to this size a copy is made in a tenth of the time that NumPy takes for a broadcast view.
SMALL_BYTES: Final = 1 << 12


@operator("Expand", since=8)
def expand(x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    sizes = _broadcast(x.shape, integers(wanted, "shape", scalar=True))
    if sizes == x.shape:
        return x
    if math.prod(sizes) * x.itemsize > SMALL_BYTES:
        ask(math.prod(sizes) * x.itemsize)  # who reads the view is at it as long as for an array
        return np.broadcast_to(x, sizes)
    result = np.empty(sizes, x.dtype)
    result[...] = x
    return result


def _broadcast(shape: tuple[int, ...], wanted: list[int]) -> tuple[int, ...]:
    """Both shapes' broadcast; `np.broadcast_shapes` takes many times as long for it."""
    more = len(wanted) - len(shape)
    own = (1,) * more + shape
    sizes = tuple(
        size if other == 1 or other == size else other if size == 1 and other >= 0 else -1
        for size, other in zip(own, [1] * -more + wanted, strict=True)
    )
    if -1 in sizes:
        raise ValueError(f"an input of the shape {shape} cannot be expanded to {wanted}")
    return sizes


@prepared_operator("DepthToSpace", since=1)
def depth_to_space(
    context: Context, *, blocksize: int, mode: str = "DCR"
) -> Callable[..., np.ndarray]:
    _check_blocks(blocksize, mode)

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
    _check_blocks(blocksize, mode)

    def run(x: np.ndarray) -> np.ndarray:
        n, c, h, w = x.shape
        h, w = h // blocksize, w // blocksize
        blocks = x.reshape(n, c, h, blocksize, w, blocksize)
        order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return blocks.transpose(order).reshape(n, c * blocksize**2, h, w)

    return run


def _check_blocks(blocksize: int, mode: str) -> None:
    if blocksize < 1:
        raise FormatError(f"blocksize is {blocksize}, expected 1 or more")
    if mode not in ("DCR", "CRD"):
        raise FormatError(f"mode is {mode!r}, expected 'DCR' or 'CRD'")
