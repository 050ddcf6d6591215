"""Activations without state, and PReLU; float dtypes pass through unchanged.

tanh, sigmoid and exp are the kernels' (``vledge._ext.isa``), which are quicker than NumPy's and
accurate to 3 ulp.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from vledge._ext import isa
from vledge.array_like import ArrayLike, array_of, each_sequence
from vledge.nn.dtype import DType, checked_input, float_dtype, require_cpu
from vledge.nn.module import Module
from vledge.pieces import in_pieces, in_slices, other_axes

__all__ = [
    "ELU",
    "GELU",
    "Flatten",
    "Hardsigmoid",
    "Hardtanh",
    "LeakyReLU",
    "LogSoftmax",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


class _Elementwise(Module):
    @each_sequence
    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [*]`` of float32 or float64 -> the same shape and dtype; of a list of arrays each
        by itself."""
        input = array_of(input, "input")
        if input.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"{type(self).__name__}: input is {input.dtype}, expected float32 or float64"
            )
        return self.applied(input)

    def applied(self, x: np.ndarray) -> np.ndarray:
        whole: np.ndarray = in_pieces(self.function)(x)
        return whole

    def function(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class _AlongAxis(_Elementwise):
    """What has to see all of an axis at once."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def applied(self, x: np.ndarray) -> np.ndarray:
        axes = max(x.ndim, 1)  # a number has one to count from, as in torch
        if not -axes <= self.dim < axes:
            raise IndexError(
                f"{type(self).__name__}: dim is {self.dim}, and the input's shape {list(x.shape)}"
            )
        if not x.size:
            return np.empty(x.shape, x.dtype)
        return in_slices(self.function, x, other_axes(x.ndim, self.dim) if x.ndim else ())

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


_exp = in_pieces(functools.partial(isa.apply, "exp"))
_minus = in_pieces(np.subtract)
_over = in_pieces(np.divide)


class Tanh(_Elementwise):
    """tanh(x). Source: torch.nn.Tanh."""

    def function(self, x: np.ndarray) -> np.ndarray:
        return isa.apply("tanh", x)


class Sigmoid(_Elementwise):
    """1 / (1 + exp(-x)). Source: torch.nn.Sigmoid."""

    def function(self, x: np.ndarray) -> np.ndarray:
        return isa.apply("sigmoid", x)


class SiLU(_Elementwise):
    """x sigmoid(x). Source: torch.nn.SiLU."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def function(self, x: np.ndarray) -> np.ndarray:
        return x * isa.apply("sigmoid", x)


class ReLU(_Elementwise):
    """max(0, x). Source: torch.nn.ReLU."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def function(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)


class ReLU6(_Elementwise):
    """min(max(0, x), 6). Source: torch.nn.ReLU6."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def function(self, x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)


class LeakyReLU(_Elementwise):
    """x where x > 0, else negative_slope x. Source: torch.nn.LeakyReLU."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def function(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, x * x.dtype.type(self.negative_slope))

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(_Elementwise):
    """x where x > 0, else alpha (exp(x) - 1). Source: torch.nn.ELU."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha

    def function(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, x.dtype.type(self.alpha) * np.expm1(np.minimum(x, 0)))

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Hardtanh(_Elementwise):
    """x clipped to [min_val, max_val]. Source: torch.nn.Hardtanh."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if min_val >= max_val:
            raise ValueError(f"max_val must be larger than min_val, got {max_val} and {min_val}")
        self.min_val = min_val
        self.max_val = max_val

    def function(self, x: np.ndarray) -> np.ndarray:
        return np.clip(x, x.dtype.type(self.min_val), x.dtype.type(self.max_val))

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class Hardsigmoid(_Elementwise):
    """min(max(0, x + 3), 6) / 6. Source: torch.nn.Hardsigmoid."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def function(self, x: np.ndarray) -> np.ndarray:
        return np.clip(x + 3, 0, 6) / 6


class Softplus(_Elementwise):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.

    Source: torch.nn.Softplus.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def function(self, x: np.ndarray) -> np.ndarray:
        scaled = x * x.dtype.type(self.beta)
        soft = np.logaddexp(scaled, 0) / x.dtype.type(self.beta)
        return np.where(scaled > self.threshold, x, soft)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class GELU(_Elementwise):
    """x Phi(x); ``approximate="tanh"`` as torch spells it. Source: torch.nn.GELU."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(
                f"approximate argument must be either none or tanh, got {approximate!r}"
            )
        self.approximate = approximate

    def function(self, x: np.ndarray) -> np.ndarray:
        if self.approximate == "tanh":
            inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x**3)
            return x * (1 + isa.apply("tanh", inner)) / 2
        # libm's erf through Python: exact, and GELU is rare in models with recurrent layers
        erf = np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64) / math.sqrt(2))
        return (x * (1 + erf) / 2).astype(x.dtype)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softmax(_AlongAxis):
    """exp(x) / sum(exp(x)) along ``dim``. Source: torch.nn.Softmax; dim must be given."""

    def function(self, x: np.ndarray) -> np.ndarray:
        exponentials = _exp(_minus(x, x.max(self.dim, keepdims=True)))
        return _over(exponentials, exponentials.sum(self.dim, keepdims=True))


class LogSoftmax(_AlongAxis):
    """log of :class:`Softmax`, without its underflow. Source: torch.nn.LogSoftmax."""

    def function(self, x: np.ndarray) -> np.ndarray:
        shifted = _minus(x, x.max(self.dim, keepdims=True))
        return _minus(shifted, np.log(_exp(shifted).sum(self.dim, keepdims=True)))


class PReLU(Module):
    """x where x > 0, else weight x; one weight, or one a channel (axis 1).

    Source: torch.nn.PReLU.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        self.num_parameters = num_parameters
        self.declare("weight", (num_parameters,), float_dtype(dtype))

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [B, num_parameters, *]`` (any shape with one parameter) -> the same shape."""
        weight = self._array("weight")
        input = checked_input(input, weight.dtype)
        if self.num_parameters > 1:
            if input.ndim < 2 or input.shape[1] != self.num_parameters:
                raise RuntimeError(
                    f"PReLU: input has shape {input.shape}, expected {self.num_parameters} "
                    "channels on axis 1"
                )
            weight = weight.reshape(-1, *(1,) * (input.ndim - 2))
        else:
            weight = weight.reshape((1,) * input.ndim)
        rectified: np.ndarray = in_pieces(lambda x, w: np.where(x > 0, x, x * w))(input, weight)
        return rectified

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Flatten(Module):
    """Axes start_dim to end_dim made one. Source: torch.nn.Flatten."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input`` of any dtype with those axes flattened."""
        input = array_of(input, "input")
        start, end = self.start_dim % input.ndim, self.end_dim % input.ndim
        return input.reshape(*input.shape[:start], -1, *input.shape[end + 1 :])

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
