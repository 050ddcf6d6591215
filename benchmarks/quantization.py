"""Small weights: time, bytes and error of each storage, beside onnxruntime's and torch's int8.

    python -m benchmarks.quantization [--isa avx2] [--accuracy] [--rounds 15]

Microseconds a step (CPU time of one thread, the median of rounds in which all take turns), ratios
by turns of one round, and the output's error against float64. The peers' int8 is onnxruntime's
DynamicQuantizeLSTM as quantize_dynamic writes it, with and without ``reduce_range``, and
torch.ao's dynamic quantization. Weights are random and uniform, as torch initialises them; with
``--accuracy`` trained networks instead, whole ones and their layers: `quantization_accuracy`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import vledge
from tests.peers import peer
from vledge import nn
from vledge._ext import isa
from vledge.small_matrix import FORMS

ROUNDS, SECONDS = 15, 0.004


class Shape(NamedTuple):
    """A layer and what it runs on."""

    cell: str
    input_size: int
    hidden_size: int
    batch: int
    steps: int

    def __str__(self) -> str:
        what = "one step" if self.steps == 1 else f"{self.steps} steps"
        return f"{self.cell} {self.input_size} to {self.hidden_size}, batch {self.batch}, {what}"


SHAPES = (
    Shape("LSTM", 256, 256, 1, 100),
    Shape("LSTM", 512, 512, 1, 100),
    Shape("LSTM", 256, 256, 32, 50),
    Shape("LSTM", 128, 128, 1, 1),
    Shape("LSTM", 256, 256, 1, 1),
    Shape("LSTM", 512, 512, 1, 1),
    Shape("GRU", 256, 256, 1, 100),
    Shape("GRU", 512, 512, 1, 100),
    Shape("GRU", 256, 256, 32, 50),
)


class Way(NamedTuple):
    """How somebody runs a shape."""

    name: str
    run: Callable[[], np.ndarray]
    weight_bytes: int


def weights_of(shape: Shape) -> dict[str, np.ndarray]:
    """By torch's names."""
    rng = np.random.default_rng(0)
    rows = (4 if shape.cell == "LSTM" else 3) * shape.hidden_size
    bound = shape.hidden_size**-0.5
    shapes = {"weight_ih_l0": (rows, shape.input_size), "weight_hh_l0": (rows, shape.hidden_size)}
    shapes |= {"bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
    return {n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in shapes.items()}


def ours(shape: Shape, weights: dict[str, np.ndarray], x: np.ndarray) -> list[Way]:
    """float32 and each storage; of one step, a stream."""
    layer = getattr(nn, shape.cell).from_weights(weights)
    ways = []
    for storage in ("float32", *FORMS):
        small = layer if storage == "float32" else vledge.quantize(layer, storage)
        run = _stream(small, x) if shape.steps == 1 else _whole(small, x)
        ways.append(Way(storage, run, small.nbytes))
    return ways


def _whole(layer: Any, x: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: layer(x)[0]


def _stream(layer: Any, x: np.ndarray) -> Callable[[], np.ndarray]:
    stream = layer.stream(x.shape[1])
    out = np.empty((x.shape[1], layer.hidden_size), np.float32)

    def run() -> np.ndarray:
        return stream.step(x[0], out)[None]

    return run


def onnxruntimes(shape: Shape, weights: dict[str, np.ndarray], x: np.ndarray) -> list[Way]:
    """DynamicQuantizeLSTM, which it has for LSTMs alone."""
    if shape.cell != "LSTM":
        return []
    onnxruntime, onnx = peer("onnxruntime"), peer("onnx")
    from onnxruntime import quantization

    from vledge.integrations.onnx_layers import layer_model

    model = onnx.load_from_string(
        layer_model(shape.cell, weights, shape.steps, shape.batch, lengths=False, states=False)
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    ways = []
    for reduced in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            source, target = f"{folder}/f.onnx", f"{folder}/q.onnx"
            onnx.save(model, source)
            quantization.quantize_dynamic(source, target, reduce_range=reduced)
            size = Path(target).stat().st_size
            session = onnxruntime.InferenceSession(
                target, options, providers=["CPUExecutionProvider"]
            )
        ways.append(
            Way(f"onnxruntime{' reduce_range' if reduced else ''}", _session(session, x), size)
        )
    return ways


def _session(session: Any, x: np.ndarray) -> Callable[[], np.ndarray]:
    name, y = session.get_inputs()[0].name, session.get_outputs()[0].name
    rows = (*x.shape[:2], -1)
    return lambda: session.run([y], {name: x})[0].reshape(rows)


def torchs(shape: Shape, weights: dict[str, np.ndarray], x: np.ndarray) -> list[Way]:
    """torch.ao's dynamic quantization, by its own choice of engine."""
    torch = peer("torch")
    torch.set_num_threads(1)
    layer = getattr(torch.nn, shape.cell)(shape.input_size, shape.hidden_size)
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    small = torch.ao.quantization.quantize_dynamic(
        torch.nn.Sequential(layer.eval()), {type(layer)}, dtype=torch.qint8
    )[0]
    given = torch.from_numpy(x)

    def run() -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = small(given)[0].numpy()
        return result

    matrices = sum(array.size for array in weights.values() if array.ndim == 2)
    return [Way("torch", run, matrices)]


def timed(ways: list[Way], rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time of each in each round."""
    counts = {}
    for way in ways:
        way.run()
        start = time.thread_time()
        way.run()
        counts[way.name] = max(1, int(SECONDS / max(time.thread_time() - start, 1e-7)))
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            way.run()
            start = time.thread_time()
            for _ in range(counts[way.name]):
                way.run()
            taken[way.name].append((time.thread_time() - start) / counts[way.name])
    return taken


def speed(rounds: int) -> None:
    """The table of times."""
    print("shape | way | us a step | x float32 | x onnxruntime | bytes | rms error | largest")
    print("---|---|---|---|---|---|---|---")
    for shape in SHAPES:
        weights = weights_of(shape)
        rng = np.random.default_rng(1)
        size = (shape.steps, shape.batch, shape.input_size)
        x = rng.standard_normal(size).astype(np.float32)
        exact = getattr(nn, shape.cell).from_weights(weights, dtype=np.float64)(
            x.astype(np.float64)
        )[0]
        ways = [*ours(shape, weights, x), *onnxruntimes(shape, weights, x)]
        ways += torchs(shape, weights, x)
        errors = [way.run() - exact for way in ways]  # of a stream, its first step
        taken = timed(ways, rounds)
        for way, error in zip(ways, errors, strict=True):
            own = taken[way.name]
            beside = {
                other: statistics.median(a / b for a, b in zip(taken[other], own, strict=True))
                for other in ("float32", "onnxruntime")
                if other in taken
            }
            print(
                shape,
                way.name,
                f"{statistics.median(own) / shape.steps * 1e6:.2f}",
                f"{beside['float32']:.2f}",
                f"{beside['onnxruntime']:.2f}" if "onnxruntime" in beside else "",
                f"{way.weight_bytes:,}",
                f"{np.sqrt(np.mean(error**2)):.1e}",
                f"{np.abs(error).max():.1e}",
                sep=" | ",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--isa", help="the instruction set; by default the best")
    parser.add_argument("--accuracy", action="store_true", help="trained networks, not times")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    isa.select(arguments.isa)
    vledge.set_num_threads(1)
    print(f"{isa.selected()}, integers by {isa.selected_integers()}\n")
    if arguments.accuracy:
        from benchmarks.quantization_accuracy import accuracy

        accuracy()
    else:
        speed(arguments.rounds)


if __name__ == "__main__":
    main()
