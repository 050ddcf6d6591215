"""``vledge inspect FILE``: what tensors a file holds, and what layers they make.

Files that hold a graph are described by ``inspect_graph``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vledge.cli.one_run import add_one_run_arguments
from vledge.cli.table import rows, size
from vledge.formats import holds_graph, read_checkpoint
from vledge.formats.source import FORMATS
from vledge.nn import recognize
from vledge.recurrent.recognize import RecurrentLayer
from vledge.shown import counted
from vledge.weights.plain import PlainWeights

if TYPE_CHECKING:
    from vledge.formats.keras.recurrent import RecurrentSummary


EXAMPLES = """\
examples:
  vledge inspect checkpoint.pt --key model_state
  vledge inspect model.onnx --memory --random x=1x300x40
  vledge inspect model.keras --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge inspect``."""
    parser.add_argument(
        "file",
        help=".pt .pth .bin .jit .pt2 .safetensors .npz .keras .h5 .onnx, an index, a folder",
    )
    parser.add_argument("--key", help="the part of a checkpoint to read, for example model_state")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="leave out what this output does not need, of a graph; once for each output",
    )
    parser.add_argument(
        "--memory",
        action="store_true",
        help="run a graph once, on --input and --random, and tell what it keeps and what it takes",
    )
    add_one_run_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the lists."""
    if arguments.key is None and holds_graph(arguments.file):
        from vledge.cli.inspect_graph import inspect_graph

        return inspect_graph(arguments)
    for option in ("only", "memory", "input", "random"):
        if getattr(arguments, option):
            raise ValueError(f"--{option} is for a file that holds a graph")
    checkpoint = read_checkpoint(arguments.file, arguments.key)
    weights = checkpoint.weights
    plain = PlainWeights(weights)
    layers: Sequence[RecurrentLayer | RecurrentSummary] = recognize(plain)
    if any(f.name == checkpoint.format and f.module == "keras.file" for f in FORMATS):
        from vledge.formats.keras.recurrent import recurrent_layers

        layers = recurrent_layers(arguments.file)
    if arguments.json:
        report = {
            "file": os.fspath(arguments.file),
            "tensors": [
                {"name": n, "shape": list(a.shape), "dtype": _held_as(a), "nbytes": a.nbytes}
                for n, a in weights.items()
            ],
            "recurrent_layers": [layer._asdict() for layer in layers],
            "folded": {
                name: {"by": by, "from": plain.keys_of(name)} for name, by in plain.folds().items()
            },
            "refused": plain.refused,
            "skipped": checkpoint.skipped,
            "elsewhere": checkpoint.elsewhere,
        }
        print(json.dumps(report, indent=1))
        return 0
    total = sum(a.nbytes for a in weights.values())
    print(f"{arguments.file}: {counted(len(weights), 'tensor')}, {size(total)}")
    print(
        rows(
            (
                (
                    name,
                    "x".join(map(str, array.shape)) or "scalar",
                    _held_as(array),
                    size(array.nbytes),
                )
                for name, array in weights.items()
            ),
            right=(3,),
        )
    )
    print("recurrent layers:" if layers else "no recurrent layers recognised")
    for layer in layers:
        print(f"  {_words(layer) if isinstance(layer, RecurrentLayer) else _keras_words(layer)}")
    for name, by in plain.folds().items():
        if name not in plain.refused:
            print(f"folded: {name}: {by} of {', '.join(plain.keys_of(name))}")
    for why in plain.refused.values():
        print(f"refused: {why}")
    for title, left_out in (
        ("left out", {**plain.strays, **checkpoint.skipped}),
        ("not read", checkpoint.elsewhere),
    ):
        for name, why in left_out.items():
            print(f"{title}: {name}: {why}")
    return 0


def _held_as(array: np.ndarray) -> str:
    """The dtype, or how small weights are stored."""
    return str(getattr(array, "storage", array.dtype))


def _words(layer: RecurrentLayer) -> str:
    words = [f"{layer.kind} {layer.input_size} -> {layer.hidden_size}"]
    if layer.proj_size:
        words.append(f"projected to {layer.proj_size}")
    if layer.num_layers > 1:
        words.append(f"{layer.num_layers} layers")
    words += _flags(layer)
    return f"{layer.prefix or '(top)'}: {', '.join(words)}, {size(layer.nbytes)}"


def _flags(layer: RecurrentLayer | RecurrentSummary) -> list[str]:
    words = ["bidirectional"] if layer.bidirectional else []
    return words if layer.bias else [*words, "no bias"]


def _keras_words(layer: RecurrentSummary) -> str:
    """A layer of a Keras file, by the names that `from_keras` takes."""
    sizes = " -> ".join(map(str, [layer.input_size, *layer.hidden_size]))
    if layer.backward_size not in ([], layer.hidden_size):
        sizes += f" forward, {' -> '.join(map(str, layer.backward_size))} backward"
    kind = layer.kind or layer.class_name
    if layer.cells:
        kind += f" of {', '.join(layer.cells)}"
    words = [f"{kind} {sizes}", *_flags(layer)]
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid", "reset_after": True}
    for name, value in usual.items():
        own = [one[name] for one in [layer.arguments or {}, *layer.own_arguments] if name in one]
        if any(one != value for one in own):
            words.append(f"{name}={' and '.join(map(repr, own))}")
    words.append(size(layer.nbytes))
    if layer.refused:
        words.append(f"from_keras refuses it: {layer.refused}")
    elif layer.arguments is None:
        words.append("its arguments are not told")
    if layer.loads_as not in ("", layer.kind):
        words.append(f"nn.{layer.kind or 'RecurrentStack'}.from_keras makes it a {layer.loads_as}")
    return f"{layer.name} ({layer.path}): {', '.join(words)}"
