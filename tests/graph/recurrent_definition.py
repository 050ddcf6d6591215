"""ONNX's recurrent operators as Operators.md words them: float64, one sequence, one step at a time.

Deliberately naive: no packing, nothing shared with the library. Source: RNN, GRU, LSTM there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

ACTIVATIONS = {
    "Relu": lambda x, a, b: np.maximum(0, x),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x >= 0, x, a * x),
    "ThresholdedRelu": lambda x, a, b: np.where(x >= a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
    "Elu": lambda x, a, b: np.where(x >= 0, x, a * (np.exp(x) - 1)),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: np.log(1 + np.exp(x)),
}
# which of alpha and beta a function has, and what the operator of its name has as default
PARAMETERS: dict[str, dict[str, Any]] = {
    "Affine": {"alpha": 1.0, "beta": 0.0},
    "LeakyRelu": {"alpha": 0.01},
    "ThresholdedRelu": {"alpha": 1.0},
    "ScaledTanh": {"alpha": None, "beta": None},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Elu": {"alpha": 1.0},
}


def run(
    op_type: str, inputs: dict[str, np.ndarray], attributes: dict[str, Any]
) -> list[np.ndarray]:
    """Y, Y_h and, for an LSTM, Y_c, in the layout that the attributes ask for.

    ``empty_state`` among the attributes is "zero" or "initial".
    """
    layout = attributes.get("layout", 0)
    given = {name: np.asarray(a, np.float64) for name, a in inputs.items()}
    x, w, r = given["X"], given["W"], given["R"]
    h_0, c_0 = given.get("initial_h"), given.get("initial_c")
    if layout:
        x = x.transpose(1, 0, 2)
        h_0, c_0 = (None if s is None else s.transpose(1, 0, 2) for s in (h_0, c_0))
    steps, sequences, _ = x.shape
    directions, _, size = r.shape
    gates = GATES[op_type]
    b = given.get("B", np.zeros((directions, 2 * gates * size)))
    p = given.get("P", np.zeros((directions, 3 * size)))
    h_0 = np.zeros((directions, sequences, size)) if h_0 is None else h_0
    c_0 = np.zeros((directions, sequences, size)) if c_0 is None else c_0
    lengths = inputs.get("sequence_lens", np.full(sequences, steps))
    functions = activations(op_type, attributes, directions)
    y = np.zeros((steps, directions, sequences, size))
    y_h, y_c = np.zeros((directions, sequences, size)), np.zeros((directions, sequences, size))
    for d in range(directions):
        backwards = attributes.get("direction", "forward") == "reverse" or d == 1
        for s in range(sequences):
            h, c = h_0[d, s], c_0[d, s]
            times = range(int(lengths[s]))
            for t in reversed(times) if backwards else times:
                h, c = step(
                    op_type, x[t, s], h, c, w[d], r[d], b[d], p[d], functions[d], attributes
                )
                y[t, d, s] = h
            if lengths[s] > 0 or attributes.get("empty_state") == "initial":
                y_h[d, s], y_c[d, s] = h, c
    results = [y, y_h, y_c]
    if layout:
        results = [y.transpose(2, 0, 1, 3), y_h.transpose(1, 0, 2), y_c.transpose(1, 0, 2)]
    return results if op_type == "LSTM" else results[:2]


def activations(op_type: str, attributes: dict[str, Any], directions: int) -> list[list[Any]]:
    """For each direction, its functions of one argument."""
    names = attributes.get("activations") or DEFAULTS[op_type] * directions
    given = {
        "alpha": iter(attributes.get("activation_alpha", [])),
        "beta": iter(attributes.get("activation_beta", [])),
    }
    functions = []
    for name in names:
        spelled = next(known for known in ACTIVATIONS if known.lower() == name.lower())
        values = {
            key: next(given[key], default) for key, default in PARAMETERS.get(spelled, {}).items()
        }
        function = ACTIVATIONS[spelled]
        functions.append(lambda x, f=function, v=values: f(x, v.get("alpha"), v.get("beta")))
    each = len(functions) // directions
    return [functions[d * each : (d + 1) * each] for d in range(directions)]


def step(op_type, x, h, c, w, r, b, p, functions, attributes):
    clip = attributes.get("clip", np.inf)

    def act(function, value):
        return function(np.clip(value, -clip, clip))

    size = len(h)
    wb, rb = np.split(b, 2)
    if op_type == "RNN":
        (f,) = functions[:1]
        return act(f, x @ w.T + h @ r.T + wb + rb), c
    if op_type == "GRU":
        f, g = functions
        (wz, wr, wh), (rz, rr, rh) = np.split(w, 3), np.split(r, 3)
        (wbz, wbr, wbh), (rbz, rbr, rbh) = np.split(wb, 3), np.split(rb, 3)
        z = act(f, x @ wz.T + h @ rz.T + rbz + wbz)
        reset = act(f, x @ wr.T + h @ rr.T + rbr + wbr)
        if attributes.get("linear_before_reset", 0):
            candidate = act(g, x @ wh.T + reset * (h @ rh.T + rbh) + wbh)
        else:
            candidate = act(g, x @ wh.T + (reset * h) @ rh.T + rbh + wbh)
        return (1 - z) * candidate + z * h, c
    f, g, hh = functions
    wi, wo, wf, wc = np.split(w, 4)
    ri, ro, rf, rc = np.split(r, 4)
    wbi, wbo, wbf, wbc = np.split(wb, 4)
    rbi, rbo, rbf, rbc = np.split(rb, 4)
    pi, po, pf = p[:size], p[size : 2 * size], p[2 * size :]
    i = act(f, x @ wi.T + h @ ri.T + pi * c + wbi + rbi)
    forget = act(f, x @ wf.T + h @ rf.T + pf * c + wbf + rbf)
    if attributes.get("input_forget", 0):
        forget = 1 - i
    c_new = forget * c + i * act(g, x @ wc.T + h @ rc.T + wbc + rbc)
    o = act(f, x @ wo.T + h @ ro.T + po * c_new + wbo + rbo)
    return o * hh(c_new), c_new
