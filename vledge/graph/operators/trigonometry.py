"""Trigonometric and hyperbolic functions, element by element; Tanh is in ``activation``."""

from __future__ import annotations

import numpy as np

from vledge.graph.operators.elementwise import unary

unary("Acos", 7, np.arccos)
unary("Acosh", 9, np.arccosh)
unary("Asin", 7, np.arcsin)
unary("Asinh", 9, np.arcsinh)
unary("Atan", 7, np.arctan)
unary("Atanh", 9, np.arctanh)
unary("Cos", 7, np.cos)
unary("Cosh", 9, np.cosh)
unary("Sin", 7, np.sin)
unary("Sinh", 9, np.sinh)
unary("Tan", 7, np.tan)
