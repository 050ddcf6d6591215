"""A Gelu that an exporter wrote out becomes one node: ``x * 0.5 * (1 + erf(x / sqrt(2)))``, or
with ``tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))`` in the place of erf.

The three factors may be multiplied in any order, and what is inside may be worded in any way that
is the same polynomial of x. Written out it rounds five times or more and costs a division; as one
it is computed in one go.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from vledge.graph.passes.program import Program, captured
from vledge.graph.passes.ranks import ranks_of
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Node

__all__ = ["join_gelus"]

_Polynomial = list[float]  # coefficients, of the lowest power first
_DEGREE = 3
_MOST_PARTS = 16  # of what is inside, values and numbers
_ARITHMETIC = ("Add", "Mul", "Div", "Pow")
_SLOPE = math.sqrt(2 / math.pi)
_INSIDE = {"Erf": [0, math.sqrt(0.5), 0, 0], "Tanh": [0, _SLOPE, 0, 0.044715 * _SLOPE]}
_APPROXIMATE = {"Erf": "none", "Tanh": "tanh"}
_HALF = ""  # among the names of factors, the number; no value has that name
_CLOSE = 1e-6  # relative: these numbers are rounded in files, to float32 at least


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
        if node.op_type in _INSIDE and not node.domain:
            gelu = search.gelu(place)
            if gelu is not None:
                x, places = gelu
                last = graph.nodes[places[-1]]
                kind = {"approximate": _APPROXIMATE[node.op_type]}
                joined[places[-1]] = Node(
                    "Gelu", [x], last.outputs, kind, last.name, INTERNAL_DOMAIN
                )
                gone.update(places[:-1])
    if joined:
        nodes = enumerate(graph.nodes)
        graph.nodes = [joined.get(place, node) for place, node in nodes if place not in gone]


class _Search:
    """Who makes and who alone reads each value of a graph."""

    def __init__(self, program: Program, graph: Graph, ranks: dict[str, int]) -> None:
        self.constants, self.ranks, self.nodes = program.constants, ranks, graph.nodes
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

    def gelu(self, function: int) -> tuple[str, list[int]] | None:
        """x, and the places, in order, of the nodes that are a Gelu of x with an Erf or a Tanh."""
        node = self.nodes[function]
        sum_ = self.only_reader(function)
        if sum_ is None:
            return None
        for places, factors in self.products(sum_):
            x = max(factors)  # the number is the least name of all
            if sorted(factors) != sorted([x, _HALF]) or x == _HALF:
                continue
            known: dict[str, _Polynomial | None] = {x: [0, 1, 0, 0]}
            polynomial = self.polynomial(node.inputs[0], known)
            inside = {self.makers[name] for name in known if name != x and name in self.makers}
            own = {function, sum_, *places, *inside}
            if (
                polynomial is not None
                and np.allclose(polynomial, _INSIDE[node.op_type], _CLOSE, 0)
                and self.is_one_plus(sum_, node.outputs[0])
                and all(self.gives_axes_of(x, k) for k in own)
                and all(self.is_read_within(k, own) for k in own - {max(places)})
            ):
                return x, sorted(own)
        return None

    def polynomial(self, name: str, known: dict[str, _Polynomial | None]) -> _Polynomial | None:
        """What a value is of x, up to its third power, by those that are ``known``, to which it and
        what it is made of are added; None where it is anything else."""
        if name not in known:
            number = self.number(name)
            known[name] = None if number is None else [number, 0, 0, 0]
            place = self.makers.get(name)
            if number is None and place is not None and len(known) < _MOST_PARTS:
                known[name] = self.made_of(self.nodes[place], known)
        return known[name]

    def made_of(self, node: Node, known: dict[str, _Polynomial | None]) -> _Polynomial | None:
        if node.domain or node.op_type not in _ARITHMETIC or len(node.inputs) != 2:
            return None
        a, b = (self.polynomial(name, known) for name in node.inputs)
        if a is None or b is None:
            return None
        if node.op_type == "Add":
            return [p + q for p, q in zip(a, b, strict=True)]
        if node.op_type == "Mul":
            return _product(a, b)
        if any(b[1:]):
            return None
        if node.op_type == "Div":
            return None if b[0] == 0 else [p / b[0] for p in a]
        square = _product(a, a)
        if square is None or b[0] not in (2, 3):
            return None
        return square if b[0] == 2 else _product(square, a)

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

    def is_read_within(self, place: int, places: set[int]) -> bool:
        return set(self.readers.get(self.nodes[place].outputs[0], [])) <= places

    def gives_axes_of(self, x: str, place: int) -> bool:
        """Whether a node's constants have no more axes than x has for certain."""
        constants = [self.constants.get(name) for name in self.nodes[place].inputs]
        return all(a is None or a.ndim <= self.ranks.get(x, 0) for a in constants)

    def number(self, name: str) -> float | None:
        """What a constant of one number is."""
        array = self.constants.get(name)
        if array is None or array.size != 1 or array.dtype.kind not in "fi":
            return None
        return float(array.reshape(()))


def _product(a: _Polynomial, b: _Polynomial) -> _Polynomial | None:
    made = np.convolve(a, b)
    return None if made[_DEGREE + 1 :].any() else made[: _DEGREE + 1].tolist()
