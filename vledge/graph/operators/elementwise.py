"""Arithmetic and functions of one number, element by element, with NumPy's broadcasting.

Comparisons are in ``comparison``, activations in ``activation``, sines in ``trigonometry``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from vledge.graph.registry import Context, operator, prepared_operator
from vledge.model.definition import INTERNAL_DOMAIN

__all__ = ["divided", "multiply_add", "unary"]


def unary(op_type: str, since: int, ufunc: Callable[[np.ndarray], np.ndarray]) -> None:
    """Register a function of one number that NumPy has."""

    @operator(op_type, since=since, pointwise=True)
    def run(x: np.ndarray) -> np.ndarray:
        return ufunc(x)


unary("Abs", 6, np.abs)
unary("Ceil", 6, np.ceil)
unary("Exp", 6, np.exp)
unary("Floor", 6, np.floor)
unary("Log", 6, np.log)
unary("Neg", 6, np.negative)
unary("Reciprocal", 6, np.reciprocal)
unary("Round", 11, np.rint)  # halves to even
unary("Sign", 9, np.sign)
unary("Sqrt", 6, np.sqrt)


@operator("Add", since=7, pointwise=True)
def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.add(a, b)


@operator("Sub", since=7, pointwise=True)
def sub(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.subtract(a, b)


@operator("Mul", since=7, pointwise=True)
def mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.multiply(a, b)


@operator("MultiplyAdd", since=1, domain=INTERNAL_DOMAIN, pointwise=True)
def multiply_add(x: np.ndarray, factor: np.ndarray, term: np.ndarray) -> np.ndarray:
    """Of float32, rounded once: a byte times a float32 is exact in float64, and so, but for terms
    of far apart sizes, is the sum."""
    total: np.ndarray = x.astype(np.float64) * factor + term
    return total.astype(np.float32)


@operator("Div", since=7, pointwise=True)
def div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b) if a.dtype.kind in "fc" else divided(a, b)


def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers divided towards zero, as C does and ONNX means."""
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "u":
        return quotient
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)


@operator("Mod", since=10, pointwise=True)
def mod(a: np.ndarray, b: np.ndarray, *, fmod: int = 0) -> np.ndarray:
    """The sign is the divisor's, or with ``fmod`` the dividend's."""
    return np.fmod(a, b) if fmod else np.mod(a, b)


@prepared_operator("Pow", since=7, pointwise=True)
def pow_(context: Context) -> Callable[..., np.ndarray]:
    exponent = context.constants[1] if len(context.constants) == 2 else None
    if exponent is not None and exponent.ndim == 0 and exponent == 2:
        context.release(1)
        return lambda base, _: np.square(base)
    return power


def power(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Of the base's dtype, whatever the exponent's."""
    if base.dtype == exponent.dtype and base.dtype.kind == "f":
        return np.power(base, exponent)
    if base.dtype.kind == "f":
        return np.power(base, exponent.astype(base.dtype))
    if exponent.dtype.kind == "f" or (exponent < 0).any():
        return np.power(base.astype(np.float64), exponent).astype(base.dtype)
    return np.power(base, exponent.astype(base.dtype))


@operator("Max", since=6, pointwise=True)
def max_(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    return functools.reduce(np.maximum, rest, first)


@operator("Min", since=6, pointwise=True)
def min_(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    return functools.reduce(np.minimum, rest, first)


@operator("Sum", since=6, pointwise=True)
def sum_(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    return functools.reduce(np.add, rest, first)


@operator("Mean", since=6, pointwise=True)
def mean(first: np.ndarray, *rest: np.ndarray) -> np.ndarray:
    return np.divide(functools.reduce(np.add, rest, first), first.dtype.type(1 + len(rest)))


@operator("Clip", since=6, until=10, pointwise=True)
def clip_by_attributes(
    x: np.ndarray,
    *,
    min: float = float(np.finfo(np.float32).min),
    max: float = float(np.finfo(np.float32).max),
) -> np.ndarray:
    return np.minimum(np.maximum(x, x.dtype.type(min)), x.dtype.type(max))


@operator("Clip", since=11, pointwise=True)
def clip(x: np.ndarray, min: np.ndarray | None = None, max: np.ndarray | None = None) -> np.ndarray:
    if min is not None:
        x = np.maximum(x, min)
    return x if max is None else np.minimum(x, max)
