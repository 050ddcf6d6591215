"""Do all contestants compute the same? A float64 reference, and the largest error against it."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import Outputs

__all__ = ["TOLERANCE", "Disagreement", "largest_error", "reference"]

# Absolute, on outputs bounded by 1 and cell states of a few units. Ordinary float32 arithmetic
# stays below 1e-5 over thousands of steps; bfloat16 or a wrong gate order is above 1e-3.
TOLERANCE = 5e-5

Array64 = NDArray[np.float64]
Reference = tuple[Array64, Array64, Array64]


class Disagreement(Exception):
    """A contestant's outputs are not those of the reference: its time would mean nothing."""


def reference(workload: Workload, inputs: Inputs) -> Reference:
    """y [T, B, D * H], h_n and c_n [L * D, B, H] (c_n is zero for a GRU), by torch's equations."""
    weights = {name: value.astype(np.float64) for name, value in workload.weights().items()}
    x = inputs.x.astype(np.float64)
    h_n = inputs.h_0.astype(np.float64)
    c_n = np.zeros_like(h_n) if inputs.c_0 is None else inputs.c_0.astype(np.float64)
    time = np.arange(workload.time_steps)
    for layer in range(workload.num_layers):
        outputs = []
        for direction in range(workload.directions):
            name = f"l{layer}" + ("_reverse" if direction else "")
            state = layer * workload.directions + direction
            y = np.zeros((*x.shape[:2], workload.hidden_size))
            gates_x = x @ weights[f"weight_ih_{name}"].T + weights[f"bias_ih_{name}"]
            for t in time[::-1] if direction else time:
                rows = np.flatnonzero(inputs.lengths > t)
                h, c = h_n[state, rows], c_n[state, rows]
                gates_h = h @ weights[f"weight_hh_{name}"].T + weights[f"bias_hh_{name}"]
                if workload.cell == "LSTM":
                    i, f, g, o = np.split(gates_x[t, rows] + gates_h, 4, axis=1)
                    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
                    h = _sigmoid(o) * np.tanh(c)
                else:
                    (r_x, z_x, n_x), (r_h, z_h, n_h) = (
                        np.split(gates, 3, axis=1) for gates in (gates_x[t, rows], gates_h)
                    )
                    z = _sigmoid(z_x + z_h)
                    h = (1 - z) * np.tanh(n_x + _sigmoid(r_x + r_h) * n_h) + z * h
                y[t, rows], h_n[state, rows], c_n[state, rows] = h, h, c
            outputs.append(y)
        x = np.concatenate(outputs, axis=2)
    return x, h_n, c_n


def _sigmoid(x: Array64) -> Array64:
    return 1 / (1 + np.exp(-x))


def largest_error(name: str, outputs: Outputs, expected: Reference, inputs: Inputs) -> float:
    """The largest absolute error; a ``Disagreement`` above the tolerance or at a wrong shape."""
    real = np.arange(len(inputs.x))[:, None] < inputs.lengths
    worst = 0.0
    for part, ours, theirs in zip(Outputs._fields, outputs, expected, strict=True):
        if ours is None:
            continue
        if ours.dtype != np.float32 or ours.shape != theirs.shape:
            raise Disagreement(
                f"{name}: {part} is {ours.dtype} {list(ours.shape)}, "
                f"expected float32 {list(theirs.shape)}"
            )
        error = np.abs(ours - theirs)
        error = error[real] if part == "y" else error
        # Written so that NaN fails.
        if not (error <= TOLERANCE).all():
            raise Disagreement(
                f"{name}: {part} is off by {error.max():.2g}, more than {TOLERANCE:.0e}"
            )
        worst = max(worst, float(error.max()))
    return worst
