"""Cast, CastLike and BitCast between the element types that NumPy has.

bfloat16 is held as float32: a cast to it rounds to bfloat16's 8 bits of precision, and no more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.element_types import NUMBERS, dtype_of
from vledge.graph.operators.generation import target_dtype
from vledge.graph.registry import Context, operator, prepared_operator


@prepared_operator("Cast", since=6)
def cast(
    context: Context, *, to: int, saturate: int = 1, round_mode: str = "up"
) -> Callable[..., np.ndarray]:
    """``saturate`` and ``round_mode`` are for float8, which is refused."""
    dtype = target_dtype(to, "to")

    def run(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "O":
            raise UnsupportedError("a cast from string is not supported")
        return x.astype(dtype, copy=False)

    if to == NUMBERS["bfloat16"]:
        return lambda x: _bfloat16(run(x))
    return run


def _bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest number of bfloat16, halves to even."""
    bits = np.ascontiguousarray(x).reshape(x.shape).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = np.asarray(rounded & np.uint32(0xFFFF0000))
    return np.where(np.isnan(x), x, rounded.view(np.float32))


@operator("CastLike", since=15)
def cast_like(
    x: np.ndarray, like: np.ndarray, *, saturate: int = 1, round_mode: str = "up"
) -> np.ndarray:
    if x.dtype != like.dtype and "O" in (x.dtype.kind, like.dtype.kind):
        raise UnsupportedError("a cast from or to string is not supported")
    return x.astype(like.dtype, copy=False)


@prepared_operator("BitCast", since=26)
def bit_cast(context: Context, *, to: int) -> Callable[..., np.ndarray]:
    if to == NUMBERS["bfloat16"]:
        raise UnsupportedError("to=bfloat16 is not supported")
    dtype = dtype_of(to)
    if dtype is None or dtype.kind == "O":
        target_dtype(to, "to")
        raise FormatError("to=string is not allowed")
    target = dtype

    def run(x: np.ndarray) -> np.ndarray:
        if x.dtype.itemsize != target.itemsize:
            raise ValueError(f"{x.dtype} and {target} have different numbers of bits")
        return np.ascontiguousarray(x).reshape(x.shape).view(target)

    return run
