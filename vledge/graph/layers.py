"""The recurrent layers of a model, taken out of its graph: for `vledge.nn` and for inspection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.graph_definition import Graph, Model, Node
from vledge.graph.operators.recurrent import RecurrentNode
from vledge.graph.operators.recurrent_loops import SteppedLayer
from vledge.graph.passes.program import Program
from vledge.graph.plan import simplified
from vledge.graph.session import read_model

__all__ = ["RecurrentSummary", "layer_weights", "recurrent_nodes", "stack_weights", "summaries"]

KINDS = ("LSTM", "GRU", "RNN")
_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class RecurrentSummary:
    """A recurrent node of a graph, after constants are folded."""

    name: str  #: the node's, or its output's where it has none
    kind: str  #: LSTM, GRU, RNN, DynamicQuantizeLSTM; LSTMCell, GRUCell put together from parts
    direction: str
    input_size: int | None  #: None where the weights are no constants
    hidden_size: int | None
    path: str  #: "kernel", "generic" or "quantized"
    lengths: bool  #: whether sequence_lens is given
    notes: list[str]  #: attributes that are not the default


def summaries(program: Program) -> list[RecurrentSummary]:
    """The recurrent nodes of a simplified program, those in nested graphs too."""
    return [_summary(program, node) for node in recurrent_nodes(program.graph)]


def recurrent_nodes(graph: Graph) -> Iterator[Node]:
    """RNN, GRU, LSTM, quantized ones and cells, outer graphs first."""
    for node in graph.nodes:
        if node.op_type.removesuffix("Cell").removeprefix("DynamicQuantize") in KINDS:
            yield node
        for inner in node.subgraphs():
            yield from recurrent_nodes(inner)


def _summary(program: Program, node: Node) -> RecurrentSummary:
    direction = node.attributes.get("direction", "forward")
    notes = [
        f"{key}={value}"
        for key, value in node.attributes.items()
        if key not in ("direction", "hidden_size") and not isinstance(value, np.ndarray) and value
    ]
    lengths = len(node.inputs) > 4 and node.inputs[4] != "" and node.domain != "vledge"
    name = _name(node)
    if node.domain == "vledge" and node.op_type.endswith("Cell"):
        hidden_size, input_size = (node.attributes[k].shape[1] for k in ("weight_hh", "weight_ih"))
        return RecurrentSummary(
            name, node.op_type, direction, input_size, hidden_size, "kernel", False, notes
        )
    prepared = _prepared(program, node)
    weights = prepared.weights
    if weights is None:
        path = "kernel" if prepared.cell.kernel(prepared.count) else "generic"
        return RecurrentSummary(name, node.op_type, direction, None, None, path, lengths, notes)
    path = "kernel" if weights.packed else "quantized" if node.domain else "generic"
    return RecurrentSummary(
        name,
        node.op_type,
        direction,
        weights.input_size,
        weights.hidden_size,
        path,
        lengths,
        notes,
    )


def layer_weights(
    source: str | os.PathLike[str] | bytes | Model, kind: str, node: str | Sequence[str] | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """torch's weights of a node, or of several as one stack, and the options of the layer.

    ``kind`` is LSTM, GRU or RNN. ``node`` is a node's name or one of its outputs', a list of them
    from the first layer to the last, or None for the only node of this kind.
    """
    where = "" if isinstance(source, (bytes, Model)) else f"{os.fspath(source)}: "
    model = source if isinstance(source, Model) else read_model(source)
    try:
        program = simplified(model)
        return stack_weights(program, kind, _chosen(program.graph, kind, node))
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{where}{error}") from None


def _chosen(graph: Graph, kind: str, wanted: str | Sequence[str] | None) -> list[Node]:
    nodes = list(recurrent_nodes(graph))
    found = [node for node in nodes if node.op_type == kind and not node.domain]
    # what passes recognised stands in for nodes where there are none
    recognized = [n for n in nodes if n.op_type in (kind, f"{kind}Cell") and n.domain == "vledge"]
    found = found or recognized
    listed = ", ".join(repr(_name(node)) for node in found) or "none"
    if wanted is None:
        if len(found) != 1:
            raise ValueError(
                f"the graph has {len(found)} {kind} nodes ({listed}): name one of them"
            )
        return found
    chosen = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        matching = [n for n in found if n.name == name] or [n for n in found if name in n.outputs]
        matching = matching or [n for n in recognized if name in (n.name, *n.outputs)]
        if len(matching) != 1:
            problem = "no" if not matching else "more than one"
            raise ValueError(
                f"the graph has {problem} {kind} node named {name!r}; it has {listed}. A node can "
                "also be named by one of its outputs"
            )
        chosen += matching
    return chosen


def stack_weights(
    program: Program, kind: str, nodes: list[Node]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same for nodes of a simplified program; UnsupportedError if no layer can be them."""
    arrays: dict[str, np.ndarray] = {}
    options: dict[str, Any] = {}
    own: dict[str, Any]
    for layer, node in enumerate(nodes):
        if node.op_type.endswith("Cell"):
            own = _cell_options(node)
            if options not in ({}, own):
                raise UnsupportedError(f"{node}: it differs from the layer before it in {own}")
            options = own
            arrays |= {f"{part}_l{layer}": node.attributes[part] for part in _PARTS}
            continue
        prepared = _prepared(program, node)
        weights = prepared.weights
        if weights is None:
            raise UnsupportedError(f"{node}: its weights are made at run time, not constants")
        cell = prepared.cell.kernel(weights.count)
        if not weights.packed or cell is None:
            raise UnsupportedError(
                f"{node}: vledge.nn.{kind} has no clip, peepholes, input_forget or activations of "
                "its own; run the node by vledge.InferenceSession"
            )
        if weights.packed[0].reverse:
            raise UnsupportedError(f"{node}: vledge.nn.{kind} has no layer that is only reverse")
        own = {"batch_first": bool(prepared.layout)}
        if kind == "RNN":
            own["nonlinearity"] = cell.removeprefix("rnn_")
        if kind == "GRU":
            own["reset_after"] = cell == "gru"
        if options not in ({}, own):
            raise UnsupportedError(f"{node}: it differs from the layer before it in {own}")
        options = own
        for direction in weights.packed:
            suffix = f"l{layer}{'_reverse' if direction.reverse else ''}"
            for part in _PARTS:
                array = getattr(direction, part)()
                if array is not None:
                    arrays[f"{part}_{suffix}"] = array
    return arrays, options


def _cell_options(cell: Node) -> dict[str, Any]:
    """The options of the layer that steps a recognised cell."""
    own: dict[str, Any] = {"batch_first": False}
    if cell.op_type == "RNNCell":
        own["nonlinearity"] = cell.attributes["nonlinearity"]
    if cell.op_type == "GRUCell":
        own["reset_after"] = not cell.attributes.get("reset_before", 0)
    return own


def _prepared(program: Program, node: Node) -> RecurrentNode:
    function = program.prepared(node).function
    if isinstance(function, SteppedLayer):
        function = function.layer
    assert isinstance(function, RecurrentNode)
    return function


def _name(node: Node) -> str:
    return node.name or next((name for name in node.outputs if name), "")
