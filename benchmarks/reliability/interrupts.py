"""Ctrl-C in the midst of long runs: how long until it is heeded, and what is left of the object."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import vledge
from vledge import nn
from vledge.lengths import run_many
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.validate import validate

COUNT = 3
AFTER = 0.3  # seconds into the run
PROMISED = 0.1
GATES = {"LSTM": 4, "GRU": 3}


class Run(NamedTuple):
    """Something long, and something short of the same object, which shows that it still works."""

    long: Callable[[], Any]
    short: Callable[[], Any]


def zeros(*shape: int) -> np.ndarray:
    """Of which the system makes pages when they are touched: the call has them, we do not wait."""
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def layer(kind: str, features: int, units: int, layers: int = 1, both: bool = False) -> Any:
    rng = np.random.default_rng(0)
    weights = {}
    for number in range(layers):
        for suffix in ("", "_reverse") if both else ("",):
            below = units * (1 + both) if number else features
            for part, width in {"ih": below, "hh": units}.items():
                w = rng.uniform(-0.1, 0.1, (GATES[kind] * units, width)).astype(np.float32)
                weights[f"weight_{part}_l{number}{suffix}"] = w
    return getattr(nn, kind).from_weights(weights)


def model(
    nodes: list[Node],
    shape: tuple[int | str, ...],
    weights: dict[str, np.ndarray] | None = None,
    output: tuple[int | str | None, ...] | None = None,
) -> Model:
    """x -> y."""
    ends = [[ValueInfo("x", "float", shape)], [ValueInfo("y", "float", output)]]
    return Model(Graph(nodes, *ends, weights or {}), {"": 17}, ir_version=8)


def session(whole: Model, large: np.ndarray, small: np.ndarray) -> Run:
    ours = vledge.InferenceSession(whole)
    return Run(lambda: ours.run(None, {"x": large}), lambda: ours.run(None, {"x": small})[0])


def called(one: Any, large: np.ndarray, small: np.ndarray) -> Run:
    return Run(lambda: one(large), lambda: one(small)[0])


def pushed(stream: Any, large: np.ndarray, small: np.ndarray) -> Run:
    """What is short begins at the state that the interrupted push has left."""
    return Run(lambda: stream.push(large), lambda: (stream.push(small), stream.reset())[0])


def recurrent_model() -> Model:
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 512, 64), "r": (1, 512, 128)}
    weights = {n: rng.uniform(-0.1, 0.1, s).astype(np.float32) for n, s in shapes.items()}
    node = Node("LSTM", ["x", "w", "r"], ["y"], {"hidden_size": 128})
    return model([node], ("T", 1, 64), weights, (None, 1, 1, 128))


def loop() -> Model:
    """A billion turns that do next to nothing."""
    body = Graph(
        [Node("Identity", ["go"], ["on"]), Node("Neg", ["s"], ["t"])],
        [ValueInfo("i", "int64", ()), ValueInfo("go", "bool", ()), ValueInfo("s", "float", None)],
        [ValueInfo("on", "bool", ()), ValueInfo("t", "float", None)],
    )
    nodes = [
        Node("Cast", ["x"], ["n"], {"to": 7}),
        Node("Squeeze", ["n"], ["count"]),
        Node("Loop", ["count", "", "x"], ["y"], {"body": body}),
    ]
    return model(nodes, (1,))


def many() -> Run:
    lstm = layer("LSTM", 64, 256)
    sequence = zeros(2000, 64)
    return Run(
        lambda: list(run_many(lstm, (sequence for _ in range(10_000)))),
        lambda: next(iter(run_many(lstm, [ones(5, 64)])))[1],
    )


def validated() -> Run:
    whole = recurrent_model()
    x = zeros(20_000, 1, 64)
    cases = [Case({"x": x}, {"y": zeros(20_000, 1, 1, 128)})] * 50
    ours = vledge.InferenceSession(whole)
    return Run(
        lambda: validate(whole, Reference(cases, {})),
        lambda: ours.run(None, {"x": ones(5, 1, 64)})[0],
    )


def scored() -> Run:
    """A table of many sequences, whose last states are wanted."""
    import pyarrow as pa

    from vledge.integrations.arrow import Scorer

    lstm = layer("LSTM", 64, 256)
    step = pa.list_(pa.float32(), 64)

    def table(sequences: int, steps: int) -> Any:
        values = pa.FixedSizeListArray.from_arrays(
            pa.array(zeros(sequences * steps * 64)), type=step
        )
        bounds = pa.array(np.arange(sequences + 1, dtype=np.int32) * steps)
        return pa.table({"frames": pa.ListArray.from_arrays(bounds, values)})

    scorer, large, small = Scorer(lstm, "frames"), table(200, 2000), table(2, 5)
    return Run(
        lambda: scorer(large), lambda: np.array(scorer(small)["last"].to_pylist(), np.float32)
    )


def quantized() -> Run:
    """Weights made small, with many sequences to choose the scales by."""
    lstm = layer("LSTM", 64, 256)
    whole, few = [zeros(2000, 1, 64)] * 400, [ones(5, 1, 64)]
    return Run(
        lambda: vledge.quantize(lstm, calibrate=whole),
        lambda: vledge.quantize(lstm, calibrate=few)(ones(5, 1, 64))[0],
    )


def calibrated() -> Run:
    """The planner's constants measured, with far more time for each than it takes."""
    from vledge.planning.calibration import calibrate

    lstm = layer("LSTM", 64, 256)
    return Run(lambda: calibrate(2.0), lambda: lstm(ones(5, 1, 64))[0])


