"""The recurrent cells' equations in NumPy, as the papers write them: what kernels answer to.

The self-test, the tests and the benchmarks compare kernels with these, in float64. No kernel or
layer uses them. Gates stand in torch's order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["Functions", "advanced", "sigmoid", "step"]

Function = Callable[[np.ndarray], np.ndarray]
Functions = tuple[Function, Function, Function]  #: of the gates, the candidate and the output


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


def step(
    kind: str,
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    functions: Functions = (sigmoid, np.tanh, np.tanh),
) -> tuple[np.ndarray, np.ndarray]:
    """One step of x [B, I], h [B, P or H], c [B, H] -> (h, c); a cell without a c gives it back.

    ``kind``: "lstm" (with ``weight_hr``: of a projection), "gru", "gru_reset_before" (the reset
    gate multiplies h, not its product), "rnn_tanh", "rnn_relu", "rnn" (its function is that of the
    gates), "indrnn_tanh" or "indrnn_relu". ``weights``: ``weight_ih``, ``weight_hh``, ``bias_ih``
    and ``bias_hh`` as torch has them.

    Source: torch.nn.LSTM, GRU and RNN; ONNX's GRU with linear_before_reset=0; Li et al. 2018,
    "Independently Recurrent Neural Network".
    """
    inputs = x @ weights["weight_ih"].T + weights["bias_ih"]
    if kind.startswith("indrnn"):
        recurrent = h * weights["weight_hh"] + weights["bias_hh"]
    else:
        recurrent = h @ weights["weight_hh"].T + weights["bias_hh"]
    return advanced(kind, weights, inputs, recurrent, h, c, functions)


def advanced(
    kind: str,
    weights: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    recurrent: np.ndarray,
    h: np.ndarray,
    c: np.ndarray,
    functions: Functions = (sigmoid, np.tanh, np.tanh),
) -> tuple[np.ndarray, np.ndarray]:
    """The same behind the two products, W x + b_ih and R h + b_hh, [B, gates * H] each."""
    gate, candidate_of, output_of = functions
    if kind == "lstm":
        i, f, g, o = np.split(inputs + recurrent, 4, axis=1)
        c = gate(f) * c + gate(i) * candidate_of(g)
        h = gate(o) * output_of(c)
        return (h @ weights["weight_hr"].T if "weight_hr" in weights else h), c
    if kind in ("gru", "gru_reset_before"):
        (r, z, n), (r_h, z_h, n_h) = np.split(inputs, 3, axis=1), np.split(recurrent, 3, axis=1)
        r, z = gate(r + r_h), gate(z + z_h)
        if kind == "gru_reset_before":
            candidate, size = weights["weight_hh"], h.shape[1]
            n = candidate_of(n + (r * h) @ candidate[2 * size :].T + weights["bias_hh"][2 * size :])
        else:
            n = candidate_of(n + r * n_h)
        return (1 - z) * n + z * h, c
    if kind == "rnn":
        return gate(inputs + recurrent), c
    summed = inputs + recurrent
    return (np.tanh(summed) if kind.endswith("tanh") else np.maximum(summed, 0)), c
