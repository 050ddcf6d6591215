"""``vledge inspect FILE``: what tensors a file holds, and what layers they make.

Files that hold a graph are described by ``inspect_graph``.
"""

from __future__ import annotations

import argparse
import json
import os

from vledge.cli.table import rows, size
from vledge.formats import holds_graph, read_checkpoint
from vledge.nn import recognize
from vledge.nn.plain_weights import PlainWeights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge inspect``."""
    parser.add_argument(
        "file", help=".pt .pth .bin .jit .pt2 .safetensors .npz .onnx, an index, a folder"
    )
    parser.add_argument("--key", help="the part of a checkpoint to read, for example model_state")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the lists."""
    if arguments.key is None and holds_graph(arguments.file):
        from vledge.cli.inspect_graph import inspect_graph

        return inspect_graph(arguments.file, arguments.json)
    checkpoint = read_checkpoint(arguments.file, arguments.key)
    weights = checkpoint.weights
    plain = PlainWeights(weights)
    layers = recognize(plain)
    if arguments.json:
        report = {
            "file": os.fspath(arguments.file),
            "tensors": [
                {"name": n, "shape": list(a.shape), "dtype": str(a.dtype), "nbytes": a.nbytes}
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
    print(f"{arguments.file}: {len(weights)} tensors, {size(total)}")
    print(
        rows(
            (
                (name, "x".join(map(str, array.shape)) or "scalar", array.dtype, size(array.nbytes))
                for name, array in weights.items()
            ),
            right=(3,),
        )
    )
    print("recurrent layers:" if layers else "no recurrent layers recognised")
    for layer in layers:
        words = [f"{layer.kind} {layer.input_size} -> {layer.hidden_size}"]
        if layer.proj_size:
            words.append(f"projected to {layer.proj_size}")
        if layer.num_layers > 1:
            words.append(f"{layer.num_layers} layers")
        if layer.bidirectional:
            words.append("bidirectional")
        if not layer.bias:
            words.append("no bias")
        print(f"  {layer.prefix or '(top)'}: {', '.join(words)}, {size(layer.nbytes)}")
    for name, by in plain.folds().items():
        if name not in plain.refused:
            print(f"folded: {name}: {by} of {', '.join(plain.keys_of(name))}")
    for why in plain.refused.values():
        print(f"refused: {why}")
    for title, found in (
        ("left out", {**plain.strays, **checkpoint.skipped}),
        ("not read", checkpoint.elsewhere),
    ):
        for name, why in found.items():
            print(f"{title}: {name}: {why}")
    return 0
