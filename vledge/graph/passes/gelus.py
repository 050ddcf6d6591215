"""A Gelu that an exporter wrote out becomes one node: ``x * 0.5 * (1 + erf(x / sqrt(2)))``.

The three factors may be multiplied in any order. Written out it rounds five times and costs a
division; as one it is computed in one go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from vledge.graph.passes.program import Program, captured
from vledge.graph.passes.ranks import ranks_of
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node

__all__ = ["join_gelus"]

_ROOT = math.sqrt(2)
_HALF = ""  # among the names of factors, the number; no value has that name
_CLOSE = 1e-6  # relative: sqrt(2) and its reciprocal are rounded in files, to float32 at least


def join_gelus(program: Program) -> None:
    """Join in the program's graph and every graph inside of it, in place."""
    _join(program, program.graph, ranks_of(program.graph, program.constants))


def _join(program: Program, graph: Graph, ranks: dict[str, int]) -> None:
    joined: dict[int, Node] = {}  # by the place of the last node of each
    gone: set[int] = set()
    search = _Search(program, graph, ranks)
    for node in graph.nodes:
        for inner in node.subgraphs():
            _join(program, inner, ranks)
    for place, node in enumerate(graph.nodes):
        if node.op_type == "Erf" and not node.domain:
            gelu = search.gelu(place)
            if gelu is not None:
                x, places = gelu
                last = graph.nodes[places[-1]]
                joined[places[-1]] = Node("Gelu", [x], last.outputs, {}, last.name, INTERNAL_DOMAIN)
                gone.update(places[:-1])
    if joined:
        nodes = enumerate(graph.nodes)
        graph.nodes = [joined.get(place, node) for place, node in nodes if place not in gone]


class _Search:
    """Who makes and who alone reads each value of a graph."""

    def __init__(self, program: Program, graph: Graph, ranks: dict[str, int]) -> None:
        self.constants, self.ranks, self.nodes = program.constants, ranks, graph.nodes
        self.axes = 0  # of the x looked at
        self.makers: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        for place, node in enumerate(graph.nodes):
            self.makers.update((name, place) for name in node.outputs if name)
            for name in node.inputs:
                self.readers.setdefault(name, []).append(place)
            for inner in node.subgraphs():
                for name in captured(inner):
                    self.readers.setdefault(name, []).append(-1)
        for info in graph.outputs:
            self.readers.setdefault(info.name, []).append(-1)

    def gelu(self, erf: int) -> tuple[str, list[int]] | None:
        """x, and the places of the nodes that an Erf and they make a Gelu of x, in order."""
        inside = self.nodes[erf].inputs[0]
        scaled = self.makers.get(inside, -1)
        sum_ = self.only_reader(erf)
        if not self.only_read_by(inside, erf) or sum_ is None:
            return None
        x = self.over_root(scaled)
        if x is None or not self.is_one_plus(sum_, self.nodes[erf].outputs[0]):
            return None
        for places, factors in self.products(sum_):
            if sorted(factors) == sorted([x, _HALF]):
                return x, sorted([scaled, erf, sum_, *places])
        return None

    def products(self, place: int) -> Iterator[tuple[list[int], list[str]]]:
        """Products that a value is a factor of: places of their nodes, and the other factors."""
        places: list[int] = []
        factors: list[str] = []
        while len(factors) < 2:
            product = self.only_reader(place)
            other = None if product is None else self.other(product, "Mul", place)
            if product is None or other is None:
                return
            places.append(product)
            inner = self.makers.get(other, -1)
            halved = self.halved(inner)
            if halved is not None and self.only_read_by(other, product):
                places.append(inner)
                factors += [halved, _HALF]
            else:
                factors.append(_HALF if self.number(other) == 0.5 else other)
            yield sorted(places), list(factors)
            place = product

    def halved(self, place: int) -> str | None:
        """x where the node is ``x * 0.5``."""
        if place < 0 or self.nodes[place].op_type != "Mul" or self.nodes[place].domain:
            return None
        for x, half in self.pairs(place):
            if self.number(half) == 0.5:
                return x
        return None

    def over_root(self, place: int) -> str | None:
        """x where the node is ``x / sqrt(2)``."""
        if place < 0 or self.nodes[place].domain:
            return None
        node = self.nodes[place]
        pairs = self.pairs(place)
        wanted = {"Div": _ROOT, "Mul": 1 / _ROOT}.get(node.op_type)
        for x, factor in pairs[:1] if node.op_type == "Div" else pairs:
            self.axes = self.ranks.get(x, 0)
            if wanted is not None and self.near(factor, wanted):
                return x
        return None

    def is_one_plus(self, place: int, name: str) -> bool:
        node = self.nodes[place]
        if node.op_type != "Add" or node.domain:
            return False
        return any(a == name and self.number(b) == 1 for a, b in self.pairs(place))

    def pairs(self, place: int) -> list[tuple[str, str]]:
        inputs = self.nodes[place].inputs
        return [(inputs[0], inputs[1]), (inputs[1], inputs[0])] if len(inputs) == 2 else []

    def other(self, place: int, op_type: str, made_by: int) -> str | None:
        """The other operand of a node of this type that reads what ``made_by`` makes."""
        if self.nodes[place].op_type != op_type or self.nodes[place].domain:
            return None
        name = self.nodes[made_by].outputs[0]
        return next((b for a, b in self.pairs(place) if a == name and b != name), None)

    def only_reader(self, place: int) -> int | None:
        readers = self.readers.get(self.nodes[place].outputs[0], [])
        return readers[0] if len(readers) == 1 and readers[0] >= 0 else None

    def only_read_by(self, name: str, place: int) -> bool:
        return self.readers.get(name) == [place]

    def number(self, name: str) -> float | None:
        """What a constant of one number is; its axes may be as many as x has for certain."""
        array = self.constants.get(name)
        if array is None or array.size != 1 or array.dtype.kind != "f" or array.ndim > self.axes:
            return None
        return float(array.reshape(()))

    def near(self, name: str, number: float) -> bool:
        own = self.number(name)
        return own is not None and abs(own - number) <= _CLOSE * number
