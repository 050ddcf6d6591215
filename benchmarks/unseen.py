"""``python -m benchmarks.unseen``: any ONNX model, ours beside onnxruntime's, and our time's parts.

An argument is an .onnx file, a folder of them, or an installed package that carries some; nothing
is installed or fetched. Inputs are guessed from what the model declares: ``--size``, ``--shape``
and ``--number`` say what a guess cannot know. Outputs are compared before anything is timed, then
both take turns as in ``python -m benchmarks.models``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.measuring.guessing import Given, guessed_feed
from benchmarks.models import Result, Work, measured, summary

if TYPE_CHECKING:
    from vledge.graph.profile import Row
    from vledge.model.definition import Model

TOLERANCE: Final = 1e-3
HALF_TOLERANCE: Final = 1e-2  # where a file holds float16 numbers
INTEGER_TOLERANCE: Final = 5e-2  # a step of a quantised activation is 1/255 of its range
PROFILED_RUNS: Final = 5


def main() -> int:
    """Measure what is named, and print a line and its parts for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unseen", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="FILE|FOLDER|PACKAGE")
    parser.add_argument(
        "--size", action="append", default=[], metavar="AXIS=N", help="an open axis"
    )
    parser.add_argument(
        "--shape", action="append", default=[], metavar="INPUT=1x3x48x320", help="an input's shape"
    )
    parser.add_argument(
        "--number", action="append", default=[], metavar="INPUT=X", help="what an input is full of"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of turns (9)")
    parser.add_argument(
        "--tolerance", type=float, help="what outputs may differ by: the usual is by a file's types"
    )
    parser.add_argument("--families", type=int, default=4, help="parts of our time shown (4)")
    arguments = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(arguments.threads))
    import vledge

    vledge.set_num_threads(arguments.threads)
    try:
        given = Given(
            {name: int(value) for name, value in map(_pair, arguments.size)},
            {
                name: tuple(int(size) for size in value.split("x"))
                for name, value in map(_pair, arguments.shape)
            },
            {name: float(value) for name, value in map(_pair, arguments.number)},
        )
        paths = [found for name in arguments.models for found in files(name)]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    shown = short_names(paths)
    results = []
    for path, name in zip(paths, shown, strict=True):
        parts: list[str] = []
        told = arguments.threads, arguments.families, arguments.tolerance
        prepare = partial(prepared, path, name, given, *told, parts)
        results.append(measured(name, prepare, arguments.threads, arguments.rounds))
        print("\n".join([_line(results[-1], max(map(len, shown))), *parts]), flush=True)
    print(summary(results))
    return 0


def files(name: str) -> list[Path]:
    """The .onnx files that an argument names.

    Raises ValueError where there are none.
    """
    path = Path(name)
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.onnx")) if path.is_dir() else sorted(_of_package(name))
    if not found:
        raise ValueError(f"{name}: no .onnx file, no folder of some, no installed package with any")
    return found


def _of_package(name: str) -> Iterator[Path]:
    try:
        members = importlib.metadata.distribution(name).files or ()
    except importlib.metadata.PackageNotFoundError:
        return
    for member in members:
        if member.suffix == ".onnx":
            yield Path(str(member.locate()))


def prepared(
    path: Path,
    name: str,
    given: Given,
    threads: int,
    families: int,
    tolerance: float | None,
    parts: list[str],
) -> Work:
    """A model ready to be measured; ``parts`` gets lines that tell where our time goes."""
    import onnxruntime

    import vledge
    from vledge.graph.session import read_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    theirs = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = read_model(str(path))
    feed, _ = guessed_feed(model, given, lambda feed: theirs.run(None, feed))
    parts.append("    " + ", ".join(f"{key} {list(a.shape)}" for key, a in feed.items()))
    session = vledge.InferenceSession(str(path))
    rows = session.profile(feed, PROFILED_RUNS).rows
    parts.append("    " + ", ".join(shares(rows)[:families]))
    return Work(
        name,
        lambda: session.run(None, feed),
        {"onnxruntime": lambda: theirs.run(None, feed)},
        _tolerance(model) if tolerance is None else tolerance,
        sum(len(row.operators) for row in rows if row.python_calls),
    )


def _tolerance(model: Model) -> float:
    """By the numbers that the model is made of."""
    operators = {node.op_type for node in model.graph.nodes}
    if any("Integer" in name or "Quant" in name for name in operators):
        return INTEGER_TOLERANCE
    arrays = model.graph.initializers.values()
    return HALF_TOLERANCE if any(a.dtype == np.float16 for a in arrays) else TOLERANCE


def shares(rows: Sequence[Row]) -> list[str]:
    """What part of our time each family of instructions takes, and its speed, largest first."""
    seconds: dict[str, float] = {}
    operations: dict[str, int] = {}
    for row in rows:
        python = row.python_calls or row.handler is None
        family = f"{row.operators[0]} in Python" if python else str(row.handler)
        seconds[family] = seconds.get(family, 0.0) + row.seconds
        operations[family] = operations.get(family, 0) + row.operations
    whole = sum(seconds.values())
    told = []
    for family in sorted(seconds, key=lambda name: -seconds[name]):
        speed = operations[family] / seconds[family] / 1e9 if seconds[family] else 0.0
        told.append(
            f"{family} {seconds[family] / whole:.0%}" + (f" at {speed:.0f} GFLOP/s" * (speed >= 1))
        )
    return told


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (separator and name and value):
        raise ValueError(f"{text}: expected NAME=VALUE")
    return name, value


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names without what all have in common."""
    if len(paths) == 1:
        return [paths[0].name]
    common = os.path.commonpath([path.resolve() for path in paths])
    return [os.path.relpath(path.resolve(), common) for path in paths]


def _line(result: Result, width: int) -> str:
    if result.failure:
        return f"{result.name:{width}} {result.failure}"
    ratio, peer = result.ratio or 0.0, result.peers["onnxruntime"]
    line = f"{result.name:{width}} {result.seconds * 1e3:9.3f} ms, onnxruntime {peer * 1e3:9.3f} ms"
    line += f" {ratio:6.2f}{' <' if ratio < 1 else '  '} differs by {result.difference:.0e}"
    return line + (f"  {result.in_python} nodes in Python" if result.in_python else "")


if __name__ == "__main__":
    sys.exit(main())
