"""Removes nodes whose outputs nobody uses, in every nested graph, and constants likewise."""

from __future__ import annotations

from typing import Final

from vledge.graph.passes.program import Program, captured
from vledge.model.definition import Graph

__all__ = ["remove_dead_nodes"]

# Operators that are spared work by an output that is absent, and for which it means nothing else.
_OPTIONAL_OUTPUTS: Final = frozenset(["Dropout", "GRU", "LSTM", "MaxPool", "RNN"])


def remove_dead_nodes(program: Program) -> None:
    """Keep only what the outputs need, in place."""
    used: set[str] = set()
    _sweep(program.graph, used)
    program.constants = {name: a for name, a in program.constants.items() if name in used}


def _sweep(graph: Graph, used: set[str]) -> None:
    needed = {info.name for info in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if not any(name in needed for name in node.outputs if name):
            continue
        kept.append(node)
        if node.op_type in _OPTIONAL_OUTPUTS:
            node.outputs = [name if name in needed else "" for name in node.outputs]
        needed.update(node.inputs)
        for inner in node.subgraphs():
            _sweep(inner, used)
            needed.update(captured(inner))
    graph.nodes = kept[::-1]
    used.update(needed)
