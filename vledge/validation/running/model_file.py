"""Whatever file a model is in, as a graph: files of weights become the graph of their one layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import overload

import numpy as np

from vledge.budget import Limits
from vledge.errors import UnsupportedError
from vledge.formats import holds_graph, load_weights
from vledge.graph.read import read_model
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.recurrent.cells import KINDS, OPERATORS, in_order
from vledge.recurrent.recognize import RecurrentLayer, recognize
from vledge.small_matrix import SmallMatrix, SmallTensor, Weight
from vledge.validation.reference.bundle import Reference
from vledge.weights.plain import PlainWeights

__all__ = [
    "in_onnx_order",
    "layer_model",
    "layer_weights",
    "only_layer",
    "read_any_model",
    "storages",
]

OPSET = 17


def read_any_model(
    path: str | os.PathLike[str],
    reference: Reference | None = None,
    limits: Limits | None = None,
) -> Model:
    """A model out of a file with a graph, or with the weights of one RNN, GRU or LSTM and no more.

    Weights do not tell which axis is the batch's: that is taken from the reference, else it is
    torch's default, ``[T, B, input_size]``.
    """
    if holds_graph(path, limits=limits):
        return read_model(path, limits)
    weights = layer_weights(path, limits)
    batch_first = reference is not None and reference.axes.get("x", {}).get("batch") == 0
    inputs = set(reference.cases[0].inputs) if reference else {"x"}
    try:
        return layer_model(weights, batch_first, inputs)
    except UnsupportedError as error:
        raise UnsupportedError(f"{os.fspath(path)}: {error}") from None


def layer_weights(path: str | os.PathLike[str], limits: Limits | None = None) -> PlainWeights:
    """A file's weights by their plain names, float16 as the float32 that layers run in."""
    return PlainWeights(
        {
            name: array.astype(np.float32) if array.dtype == np.float16 else array
            for name, array in load_weights(path, limits=limits).items()
        }
    )


def only_layer(weights: Mapping[str, np.ndarray]) -> RecurrentLayer:
    """The one recurrent layer that weights make; UnsupportedError if there is more to them."""
    weights = PlainWeights.of(weights)
    layers = recognize(weights)
    kinds = ", ".join(f"{layer.kind} {layer.prefix!r}" for layer in layers) or "none"
    others = [n for n in weights if not layers or not n.startswith(layers[0].prefix)]
    if len(layers) != 1 or layers[0].kind not in OPERATORS or layers[0].proj_size or others:
        raise UnsupportedError(
            "the file holds weights but no graph, and they are not those of one RNN, GRU or LSTM "
            f"without a projection alone (recurrent layers: {kinds}). Write model and reference "
            "by vledge.export, or convert the model's ONNX file"
        )
    return layers[0]


