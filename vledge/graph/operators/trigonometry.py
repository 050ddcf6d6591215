"""Trigonometric and hyperbolic functions, element by element; Tanh is in ``activation``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.graph.registry import operator


def _unary(op_type: str, since: int, ufunc: Callable[[np.ndarray], np.ndarray]) -> None:
    @operator(op_type, since=since)
    def run(x: np.ndarray) -> np.ndarray:
        return ufunc(x)


_unary("Acos", 7, np.arccos)
_unary("Acosh", 9, np.arccosh)
_unary("Asin", 7, np.arcsin)
_unary("Asinh", 9, np.arcsinh)
_unary("Atan", 7, np.arctan)
_unary("Atanh", 9, np.arctanh)
_unary("Cos", 7, np.cos)
_unary("Cosh", 9, np.cosh)
_unary("Sin", 7, np.sin)
_unary("Sinh", 9, np.sinh)
_unary("Tan", 7, np.tan)
