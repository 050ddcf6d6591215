"""``vledge quantize FILE OUTPUT``: layers, or an ONNX model's nodes, with small weights."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vledge.cli.graph_file import check_torchs_names
from vledge.cli.table import size
from vledge.errors import UnsupportedError
from vledge.formats import holds_graph, load_weights, save_weights
from vledge.formats.file_name import check_name
from vledge.machine.atomic_file import check_writable, writing
from vledge.progress import Bar
from vledge.small_matrix import FORMS

if TYPE_CHECKING:
    from vledge.quantization import Report

EXAMPLES = """\
examples:
  vledge quantize model.safetensors small.safetensors
  vledge quantize checkpoint.pt small.safetensors --to int16 --layers 'encoder.*' --report
  vledge quantize model.safetensors small.safetensors --report report.html
  vledge quantize model.safetensors small.safetensors --calibrate inputs.npz --max-error 0.01
  vledge quantize model.onnx small.onnx --report
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge quantize``."""
    parser.add_argument(
        "weights", help="weights of torch or safetensors that have layers, or an ONNX model"
    )
    parser.add_argument("output", help="the file to write, *.safetensors or *.onnx")
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
        help="the layers to quantize, by the prefix of their weights or the name of the node; "
        "* and ? stand for anything",
    )
    parser.add_argument(
        "--keep", action="append", metavar="NAME", help="a layer that stays as it is, likewise"
    )
    parser.add_argument(
        "--calibrate",
        metavar="FILE",
        help="round for what layers see: arrays [steps, features] or [batch, steps, features], "
        "each named as its layer is (x, where there is one); an RNN counts as one with tanh. Of an "
        "ONNX model its inputs by name: its GRU and RNN are rounded for them",
    )
    parser.add_argument(
        "--max-error",
        type=float,
        metavar="E",
        help="take int16 or float32 for a layer whose output on that data would be further off",
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
    check_writable(target, arguments.report if arguments.report != "-" else None)
    if holds_graph(source):
        return _model(arguments)
    if target.endswith(".onnx"):
        raise ValueError(f"{source} holds weights, which go into a *.safetensors, not {target}")
    check_name(target)
    check_torchs_names(source, "quantize")
    weights = load_weights(source, arguments.key)
    layers, keep = arguments.layers or ["*"], arguments.keep or []
    if arguments.calibrate is not None:
        small = _calibrated(weights, arguments, layers, keep)
    elif arguments.max_error is not None:
        raise ValueError("--max-error is measured on the data of --calibrate, and there is none")
    else:
        small = quantize(weights, arguments.to, layers=layers, keep=keep)
    save_weights(target, small)
    _tell(report({name: weights.get(name, small[name]) for name in small}, small), arguments)
    return 0


def _model(arguments: argparse.Namespace) -> int:
    """An ONNX model, whose weights are int8."""
    from vledge.quantization.onnx_model import check_onnx, quantize_onnx

    source, target = arguments.weights, arguments.output
    check_onnx(source)
    if not target.endswith(".onnx"):
        name = f"{os.path.splitext(target)[0]}.onnx"
        raise ValueError(
            f"{source} is a model, and what comes of it is an ONNX file: name it {name}; `vledge "
            f"convert {name} {target}` then makes one that loads without onnx"
        )
    if arguments.to != "int8":
        raise UnsupportedError(f"an ONNX model's weights can be int8, not {arguments.to}")
    if arguments.key is not None:
        raise ValueError(f"--key names a part of a checkpoint, and {source} is an ONNX model")
    if arguments.max_error is not None:
        raise UnsupportedError("--max-error goes with layers, not with an ONNX model")
    runs = [] if arguments.calibrate is None else [load_weights(arguments.calibrate)]
    data, told = quantize_onnx(
        source, layers=arguments.layers or "*", keep=arguments.keep or [], calibrate=runs
    )
    with writing(target) as file:
        file.write(data)
    _tell(told, arguments)
    return 0


def _tell(told: Report, arguments: argparse.Namespace) -> None:
    if arguments.report == "-":
        print(told)
    elif arguments.report is not None:
        with writing(arguments.report) as file:
            file.write(told.html(f"{arguments.weights} as {arguments.to}").encode())
    target = arguments.output
    print(f"{target}: {told.summary}; {size(os.path.getsize(target))}")


def _calibrated(
    weights: dict[str, np.ndarray],
    arguments: argparse.Namespace,
    layers: Sequence[str],
    keep: Sequence[str],
) -> dict[str, np.ndarray]:
    """The weights, each chosen layer's rounded for its array in the file of data."""
    from vledge import nn
    from vledge.quantization import quantize
    from vledge.quantization.small_layers import chosen_layers

    data = load_weights(arguments.calibrate)
    recognized = {one.prefix.rstrip("."): one for one in nn.recognize(weights)}
    recognized = {
        name: one for name, one in recognized.items() if one.kind in ("RNN", "GRU", "LSTM")
    }
    chosen = chosen_layers(list(recognized), layers, keep)
    result = dict(weights)
    bar = Bar(len(chosen))
    for number, name in enumerate(one for one in recognized if one in chosen):
        bar(number, label=name)
        key = "x" if len(chosen) == 1 and name not in data else name
        if key not in data:
            raise ValueError(f"{arguments.calibrate} has no array {key!r} for the layer {name!r}")
        layer = getattr(nn, recognized[name].kind).from_weights(
            weights, recognized[name].prefix, batch_first=True
        )
        given = np.asarray(data[key], np.float32)
        try:
            small = quantize(
                layer, arguments.to, calibrate=[given], max_error=arguments.max_error
            ).state_dict()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{arguments.calibrate}: array {key!r} {list(given.shape)} does not go into the "
                f"layer {name!r}, whose own input it must be: {error}"
            ) from error
        result |= {f"{recognized[name].prefix}{own}": array for own, array in small.items()}
    bar(len(chosen))
    bar.close()
    return result
