"""Element-wise operators of one large array, a piece at a time: Ctrl-C is heard between two.

NumPy does not look for signals. A tangent of a hundred million elements takes it a second; here it
takes no longer, for a piece and what is made of it stay in the cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np

__all__ = ["PIECE", "in_pieces"]

#: Elements: some milliseconds of the slowest functions, and thousands of times what a call costs.
PIECE: Final = 1 << 17


def in_pieces(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of an array, to which it must do the same element by element."""

    @functools.wraps(function)
    def run(x: Any) -> Any:
        if not isinstance(x, np.ndarray) or x.size < 2 * PIECE or not x.flags.c_contiguous:
            return function(x)
        flat = x.reshape(-1)
        first = function(flat[:PIECE])
        if not isinstance(first, np.ndarray) or np.may_share_memory(first, flat):
            return function(x)
        whole = np.empty(flat.shape, first.dtype)
        whole[:PIECE] = first
        for begin in range(PIECE, len(flat), PIECE):
            whole[begin : begin + PIECE] = function(flat[begin : begin + PIECE])
        return whole.reshape(x.shape)

    return run
