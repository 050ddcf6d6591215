"""Comparisons, logic, bits, and what selects by a condition; all element by element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError
from vledge.graph.registry import Context, operator, prepared_operator

_Binary = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _binary(op_type: str, since: int, ufunc: _Binary) -> None:
    @operator(op_type, since=since, pointwise=True)
    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return ufunc(a, b)


def _comparison(op_type: str, since: int, ufunc: _Binary) -> None:
    @operator(op_type, since=since, pointwise=True)
    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(ufunc(a, b), np.bool_)  # of strings it is an array of objects


_comparison("Equal", 7, np.equal)
_comparison("Greater", 7, np.greater)
_comparison("GreaterOrEqual", 12, np.greater_equal)
_comparison("Less", 7, np.less)
_comparison("LessOrEqual", 12, np.less_equal)
_binary("And", 7, np.logical_and)
_binary("Or", 7, np.logical_or)
_binary("Xor", 7, np.logical_xor)
_binary("BitwiseAnd", 18, np.bitwise_and)
_binary("BitwiseOr", 18, np.bitwise_or)
_binary("BitwiseXor", 18, np.bitwise_xor)


@operator("Not", since=1, pointwise=True)
def not_(x: np.ndarray) -> np.ndarray:
    return np.logical_not(x)


@operator("BitwiseNot", since=18, pointwise=True)
def bitwise_not(x: np.ndarray) -> np.ndarray:
    return np.invert(x)


@prepared_operator("BitShift", since=11, pointwise=True)
def bit_shift(context: Context, *, direction: str) -> Callable[..., np.ndarray]:
    if direction not in ("LEFT", "RIGHT"):
        raise FormatError(f"direction is {direction!r}, expected 'LEFT' or 'RIGHT'")
    left = direction == "LEFT"

    def run(x: np.ndarray, amount: np.ndarray) -> np.ndarray:
        if x.dtype.kind == "i":  # a negative amount counts as one beyond the width
            width = x.dtype.itemsize * 8
            amount = np.where((amount < 0) | (amount >= width), x.dtype.type(width), amount)
        return np.left_shift(x, amount) if left else np.right_shift(x, amount)

    return run


@operator("IsNaN", since=9, pointwise=True)
def is_nan(x: np.ndarray) -> np.ndarray:
    return np.isnan(x)


@operator("IsInf", since=10, pointwise=True)
def is_inf(x: np.ndarray, *, detect_negative: int = 1, detect_positive: int = 1) -> np.ndarray:
    infinite = np.isinf(x)
    if not detect_negative:
        infinite &= x > 0
    if not detect_positive:
        infinite &= x < 0
    return infinite


@operator("Where", since=9, pointwise=True)
def where(condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(condition, x, y)
