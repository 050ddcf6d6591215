"""Small weights: time, bytes and error of each storage, beside onnxruntime's and torch's int8.

    python -m benchmarks.quantization [--isa avx2] [--accuracy] [--rounds 15] [--write]
    python -m benchmarks.quantization --graphs FILE|FOLDER|PACKAGE ... [--write]
    python -m benchmarks.quantization --dynamic [--write]

Microseconds a step (CPU time of one thread, the median of rounds in which all take turns), ratios
by turns of one round, and the output's error against float64. The peers' int8 is onnxruntime's
DynamicQuantizeLSTM as quantize_dynamic writes it, with and without ``reduce_range``, torch.ao's
dynamic quantization, and ncnn's int8 layers where ncnn is installed; it runs single sequences.
onnxruntime and ncnn choose their instructions themselves, whatever ``--isa`` says. Weights are
random and uniform, as torch initialises them; with ``--accuracy`` trained networks instead, whole
ones and their layers: `quantization_accuracy`. With ``--graphs`` and ``--dynamic`` what others have
quantised before: `quantized_before`.

A second table says how near our small layers are to the least that this machine can take for them
(`benchmarks.measuring.small_limits`): multiplying, reading weights, and the cell's equations, loops
that have their turns in the same rounds. With it comes what would be the most over float32 and
onnxruntime. ``--write`` puts the tables into docs/records/quantization.md, a part for each
instruction set, for graphs and for torch's layers.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

import vledge
from benchmarks.measuring.limits import Limit, read_limit
from benchmarks.measuring.machine import cpu, today
from benchmarks.measuring.parts import equations
from benchmarks.measuring.small_limits import Least, least, multiply_limit
from benchmarks.measuring.workloads import Workload
from benchmarks.peers import ncnn_int8
from benchmarks.reports.parts import renew_part
from tests.peers import peer
from vledge import nn
from vledge._ext import isa
from vledge.small_matrix import FORMS

ROUNDS, SECONDS = 15, 0.004
PAGE = Path(__file__).parents[1] / "docs" / "records" / "quantization.md"


class Shape(NamedTuple):
    """A layer and what it runs on."""

    cell: Literal["LSTM", "GRU"]
    input_size: int
    hidden_size: int
    batch: int
    steps: int
    shortest: int | None = None  #: lengths fall evenly from `steps` to this; None: all are equal

    def lengths(self) -> np.ndarray | None:
        """Of the sequences, where they differ."""
        if self.shortest is None:
            return None
        return np.linspace(self.steps, self.shortest, self.batch).astype(np.int64)

    @property
    def rows(self) -> float:
        """Of a step, on the average."""
        lengths = self.lengths()
        return self.batch if lengths is None else float(lengths.sum()) / self.steps

    def __str__(self) -> str:
        what = "one step" if self.steps == 1 else f"{self.steps} steps"
        if self.shortest is not None:
            what = f"{self.shortest} to {what}"
        return f"{self.cell} {self.input_size} to {self.hidden_size}, batch {self.batch}, {what}"


SHAPES = (
    Shape("LSTM", 256, 256, 1, 100),
    Shape("LSTM", 512, 512, 1, 100),
    Shape("LSTM", 256, 256, 32, 50),
    Shape("LSTM", 256, 256, 32, 50, 1),
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


class Limits(NamedTuple):
    """What a storage's least time on a shape is made of."""

    multiplying: Limit
    reading: Limit
    equations: Limit

    def named(self, name: str) -> dict[str, Limit]:
        """By what they are called in a round."""
        return {f"{name}: {what}": limit for what, limit in self._asdict().items()}


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
        run = _stream(small, x) if shape.steps == 1 else _whole(small, x, shape.lengths())
        ways.append(Way(storage, run, small.nbytes))
    return ways


def _whole(layer: Any, x: np.ndarray, lengths: np.ndarray | None) -> Callable[[], np.ndarray]:
    return (lambda: layer(x)[0]) if lengths is None else (lambda: layer(x, lengths=lengths)[0])


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
        layer_model(
            shape.cell,
            weights,
            shape.steps,
            shape.batch,
            lengths=shape.shortest is not None,
            states=False,
        )
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
            Way(
                f"onnxruntime{' reduce_range' if reduced else ''}",
                _session(session, x, shape.lengths()),
                size,
            )
        )
    return ways


