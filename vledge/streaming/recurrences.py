"""Nodes that carry a state from frame to frame: RNN, GRU, LSTM, quantised or not, Scan and Loop."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from vledge.graph.passes.program import captured
from vledge.model.definition import Graph, Model, Node
from vledge.streaming.promotion import Kind, Promotion, label

__all__ = ["RECURRENCES", "RECURRENT", "lengths_inputs"]

# Node → its gates' states, by the number of the input that begins them; outputs follow Y.
RECURRENT = {
    ("", "RNN"): (5,),
    ("", "GRU"): (5,),
    ("", "LSTM"): (5, 6),
    ("com.microsoft", "DynamicQuantizeLSTM"): (5, 6),
}
SEQUENCE_LENS = 4

_SIZES = ("Shape", "Size")

# Operator → the inputs that pick places in its first input.
_INDICES = {
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "SequenceAt": (1,),
    "Slice": (1, 2),
}


def lengths_inputs(model: Model) -> set[str]:
    """Inputs that hold the lengths of sequences: what recurrent nodes' sequence_lens are made of.

    Found along the first inputs of the nodes that exporters write between the two (Cast, Reshape,
    Gather, the sizes of a sort), in the main graph.
    """
    graph = model.graph
    makers = {output: node for node in graph.nodes for output in node.outputs}
    integers = {info.name for info in graph.inputs if info.type in ("int32", "int64")}
    inputs = set()
    for node in graph.nodes:
        if (node.domain, node.op_type) not in RECURRENT or len(node.inputs) <= SEQUENCE_LENS:
            continue
        name = node.inputs[SEQUENCE_LENS]
        while name in makers and makers[name].inputs and makers[name].op_type not in _SIZES:
            name = makers[name].inputs[0]
        if name in integers and name not in graph.initializers:
            inputs.add(name)
    return inputs


def _recurrent(promotion: Promotion, node: Node) -> Node:
    layout = node.attributes.get("layout", 0)
    if promotion.time_axis(node.inputs[0]) != (1 if layout else 0):
        return node  # it runs over another axis, within a frame
    direction = node.attributes.get("direction", "forward")
    if direction != "forward":
        promotion.doubt(
            node,
            f"has direction={direction!r}: its reverse direction begins at the end of the "
            "sequence, which a stream has not seen; taken out of the graph "
            f"(nn.{'LSTM' if node.domain else node.op_type}.from_onnx), the layer can run with "
            "lookahead=",
        )
    inputs = [*node.inputs, *[""] * (7 - len(node.inputs))]
    outputs = [*node.outputs, *[""] * (3 - len(node.outputs))]
    if inputs[SEQUENCE_LENS] in promotion.whole.graph.initializers:
        promotion.doubt(
            node,
            "is given sequence_lens that do not change, but a stream has no end: leave lengths out "
            "of fixed=",
        )
    for place, index in enumerate(RECURRENT[node.domain, node.op_type]):
        if inputs[index] and promotion.from_inputs(inputs[index]):
            continue  # the model's own input: its user says with which output it goes on
        name = f"{label(node)}.{'hc'[place]}"
        initial = _initial(promotion, node, inputs[index], layout)
        outputs[1 + place] = outputs[1 + place] or promotion.fresh(f"{name}.next")
        state = promotion.remember(name, outputs[1 + place], initial, 0 if layout else 1)
        inputs[index] = state.input
    while inputs[-1] == "":
        inputs.pop()
    while outputs[-1] == "":
        outputs.pop()
    return Node(node.op_type, inputs, outputs, node.attributes, node.name, node.domain)


def _initial(promotion: Promotion, node: Node, name: str, layout: int) -> np.ndarray:
    if name:
        return np.array(promotion.short[name])
    x, r = (promotion.short[node.inputs[index]] for index in (0, 2))
    rows, directions = x.shape[0 if layout else 1], r.shape[0]
    hidden_size = r.shape[1 if node.domain else 2]  # the quantised one has its R transposed
    shape = (rows, directions, hidden_size) if layout else (directions, rows, hidden_size)
    return np.zeros(shape, x.dtype)


def _scan(promotion: Promotion, node: Node) -> Node:
    scanned = node.attributes["num_scan_inputs"]
    # before opset 9 lengths came first, and a batch axis before the one that is scanned
    first, axis = (1, 1) if promotion.opset < 9 else (0, 0)
    count = len(node.inputs) - first - scanned
    axes = node.attributes.get("scan_input_axes", [axis] * scanned)
    key = "directions" if promotion.opset < 9 else "scan_input_directions"
    directions = [
        *node.attributes.get(key, [0] * scanned),
        *node.attributes.get("scan_output_directions", [0]),
    ]
    over_time = [
        promotion.time_axis(name) == one % np.ndim(promotion.short[name])
        for name, one in zip(node.inputs[first + count :], axes, strict=True)
    ]
    if not any(over_time):
        return node
    if any(directions):
        promotion.doubt(
            node, "runs from the last frame to the first one, and a stream has not seen the last"
        )
    body = node.attributes["body"]
    names = [info.name for info in body.inputs[:count]]
    return _promoted(promotion, node, first, names, _unchanged(body, names, 0))


def _loop(promotion: Promotion, node: Node) -> Node:
    trips, more = promotion.trips(node)
    if trips == more:
        return node  # over something else: layers, bands
    body = node.attributes["body"]
    names = [info.name for info in body.inputs[2:]]
    skipped = _unchanged(body, names, 1) | _places_in_time(promotion, node)
    return _promoted(promotion, node, 2, names, skipped)


def _promoted(
    promotion: Promotion,
    node: Node,
    first: int,
    names: list[str],
    skipped: Container[str],
) -> Node:
    """The node with its states as the stream's; they are its inputs from ``first`` on.

    ``names`` is what its body calls them. What grows from frame to frame is not remembered: it
    collects what comes out.
    """
    inputs, outputs = list(node.inputs), list(node.outputs)
    for number, inner in enumerate(names):
        start = inputs[first + number]
        initial = promotion.short[start]
        if inner in skipped or not isinstance(initial, np.ndarray) or promotion.grows(start):
            continue
        if outputs[number] and np.shape(promotion.short[outputs[number]]) != initial.shape:
            continue
        if promotion.from_inputs(start):
            continue  # the model's own input, or made of the frames
        name = f"{label(node)}.{inner}"
        outputs[number] = outputs[number] or promotion.fresh(f"{name}.next")
        rows = promotion.row_axis(start)
        state = promotion.remember(name, outputs[number], np.array(initial), rows)
        inputs[first + number] = state.input
    return Node(node.op_type, inputs, outputs, node.attributes, node.name, node.domain)


def _places_in_time(promotion: Promotion, node: Node) -> set[str]:
    """Values of a Loop's body that say where in time it is: those that end it, or pick a frame.

    In a stream the next call's frames begin at the first place again.
    """
    body = node.attributes["body"]
    makers = {output: inner for inner in body.nodes for output in inner.outputs if output}
    frames = {name for name in captured(body) if name in promotion.short and promotion.grows(name)}
    states = zip(body.inputs[2:], node.inputs[2:], strict=True)
    frames |= {info.name for info, start in states if promotion.grows(start)}
    asked = [body.outputs[0].name]
    for inner in body.nodes:
        places = [] if inner.domain else _INDICES.get(inner.op_type, ())
        if places and _reached(inner.inputs[:1], makers) & frames:
            asked += [inner.inputs[i] for i in places if i < len(inner.inputs)]
    return _reached(asked, makers)


def _unchanged(body: Graph, names: list[str], first: int) -> set[str]:
    """States that the body gives back as they are, as tf2onnx hands weights through a Loop."""
    makers = {output: node for node in body.nodes for output in node.outputs}
    unchanged = set()
    for name, after in zip(names, body.outputs[first:], strict=False):
        source = after.name
        while source in makers and makers[source].op_type == "Identity":
            source = makers[source].inputs[0]
        if source == name:
            unchanged.add(name)
    return unchanged


def _reached(names: list[str], makers: dict[str, Node]) -> set[str]:
    """These values and all that they are made of."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if not name or name in reached:
            continue
        reached.add(name)
        node = makers.get(name)
        if node is not None:
            waiting += node.inputs
            waiting += [value for inner in node.subgraphs() for value in captured(inner)]
    return reached


RECURRENCES: dict[tuple[str, str], Kind] = {
    **dict.fromkeys(RECURRENT, _recurrent),
    ("", "Scan"): _scan,
    ("", "Loop"): _loop,
}
