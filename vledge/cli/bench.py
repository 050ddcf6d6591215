"""``vledge bench``: how long single steps take, next to onnxruntime and torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np

from vledge import nn
from vledge.cli.latency.engines import ENGINES, Step
from vledge.cli.latency.measure import Latency, busy_cores, measure
from vledge.cli.recurrent_layer import add_layer_argument
from vledge.cli.table import rows
from vledge.errors import MissingDependencyError
from vledge.layer_file import load_layer
from vledge.machine.atomic_file import check_writable
from vledge.nn.recurrent import RecurrentBase
from vledge.progress import Bar
from vledge.recurrent.cells import KINDS
from vledge.validation.reference.compare import SMALL

EXAMPLES = """\
examples:
  vledge bench
  vledge bench checkpoint.pt --layer encoder.rnn --steps 20000 --idle-only
  vledge bench --cell GRU --hidden-size 64 --engines vledge,onnxruntime --histogram latency.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge bench``."""
    parser.add_argument(
        "model",
        nargs="?",
        help="a file with a recurrent layer: weights, Keras, a graph; without, random weights",
    )
    parser.add_argument(
        "--latency",
        action="store_true",
        help="of single steps, which is all there is",
    )
    add_layer_argument(parser)
    parser.add_argument("--cell", choices=["LSTM", "GRU", "RNN"], default="LSTM", help="(LSTM)")
    parser.add_argument("--input-size", type=int, default=40, help="(40)")
    parser.add_argument("--hidden-size", type=int, default=128, help="(128)")
    parser.add_argument("--layers", type=int, default=1, help="(1)")
    parser.add_argument("--steps", type=int, default=100_000, help="for each row (100,000)")
    parser.add_argument(
        "--engines", default=",".join(ENGINES), help=f"those installed of {','.join(ENGINES)}"
    )
    parser.add_argument("--idle-only", action="store_true", help="leave the other cores alone")
    parser.add_argument("--histogram", metavar="PNG", help="draw the times; needs vledge[plot]")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Measure each engine in each condition and print the table."""
    if arguments.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {arguments.steps}")
    check_writable(arguments.histogram)
    layer = (
        load_layer(arguments.model, arguments.layer)
        if arguments.model is not None
        else _random(arguments)
    )
    fit = isinstance(layer, (nn.RNN, nn.GRU, nn.LSTM)) and layer.dtype == np.float32
    if not fit or layer.bidirectional or layer.proj_size:
        raise ValueError(
            "steps are compared for RNN, GRU and LSTM in float32, of one direction, not "
            f"projected, and this is {layer!r}"
        )
    x = np.random.default_rng(1).normal(size=(1, layer.input_size)).astype(np.float32)
    steps, missing = {}, {}
    for name in arguments.engines.split(","):
        if name not in ENGINES:
            raise ValueError(f"--engines: {name!r} is none of {', '.join(ENGINES)}")
        try:
            steps[name] = ENGINES[name](layer, x)
        except MissingDependencyError as error:
            missing[name] = str(error)
    _agree({name: step() for name, step in steps.items()}, layer.storage)
    times = _measured(steps, arguments.steps, (False,) if arguments.idle_only else (False, True))
    title = (
        f"{type(layer).__name__} {layer.input_size} -> {layer.hidden_size}, {layer.num_layers} "
        f"layer{'s' * (layer.num_layers != 1)}, batch 1, one thread, {arguments.steps:,} steps"
    )
    latencies = {
        condition: {engine: Latency.of(t) for engine, t in engines.items()}
        for condition, engines in times.items()
    }
    if arguments.json:
        table = {c: {e: asdict(v) for e, v in engines.items()} for c, engines in latencies.items()}
        print(json.dumps({"model": title, "microseconds": table, "missing": missing}, indent=1))
    else:
        _print(title, latencies, missing)
    if arguments.histogram:
        from vledge.cli.latency.picture import draw

        draw(arguments.histogram, times, title)
    return 0


def _measured(
    steps: dict[str, Step], count: int, loads: Sequence[bool]
) -> dict[str, dict[str, np.ndarray]]:
    """Nanoseconds by condition and engine; the bar moves between them, not while one is timed."""
    bar = Bar(len(steps) * len(loads), erased=True)
    times: dict[str, dict[str, np.ndarray]] = {}
    done = 0
    try:
        for loaded in loads:
            with busy_cores() if loaded else nullcontext(0) as busy:
                condition = f"{busy} other core{'s' * (busy != 1)} busy" if loaded else "idle"
                times[condition] = {}
                for name, step in steps.items():
                    bar(done, label=f"{name}, {condition}, {count:,} steps")
                    times[condition][name] = measure(step, count)
                    done += 1
    finally:
        bar.close()
    return times


def _random(arguments: argparse.Namespace) -> RecurrentBase:
    rng, bound = np.random.default_rng(0), arguments.hidden_size**-0.5
    weights = {}
    for number in range(arguments.layers):
        inputs = arguments.hidden_size if number else arguments.input_size
        shapes = KINDS[arguments.cell].shapes(inputs, arguments.hidden_size)
        for name, shape in shapes.items():
            weights[f"{name}_l{number}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
    layer: RecurrentBase = getattr(nn, arguments.cell).from_weights(weights)
    return layer


def _agree(outputs: dict[str, np.ndarray], storage: str) -> None:
    """A comparison of times is only one if the engines do the same work. Others run the floats that
    small weights stand for, and do not round what they multiply."""
    most = SMALL[storage].largest if storage in SMALL else 1e-4
    names = list(outputs)
    for name in names[1:]:
        difference = float(np.abs(outputs[name] - outputs[names[0]]).max())
        if not difference < most:
            raise RuntimeError(
                f"{name} and {names[0]} differ by {difference:.1e} at the first step"
            )


def _print(title: str, latencies: dict[str, dict[str, Latency]], missing: dict[str, str]) -> None:
    print(title)
    lines: list[tuple[object, ...]] = [("", "microseconds:", "p50", "p99", "p99.9", "worst")]
    for condition, engines in latencies.items():
        for engine, latency in engines.items():
            lines.append((condition, engine, *(f"{v:,.1f}" for v in asdict(latency).values())))
    print(rows(lines, right=(2, 3, 4, 5)))
    for name, reason in missing.items():
        print(f"  {name} is not measured: {reason}")
