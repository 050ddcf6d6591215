"""``a + (-x)`` is ``a - x``, exactly: torch's scripts write ``1 - z`` as the former."""

from __future__ import annotations

from vledge.graph.passes.program import Program
from vledge.model.definition import Graph

__all__ = ["subtract_negatives"]


def subtract_negatives(program: Program) -> bool:
    """Make a Sub of every Add of a Neg; whether there was one. What is not used any more stays."""
    return _subtracted(program.graph, {})


def _subtracted(graph: Graph, negatives: dict[str, str]) -> bool:
    changed = False
    for node in graph.nodes:
        for inner in node.subgraphs():
            changed |= _subtracted(inner, negatives)
        if node.domain:
            continue
        if node.op_type == "Neg" and len(node.inputs) == 1:
            negatives[node.outputs[0]] = node.inputs[0]
        elif node.op_type == "Add" and len(node.inputs) == 2 and not node.attributes:
            first, second = node.inputs
            if second in negatives:
                node.op_type, node.inputs = "Sub", [first, negatives[second]]
                changed = True
            elif first in negatives:
                node.op_type, node.inputs = "Sub", [second, negatives[first]]
                changed = True
    return changed
