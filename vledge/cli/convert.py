"""``vledge convert MODEL OUTPUT``: a model or weights as one file that loads with numpy alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

import numpy as np

from vledge import nn
from vledge.budget import Limits
from vledge.cli.table import size
from vledge.errors import UnsupportedError
from vledge.formats import holds_graph, load_weights, save_weights
from vledge.layer_file import keras_layers
from vledge.nn.recurrent import RecurrentBase
from vledge.shown import counted

EXAMPLES = """\
examples:
  vledge convert model.onnx model.safetensors
  vledge convert checkpoint.pt weights.safetensors
  vledge convert model.keras layers.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge convert``."""
    parser.add_argument(
        "model",
        help="an ONNX file, which becomes a model; or weights, which stay weights: of torch under "
        "their own names, of Keras the recurrent layers under torch's",
    )
    parser.add_argument("output", help="the file to write, *.safetensors")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="leave out what this output does not need, once for each output; any value may be one",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write a model even if it has operators that vledge cannot run",
    )
    parser.add_argument(
        "--limits",
        metavar="LIMITS",
        help='what a file that you trust may cost, as VLEDGE_LIMITS has it: "memory=4GB steps=1e9"',
    )


def run(arguments: argparse.Namespace) -> int:
    """Read, make sure that the model runs here, and write."""
    source, target = arguments.model, arguments.output
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ValueError(f"{target} is the model itself")
    limits = None if arguments.limits is None else _limits(arguments.limits)
    if holds_graph(source, limits=limits):
        what = _graph(arguments, limits)
    else:
        if arguments.only or arguments.force:
            raise ValueError(f"--only and --force are for graphs, and {source} holds weights")
        what = _weights(source, target, limits)
    print(f"{target}: {what}, {size(os.path.getsize(target))}")
    return 0


def _limits(text: str) -> Limits:
    try:
        return Limits.from_text(text)
    except ValueError as error:
        raise ValueError(f"--limits {error}") from None


def _graph(arguments: argparse.Namespace, limits: Limits | None) -> str:
    from vledge.formats import vledge_model
    from vledge.graph.part import part_for
    from vledge.graph.plan import Plan
    from vledge.graph.session import read_model

    model = read_model(arguments.model, limits)
    if arguments.only:
        model = part_for(model, arguments.only)
    try:
        Plan(model, {})
    except UnsupportedError as error:
        if not arguments.force:
            raise UnsupportedError(f"{error}\n(--force writes the file nevertheless)") from None
        print(f"vledge: warning: {error}", file=sys.stderr)
    vledge_model.write(arguments.output, model)
    return counted(len(model.graph.nodes), "node")


def _weights(source: str, target: str, limits: Limits | None) -> str:
    """Weights by their names; a Keras file's recurrent layers by torch's."""
    keras = keras_layers(source, limits)
    if keras is None:
        weights = load_weights(source, limits=limits)
        save_weights(target, weights)
        return (
            f"{counted(len(weights), 'tensor')} of weights, which `vledge inspect {target}` lists"
        )
    if not keras:
        raise ValueError(f"{source}: there is no recurrent layer in it that could be converted")
    weights = {}
    for summary in keras:
        name = summary.kind or "RecurrentStack"
        kind = getattr(nn, name)
        layer: RecurrentBase = kind.from_keras(source, summary.path, limits=limits)
        own = layer.state_dict()
        if not isinstance(layer, RecurrentBase) or not _same(layer, own):
            raise UnsupportedError(
                f"{source}: {summary.name!r} is {layer!r}, and weights do not tell that: read the "
                f"Keras file itself, nn.{name}.from_keras(path, {summary.name!r})"
            )
        weights |= {f"{summary.name}.{name}": array for name, array in own.items()}
    save_weights(target, weights)
    names = ", ".join(repr(summary.name) for summary in keras)
    return f"the recurrent layers {names}, without the rest of the model"


def _same(layer: RecurrentBase, weights: dict[str, np.ndarray]) -> bool:
    """Whether its weights alone, read as torch's, compute what the layer does."""
    x = np.random.default_rng(0).normal(size=(4, 2, layer.input_size))
    x = x.astype(next(iter(weights.values())).dtype)
    options = {"batch_first": layer.batch_first}
    again = type(layer).from_weights(weights, **options)  # type: ignore[attr-defined]
    pairs = zip(_flat(layer(x)), _flat(again(x)), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def _flat(results: object) -> Iterator[np.ndarray]:
    """The output and the states, however they are nested."""
    if isinstance(results, tuple):
        for result in results:
            yield from _flat(result)
    elif isinstance(results, np.ndarray):
        yield results
