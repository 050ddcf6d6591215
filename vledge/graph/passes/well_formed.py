"""Whether passes may look at a graph: every node has the inputs and attributes that it should.

A node that has not is refused when it is prepared, with a message that names it, so a graph that has
one never runs, and no pass need be ready for it.
"""

from __future__ import annotations

from typing import Final

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.graph_definition import Graph, Node
from vledge.graph.passes.program import Program
from vledge.graph.registry import find

__all__ = ["is_well_formed"]

# How many inputs an operator that passes look for has, and how many of them cannot be left out:
# the registry knows it of plain functions only.
_INPUTS: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(("Cast", "Identity", "Neg", "Not", "Relu", "Sigmoid", "Tanh", "Transpose"), (1, 1)),
    **dict.fromkeys(("Add", "And", "Div", "Equal", "Gather", "Less", "MatMul", "Mul"), (2, 2)),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "LessOrEqual", "Or", "Sub", "Expand"), (2, 2)),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (3, 2)),
    **dict.fromkeys(("Reshape", "Split", "Squeeze", "Unsqueeze"), (2, 1)),
    "BatchNormalization": (5, 5),
    "Slice": (5, 1),
    "Where": (3, 3),
}


def is_well_formed(program: Program) -> bool:
    """Of the program's graph and all graphs inside of it."""
    return _is(program, program.graph)


def _is(program: Program, graph: Graph) -> bool:
    return all(
        _node_is(program, node) and all(_is(program, inner) for inner in node.subgraphs())
        for node in graph.nodes
    )


def _node_is(program: Program, node: Node) -> bool:
    most, needed = _INPUTS.get(node.op_type, (len(node.inputs), 0)) if not node.domain else (9**9, 0)
    if not needed <= len(node.inputs) <= most or not all(node.inputs[:needed]):
        return False
    entry = find(node.op_type, node.domain, program.opsets.get(node.domain, 1))
    if entry is None:
        return bool(node.outputs)  # an operator of the fallback's, or the graph is refused
    try:
        entry.bind(node)
    except (FormatError, UnsupportedError):
        return False
    return bool(node.outputs)
