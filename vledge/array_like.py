"""What callers give in the place of an array, as an array: the one way in for Python's doors.

Byte order is how numbers lie in memory, not what they are, and is never an error: an array of the
other order is converted. Whatever reads as an array (``__array__``: torch's tensors, other
libraries' arrays) is read, without importing who made it. A list of arrays is never stacked: a list
of sequences, stacked, would have its sequences taken for time steps.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "ArrayLike",
    "array_of",
    "contiguous",
    "each_sequence",
    "is_list_of_arrays",
    "native",
    "possible_shape",
    "wrong_dtype",
]

_Layer = TypeVar("_Layer")
_SHOWN: Final = 200  # characters of a size that somebody gave


def native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def array_of(given: object, name: str, *, stack: bool = False) -> np.ndarray:
    """What was given as an array, in this machine's byte order.

    ``stack`` lets a list of arrays be one more axis: for steps of one sequence, rows of one batch.

    Raises TypeError, which says what it is, for any other list of arrays, for a named tuple, and
    for what cannot be read.
    """
    if given is None:
        raise TypeError(f"{name} is None, expected an array")
    if not isinstance(given, np.ndarray):
        if hasattr(given, "_fields"):
            raise TypeError(f"{name} is a {type(given).__name__}, expected an array")
        if isinstance(given, (list, tuple)) and is_list_of_arrays(given):
            if not stack:
                raise TypeError(
                    f"{name} is a {type(given).__name__} of arrays, expected one array: recurrent "
                    "layers and pack_sequence take lists of sequences, np.stack makes one array"
                )
            given = [array_of(one, f"{name}[{i}]", stack=True) for i, one in enumerate(given)]
        # a tensor that still has its gradient's graph refuses to be read, but not its values
        detached = given.detach() if hasattr(given, "detach") else given
        try:
            given = np.asarray(detached)
        except Exception as error:  # __array__ is the other library's code
            raise TypeError(
                f"{name} is a {type(given).__name__} that cannot be read as an array: {error}"
            ) from error
        if given.dtype == object:  # what NumPy does not know becomes the one element of an array
            raise TypeError(
                f"{name} is a {type(detached).__name__} that cannot be read as an array of numbers"
            )
    return native(np.asarray(given))


def is_list_of_arrays(given: object) -> bool:
    """Whether it is a list or tuple, not of numbers, but of arrays with axes."""
    return (
        isinstance(given, (list, tuple))
        and not hasattr(given, "_fields")
        and any(not isinstance(one, (list, tuple)) and np.ndim(one) > 0 for one in given)
    )


def wrong_dtype(name: str, got: np.dtype, expected: np.dtype) -> str:
    """The sentence for an array of another floating type than the layer's weights."""
    return (
        f"{name} is {got} but the layer's weights are {expected}: pass "
        f"{name}.astype(np.{expected}), or build the layer with dtype=np.{got}"
        if got in (np.float32, np.float64)
        else f"{name} is {got} but the layer's weights are {expected}: pass "
        f"{name}.astype(np.{expected})"
    )


def possible_shape(name: str, sizes: Iterable[object], dtype: np.dtype) -> tuple[int, ...]:
    """The sizes as a shape, before there is an array of it.

    Raises TypeError for a size that is no whole number, ValueError for one below 0 and for a shape
    of more bytes than an array can have.
    """
    shape = []
    for size in sizes:
        if isinstance(size, (bool, np.bool_)) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"{name} has a size of {repr(size)[:_SHOWN]}, expected a whole number")
        shape.append(int(size))
    if min(shape, default=0) < 0:
        raise ValueError(f"{name} has a size of {str(min(shape))[:_SHOWN]}, less than nothing")
    if math.prod(shape) * dtype.itemsize > sys.maxsize or max(shape, default=0) > sys.maxsize:
        raise ValueError(
            f"{name} would have shape {str(tuple(shape))[:_SHOWN]}: more bytes than an array can "
            "have"
        )
    return tuple(shape)


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array, or a copy in C order at an aligned address, which 32-bit Arm insists on."""
    array = np.ascontiguousarray(array)
    return array if array.flags.aligned else array.copy()


def each_sequence(
    forward: Callable[[_Layer, ArrayLike], np.ndarray],
) -> Callable[[_Layer, ArrayLike], np.ndarray | list[np.ndarray]]:
    """For layers that treat each time step by itself: of a list of sequences, each by itself."""

    @wraps(forward)
    def over_list(self: _Layer, input: ArrayLike) -> np.ndarray | list[np.ndarray]:
        if isinstance(input, (list, tuple)) and is_list_of_arrays(input):
            return [forward(self, one) for one in input]
        return forward(self, input)

    return over_list
