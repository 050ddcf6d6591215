"""Cast, CastLike and BitCast between the element types that NumPy has, and from and to text.

bfloat16 is held as float32: a cast to it rounds to bfloat16's 8 bits of precision, and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge._ext.room import ask
from vledge.errors import FormatError, UnsupportedError
from vledge.graph.operators.generation import target_dtype
from vledge.graph.registry import Context, prepared_operator
from vledge.model.element_types import NUMBERS

_TEXT: Final = 64  # bytes that a number takes as a text of Python's
_ROUND_MODES: Final = ("up", "down", "nearest")


@prepared_operator("Cast", since=6, pointwise=True)
def cast(
    context: Context, *, to: int, saturate: int = 1, round_mode: str = "up"
) -> Callable[..., np.ndarray]:
    """``saturate`` and ``round_mode`` are for float8, which is refused."""
    _check_round_mode(round_mode)
    dtype = np.dtype(object) if to == NUMBERS["string"] else target_dtype(to, "to")
    if to == NUMBERS["bfloat16"]:
        return lambda x: _bfloat16(_converted(x, dtype))
    return lambda x: _converted(x, dtype)


def _converted(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if x.dtype == dtype:
        return x
    if dtype.kind == "O":
        return _texts(x)
    if x.dtype.kind == "O":
        return _numbers(x, dtype)
    return x.astype(dtype, copy=False)


def _texts(x: np.ndarray) -> np.ndarray:
    """Numbers as onnxruntime writes them: ``%.8g``, INF, NaN; of truth values 1 and 0."""
    ask(_TEXT * x.size)
    if x.dtype.kind == "f":
        names = {"inf": "INF", "-inf": "-INF", "nan": "NaN"}
        texts = (f"{number:.8g}" for number in x.ravel().tolist())
        spelled = [names.get(text, text) for text in texts]
    else:
        spelled = [str(int(number)) for number in x.ravel().tolist()]
    result = np.empty(x.shape, object)
    result.reshape(-1)[:] = spelled
    return result


def _numbers(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What Python reads as a number; of one that is to be whole, what is after the point is cut."""
    parsed: list[int] | list[float]
    if dtype.kind == "f":
        parsed = [float(text) for text in x.ravel()]
    else:
        parsed = [_whole(text) for text in x.ravel()]
    return (
        np.array(parsed, np.float64 if dtype.kind == "f" else object).astype(dtype).reshape(x.shape)
    )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def _bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 rounded to the nearest number of bfloat16, halves to even."""
    bits = np.ascontiguousarray(x).reshape(x.shape).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = np.asarray(rounded & np.uint32(0xFFFF0000))
    return np.where(np.isnan(x), x, rounded.view(np.float32))


@prepared_operator("CastLike", since=15)
def cast_like(
    context: Context, *, saturate: int = 1, round_mode: str = "up"
) -> Callable[..., np.ndarray]:
    _check_round_mode(round_mode)
    return lambda x, like: _converted(x, like.dtype)


def _check_round_mode(round_mode: str) -> None:
    if round_mode not in _ROUND_MODES:
        raise FormatError(f"round_mode is {round_mode!r}, expected one of {list(_ROUND_MODES)}")


@prepared_operator("BitCast", since=26)
def bit_cast(context: Context, *, to: int) -> Callable[..., np.ndarray]:
    if to == NUMBERS["bfloat16"]:
        raise UnsupportedError("to=bfloat16 is not supported")
    target = target_dtype(to, "to")

    def run(x: np.ndarray) -> np.ndarray:
        if x.dtype.itemsize != target.itemsize:
            raise ValueError(f"{x.dtype} and {target} have different numbers of bits")
        return np.ascontiguousarray(x).reshape(x.shape).view(target)

    return run
