"""``python -m benchmarks.fidelity``: our float32 error beside torch's and onnxruntime's own.

All compute the same layer on the same float32 weights and inputs, on one thread; the judge is the
cell's definition in float64 NumPy. Writes docs/fidelity.md, and exits with 1 if a row fails.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.__main__ import machine
from benchmarks.reports.fidelity import STATISTICS, markdown, ratios, text_row

GOAL = 1.5  # times the better of the two peers' errors
SIZES = (16, 64, 256, 1024)
LENGTHS = ((10, 100), (1000,), (10_000,))  # those that are drawn together
# Draws of weights and inputs, by size and group of lengths: as many as some seconds are enough for.
DRAWS = {16: (101, 101, 15), 64: (51, 51, 9), 256: (25, 15, 9), 1024: (15, 3, 1)}
RESAMPLES = 1000
FAMILIES = {
    "usual": "weights and biases uniform in ±1/√H as torch initialises them, inputs normal",
    "large": "usual × 8: chaotic, an error grows from step to step",
    "tiny": "weights and biases uniform in ±1e-6",
    "saturating": "usual weights, every bias ±20, inputs × 10: gates stay at 0 or 1",
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# ONNX's order of gates as indices into torch's.
ONNX_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}

Weights = dict[str, np.ndarray]
Results = dict[str, np.ndarray]  # y [T, B, H], and an LSTM's c_n [1, B, H]


@dataclass(frozen=True)
class Case:
    """One layer on several lengths."""

    cell: str
    hidden_size: int
    family: str
    lengths: tuple[int, ...]
    draws: int = 1
    draw: int = 0

    @property
    def name(self) -> str:
        return f"{self.cell} {self.hidden_size} {self.family}"

    @property
    def sequences(self) -> int:
        return {16: 16, 64: 8, 256: 4}.get(self.hidden_size, 1)

    def weights(self) -> Weights:
        rng = np.random.default_rng([self.draw, 0, *self.name.encode()])
        rows, size = GATES[self.cell] * self.hidden_size, self.hidden_size
        bound = {"large": 8 / np.sqrt(size), "tiny": 1e-6}.get(self.family, 1 / np.sqrt(size))
        shapes = {"weight_ih": (rows, size), "weight_hh": (rows, size)}
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        weights = {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}
        if self.family == "saturating":
            weights["bias_ih"] += 20 * rng.choice([-1, 1], rows)
        return {f"{name}_l0": array.astype(np.float32) for name, array in weights.items()}

    def inputs(self) -> np.ndarray:
        """x [T, B, H] float32 of the longest length; shorter ones are its beginnings."""
        rng = np.random.default_rng([self.draw, 1, *self.name.encode()])
        scale = 10 if self.family == "saturating" else 1
        shape = (max(self.lengths), self.sequences, self.hidden_size)
        return scale * rng.standard_normal(shape, np.float32)


def cases(quick: bool) -> Iterator[Case]:
    """The matrix, cut where it would take hours: 1024 units meet adversarial weights for 100 steps
    at most."""
    for cell in GATES:
        for family in FAMILIES:
            for size in SIZES:
                whole = not quick and (size < 1024 or family == "usual")
                for lengths, draws in zip(LENGTHS, DRAWS[size], strict=True):
                    if whole or lengths == LENGTHS[0]:
                        yield Case(cell, size, family, lengths, 3 if quick else draws)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def definition(case: Case, weights: Weights, x: np.ndarray) -> dict[int, Results]:
    """Results at each length in float64, by torch's equations."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    y = np.empty(x.shape)
    h, c = np.zeros((2, *x.shape[1:]))
    results = {}
    for t in range(len(x)):
        if t % 128 == 0:  # the inputs' part of many steps at once
            block = x[t : t + 128].astype(np.float64)
            projected = block @ w["weight_ih_l0"].T + w["bias_ih_l0"]
        gates_x = projected[t % 128]
        gates_h = h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
        if case.cell == "LSTM":
            i, f, g, o = np.split(gates_x + gates_h, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif case.cell == "GRU":
            (r_x, z_x, n_x), (r_h, z_h, n_h) = (np.split(a, 3, axis=1) for a in (gates_x, gates_h))
            z = sigmoid(z_x + z_h)
            h = (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h
        else:
            h = np.tanh(gates_x + gates_h)
        y[t] = h
        if t + 1 in case.lengths:
            results[t + 1] = {"y": y[: t + 1]} | ({"c_n": c[None]} if case.cell == "LSTM" else {})
    return results


def vledge_run(case: Case, weights: Weights) -> Callable[[np.ndarray], Results]:
    from vledge import nn, set_num_threads

    set_num_threads(1)
    layer = getattr(nn, case.cell).from_weights(weights)
    return lambda x: _named(case, *layer(x))


def torch_run(case: Case, weights: Weights) -> Callable[[np.ndarray], Results]:
    import torch

    torch.set_num_threads(1)
    layer = getattr(torch.nn, case.cell)(case.hidden_size, case.hidden_size)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    def run(x: np.ndarray) -> Results:
        with torch.no_grad():
            y, state = layer(torch.from_numpy(x))
        return _named(case, y.numpy(), [s.numpy() for s in state] if case.cell == "LSTM" else None)

    return run


def onnxruntime_run(case: Case, weights: Weights) -> Callable[[np.ndarray], Results]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    def ordered(name: str) -> np.ndarray:
        parts = np.split(weights[name], GATES[case.cell])
        return np.concatenate([parts[k] for k in ONNX_ORDER[case.cell]])

    bias = np.concatenate([ordered("bias_ih_l0"), ordered("bias_hh_l0")])
    operands = {"W": ordered("weight_ih_l0"), "R": ordered("weight_hh_l0"), "B": bias}
    attributes = {"linear_before_reset": 1} if case.cell == "GRU" else {}
    names = ["Y", "Y_h", "Y_c"][: 3 if case.cell == "LSTM" else 2]
    node = helper.make_node(
        case.cell, ["x", *operands], names, hidden_size=case.hidden_size, **attributes
    )
    graph = helper.make_graph(
        [node],
        case.cell,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "B", case.hidden_size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(array[None], name) for name, array in operands.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(x: np.ndarray) -> Results:
        y, *state = session.run(None, {"x": x})
        return _named(case, y[:, 0], state)

    return run


def _named(case: Case, y: np.ndarray, state: object) -> Results:
    return {"y": y, "c_n": state[1]} if case.cell == "LSTM" else {"y": y}  # type: ignore[index]


RUNTIMES = {"vledge": vledge_run, "torch": torch_run, "onnxruntime": onnxruntime_run}


def measure(case: Case) -> list[dict]:
    """A record of each length and result: errors of each runtime over the draws."""
    found: dict[tuple[int, str], list[dict]] = {}
    for draw in range(case.draws):
        for key, errors in _drawn(replace(case, draw=draw)):
            found.setdefault(key, []).append(errors)
    records = []
    for (length, part), draws in found.items():
        record = {
            "cell": case.cell,
            "hidden_size": case.hidden_size,
            "family": case.family,
            "length": length,
            "part": part,
            "draws": case.draws,
        }
        records.append(record | summary(draws) | {"interval": interval(draws)})
    return records


def summary(draws: list[dict]) -> dict[str, dict[str, float]]:
    """Statistic → runtime → error: the median of the medians, the geometric mean of the worsts.

    The worst errors of chaotic layers lie orders of magnitude apart from draw to draw: a median
    picks one of them, the geometric mean compares the runtimes in every draw.
    """
    found = {}
    for statistic in STATISTICS:
        errors = np.array([[draw[name][statistic] for name in RUNTIMES] for draw in draws])
        if statistic == "worst":
            with np.errstate(divide="ignore"):
                middle = np.exp(np.log(errors).mean(axis=0))
        else:
            middle = np.median(errors, axis=0)
        found[statistic] = dict(zip(RUNTIMES, middle.tolist(), strict=True))
    return found


def interval(draws: list[dict]) -> tuple[float, float] | None:
    """Where 95 of 100 ratios of worst errors are if draws are drawn again out of these."""
    if len(draws) < 3:
        return None
    rng = np.random.default_rng(0)
    found = [
        ratios(summary([draws[i] for i in rng.integers(len(draws), size=len(draws))]))["worst"]
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _drawn(case: Case) -> Iterator[tuple[tuple[int, str], dict[str, dict[str, float]]]]:
    """((length, result), runtime → statistic → absolute error) of one draw."""
    weights, x = case.weights(), case.inputs()
    exact = definition(case, weights, x)
    runs = {name: prepare(case, weights) for name, prepare in RUNTIMES.items()}
    for length in case.lengths:
        results = {name: run(x[:length]) for name, run in runs.items()}
        for part, expected in exact[length].items():
            errors = {name: np.abs(result[part] - expected) for name, result in results.items()}
            yield (
                (length, part),
                {
                    name: {"median": float(np.median(error)), "worst": float(error.max())}
                    for name, error in errors.items()
                },
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="lengths to 100; writes no file")
    parser.add_argument("--filter", default="", metavar="REGEX", help="as 'GRU 256 usual'")
    parser.add_argument("--processes", type=int, default=1, help="rows measured at a time (1)")
    parser.add_argument("--output", type=Path, default=Path("docs/fidelity.md"))
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = [case for case in cases(arguments.quick) if re.search(arguments.filter, case.name)]
    records = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for found in pool.map(measure, chosen):
            records += found
            print(*(text_row(record, GOAL) for record in found), sep="\n", flush=True)
    whole = not arguments.quick and not arguments.filter
    if whole:
        arguments.output.write_text(
            markdown(records, machine(["torch", "onnxruntime"]), FAMILIES, GOAL)
        )
    failing = sum("FAILS" in text_row(record, GOAL) for record in records)
    print(f"{len(records) - failing} of {len(records)} rows within {GOAL} x the better peer")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
