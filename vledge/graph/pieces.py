"""Operators of one large array, a piece at a time: Ctrl-C is heard between two.

NumPy does not look for signals. A tangent of a hundred million elements takes it a second; here it
takes no longer, for a piece and what is made of it stay in the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

__all__ = ["PIECE", "in_pieces", "in_slices", "other_axes"]

#: Elements: some milliseconds of the slowest functions, and thousands of times what a call costs.
PIECE: Final = 1 << 17


def in_pieces(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, to which it must do the same element by element.

    Arrays that have axes are of one shape, or the function gets them whole.
    """

    @functools.wraps(function)
    def run(*given: Any) -> Any:
        x = given[0] if given else None
        if not isinstance(x, np.ndarray) or x.size < 2 * PIECE:
            return function(*given)
        flat = [a.reshape(-1) if _is_alike(a, x) else a for a in given]
        pieced = [isinstance(a, np.ndarray) and a.ndim > 0 for a in given]
        if not all(_is_alike(a, x) for a, cut in zip(given, pieced, strict=True) if cut):
            return function(*given)

        def piece(begin: int) -> Any:
            end = begin + PIECE
            return function(
                *(a[begin:end] if cut else a for a, cut in zip(flat, pieced, strict=True))
            )

        first = piece(0)
        if not isinstance(first, np.ndarray) or any(np.may_share_memory(first, a) for a in flat):
            return function(*given)
        whole = np.empty(x.size, first.dtype)
        whole[:PIECE] = first
        for begin in range(PIECE, x.size, PIECE):
            whole[begin : begin + PIECE] = piece(begin)
        return whole.reshape(x.shape)

    return run


def _is_alike(a: Any, x: np.ndarray) -> bool:
    return isinstance(a, np.ndarray) and a.shape == x.shape and a.flags.c_contiguous


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
    step = max(PIECE * length // x.size, 1)
    whole: np.ndarray | None = None
    for begin in range(0, length, step):
        place = (*(slice(None),) * axis, slice(begin, begin + step))
        part = in_slices(function, x[place], others)
        if whole is None:
            whole = np.empty((*part.shape[:axis], length, *part.shape[axis + 1 :]), part.dtype)
        whole[place] = part
    assert whole is not None  # there are two slices or more
    return whole


def other_axes(ndim: int, *taken: int) -> list[int]:
    """All axes but these, which may count from the end."""
    return [axis for axis in range(ndim) if axis not in {one % ndim for one in taken}]