def _session(session: Any, x: np.ndarray, lengths: np.ndarray | None) -> Callable[[], np.ndarray]:
    names, y = [one.name for one in session.get_inputs()], session.get_outputs()[0].name
    feed = {names[0]: x}
    if lengths is not None:
        feed[names[1]] = lengths.astype(np.int32)
    rows = (*x.shape[:2], -1)
    return lambda: session.run([y], feed)[0].reshape(rows)


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
    lengths = shape.lengths()

    def run() -> np.ndarray:
        with torch.inference_mode():
            if lengths is None:
                result: np.ndarray = small(given)[0].numpy()
            else:
                rnn = torch.nn.utils.rnn
                packed = rnn.pack_padded_sequence(given, torch.from_numpy(lengths))
                result = rnn.pad_packed_sequence(small(packed)[0])[0].numpy()
        return result

    matrices = sum(array.size for array in weights.values() if array.ndim == 2)
    return [Way("torch", run, matrices)]


def ncnns(shape: Shape, weights: dict[str, np.ndarray], x: np.ndarray) -> list[Way]:
    """ncnn's layer, where it is installed; it runs one sequence at a time."""
    if shape.batch > 1 or importlib.util.find_spec("ncnn") is None:
        return []
    return [Way("ncnn", *ncnn_int8.layer(shape.cell, weights, x))]


def limits_of(shape: Shape, way: Way) -> Limits:
    """The loops that say how little a way of ours may take."""
    part = 1 if shape.steps == 1 else shape.hidden_size / (shape.input_size + shape.hidden_size)
    lengths = (shape.steps,) * shape.batch
    given = shape.lengths()
    if given is not None:
        lengths = tuple(map(int, given))
    workload = Workload("", "other", "full", shape.cell, 1, shape.hidden_size, lengths)
    return Limits(
        multiply_limit(way.name), read_limit(int(way.weight_bytes * part)), equations(workload)
    )


def least_of(shape: Shape, way: Way, limits: Limits, seconds: dict[str, float]) -> Least:
    """Of a step, where a round's loops take so many seconds."""
    multiply, byte, equation = (
        seconds[name] / limit.amount for name, limit in limits.named(way.name).items()
    )
    rows = (4 if shape.cell == "LSTM" else 3) * shape.hidden_size
    one_step = shape.steps == 1
    part = 1 if one_step else shape.hidden_size / (shape.input_size + shape.hidden_size)
    return least(
        shape.rows,
        (rows * shape.input_size, rows * shape.hidden_size),
        int(way.weight_bytes * part),
        multiply,
        byte,
        equation / shape.steps / shape.rows,
        one_step,
    )


