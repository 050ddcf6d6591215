"""A quantised model with real numbers where it would round by the range of all frames of a call.

onnxruntime's dynamic quantisation takes its scale from the largest and smallest number of a whole
array, so that one frame alone is rounded otherwise than among others. Without that rounding the
model computes the same at every length, if it can be streamed at all: that is what a trial needs.
"""

from __future__ import annotations

import numpy as np

from vledge.model.definition import Attributes, Graph, Model, Node
from vledge.model.element_types import NUMBERS

__all__ = ["without_rounding"]

_DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeLSTM")


def without_rounding(model: Model) -> Model:
    """The model itself where it does not quantise by what it is given."""
    if not any(node.op_type in _DYNAMIC for node in _nodes(model.graph)):
        return model
    constants = _all_initializers(model.graph)
    return Model(_exact(model.graph, constants), model.opset_imports, model.ir_version)


def _nodes(graph: Graph) -> list[Node]:
    inner = (n for node in graph.nodes for body in node.subgraphs() for n in _nodes(body))
    return [*graph.nodes, *inner]


def _all_initializers(graph: Graph) -> dict[str, np.ndarray]:
    initializers = dict(graph.initializers)
    for node in graph.nodes:
        for body in node.subgraphs():
            initializers |= _all_initializers(body)
    return initializers


def _exact(graph: Graph, constants: dict[str, np.ndarray]) -> Graph:
    nodes: list[Node] = []
    added: dict[str, np.ndarray] = {}
    sums: set[str] = set()  # real numbers where the model has integers
    for node in graph.nodes:
        if node.op_type == "DynamicQuantizeLinear" and not node.domain:
            y, scale, zero = (*node.outputs, "", "")[:3]
            nodes.append(Node("Identity", node.inputs, [y], {}, node.name))
            for name, value in ((scale, 1.0), (zero, 0.0)):
                if name:
                    added[name] = np.array(value, np.float32)
        elif node.op_type == "DynamicQuantizeLSTM" and node.domain == "com.microsoft":
            nodes.append(_lstm(node, constants, added))
        elif node.op_type in ("MatMulInteger", "ConvInteger") and not node.domain:
            nodes += _product(node)
            sums.add(node.outputs[0])
        elif node.op_type == "Add" and sums.intersection(node.inputs):
            nodes += _sum(node)  # with a bias of int32
            sums.add(node.outputs[0])
        else:
            nodes.append(_with_exact_bodies(node, constants))
    initializers = {**graph.initializers, **added}
    return Graph(nodes, graph.inputs, graph.outputs, initializers, graph.name)


def _with_exact_bodies(node: Node, constants: dict[str, np.ndarray]) -> Node:
    attributes: Attributes = {
        key: _exact(value, constants) if isinstance(value, Graph) else value
        for key, value in node.attributes.items()
    }
    return Node(node.op_type, node.inputs, node.outputs, attributes, node.name, node.domain)


def _lstm(node: Node, constants: dict[str, np.ndarray], added: dict[str, np.ndarray]) -> Node:
    """An LSTM of the weights that the integers stand for; the node where they are not known."""
    names = [*node.inputs, *[""] * (12 - len(node.inputs))]
    if any(name not in constants for name in (*names[1:3], *names[8:12])):
        return node
    inputs = names[:8]
    for place, scale, zero in ((1, 8, 9), (2, 10, 11)):
        weight = constants[names[place]]
        # one of each a direction, or one a column
        s, z = (
            constants[names[n]].reshape(len(weight), 1, -1).astype(np.float32)
            for n in (scale, zero)
        )
        inputs[place] = f"{names[place]}.exact"
        added[inputs[place]] = ((weight.astype(np.float32) - z) * s).transpose(0, 2, 1)
    while inputs[-1] == "":
        inputs.pop()
    return Node("LSTM", inputs, node.outputs, node.attributes, node.name)


def _product(node: Node) -> list[Node]:
    """MatMul or Conv of what the integers are away from their zero points."""
    nodes, operands = _as_real(node)
    for place, of in enumerate(operands):
        zero = node.inputs[place + 2] if place + 2 < len(node.inputs) else ""
        if zero:
            nodes.append(Node("Cast", [zero], [f"{of}.zero"], {"to": NUMBERS["float"]}))
            nodes.append(Node("Sub", [of, f"{of}.zero"], [f"{of}.centred"]))
            operands[place] = f"{of}.centred"
    op_type = node.op_type.removesuffix("Integer")
    return [*nodes, Node(op_type, operands, node.outputs, node.attributes, node.name)]


def _sum(node: Node) -> list[Node]:
    nodes, operands = _as_real(node)
    return [*nodes, Node("Add", operands, node.outputs, {}, node.name)]


def _as_real(node: Node) -> tuple[list[Node], list[str]]:
    """Casts of a node's two operands, and their names."""
    names = [f"{node.outputs[0]}.exact.{place}" for place in (0, 1)]
    pairs = zip(node.inputs, names, strict=False)
    return [Node("Cast", [x], [name], {"to": NUMBERS["float"]}) for x, name in pairs], names
