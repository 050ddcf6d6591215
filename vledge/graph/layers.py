"""The recurrent layers of a model, taken out of its graph: for `vledge.nn` and for inspection."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vledge.budget import Limits
from vledge.errors import FormatError, UnsupportedError
from vledge.graph.operators.recurrent import RecurrentNode
from vledge.graph.operators.recurrent_loops import SteppedLayer
from vledge.graph.passes.folding import compute_constants
from vledge.graph.passes.program import Program
from vledge.graph.passes.small_weights import keep_small_weights
from vledge.graph.plan import copied, simplified
from vledge.graph.recurrent_nodes import CELLS, recurrent_nodes
from vledge.graph.session import read_model
from vledge.model.definition import Model, Node
from vledge.recurrent.cells import OPERATORS
from vledge.recurrent.nonlinearity import Nonlinearity, written

__all__ = ["RecurrentSummary", "layer_weights", "stack_weights", "summaries"]


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


def _summary(program: Program, node: Node) -> RecurrentSummary:
    direction = node.attributes.get("direction", "forward")
    notes = [
        f"{key}={value}"
        for key, value in node.attributes.items()
        if key not in ("direction", "hidden_size") and not isinstance(value, np.ndarray) and value
    ]
    lengths = len(node.inputs) > 4 and node.inputs[4] != "" and node.domain != CELLS
    name = _name(node)
    if _is_cell(node):
        hidden_size, input_size = (node.attributes[k].shape[1] for k in ("weight_hh", "weight_ih"))
        return RecurrentSummary(
            name, node.op_type, direction, input_size, hidden_size, "kernel", False, notes
        )
    prepared = _prepared(program, node)
    weights = prepared.weights
    if weights is None:
        path = "kernel" if prepared.cell.kernel(prepared.count) else "generic"
        return RecurrentSummary(name, node.op_type, direction, None, None, path, lengths, notes)
    path = "kernel" if weights.stack else "quantized" if node.domain else "generic"
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
    source: str | os.PathLike[str] | bytes | Model,
    kind: str,
    node: str | Sequence[str] | None,
    limits: Limits | None = None,
) -> tuple[dict[str, np.ndarray], LayerOptions]:
    """torch's weights of a node, or of several as one stack, and the options of the layer.

    ``kind`` is LSTM, GRU or RNN. ``node`` is a node's name or one of its outputs', a list of them
    from the first layer to the last, or None for the only node of this kind. Names are those in the
    file, whether or not anything uses the node; or those of cells that `summaries` lists.
    """
    where = "" if isinstance(source, (bytes, Model)) else f"{os.fspath(source)}: "
    model = source if isinstance(source, Model) else read_model(source, limits)
    try:
        candidates = _Candidates(model, kind)
        nodes = candidates.chosen(node)
        return stack_weights(candidates.program, kind, nodes)
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{where}{error}") from None


class _Candidates:
    """The recurrent nodes of a file, and the cells put together from others, by their names.

    Nodes are looked for in the graph as it is in the file: passes drop what nobody uses, and blank
    or rename outputs.
    """

    def __init__(self, model: Model, kind: str) -> None:
        self.kind = kind
        self.program = copied(model)
        keep_small_weights(self.program)
        pairs = zip(recurrent_nodes(model.graph), recurrent_nodes(self.program.graph), strict=True)
        self.nodes: list[Node] = []
        self.outputs: list[list[str]] = []  # of each node, as they are called in the file
        for in_file, copy in pairs:
            self.nodes.append(copy)
            self.outputs.append(in_file.outputs)
        with np.errstate(all="ignore"):
            compute_constants(self.program)
        put_together = simplified(model)
        cells = [n for n in recurrent_nodes(put_together.graph) if n.domain == CELLS]
        for name in (name for node in cells for name in node.inputs):
            if name in put_together.constants:  # what passes have made of the file's weights
                self.program.constants.setdefault(name, put_together.constants[name])
        self.nodes += cells
        self.outputs += [node.outputs for node in cells]

    def chosen(self, wanted: str | Sequence[str] | None) -> list[Node]:
        """The nodes meant; ValueError if there is none or more than one of a name."""
        own = [node for node in self.nodes if self.fits(node)]
        if wanted is None:
            if not own:
                raise ValueError(f"the graph has no {self.kind} node{self.instead()}")
            if len(own) != 1:
                raise ValueError(
                    f"the graph has {len(own)} {self.kind} nodes ({self.listed(own)}): name one of "
                    f"them{self.others(own)}"
                )
            return own
        return [self.named(name, own) for name in ([wanted] if isinstance(wanted, str) else wanted)]

    def named(self, name: str, own: list[Node]) -> Node:
        matching = self.matching(name) if name else []
        fitting = [node for node in matching if self.fits(node)]
        if len(fitting) == 1:
            return fitting[0]
        if matching and not fitting:
            other = matching[0]
            if other.op_type == "DynamicQuantizeLSTM" and self.kind == "LSTM":
                raise UnsupportedError(
                    f"{other}: its weights are integers and its input is rounded at each step; "
                    "vledge.nn.LSTM computes in floating point. Run the node by "
                    "vledge.InferenceSession"
                )
            raise ValueError(f"{other} is no {self.kind}")
        if fitting:
            ways = [self.unlike_others(node, name) for node in fitting]
            raise ValueError(
                f"the graph has more than one {self.kind} node named {name!r}"
                + (f": name it {' or '.join(map(repr, ways))}" if all(ways) else "")
            )
        raise ValueError(
            f"the graph has no {self.kind} node named {name!r}; it has {self.listed(own)}"
            f"{self.others(own)}. A node can also be named by one of its outputs"
        )

    def matching(self, name: str) -> list[Node]:
        """By a node's own name, or by an output's in the file, or by what tells it from others."""
        pairs = list(zip(self.nodes, self.outputs, strict=True))
        return (
            [node for node in self.nodes if node.name == name]
            or [node for node, outputs in pairs if name in outputs]
            or [n for n, outputs in pairs if name in (self.unlike_others(n, o) for o in outputs)]
        )

    def unlike_others(self, node: Node, output: str) -> str:
        """A name for a node whose output's name is made in several graphs: ``Y~1``, ``Y~2``.

        All but the first have been given one of their own when the graph was copied.
        """
        outputs = self.outputs[next(i for i, one in enumerate(self.nodes) if one is node)]
        if not output or output not in outputs:
            return ""  # named by the nodes' own name, which they have in common
        called = node.outputs[outputs.index(output)]
        return f"{called}~1" if called == output else called

    def fits(self, node: Node) -> bool:
        kinds = (f"{self.kind}Cell", self.kind) if node.domain == CELLS else (self.kind,)
        return node.op_type in kinds

    def instead(self) -> str:
        """What there is, and what runs it."""
        kinds = {kind: [n for n in self.nodes if n.op_type == kind] for kind in OPERATORS}
        ways = [
            f"nn.{kind}.from_onnx(path, {_name(nodes[0])!r})"
            for kind, nodes in kinds.items()
            if nodes
        ]
        if ways:
            return f"{self.others([])}: {' or '.join(ways)}"
        return (
            f"{self.others([]) or ', and no other recurrent one'}: InferenceSession(path) runs the "
            "whole graph"
        )

    def others(self, own: list[Node]) -> str:
        rest = [node for node in self.nodes if not any(node is one for one in own)]
        kinds = ", ".join(f"{_name(node)!r} ({node.op_type})" for node in rest)
        return f"; other recurrent nodes are {kinds}" if rest else ""

    @staticmethod
    def listed(nodes: list[Node]) -> str:
        return ", ".join(repr(_name(node)) for node in nodes) or "none"


def stack_weights(
    program: Program, kind: str, nodes: list[Node]
) -> tuple[dict[str, np.ndarray], LayerOptions]:
    """The same for nodes of a program; UnsupportedError if no layer can be them."""
    arrays: dict[str, np.ndarray] = {}
    options: LayerOptions = {}
    for layer, node in enumerate(nodes):
        parts, own = _cell_parts(node) if _is_cell(node) else _parts(program, kind, node)
        if options not in ({}, own):
            raise UnsupportedError(
                f"{node}: the layers of one vledge.nn.{kind} have the same options, and this one "
                f"has {own}, the one before it {options}: take the nodes one by one"
            )
        options = own
        for reverse, weights in parts:
            suffix = f"l{layer}{'_reverse' if reverse else ''}"
            arrays |= {f"{part}_{suffix}": array for part, array in weights.items()}
    return arrays, options


#: Keyword arguments of a layer of `vledge.nn`.
LayerOptions: TypeAlias = dict[str, Any]
_Parts = list[tuple[bool, dict[str, np.ndarray]]]  # for each direction: is it reverse, its weights
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _parts(program: Program, kind: str, node: Node) -> tuple[_Parts, LayerOptions]:
    prepared = _prepared(program, node)
    weights = prepared.weights
    if weights is None:
        raise UnsupportedError(
            f"{node}: its weights are computed when the model runs, they are not in the file; run "
            "the node by vledge.InferenceSession"
        )
    stack = weights.stack
    if stack is None:
        raise UnsupportedError(
            f"{node}: vledge.nn.{kind} has no clip, peepholes or input_forget; run the node by "
            "vledge.InferenceSession"
        )
    if stack.shape.reverse:
        raise UnsupportedError(
            f"{node}: its direction is reverse, and vledge.nn.{kind} runs forward or both ways; "
            "run the node by vledge.InferenceSession"
        )
    cell = stack.cell.name
    own: LayerOptions = {"batch_first": bool(prepared.layout)}
    own |= _activations(node, kind, cell, [d.activations for d in stack.directions])
    if kind == "GRU":
        own["reset_after"] = cell == "gru"
    parts: _Parts = []
    for direction in stack.directions:
        arrays: dict[str, Any] = {part: direction.stored(part) for part in PARTS[:2]}
        arrays |= {part: getattr(direction, part)() for part in PARTS[2:]}
        known = {part: array for part, array in arrays.items() if array is not None}
        parts.append((direction.reverse, known))
    return parts, own


def _is_cell(node: Node) -> bool:
    return node.domain == CELLS and node.op_type.endswith("Cell")


def _cell_parts(node: Node) -> tuple[_Parts, LayerOptions]:
    """A cell's weights, which are torch's already: a layer of it runs the cell over time."""
    options: LayerOptions = {"batch_first": False}
    if node.op_type == "RNNCell":
        options["nonlinearity"] = node.attributes["nonlinearity"]
    if node.op_type == "GRUCell":
        options["reset_after"] = not node.attributes.get("reset_before", 0)
    return [(False, {part: node.attributes[part] for part in PARTS})], options


def _activations(
    node: Node, kind: str, cell: str, asked: list[tuple[Nonlinearity, ...] | None]
) -> LayerOptions:
    """A layer's options for the activations of its directions; none where they are the cell's."""
    first = asked[0]
    if any(other != first for other in asked) or (
        first and kind == "LSTM" and first[1] != first[2]
    ):
        raise UnsupportedError(
            f"{node}: vledge.nn.{kind} has one activation in all of its directions and both of its "
            "places; run the node by vledge.InferenceSession"
        )
    if kind == "RNN":
        return {"nonlinearity": written(first[0]) if first else cell.removeprefix("rnn_")}
    if first is None:
        return {}
    return {"recurrent_activation": written(first[0]), "activation": written(first[1])}


def _prepared(program: Program, node: Node) -> RecurrentNode:
    function = program.prepared(node).function
    if isinstance(function, SteppedLayer):
        function = function.layer
    assert isinstance(function, RecurrentNode)
    return function


def _name(node: Node) -> str:
    return node.name or next((name for name in node.outputs if name), "")
