"""``vledge record MODEL``: what onnxruntime or torch computes, as a reference for `validate`."""

from __future__ import annotations

import argparse
import os

from vledge.cli.given_inputs import add_input_arguments, live_reference
from vledge.cli.table import size
from vledge.formats import holds_graph
from vledge.formats.file_name import check_name
from vledge.machine.atomic_file import check_writable
from vledge.shown import counted
from vledge.validation.reference import bundle
from vledge.validation.reference.compare import tolerance_of
from vledge.validation.reference.proof import weighed

EXAMPLES = """\
examples:
  vledge record model.onnx --random x=8x?x40
  vledge record model.onnx --random input=1x512 --set sr=16000 --carry state=stateN
  vledge record lstm.pt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge record``."""
    parser.add_argument("model", help="an ONNX file; or the weights of one torch RNN, GRU or LSTM")
    parser.add_argument("-o", "--output", help="the bundle (MODEL's name, .reference.safetensors)")
    parser.add_argument("--layers", action="store_true", help="record each recurrent layer, too")
    parser.add_argument(
        "--values",
        action="store_true",
        help="record samples of every value, so that a fault in any node is found",
    )
    add_input_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the framework and write what it computed."""
    framework = "onnxruntime" if holds_graph(arguments.model) else "torch"
    path = arguments.output or bundle.reference_path(arguments.model)
    if os.path.exists(path) and os.path.samefile(path, arguments.model):
        raise ValueError(f"{path} is the model itself")
    check_name(path)
    check_writable(path)
    reference = live_reference(arguments, framework, arguments.layers, arguments.values)
    bundle.write(path, reference)
    print(
        f"{path}: {counted(len(reference.cases), 'run')}, "
        f"{counted(len(reference.outputs()), 'output')}, "
        f"{counted(len(reference.layers), 'value')} of layers, "
        f"{len(reference.cases[0].inside)} inside, "
        f"{size(os.path.getsize(path))}"
    )
    print(f"  made by {bundle.versions(reference.made_by)}")
    exact = reference.exact_by or f"none: {reference.loss}"
    print(f"  float64 values: {exact}")
    proof = weighed(reference, {n: tolerance_of(reference, n) for n in reference.outputs()})
    for note in (*proof.missing, *proof.little):
        print(f"  note: {note}")
    return 0
