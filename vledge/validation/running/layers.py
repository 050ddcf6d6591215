"""The layers inside of a graph made visible: its recurrent nodes' outputs as the model's own."""

from __future__ import annotations

from dataclasses import replace

from vledge.model.definition import Model, Node, ValueInfo
from vledge.validation.reference.bundle import Axes

__all__ = ["exposed", "is_recurrent", "layer_axes", "layer_outputs", "named_outputs"]

KINDS = ("RNN", "GRU", "LSTM")


def is_recurrent(node: Node) -> bool:
    """Whether it is ONNX's RNN, GRU or LSTM."""
    return node.op_type in KINDS and not node.domain


def named_outputs(outputs: list[str]) -> list[str]:
    """A recurrent node's outputs, with a name for Y where the node has none."""
    first = next(name for name in outputs if name)
    y = outputs[0] or f"{first}.Y"
    return [y, *outputs[1:]]


def layer_outputs(model: Model) -> list[str]:
    """The values that recurrent nodes of the main graph make, in its order."""
    names = [named_outputs(node.outputs) for node in model.graph.nodes if is_recurrent(node)]
    return [name for outputs in names for name in outputs if name]


def layer_axes(model: Model) -> dict[str, Axes]:
    """The axes of batch and time of each of them."""
    found: dict[str, Axes] = {}
    for node in model.graph.nodes:
        if is_recurrent(node):
            batch_first = bool(node.attributes.get("layout", 0))
            y, *states = named_outputs(node.outputs)
            found[y] = {"batch": 0, "time": 1} if batch_first else {"time": 0, "batch": 2}
            for name in filter(None, states):
                found[name] = {"batch": 0 if batch_first else 1}
    return found


def exposed(model: Model) -> Model:
    """A copy of the model with its layers' values among its outputs."""
    graph = model.graph
    nodes = [
        replace(node, outputs=named_outputs(node.outputs)) if is_recurrent(node) else node
        for node in graph.nodes
    ]
    own = {info.name for info in graph.outputs}
    added = [ValueInfo(name, "", None) for name in layer_outputs(model) if name not in own]
    return replace(model, graph=replace(graph, nodes=nodes, outputs=[*graph.outputs, *added]))
