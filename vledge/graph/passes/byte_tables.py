"""What is a function of one byte becomes a table of 256: activations between DequantizeLinear and
QuantizeLinear, onnxruntime's QLinearSigmoid, a hard swish in five quantised operators.

The operators themselves compute the table, over all bytes at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.native.types import infer
from vledge.graph.passes.program import Program
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.registry import pointwise_operators
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["make_byte_tables"]

_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_OF_BYTES: Final = frozenset(["QLinearAdd", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid"])


def make_byte_tables(program: Program) -> None:
    """In the program's graph and every graph inside of it, in place."""
    if _has_ends(program.graph):
        dtypes = infer(program.graph, program.constants, dict(program.dtypes))
        _make(program, program.graph, dtypes, ranks_of(program.graph, program.constants))


def _has_ends(graph: Graph) -> bool:
    return any(
        (node.op_type == "QuantizeLinear" and not node.domain)
        or _is_of_bytes(node)
        or any(map(_has_ends, node.subgraphs()))
        for node in graph.nodes
    )


def _is_of_bytes(node: Node) -> bool:
    return node.domain == "com.microsoft" and node.op_type in _OF_BYTES


@dataclass(frozen=True)
class _Function:
    """A value that is a function of a byte: of which value, and of each byte, by its bits."""

    of: str
    values: np.ndarray


def _make(
    program: Program, graph: Graph, dtypes: dict[str, np.dtype], ranks: dict[str, int]
) -> None:
    functions: dict[str, _Function] = {}
    nodes = []
    for node in graph.nodes:
        for inner in node.subgraphs():
            _make(program, inner, dtypes, ranks)
        function = _function(program, node, dtypes, ranks, functions)
        if function is not None:
            functions[node.outputs[0]] = function
            if function.values.dtype in _BYTES:
                name = program.fresh(f"{node.outputs[0]}_table")
                program.set_constant(name, function.values)
                node = Node(
                    "ByteTable", [function.of, name], node.outputs, {}, node.name, INTERNAL_DOMAIN
                )
        nodes.append(node)
    graph.nodes = nodes


def _function(
    program: Program,
    node: Node,
    dtypes: dict[str, np.dtype],
    ranks: dict[str, int],
    functions: dict[str, _Function],
) -> _Function | None:
    """What the node computes, if that is a function of one byte."""
    if len(node.outputs) != 1 or not _is_pointwise(program, node, ranks):
        return None
    arguments: list[np.ndarray | None] = []
    sources = set()
    for name in node.inputs:
        known = program.constants.get(name)
        if not name:
            arguments.append(None)
        elif known is not None:  # with an axis it would be of the bytes' own
            arguments.append(known.reshape(()) if known.size == 1 else known)
        else:
            function = functions.get(name) or _itself(name, dtypes)
            if function is None:
                return None
            sources.add(function.of)
            arguments.append(function.values)
    if len(sources) != 1:
        return None
    try:
        prepared = program.prepared(node)
        if not prepared.foldable:
            return None
        (values,) = prepared.call(*arguments)
    except (VledgeError, ValueError, TypeError, IndexError):
        return None  # which the run will say
    if not isinstance(values, np.ndarray) or values.shape != (256,):
        return None
    return _Function(sources.pop(), values)


def _itself(name: str, dtypes: dict[str, np.dtype]) -> _Function | None:
    dtype = dtypes.get(name)
    if dtype not in _BYTES:
        return None
    return _Function(name, np.arange(256, dtype=np.uint8).view(dtype))


def _is_pointwise(program: Program, node: Node, ranks: dict[str, int]) -> bool:
    """Whether a result's element is made of that at its place in the inputs; known operands are
    one number, with no more axes than the other has, so that the result has the axes of that."""
    known = [program.constants.get(name) for name in node.inputs]
    names = [name for name, p in zip(node.inputs, known, strict=True) if name and p is None]
    axes = min((ranks.get(name, 0) for name in names), default=0)
    if _is_of_bytes(node):  # places 0 and 3 are operands, or scales
        return all(p is None or p.ndim <= axes for p in (known[0], known[3])) and all(
            p is None or p.size == 1 for p in known
        )
    if node.domain:
        return False
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return all(p is not None and p.size == 1 and p.ndim <= 1 for p in known[1:])
    if node.op_type == "Cast":
        return node.attributes.get("to") == NUMBERS["float"]
    pointwise = pointwise_operators()
    if node.op_type not in pointwise.of_one | pointwise.of_several:
        return False
    return all(p is None or (p.size == 1 and p.ndim <= axes) for p in known)