def convolution() -> Model:
    weights = {"w": ones(128, 128, 3, 3) * np.float32(0.01)}
    node = Node("Conv", ["x", "w"], ["y"], {"pads": [1, 1, 1, 1]})
    return model([node], ("N", 128, "H", "W"), weights)


def chain() -> Model:
    names = ["x", *(f"v{k}" for k in range(60)), "y"]
    nodes = [Node("Sin", [a], [b]) for a, b in pairwise(names)]
    return model(nodes, ("N", 1000))


def in_python() -> Model:
    """Operators that there are no handlers for."""
    names = ["x", *(f"v{k}" for k in range(5)), "y"]
    return model([Node("Tan", [a], [b]) for a, b in pairwise(names)], ("N", 1000))


def determinants() -> Model:
    """An operator that is not element by element, and that there is no handler for."""
    return model([Node("Det", ["x"], ["y"])], ("N", 8, 8))


RUNS: dict[str, Callable[[], Run]] = {
    "a layer, one long sequence": lambda: called(
        layer("LSTM", 64, 256), zeros(400_000, 1, 64), ones(5, 1, 64)
    ),
    "a layer, short steps": lambda: called(
        layer("GRU", 4, 8), zeros(10_000_000, 2, 4), ones(5, 2, 4)
    ),
    "a layer, wide steps": lambda: called(
        layer("LSTM", 1024, 1024), zeros(40, 3000, 1024), ones(2, 3, 1024)
    ),
    "stacked layers of two directions": lambda: called(
        layer("GRU", 64, 256, 4, True), zeros(100_000, 1, 64), ones(5, 1, 64)
    ),
    "a stream's push": lambda: pushed(
        layer("LSTM", 64, 256).stream(batch=1), zeros(400_000, 1, 64), ones(5, 1, 64)
    ),
    "a session, a recurrent node": lambda: session(
        recurrent_model(), zeros(1_000_000, 1, 64), ones(5, 1, 64)
    ),
    "a session, a loop": lambda: session(loop(), ones(1) * 1e9, ones(1) * 3),
    "a session, a product": lambda: session(
        model([Node("MatMul", ["x", "w"], ["y"])], ("N", 1024), {"w": zeros(1024, 4096)}),
        zeros(60_000, 1024),
        ones(3, 1024),
    ),
    "a session, a convolution": lambda: session(
        convolution(), zeros(64, 128, 128, 128), ones(1, 128, 5, 5)
    ),
    "a session, element by element": lambda: session(chain(), zeros(100_000, 1000), ones(3, 1000)),
    "a session, operators of NumPy": lambda: session(
        in_python(), zeros(100_000, 1000), ones(3, 1000)
    ),
    "a session, matrices of NumPy": lambda: session(
        determinants(), zeros(3_000_000, 8, 8), ones(3, 8, 8)
    ),
    "a session, what is there once": lambda: session(
        model([Node("Unique", ["x"], ["y"])], ("N",)), zeros(20_000_000), ones(3)
    ),
    "a session, an Einsum of three": lambda: session(
        model([Node("Einsum", ["x", "x", "x"], ["y"], {"equation": "ij,kj,kl->il"})], ("N", "N")),
        zeros(6000, 6000),
        ones(3, 3),
    ),
    "a session's stream": lambda: pushed(
        vledge.InferenceSession(recurrent_model()).stream(batch=1, time_axis=0),
        zeros(1_000_000, 1, 64),
        ones(5, 1, 64),
    ),
    "run_many": many,
    "validate": validated,
    "quantize": quantized,
    "calibrate": calibrated,
}
if find_spec("pyarrow") is not None:
    RUNS["a Scorer"] = scored


def trial(name: str, threads: int) -> tuple[float, bool]:
    """Seconds from the signal to KeyboardInterrupt, and whether the object works as before.

    RuntimeError where the run ended before the signal came.
    """
    # a process that was started in the background ignores the signal, and Python leaves it so
    signal.signal(signal.SIGINT, signal.default_int_handler)
    vledge.set_num_threads(threads)
    run = RUNS[name]()
    expected = np.array(run.short())
    sent = []

    def press() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(AFTER, press)
    timer.start()
    try:
        run.long()
    except KeyboardInterrupt:
        late = time.monotonic() - sent[0]
        return late, np.array_equal(np.array(run.short()), expected)
    timer.cancel()
    raise RuntimeError(f"{name}: over before the signal came")


def measure(count: int) -> tuple[int, str]:
    """Faults, and what there is to say; each trial is a process of its own."""
    latest: dict[str, float] = {}
    broken = []
    for name in RUNS:
        for threads in (1, 2):
            for _ in range(count):
                code = "from benchmarks.reliability.interrupts import trial\n"
                command = [sys.executable, "-c", f"{code}print(*trial({name!r}, {threads}))"]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"{name}: {done.stderr[-1000:]}")
                late, usable = done.stdout.split()
                latest[name] = max(latest.get(name, 0), float(late))
                if usable != "True":
                    broken.append(name)
        print(f"{name}: at most {latest[name] * 1e3:.0f} ms", file=sys.stderr, flush=True)
    slow = [name for name, late in latest.items() if late > PROMISED]
    worst = max(latest, key=lambda name: latest[name])
    line = (
        f"{len(RUNS)} kinds of long runs on 1 and 2 threads, {count} times each: KeyboardInterrupt "
        f"after {latest[worst] * 1e3:.0f} ms at most ({worst}); then not as before: "
        f"{', '.join(broken) or 'none'}"
    )
    return len(slow) + len(broken), line
