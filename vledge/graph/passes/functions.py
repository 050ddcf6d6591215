"""Operators that are made of others, as the nodes that they stand for (`graph/functions.py`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vledge.errors import FormatError, VledgeError
from vledge.graph.functions import Function, NotCertain, Writer
from vledge.graph.native.types import infer
from vledge.graph.passes.program import Program
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.prepared import blamed
from vledge.graph.registry import Operator, find
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node

__all__ = ["expand_functions"]


def expand_functions(program: Program) -> bool:
    """Expand them in the program's graph and every graph inside of it; whether there were any.

    What one is made of tells the types and axes that the next one asks for, so this is repeated.
    """
    if "" not in program.opsets:
        return False
    expanded = False
    while _functions(program, program.graph):
        pass_ = _Expansion(program)
        if not pass_.graph(program.graph):
            break
        expanded = True
    return expanded


def _functions(program: Program, graph: Graph) -> bool:
    """Whether there are any left."""
    return any(
        _entry(program, node) or any(_functions(program, inner) for inner in node.subgraphs())
        for node in graph.nodes
    )


def _entry(program: Program, node: Node) -> Operator | None:
    if node.domain not in program.opsets:
        return None
    entry = find(node.op_type, node.domain, program.opsets[node.domain])
    return entry if entry is not None and isinstance(entry.function, Function) else None


def _check(made: Node, opsets: Mapping[str, int]) -> None:
    """NotCertain where the model's operator sets, which may be old ones, have no such node."""
    internal = made.domain == INTERNAL_DOMAIN
    entry = find(made.op_type, made.domain, 1 if internal else opsets.get(made.domain, 0))
    if entry is None:
        raise NotCertain
    entry.bind(made)


class _Expansion:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.ranks = ranks_of(program.graph, program.constants)
        self.dtypes = infer(program.graph, program.constants, dict(program.dtypes))

    def graph(self, graph: Graph) -> bool:
        """Whether any has been expanded."""
        expanded = False
        nodes: list[Node] = []
        for node in graph.nodes:
            for inner in node.subgraphs():
                expanded |= self.graph(inner)
            made = self.nodes(node)
            expanded |= made is not None
            nodes += [node] if made is None else made
        graph.nodes = nodes
        return expanded

    def nodes(self, node: Node) -> list[Node] | None:
        entry, program = _entry(self.program, node), self.program
        if entry is None or not isinstance(entry.function, Function):
            return None
        to = Writer(node, program.opsets, program.fresh, self.dtype, self.ranks.get)
        try:
            made = entry.function.expanded(to, entry.bind(node))
            for one in made:
                _check(one, program.opsets)
        except (NotCertain, VledgeError):
            return None  # its own function runs it, or says what is wrong, or a fallback runs it
        except Exception as error:
            raise blamed(error, node, FormatError) from error
        for name, array in to.constants.items():
            program.set_constant(name, array)
        infer(Graph(made, [], []), program.constants, self.dtypes)
        return made

    def dtype(self, name: str) -> np.dtype | None:
        known = self.program.constants.get(name)
        return self.dtypes.get(name) if known is None else known.dtype
