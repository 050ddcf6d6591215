"""A Conv whose only reader is a Relu becomes one node: its tiles take the positive part."""

from __future__ import annotations

from collections import Counter

from vledge.graph.passes.program import Program, captured
from vledge.model.definition import Graph, Node

__all__ = ["fuse"]


def fuse(program: Program) -> None:
    """Fuse in the program's graph and every graph inside of it, in place."""
    _fuse(program.graph)


def _only(inputs: list[str]) -> str:
    """The one input of a node; "" if it has another number of them, which preparing it will say."""
    return inputs[0] if len(inputs) == 1 else ""


def _fuse(graph: Graph) -> None:
    readers = Counter(name for node in graph.nodes for name in node.inputs if name)
    readers.update(info.name for info in graph.outputs)
    producers: dict[str, int] = {}  # value -> place of the Conv that makes it
    kept: list[Node] = []
    for node in graph.nodes:
        for inner in node.subgraphs():
            readers.update(captured(inner))
            _fuse(inner)
    for node in graph.nodes:
        if node.op_type == "Relu" and not node.domain and _only(node.inputs) in producers:
            place = producers[node.inputs[0]]
            conv = kept[place]
            kept[place] = Node(
                "ConvRelu", conv.inputs, node.outputs, conv.attributes, conv.name, "vledge"
            )
            continue
        made = node.outputs[0]
        if node.op_type == "Conv" and not node.domain and made and readers[made] == 1:
            producers[made] = len(kept)
        kept.append(node)
    graph.nodes = kept
