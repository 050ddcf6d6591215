"""Operators of one large array, a piece at a time: Ctrl-C is heard between two.

NumPy does not look for signals. A tangent of a hundred million elements takes it a second; here it
takes no longer, for a piece and what is made of it stay in the cache.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike

__all__ = [
    "PIECE",
    "converted",
    "copy_into",
    "in_pieces",
    "in_slices",
    "other_axes",
    "spans",
    "ufunc_into",
]

#: Elements: some milliseconds of the slowest functions, and thousands of times what a call costs.
PIECE: Final = 1 << 17


def spans(count: int, step: int = PIECE) -> Iterator[slice]:
    """All of so many things, ``step`` at a time, one at least; the last ones may be fewer."""
    step = max(step, 1)
    for begin in range(0, count, step):
        yield slice(begin, min(begin + step, count))


def in_pieces(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, to which it must do the same element by element, broadcast."""

    @functools.wraps(function)
    def run(*given: Any) -> Any:
        arrays = [a for a in given if isinstance(a, np.ndarray) and a.ndim]
        if not arrays:
            return function(*given)
        shape = arrays[0].shape
        if any(a.shape != shape for a in arrays):
            try:
                shape = np.broadcast_shapes(*(a.shape for a in arrays))
            except ValueError:
                return function(*given)  # which says so
        if math.prod(shape) < 2 * PIECE:
            return function(*given)
        if all(a.shape == shape and a.flags.c_contiguous for a in arrays):
            flat = [a.reshape(-1) if isinstance(a, np.ndarray) and a.ndim else a for a in given]
            result = _by_blocks(function, flat, (math.prod(shape),))
            return function(*given) if result is None else result.reshape(shape)
        result = _by_blocks(function, given, shape)
        return function(*given) if result is None else result

    return run


def _by_blocks(
    function: Callable[..., Any], given: Sequence[Any], shape: tuple[int, ...]
) -> np.ndarray | None:
    """None where the function gives a view, or something else than an element for each."""
    whole: np.ndarray | None = None
    for block in _blocks(shape):
        cut = [_cut(a, block) if isinstance(a, np.ndarray) and a.ndim else a for a in given]
        part = function(*cut)
        if whole is None:
            if not isinstance(part, np.ndarray) or any(np.may_share_memory(part, a) for a in cut):
                return None
            whole = np.empty(shape, part.dtype)
            if whole[block].shape != part.shape:
                return None
        whole[block] = part
    return whole


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Places of an array of the shape, in halves of the longest axis until they are small."""
    axis = max(range(len(shape)), key=lambda a: shape[a])
    if math.prod(shape) < 2 * PIECE:
        yield tuple(slice(0, size) for size in shape)
        return
    half = shape[axis] // 2
    for begin, length in ((0, half), (half, shape[axis] - half)):
        for block in _blocks((*shape[:axis], length, *shape[axis + 1 :])):
            own = slice(begin + block[axis].start, begin + block[axis].stop)
            yield (*block[:axis], own, *block[axis + 1 :])


def _cut(a: np.ndarray, block: tuple[slice, ...]) -> np.ndarray:
    own = block[len(block) - a.ndim :]
    return a[tuple(slice(0, 1) if size == 1 else s for s, size in zip(own, a.shape, strict=True))]


def in_slices(
    function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, axes: Iterable[int]
) -> np.ndarray:
    """``function(x)``, which must do the same to each slice along these axes, and leave them where
    and as long as they are."""
    among = [axis for axis in axes if x.shape[axis] > 1]
    if x.size < 2 * PIECE or not among:
        return function(x)
    axis, *others = among
    length = x.shape[axis]
    whole: np.ndarray | None = None
    for some in spans(length, PIECE * length // x.size):
        place = (*(slice(None),) * axis, some)
        part = in_slices(function, x[place], others)
        if whole is None:
            whole = np.empty((*part.shape[:axis], length, *part.shape[axis + 1 :]), part.dtype)
        whole[place] = part
    assert whole is not None  # there are two slices or more
    return whole


def copy_into(target: np.ndarray, source: np.ndarray) -> None:
    """``target[...] = source``, which is broadcast to its shape."""
    _into(np.copyto, target, source)


def converted(array: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """In C order, aligned and of the dtype: itself where it is, a copy where not."""
    dtype = np.dtype(dtype)
    if array.flags.c_contiguous and array.flags.aligned and array.dtype == dtype:
        return array
    copy = np.empty(array.shape, dtype)
    _into(functools.partial(np.copyto, casting="unsafe"), copy, array)
    return copy


def ufunc_into(ufunc: np.ufunc, target: np.ndarray, *operands: np.ndarray) -> None:
    """``ufunc(*operands, out=target)``, which are broadcast to its shape."""
    _into(lambda out, *given: ufunc(*given, out=out), target, *operands)


def _into(function: Callable[..., object], target: np.ndarray, *operands: np.ndarray) -> None:
    if target.size < 2 * PIECE:
        function(target, *operands)
        return
    whole = [np.broadcast_to(operand, target.shape) for operand in operands]
    # parts lie together in what is written: its pages are new, and cleared as a whole
    long = (a for a in range(target.ndim) if target.shape[a] > 1)
    axis = max(long, key=lambda a: abs(target.strides[a]))
    half = target.shape[axis] // 2
    for part in (slice(0, half), slice(half, None)):
        place = (*(slice(None),) * axis, part)
        _into(function, target[place], *(operand[place] for operand in whole))


def other_axes(ndim: int, *taken: int) -> list[int]:
    """All axes but these, which may count from the end."""
    return [axis for axis in range(ndim) if axis not in {one % ndim for one in taken}]
