"""``vledge run MODEL --input x=x.npy --output y.npy``: run a whole model once, on .npy files."""

from __future__ import annotations

import argparse
import time

import numpy as np

from vledge.cli.one_run import add_input_argument, given_arrays
from vledge.cli.table import rows
from vledge.machine.atomic_file import writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge run``."""
    parser.add_argument("model", help="an ONNX file, or one by `vledge convert`")
    add_input_argument(parser)
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="where to write an output, .npy (.npz for a sequence); without a name, outputs are "
        "taken in turn",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="leave out what this output does not need, once for each output; any value may be one",
    )
    parser.add_argument(
        "--fallback",
        choices=["reference"],
        help="run operators that vledge does not have by onnx's reference evaluator",
    )
    parser.add_argument("--repeats", type=int, default=1, help="run so often and print the times")


def run(arguments: argparse.Namespace) -> int:
    """Load, run, write, and print what came out."""
    from vledge.graph.session import InferenceSession

    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}")
    session = InferenceSession(arguments.model, outputs=arguments.only, fallback=arguments.fallback)
    feed = given_arrays(arguments.input, session)
    names = [info.name for info in session.get_outputs()]
    targets = _targets(arguments.output, names)
    times = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        results = session.run(None, feed)
        times.append(time.perf_counter() - start)
    lines = []
    for name, array in zip(names, results, strict=True):
        target = targets.get(name, "")
        if not isinstance(array, np.ndarray):
            lines.append((name, _kept(array, target), "", "", target))
            continue
        if target:
            with writing(target) as file:
                np.save(file, array, allow_pickle=False)
        shape = "x".join(map(str, array.shape)) or "scalar"
        lines.append((name, shape, array.dtype, _range(array), target))
    print(rows(lines))
    if arguments.repeats > 1:
        best, middle = min(times), sorted(times)[len(times) // 2]
        print(f"{len(times)} runs: best {best * 1e3:.3f} ms, median {middle * 1e3:.3f} ms")
    return 0


def _kept(arrays: list[np.ndarray] | None, target: str) -> str:
    """Write a sequence of tensors as an .npz file, and say what it is."""
    if arrays is None:
        if target:
            raise ValueError(f"--output {target}: this optional output is absent")
        return "absent"
    if target:
        with writing(target) as file:
            np.savez(file, *arrays, allow_pickle=False)
    return f"sequence of {len(arrays)}"


def _targets(outputs: list[str], names: list[str]) -> dict[str, str]:
    """Output name → file."""
    targets: dict[str, str] = {}
    for text in outputs:
        name, separator, path = text.partition("=")
        if not separator:
            free = [candidate for candidate in names if candidate not in targets]
            if not free:
                raise ValueError(f"--output {text}: the model has only {len(names)} outputs")
            name, path = free[0], text
        elif name not in names:
            raise ValueError(f"--output {text}: no output named {name!r}: there are {names}")
        targets[name] = path
    return targets


def _range(array: np.ndarray) -> str:
    if not array.size or array.dtype.kind not in "fiub":
        return ""
    if array.size == 1:
        return f"{array.item():.6g}"
    return f"{array.min():.6g} to {array.max():.6g}"
