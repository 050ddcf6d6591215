"""Operators that work element by element, with NumPy's broadcasting."""

import numpy as np

from vledge.graph.registry import operator


@operator("Add", since=7)
def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.add(a, b)


@operator("Sub", since=7)
def sub(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.subtract(a, b)


@operator("Mul", since=7)
def mul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.multiply(a, b)


@operator("Div", since=7)
def div(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integers are divided towards zero, as C does and ONNX means."""
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient < 0) & (quotient * b != a)).astype(a.dtype)
