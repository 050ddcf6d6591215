"""torch.nn.functional's functions for what there are layers of, on arrays, for inference.

Each computes what its layer does, and raises what that raises; weights are arguments. ``inplace``
is accepted and changes nothing. Source: torch.nn.functional.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from vledge.array_like import ArrayLike, array_of
from vledge.nn import activation, convolution, normalization, pooling
from vledge.nn import embedding as tables
from vledge.nn.linear import Linear
from vledge.nn.module import Module

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_max_pool1d",
    "avg_pool1d",
    "batch_norm",
    "conv1d",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "hardsigmoid",
    "hardtanh",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "max_pool1d",
    "prelu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def __dir__() -> list[str]:
    return sorted(__all__)


# ---- activations

_X = TypeVar("_X")


def tanh(input: ArrayLike) -> np.ndarray:
    """`vledge.nn.Tanh`."""
    return _run(activation.Tanh(), input)


def sigmoid(input: ArrayLike) -> np.ndarray:
    """`vledge.nn.Sigmoid`."""
    return _run(activation.Sigmoid(), input)


def relu(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """`vledge.nn.ReLU`."""
    return _run(activation.ReLU(), input)


def relu6(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """`vledge.nn.ReLU6`."""
    return _run(activation.ReLU6(), input)


def silu(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """`vledge.nn.SiLU`."""
    return _run(activation.SiLU(), input)


def leaky_relu(input: ArrayLike, negative_slope: float = 0.01, inplace: bool = False) -> np.ndarray:
    """`vledge.nn.LeakyReLU`."""
    return _run(activation.LeakyReLU(negative_slope), input)


def elu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> np.ndarray:
    """`vledge.nn.ELU`."""
    return _run(activation.ELU(alpha), input)


def hardtanh(
    input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> np.ndarray:
    """`vledge.nn.Hardtanh`."""
    return _run(activation.Hardtanh(min_val, max_val), input)


def hardsigmoid(input: ArrayLike, inplace: bool = False) -> np.ndarray:
    """`vledge.nn.Hardsigmoid`."""
    return _run(activation.Hardsigmoid(), input)


def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> np.ndarray:
    """`vledge.nn.Softplus`."""
    return _run(activation.Softplus(beta, threshold), input)


def gelu(input: ArrayLike, approximate: str = "none") -> np.ndarray:
    """`vledge.nn.GELU`."""
    return _run(activation.GELU(approximate), input)


def softmax(input: ArrayLike, dim: int) -> np.ndarray:
    """`vledge.nn.Softmax`; ``dim`` must be given."""
    return _run(activation.Softmax(dim), input)


def log_softmax(input: ArrayLike, dim: int) -> np.ndarray:
    """`vledge.nn.LogSoftmax`; ``dim`` must be given."""
    return _run(activation.LogSoftmax(dim), input)


def prelu(input: ArrayLike, weight: ArrayLike) -> np.ndarray:
    """`vledge.nn.PReLU`; ``weight`` has one number, or one for each channel."""
    weight = np.atleast_1d(array_of(weight, "weight"))
    return _with(activation.PReLU(weight.size, dtype=weight.dtype), input, weight=weight)


# ---- products, tables, norms


def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> np.ndarray:
    """`vledge.nn.Linear`; ``weight [out_features, in_features]``, ``bias [out_features]``."""
    weight = array_of(weight, "weight")
    layer = Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=weight.dtype)
    return _with(layer, input, weight=weight, bias=bias)


def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> np.ndarray:
    """`vledge.nn.Conv1d`; ``weight [out_channels, in_channels / groups, kernel_size]``."""
    weight = array_of(weight, "weight")
    layer = convolution.Conv1d(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2],
        stride,
        padding,
        dilation,
        groups,
        bias is not None,
        dtype=weight.dtype,
    )
    return _with(layer, input, weight=weight, bias=bias)


def embedding(input: ArrayLike, weight: ArrayLike, padding_idx: int | None = None) -> np.ndarray:
    """`vledge.nn.Embedding`; ``weight [num_embeddings, embedding_dim]``."""
    weight = array_of(weight, "weight")
    rows, width = weight.shape
    layer = tables.Embedding(rows, width, padding_idx, dtype=weight.dtype)
    return _with(layer, input, weight=weight)


def layer_norm(
    input: ArrayLike,
    normalized_shape: int | tuple[int, ...] | list[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> np.ndarray:
    """`vledge.nn.LayerNorm`; ``weight`` and ``bias`` of the shape ``normalized_shape``."""
    dtype = array_of(input, "input").dtype
    affine = weight is not None
    layer = normalization.LayerNorm(normalized_shape, eps, affine, bias is not None, dtype=dtype)
    result = _with(layer, input, weight=weight, bias=bias if affine else None)
    return result if affine or bias is None else result + array_of(bias, "bias")


def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> np.ndarray:
    """`vledge.nn.BatchNorm1d` with its running statistics; ValueError for ``training=True``."""
    if training:
        raise ValueError("batch_norm: training=True takes the batch's statistics: inference only")
    mean = array_of(running_mean, "running_mean")
    affine = weight is not None or bias is not None
    layer = normalization.BatchNorm1d(len(mean), eps, affine=affine, dtype=mean.dtype)
    if affine:
        weight = np.ones_like(mean) if weight is None else weight
        bias = np.zeros_like(mean) if bias is None else bias
    return _with(layer, input, weight=weight, bias=bias, running_mean=mean, running_var=running_var)


def dropout(input: _X, p: float = 0.5, training: bool = True, inplace: bool = False) -> _X:
    """The input itself, as in a module in ``eval()``, whatever ``training`` says."""
    return input


# ---- pools


def max_pool1d(
    input: ArrayLike,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`vledge.nn.MaxPool1d`."""
    layer = pooling.MaxPool1d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)
    return layer(input)


def avg_pool1d(
    input: ArrayLike,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> np.ndarray:
    """`vledge.nn.AvgPool1d`."""
    return _run(
        pooling.AvgPool1d(kernel_size, stride, padding, ceil_mode, count_include_pad), input
    )


def adaptive_avg_pool1d(input: ArrayLike, output_size: int | tuple[int, ...]) -> np.ndarray:
    """`vledge.nn.AdaptiveAvgPool1d`."""
    return _run(pooling.AdaptiveAvgPool1d(output_size), input)


def adaptive_max_pool1d(
    input: ArrayLike, output_size: int | tuple[int, ...], return_indices: bool = False
) -> Any:
    """`vledge.nn.AdaptiveMaxPool1d`."""
    return pooling.AdaptiveMaxPool1d(output_size, return_indices)(input)


def _run(layer: Module, input: ArrayLike) -> np.ndarray:
    result: np.ndarray = layer(input)
    return result


def _with(layer: Module, input: ArrayLike, **weights: ArrayLike | None) -> np.ndarray:
    """The layer with these weights, those that are None left out."""
    layer.load_state_dict({n: array_of(w, n) for n, w in weights.items() if w is not None})
    return _run(layer, input)
