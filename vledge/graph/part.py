"""The part of a model that some of its values need, cut out before anything is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vledge.model.definition import Graph, Model, ValueInfo, captured

__all__ = ["part_for"]


def part_for(model: Model, outputs: Sequence[str]) -> Model:
    """The model with these outputs only, in this order, and the nodes and inputs that they need.

    Any value of the main graph may be an output. ValueError for a name that the model has not, or
    that is given twice, and for none at all.
    """
    graph = model.graph
    if isinstance(outputs, str) or not outputs:
        raise ValueError(f"outputs must be a list of names, at least one, got {outputs!r}")
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"outputs has a name twice: {list(outputs)}")
    declared = {info.name: info for info in (*graph.inputs, *graph.outputs)}
    made = {name for node in graph.nodes for name in node.outputs if name}
    for name in outputs:
        if name not in made and name not in declared and name not in graph.initializers:
            raise ValueError(
                f"the model has no value named {name!r}; its outputs are "
                f"{[info.name for info in graph.outputs]}"
            )
    needed = set(outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(name for name in node.outputs if name):
            nodes.append(node)
            needed.update(node.inputs)
            for inner in node.subgraphs():
                needed.update(captured(inner))
    part = Graph(
        nodes[::-1],
        [info for info in graph.inputs if info.name in needed],
        [declared.get(name) or ValueInfo(name, "", None) for name in outputs],
        {name: array for name, array in graph.initializers.items() if name in needed},
        graph.name,
    )
    return replace(model, graph=part)
