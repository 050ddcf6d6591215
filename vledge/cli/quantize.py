"""``vledge quantize WEIGHTS OUTPUT``: recurrent layers with small weights, in one file."""

from __future__ import annotations

import argparse
import os

from vledge.cli.table import size
from vledge.errors import UnsupportedError
from vledge.formats import holds_graph, load_weights, save_weights
from vledge.machine.atomic_file import writing
from vledge.small_matrix import FORMS

EXAMPLES = """\
examples:
  vledge quantize model.safetensors small.safetensors
  vledge quantize checkpoint.pt small.safetensors --to int16 --layers 'encoder.*' --report
  vledge quantize model.safetensors small.safetensors --report report.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge quantize``."""
    parser.add_argument(
        "weights", help="weights of torch or safetensors, in which layers are found"
    )
    parser.add_argument("output", help="the file to write, *.safetensors")
    parser.add_argument(
        "--to",
        default="int8",
        choices=list(FORMS),
        help="what weights are stored as: int8 (the default), int8-fast, int16",
    )
    parser.add_argument(
        "--layers",
        action="append",
        metavar="NAME",
        help="the layers to quantize, by the prefix of their weights; * and ? stand for anything",
    )
    parser.add_argument(
        "--keep", action="append", metavar="NAME", help="a layer that stays as it is, likewise"
    )
    parser.add_argument("--key", help="the part of a checkpoint to read, for example model_state")
    parser.add_argument(
        "--report",
        nargs="?",
        const="-",
        metavar="FILE",
        help="tell bytes and rounding of each array: as text, or as HTML in this file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, round, write, and tell."""
    from vledge.quantization import quantize, report

    source, target = arguments.weights, arguments.output
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError(f"{target} is the file of the weights itself")
    if holds_graph(source):
        raise UnsupportedError(
            f"{source} holds a graph; quantize takes weights of recurrent layers, as torch names "
            "them (a pre-quantized ONNX model runs as it is: `vledge run`)"
        )
    weights = load_weights(source, arguments.key)
    small = quantize(
        weights, arguments.to, layers=arguments.layers or "*", keep=arguments.keep or ()
    )
    save_weights(target, small)
    told = report({name: weights.get(name, small[name]) for name in small}, small)
    if arguments.report == "-":
        print(told)
    elif arguments.report is not None:
        with writing(arguments.report) as file:
            file.write(told.html(f"{source} as {arguments.to}").encode())
    print(f"{target}: {told.summary}; {size(os.path.getsize(target))}")
    return 0
