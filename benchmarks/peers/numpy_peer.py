"""A loop over time in NumPy, as packages ship it that do not want a runtime.

It does what a careful author would: one product for all inputs of a layer, sequences sorted so
that the batch shrinks as they end, and sigmoid by tanh.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    return np.__version__


def notes() -> Sequence[str]:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    return [f"numpy's products are {blas['name']} {blas['version']}'s"]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    return [Contestant("numpy", lambda: _run(workload, weights, inputs), lambda result: result)]


def _run(workload: Workload, weights: dict[str, Array], inputs: Inputs) -> Outputs:
    order = np.argsort(-inputs.lengths, kind="stable")
    lengths = inputs.lengths[order]
    live = np.searchsorted(-lengths, -np.arange(workload.time_steps), side="left")
    x, h_0 = inputs.x[:, order], inputs.h_0[:, order]
    c_0 = np.zeros_like(h_0) if inputs.c_0 is None else inputs.c_0[:, order]
    h_n, c_n = h_0.copy(), c_0.copy()
    for layer in range(workload.num_layers):
        outputs = []
        for direction in range(workload.directions):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            state = layer * workload.directions + direction
            steps = range(workload.time_steps)
            h, c = h_n[state], c_n[state]
            outputs.append(
                _direction(
                    workload, weights, suffix, x, live, h, c, steps[::-1] if direction else steps
                )
            )
        x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=2)
    y, h, c = np.empty_like(x), np.empty_like(h_n), np.empty_like(c_n)
    y[:, order], h[:, order], c[:, order] = x, h_n, c_n
    return Outputs(y, h, c if workload.cell == "LSTM" else None)


def _direction(
    workload: Workload,
    weights: dict[str, Array],
    suffix: str,
    x: Array,  # [T, B, I], longest sequence first
    live: np.ndarray,  # [T], sequences that reach step t
    h: Array,  # [B, H], initial state, becomes the final one
    c: Array,  # [B, H], the same
    steps: range,
) -> Array:
    hidden_size = workload.hidden_size
    y = np.zeros((*x.shape[:2], hidden_size), np.float32)
    gates_x = x @ weights["weight_ih" + suffix].T + weights["bias_ih" + suffix]
    weight_hh, bias_hh = weights["weight_hh" + suffix].T, weights["bias_hh" + suffix]
    for t in steps:
        n = live[t]
        gates_h = h[:n] @ weight_hh + bias_hh
        if workload.cell == "LSTM":
            gates = gates_x[t, :n] + gates_h
            i, f, g, o = (gates[:, k * hidden_size : (k + 1) * hidden_size] for k in range(4))
            c[:n] = _sigmoid(f) * c[:n] + _sigmoid(i) * np.tanh(g)
            h[:n] = _sigmoid(o) * np.tanh(c[:n])
        else:
            rz = _sigmoid(gates_x[t, :n, : 2 * hidden_size] + gates_h[:, : 2 * hidden_size])
            r, z = rz[:, :hidden_size], rz[:, hidden_size:]
            candidate = np.tanh(
                gates_x[t, :n, 2 * hidden_size :] + r * gates_h[:, 2 * hidden_size :]
            )
            h[:n] = candidate + z * (h[:n] - candidate)
        y[t, :n] = h[:n]
    return y


def _sigmoid(x: Array) -> Array:
    return np.float32(0.5) * np.tanh(np.float32(0.5) * x) + np.float32(0.5)
