"""``vledge run MODEL --input x=x.npy --output y.npy``: run a model once, on files or on noise.

A file of weights holds no graph: its recurrent layer runs by itself.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vledge.cli.layer_session import LayerSession
    from vledge.graph.session import InferenceSession


import numpy as np

from vledge.cli.layer_session import LayerSession
from vledge.cli.one_run import add_one_run_arguments, given_arrays, one_run
from vledge.cli.recurrent_layer import add_layer_argument
from vledge.cli.table import rows
from vledge.formats import holds_graph
from vledge.graph.session import NodeArg
from vledge.machine.atomic_file import writing
from vledge.model.definition import Model
from vledge.shown import counted

EXAMPLES = """\
examples:
  vledge run model.onnx --input x=x.npy --set sr=16000 --output y.npy
  vledge run model.onnx --random x=1x300x40
  vledge run model.safetensors --input sensor.csv --output y.npy
  vledge run checkpoint.pt --layer encoder.rnn --random
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge run``."""
    parser.add_argument(
        "model", help="an ONNX file, one by `vledge convert`, or weights with a recurrent layer"
    )
    add_one_run_arguments(parser, unasked=False)
    add_layer_argument(parser)
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
    if arguments.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {arguments.repeats}")
    session, model = _session(arguments)
    feed = given_arrays(arguments, session)
    if arguments.random:
        feed = one_run(arguments, model, session)
    missing = [info for info in session.get_inputs() if info.name not in feed]
    if missing:
        raise ValueError(
            "nothing is given for "
            + ", ".join(f"{i.name!r} {_shape(i)} of {i.type}" for i in missing)
            + f": --input {missing[0].name}=FILE, or --random for numbers of any kind"
        )
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
        print(
            f"{counted(len(times), 'run')}: best {best * 1e3:.3f} ms, median {middle * 1e3:.3f} ms"
        )
    return 0


def _session(arguments: argparse.Namespace) -> tuple[InferenceSession | LayerSession, Model]:
    """What runs, and the model that says what its inputs are."""
    path = arguments.model
    if arguments.layer is not None or not holds_graph(path):
        for option in ("only", "fallback"):
            if getattr(arguments, option):
                raise ValueError(f"--{option} is for whole models, and a layer runs by itself")
        layer = LayerSession(path, arguments.layer)
        return layer, layer.model
    from vledge.graph.session import InferenceSession, read_model

    session = InferenceSession(path, outputs=arguments.only, fallback=arguments.fallback)
    return session, read_model(path)


def _shape(info: NodeArg) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in info.shape) + "]"


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
                raise ValueError(
                    f"--output {text}: the model has only {counted(len(names), 'output')}"
                )
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