def layer_model(weights: Mapping[str, np.ndarray], batch_first: bool, inputs: set[str]) -> Model:
    """The graph of one recurrent layer, stacked or not, from torch's weights.

    Inputs ``x`` and, where ``inputs`` names them, ``lengths`` [B], ``h_0`` and ``c_0``
    [num_layers * D, B, H]; outputs ``output``, ``h_n`` and, for an LSTM, ``c_n`` as torch's.
    """
    weights = PlainWeights.of(weights)
    layer = only_layer(weights)
    suffixes = ["", "_reverse"][: 1 + layer.bidirectional]
    directions = len(suffixes)
    constants: dict[str, np.ndarray] = {"merged": np.array([0, 0, -1])}
    nodes: list[Node] = []
    x = "x"
    if batch_first:
        x = "x.time_first"
        nodes.append(Node("Transpose", ["x"], [x], {"perm": [1, 0, 2]}))
    lengths = ""
    if "lengths" in inputs:
        lengths = "lengths.int32"
        nodes.append(Node("Cast", ["lengths"], [lengths], {"to": 6}))
    states = [*KINDS[layer.kind].states]
    finals: dict[str, list[str]] = {state: [] for state in states}
    for number in range(layer.num_layers):
        operands = [x]
        for letter, parts in (("W", ["weight_ih"]), ("R", ["weight_hh"]), ("B", _BIASES)):
            if letter == "B" and not layer.bias:
                operands.append("")
                continue
            operands.append(f"{letter}_l{number}")
            wanted = [
                [f"{layer.prefix}{p}_l{number}{suffix}" for p in parts] for suffix in suffixes
            ]
            constants[operands[-1]] = _stacked(
                [[in_onnx_order(layer.kind, weights[name]) for name in own] for own in wanted]
            )
        operands.append(lengths)
        for state in states:
            if f"{state}_0" not in inputs:
                continue
            rows = f"rows_l{number}"
            constants[rows] = np.arange(number * directions, (number + 1) * directions)
            operands.append(f"{state}_0_l{number}")
            nodes.append(Node("Gather", [f"{state}_0", rows], [operands[-1]], {"axis": 0}))
        outputs = [f"Y_l{number}", *(f"{state}_n_l{number}" for state in states)]
        for state, name in zip(states, outputs[1:], strict=True):
            finals[state].append(name)
        attributes = {
            "hidden_size": layer.hidden_size,
            "direction": "bidirectional" if layer.bidirectional else "forward",
        }
        if layer.kind == "GRU":
            attributes["linear_before_reset"] = 1
        nodes.append(Node(layer.kind, operands, outputs, attributes, f"{layer.kind}_l{number}"))
        x = f"y_l{number}"
        nodes.append(Node("Transpose", [outputs[0]], [f"{x}.turned"], {"perm": [0, 2, 1, 3]}))
        nodes.append(Node("Reshape", [f"{x}.turned", "merged"], [x]))
    perm = [1, 0, 2] if batch_first else [0, 1, 2]
    nodes.append(Node("Transpose", [x], ["output"], {"perm": perm}))
    for state, names in finals.items():
        nodes.append(Node("Concat", names, [f"{state}_n"], {"axis": 0}))
    kind = {np.dtype(np.float64): "double"}.get(constants["W_l0"].dtype, "float")
    axes: dict[str, tuple[int | str, ...]] = {
        "x": ("batch", "time", layer.input_size)
        if batch_first
        else ("time", "batch", layer.input_size),
        "lengths": ("batch",),
        **{f"{s}_0": (layer.num_layers * directions, "batch", layer.hidden_size) for s in states},
    }
    graph = Graph(
        nodes,
        [
            ValueInfo(name, "int64" if name == "lengths" else kind, axes[name])
            for name in axes
            if name == "x" or name in inputs
        ],
        [ValueInfo(name, kind, None) for name in ("output", *(f"{s}_n" for s in states))],
        constants,
        layer.kind,
    )
    return Model(graph, {"": OPSET}, 10)


_BIASES = ["bias_ih", "bias_hh"]


def _stacked(directions: list[list[Weight]]) -> np.ndarray:
    """The parts of each direction behind one another; small weights stay small."""
    small = [one for own in directions for one in own if isinstance(one, SmallMatrix)]
    if len(small) == len(directions):  # a matrix each
        return SmallTensor.of(small)
    return np.stack([np.concatenate([np.asarray(one) for one in own]) for own in directions])


@overload
def in_onnx_order(kind: str, array: np.ndarray) -> np.ndarray: ...
@overload
def in_onnx_order(kind: str, array: Weight) -> Weight: ...
def in_onnx_order(kind: str, array: Weight) -> Weight:
    """torch's blocks of gates in ONNX's order."""
    if isinstance(array, SmallMatrix):
        values = in_order(kind, array.values, "PyTorch", "ONNX")
        scales = in_order(kind, array.scales, "PyTorch", "ONNX")
        return SmallMatrix(values, scales, array.storage)
    return in_order(kind, array, "PyTorch", "ONNX")


def storages(model: Model) -> list[str]:
    """How the weights that layers multiply as integers are stored."""
    constants = model.graph.initializers.values()
    small = {one.storage for a in constants if isinstance(a, SmallTensor) for one in a.small}
    return sorted(small)