def timed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time of each in each round."""
    counts = {}
    for name, run in runs.items():
        run()
        start = time.thread_time()
        run()
        counts[name] = max(1, int(SECONDS / max(time.thread_time() - start, 1e-7)))
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            start = time.thread_time()
            for _ in range(counts[name]):
                run()
            taken[name].append((time.thread_time() - start) / counts[name])
    return taken


LEAST_HEADING = """\
shape | way | multiplying | reading | equations | least | us a step | of it | x float32 at most \
| x onnxruntime at most
---|---|---|---|---|---|---|---|---|---"""
HEADING = """\
shape | way | us a step | x float32 | x onnxruntime | bytes | rms error | largest
---|---|---|---|---|---|---|---"""


def speed(rounds: int) -> tuple[list[str], list[str]]:
    """The table of times, printed as it comes, and that of what they are at the least."""
    lines, leasts = [HEADING], [LEAST_HEADING]
    print(HEADING)
    for shape in SHAPES:
        weights = weights_of(shape)
        rng = np.random.default_rng(1)
        size = (shape.steps, shape.batch, shape.input_size)
        x = rng.standard_normal(size).astype(np.float32)
        double = getattr(nn, shape.cell).from_weights(weights, dtype=np.float64)
        exact = _whole(double, x.astype(np.float64), shape.lengths())()
        ways = [*ours(shape, weights, x), *onnxruntimes(shape, weights, x)]
        ways += [*torchs(shape, weights, x), *ncnns(shape, weights, x)]
        errors = [way.run() - exact for way in ways]  # of a stream, its first step
        limits = {way.name: limits_of(shape, way) for way in ways if way.name in FORMS}
        runs: dict[str, Callable[[], object]] = {way.name: way.run for way in ways}
        for name, loops in limits.items():
            runs |= {what: loop.run for what, loop in loops.named(name).items()}
        taken = timed(runs, rounds)
        for way, error in zip(ways, errors, strict=True):
            own = taken[way.name]
            beside = {
                other: statistics.median(a / b for a, b in zip(taken[other], own, strict=True))
                for other in ("float32", "onnxruntime")
                if other in taken
            }
            cells = (
                str(shape),
                way.name,
                f"{statistics.median(own) / shape.steps * 1e6:.2f}",
                f"{beside['float32']:.2f}",
                f"{beside['onnxruntime']:.2f}" if "onnxruntime" in beside else "",
                f"{way.weight_bytes:,}",
                f"{np.sqrt(np.mean(error**2)):.1e}",
                f"{np.abs(error).max():.1e}",
            )
            lines.append(" | ".join(cells))
            print(lines[-1], flush=True)
            if way.name in limits:
                leasts.append(_least_line(shape, way, limits[way.name], taken))
    print("", *leasts, sep="\n")
    return lines, leasts


def _least_line(shape: Shape, way: Way, limits: Limits, taken: dict[str, list[float]]) -> str:
    """By the first quartile of each one's rounds: neighbours slow loops and layers unequally."""
    quick = {name: statistics.quantiles(own, n=4)[0] for name, own in taken.items()}
    parts = least_of(shape, way, limits, quick)
    own, others = quick[way.name] / shape.steps, ("float32", "onnxruntime")
    at_most = (quick[other] / shape.steps / parts.all for other in others if other in quick)
    cells = [str(shape), way.name, *(f"{part * 1e6:.2f}" for part in (*parts, own))]
    cells += [f"{parts.all / own:.0%}", *(f"{ratio:.2f}" for ratio in at_most)]
    return " | ".join(cells + [""] * (10 - len(cells)))


def write(times: list[str], leasts: list[str], rounds: int) -> None:
    """Put the tables between the markers of this instruction set; a part that the page has not yet
    goes to its end."""
    chosen = isa.selected()
    command = f"python -m benchmarks.quantization --isa {chosen} --rounds {rounds} --write"
    said = f"By `{command}`, {today()}, on {cpu()}."
    heading = f"## {chosen}, integers by {isa.selected_integers()}"
    renew_part(PAGE, chosen, [heading, said, "", *times, "", LEAST, "", *leasts])


LEAST = """\
The least in the same rounds, in microseconds a step, first quartiles: products by the instructions
that multiply and add up, back to back; reading of what a step reads anew; the cell's equations. A
whole sequence takes its input's products, the larger of its state's products and reading, and the
equations; a single step the larger of both products and reading."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--isa", help="the instruction set; by default the best")
    parser.add_argument("--accuracy", action="store_true", help="trained networks, not times")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help=f"renew this part of {PAGE.name}")
    parser.add_argument("--dynamic", action="store_true", help="torch's own quantised layers")
    parser.add_argument(
        "--graphs", nargs="+", metavar="FILE|FOLDER|PACKAGE", help="whole ONNX models instead"
    )
    arguments = parser.parse_args()
    isa.select(arguments.isa)
    vledge.set_num_threads(1)
    print(f"{isa.selected()}, integers by {isa.selected_integers()}\n")
    if arguments.accuracy:
        from benchmarks.quantization_accuracy import accuracy

        accuracy()
        return
    if arguments.graphs or arguments.dynamic:
        from benchmarks.quantized_before import of_graphs, of_torchs_files

        part, heading, option = "dynamic", "Layers that torch has quantised", "--dynamic"
        if arguments.graphs:
            part, heading, option = "graphs", "Graphs quantized before", "--graphs FILES"
            table = of_graphs(arguments.graphs, arguments.rounds)
        else:
            table = of_torchs_files(arguments.rounds)
        if arguments.write:
            command = f"python -m benchmarks.quantization {option} --write"
            said = f"By `{command}`, {today()}, {isa.selected()} on {cpu()}; one thread."
            renew_part(PAGE, part, [f"## {heading}", said, "", *table])
        return
    tables = speed(arguments.rounds)
    if arguments.write:
        write(*tables, arguments.rounds)


if __name__ == "__main__":
    main()
