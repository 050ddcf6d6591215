"""Activations: functions of one number, and the Softmax family over an axis.

float16 is computed in float16 by NumPy's own loops, which round each step from float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vledge._ext import isa
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import in_slices, other_axes

__all__ = ["sigmoid", "softplus"]


@operator("Sigmoid", since=6, pointwise=True)
def sigmoid(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.float16:
        return isa.apply("sigmoid", x)
    return np.reciprocal(np.exp(np.negative(x)) + np.float16(1))


@operator("Tanh", since=6, pointwise=True)
def tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x) if x.dtype == np.float16 else isa.apply("tanh", x)


@operator("Relu", since=6, pointwise=True)
def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, x.dtype.type(0))


@operator("LeakyRelu", since=6, pointwise=True)
def leaky_relu(x: np.ndarray, *, alpha: float = 0.01) -> np.ndarray:
    slope = x.dtype.type(alpha)
    scaled = np.multiply(x, slope)
    # of the two products with 1 and alpha the larger is right wherever alpha is at most 1, but for
    # an infinity times 0
    return np.maximum(x, scaled) if slope <= 1 and slope != 0 else np.where(x < 0, scaled, x)


@operator("PRelu", since=7, pointwise=True)
def prelu(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.multiply(x, slope), x)


def _exponential_below_zero(x: np.ndarray, alpha: float) -> np.ndarray:
    """alpha (exp(x) - 1) where x < 0, else 0."""
    return np.multiply(np.expm1(np.minimum(x, x.dtype.type(0))), x.dtype.type(alpha))


@operator("Elu", since=6, pointwise=True)
def elu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    return np.where(x < 0, _exponential_below_zero(x, alpha), x)


@operator("Celu", since=12, pointwise=True)
def celu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    return np.where(x < 0, _exponential_below_zero(x / x.dtype.type(alpha), alpha), x)


@operator("Selu", since=6, pointwise=True)
def selu(
    x: np.ndarray,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> np.ndarray:
    return np.multiply(elu(x, alpha=alpha), x.dtype.type(gamma))


@operator("HardSigmoid", since=6, pointwise=True)
def hard_sigmoid(x: np.ndarray, *, alpha: float = 0.2, beta: float = 0.5) -> np.ndarray:
    of = x.dtype.type
    return np.minimum(np.maximum(x * of(alpha) + of(beta), of(0)), of(1))


@operator("HardSwish", since=14, pointwise=True)
def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * hard_sigmoid(x, alpha=1 / 6, beta=0.5)


@operator("Softplus", since=1, pointwise=True)
def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, x.dtype.type(0))


@operator("Softsign", since=1, pointwise=True)
def softsign(x: np.ndarray) -> np.ndarray:
    return np.divide(x, np.abs(x) + x.dtype.type(1))


@operator("Mish", since=18, pointwise=True)
def mish(x: np.ndarray) -> np.ndarray:
    return x * np.tanh(softplus(x))


@operator("Swish", since=24, pointwise=True)
def swish(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    return x * sigmoid(np.asarray(x * x.dtype.type(alpha)))


@operator("SwiGLU", since=28, pointwise=True)
def swiglu(gate: np.ndarray, value: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    if gate.shape != value.shape:
        raise ValueError(f"A has the shape {gate.shape}, B has {value.shape}, expected the same")
    return swish(gate, alpha=alpha) * value


@operator("ThresholdedRelu", since=10, pointwise=True)
def thresholded_relu(x: np.ndarray, *, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > x.dtype.type(alpha), x, x.dtype.type(0))


@operator("Shrink", since=9, pointwise=True)
def shrink(x: np.ndarray, *, bias: float = 0.0, lambd: float = 0.5) -> np.ndarray:
    of = x.dtype.type
    below, above = x < -of(lambd), x > of(lambd)
    return np.where(below, x + of(bias), np.where(above, x - of(bias), of(0)))


# ---- over an axis


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    if x.size == 0:
        return x
    y = np.subtract(x, np.maximum.reduce(x, axis, keepdims=True))
    np.exp(y, y)
    y /= np.add.reduce(y, axis, keepdims=True)
    return y


def _log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    if x.size == 0:
        return x
    y = np.subtract(x, np.maximum.reduce(x, axis, keepdims=True))
    y -= np.log(np.add.reduce(np.exp(y), axis, keepdims=True))
    return y


def _hardmax(x: np.ndarray, axis: int) -> np.ndarray:
    if x.size == 0:
        return x

    def hard(some: np.ndarray) -> np.ndarray:
        places = np.argmax(some, axis)
        y = np.zeros_like(some)
        np.put_along_axis(y, np.expand_dims(places, axis), x.dtype.type(1), axis)
        return y

    return in_slices(hard, x, other_axes(x.ndim, axis))


def _over_axis(op_type: str, function: Callable[[np.ndarray, int], np.ndarray]) -> None:
    @prepared_operator(op_type, since=1, until=12)
    def flattening(context: Context, *, axis: int = 1) -> Callable[..., np.ndarray]:
        """Over all the axes from ``axis`` on."""

        def run(x: np.ndarray) -> np.ndarray:
            start = axis + x.ndim if axis < 0 else axis
            rows = x.reshape(math.prod(x.shape[:start]), math.prod(x.shape[start:]))
            return function(rows, 1).reshape(x.shape)

        return run

    @operator(op_type, since=13)
    def along(x: np.ndarray, *, axis: int = -1) -> np.ndarray:
        return function(x if x.ndim else x[None], axis).reshape(x.shape)


_over_axis("Softmax", _softmax)
_over_axis("LogSoftmax", _log_softmax)
_over_axis("Hardmax", _hardmax)
