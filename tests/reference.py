"""Whole directions by the cells' equations, in float64: what kernels answer to.

Packed layout as in ``vledge.packing``: ``data [sum(batch_sizes), I]`` time-major, the live
sequences at step t being rows 0 to ``batch_sizes[t]``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from vledge.machine.equations import sigmoid, step

__all__ = ["FUNCTIONS", "GATES", "batch_sizes_of", "cell", "random_params", "run", "sigmoid"]

GATES = {
    "lstm": 4,
    "gru": 3,
    "gru_reset_before": 3,
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "indrnn_tanh": 1,
    "indrnn_relu": 1,
}


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2


# x, alpha, beta -> what the kernels' function of this name makes of them
FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "sigmoid": lambda x, a, b: sigmoid(x),
    "tanh": lambda x, a, b: np.tanh(x),
    "relu": lambda x, a, b: np.maximum(x, 0),
    "affine": lambda x, a, b: a * x + b,
    "leaky_relu": lambda x, a, b: np.where(x < 0, a * x, x),
    "thresholded_relu": lambda x, a, b: np.where(x < a, 0, x),
    "scaled_tanh": lambda x, a, b: a * np.tanh(b * x),
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), b * x),
    "softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "softplus": lambda x, a, b: np.logaddexp(0, x),
    "exponential": lambda x, a, b: np.exp(x),
    "silu": lambda x, a, b: x * sigmoid(x),
    "gelu": lambda x, a, b: _gelu(x),
    "clip": lambda x, a, b: np.clip(x, a, b),
}
OWN = (("sigmoid", 0.0, 0.0), ("tanh", 0.0, 0.0), ("tanh", 0.0, 0.0))


def cell(
    kind: str,
    p: dict[str, np.ndarray],
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    activations: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`vledge.machine.equations.step`, whose functions have names here.

    ``activations``: (name, alpha, beta) of the gates, candidate and output; of an "rnn" its one.
    """
    gate, candidate, output = (
        functools.partial(lambda function, x: function[0](x, *function[1:]), (FUNCTIONS[n], a, b))
        for n, a, b in (*(activations or OWN), *OWN)[:3]
    )
    return step(kind, p, x, h, c, (gate, candidate, output))


def run(
    kind: str,
    params: dict[str, np.ndarray],
    data: np.ndarray,
    batch_sizes: np.ndarray,
    h_0: np.ndarray,
    c_0: np.ndarray,
    reverse: bool = False,
    activations: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One direction over packed rows; h_0 [B, P or H], c_0 [B, H] -> (output, h_n, c_n)."""
    params = {name: np.asarray(a, np.float64) for name, a in params.items()}
    offsets = np.concatenate([[0], np.cumsum(batch_sizes)])
    h, c = np.array(h_0, np.float64), np.array(c_0, np.float64)
    output = np.empty((offsets[-1], h.shape[1]))
    steps = range(len(batch_sizes))
    for t in reversed(steps) if reverse else steps:
        live = slice(0, int(batch_sizes[t]))
        rows = slice(offsets[t], offsets[t + 1])
        x = data[rows].astype(np.float64)
        h[live], c[live] = cell(kind, params, x, h[live], c[live], activations)
        output[rows] = h[live]
    return output, h, c


def random_params(
    rng: np.random.Generator, kind: str, input_size: int, hidden_size: int, proj_size: int = 0
) -> dict[str, np.ndarray]:
    """float64 weights of one direction, of the size that torch initialises with."""
    rows, bound = GATES.get(kind, 1) * hidden_size, 1 / np.sqrt(hidden_size)
    shapes: dict[str, Any] = {
        "weight_ih": (rows, input_size),
        "weight_hh": (rows, proj_size or hidden_size),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }
    if kind.startswith("indrnn"):
        shapes["weight_hh"] = (hidden_size,)
    if proj_size:
        shapes["weight_hr"] = (proj_size, hidden_size)
    return {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}


def batch_sizes_of(lengths: Any) -> np.ndarray:
    """Live sequences at each step."""
    lengths = np.asarray(lengths)
    return np.array([(lengths > t).sum() for t in range(lengths.max())], np.int64)
