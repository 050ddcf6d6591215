"""Whether passes may look at a graph: every node has the inputs and attributes that it should.

A node that has not is refused when it is prepared, with a message that names it, so a graph that
has one never runs, and no pass need be ready for it.
"""

from __future__ import annotations

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.passes.program import Program
from vledge.graph.registry import find, known_operators
from vledge.model.definition import Graph, Node

__all__ = ["is_well_formed"]


def is_well_formed(program: Program) -> bool:
    """Of the program's graph and all graphs inside of it."""
    return _is(program, program.graph)


def _is(program: Program, graph: Graph) -> bool:
    return all(
        _node_is(program, node) and all(_is(program, inner) for inner in node.subgraphs())
        for node in graph.nodes
    )


def _node_is(program: Program, node: Node) -> bool:
    entry = find(node.op_type, node.domain, program.opsets.get(node.domain, 1))
    if entry is None:  # the fallback's, or the graph is refused
        return (node.domain, node.op_type) not in known_operators() and bool(node.outputs)
    try:
        entry.bind(node)
    except (FormatError, UnsupportedError):
        return False
    return bool(node.outputs)
