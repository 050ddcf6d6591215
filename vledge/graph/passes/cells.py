"""Finds LSTM and GRU cells that an exporter took apart, and puts the cell's kernel in their place.

torch writes an LSTMCell as Gemm + Gemm + Add + Split + Sigmoid, Tanh, Mul, Add, and a GRUCell
likewise. The match starts at the new state and goes back along its equation to the two products
with constant weights; in which order gates lie, and in which order terms are added, is free.
Values inside that something else uses stay: only what nobody needs any more is removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.graph_definition import Graph, Node
from vledge.graph.passes.program import Program
from vledge.graph.registry import find

__all__ = ["recognize_cells"]

_INPUTS: Final = {  # the operators of a cell, and how many inputs each has
    "Add": (2,),
    "Gemm": (2, 3),
    "Mul": (2,),
    "Sigmoid": (1,),
    "Slice": (1, 3, 4, 5),
    "Split": (1, 2),
    "Sub": (2,),
    "Tanh": (1,),
}


def recognize_cells(program: Program) -> bool:
    """Replace every cell found, in every graph; whether there was one."""
    found = False
    for graph in _graphs(program.graph):
        found |= _in_graph(program, graph)
    return found


def _graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for inner in node.subgraphs():
            yield from _graphs(inner)


def _in_graph(program: Program, graph: Graph) -> bool:
    matcher = _Matcher(program, graph)
    cells: dict[int, Node | None] = {}  # id of a node -> the cell in its place, or None
    for node in graph.nodes:
        if node.op_type not in ("Add", "Mul") or node.domain:
            continue
        lstm = matcher.lstm(node)
        if lstm is not None:
            cell, sum_node = lstm
            # the whole cell where its new c was made: its inputs are there, and c may be used next
            cells[id(sum_node)], cells[id(node)] = cell, None
            continue
        gru = matcher.gru(node)
        if gru is not None:
            cells[id(node)] = gru
    replaced = (cells.get(id(node), node) for node in graph.nodes)
    graph.nodes = [node for node in replaced if node is not None]
    return bool(cells)


@dataclass
class Affine:
    """``x @ weight.T + bias``: a Gemm, or a MatMul and an Add, with constant weights."""

    x: str
    weight: np.ndarray  # [rows, features]
    bias: np.ndarray | None  # [rows]


@dataclass
class Chunk:
    """One of ``count`` equal parts of a value along its last axis."""

    source: str
    index: int
    count: int


class _Matcher:
    def __init__(self, program: Program, graph: Graph) -> None:
        self.constants = program.constants
        self.makers: dict[str, Node] = {}
        self.matrices: set[str] = set()  # a Gemm's value, or a sum of such
        self.affines: dict[str, Affine] = {}
        self.pairs: dict[str, tuple[Affine, Affine]] = {}
        for node in graph.nodes:
            if _is_looked_at(program, node):
                self.makers.update((name, node) for name in node.outputs if name)
                self.note(node)

    # ---- the two equations

    def lstm(self, node: Node) -> tuple[Node, Node] | None:
        """``h = o * tanh(c')``, ``c' = f * c + i * g`` → (the cell, the node that made c')."""
        for o_name, tanh_name in self.operands(node, "Mul"):
            c_new = self.made_by(tanh_name, "Tanh")
            o = self.gate(o_name, "Sigmoid")
            if c_new is None or o is None:
                continue
            sum_node = self.makers.get(c_new.inputs[0])
            if sum_node is None:
                continue
            for left, right in self.operands(sum_node, "Add"):
                for f_name, c in self.operands(self.makers.get(left), "Mul"):
                    f = self.gate(f_name, "Sigmoid")
                    if f is None:
                        continue
                    for i_name, g_name in self.operands(self.makers.get(right), "Mul"):
                        i, g = self.gate(i_name, "Sigmoid"), self.gate(g_name, "Tanh")
                        if i is None or g is None:
                            continue
                        cell = self.lstm_cell([i, f, g, o], c, node, sum_node)
                        if cell is not None:
                            return cell, sum_node
        return None

    def lstm_cell(self, gates: list[Chunk], c: str, node: Node, sum_node: Node) -> Node | None:
        order = [gate.index for gate in gates]
        if len({gate.source for gate in gates}) != 1 or sorted(order) != [0, 1, 2, 3]:
            return None
        terms = self.two_terms(gates[0].source)
        if terms is None or gates[0].count != 4:
            return None
        for x, h in (terms, terms[::-1]):
            size = h.weight.shape[1]
            if h.weight.shape[0] == 4 * size == x.weight.shape[0]:
                return Node(
                    "LSTMCell",
                    [x.x, h.x, c],
                    [node.outputs[0], sum_node.outputs[0]],
                    _weights(x, h, order),
                    node.name,
                    "vledge",
                )
        return None

    def gru(self, node: Node) -> Node | None:
        """``h' = (h - n) * z + n`` or ``(1 - z) * n + z * h``."""
        for left, right in self.operands(node, "Add"):
            for first, second in self.operands(self.makers.get(left), "Mul"):
                difference = self.makers.get(first)
                if difference is None or difference.op_type != "Sub" or difference.domain:
                    continue
                minuend, subtrahend = difference.inputs
                if subtrahend == right:
                    cell = self.gru_cell(n=right, z=second, h=minuend, node=node)
                    if cell is not None:
                        return cell
                one = self.constants.get(minuend)
                if one is None or one.size != 1 or one.item() != 1:
                    continue
                for z, h in self.operands(self.makers.get(right), "Mul"):
                    if z == subtrahend:
                        cell = self.gru_cell(n=second, z=z, h=h, node=node)
                        if cell is not None:
                            return cell
        return None

    def gru_cell(self, n: str, z: str, h: str, node: Node) -> Node | None:
        """``n = tanh(xn + r * hn)``, ``r = sigmoid(xr + hr)``, ``z = sigmoid(xz + hz)``."""
        tanh, update = self.made_by(n, "Tanh"), self.made_by(z, "Sigmoid")
        if tanh is None or update is None:
            return None
        for xn_name, reset_name in self.operands(self.makers.get(tanh.inputs[0]), "Add"):
            for r_name, hn_name in self.operands(self.makers.get(reset_name), "Mul"):
                xn, hn, reset = (
                    self.chunk(xn_name),
                    self.chunk(hn_name),
                    self.made_by(r_name, "Sigmoid"),
                )
                if xn is None or hn is None or reset is None:
                    continue
                x_gates, h_gates = self.affine(xn.source), self.affine(hn.source)
                if x_gates is None or h_gates is None or h_gates.x != h:
                    continue
                indices = [
                    self.same_index(gate.inputs[0], xn.source, hn.source)
                    for gate in (reset, update)
                ]
                order = [*indices, xn.index]
                size = h_gates.weight.shape[1]
                rows = {x_gates.weight.shape[0], h_gates.weight.shape[0]}
                if (
                    xn.index == hn.index
                    and xn.count == hn.count == 3
                    and None not in indices
                    and len(set(order)) == 3
                    and rows == {3 * size}
                ):
                    weights = _weights(
                        x_gates, h_gates, [index for index in order if index is not None]
                    )
                    return Node(
                        "GRUCell", [x_gates.x, h], [node.outputs[0]], weights, node.name, "vledge"
                    )
        return None

    def same_index(self, name: str, x_source: str, h_source: str) -> int | None:
        """Which part of both sources is added, if it is the same part of both."""
        for x_name, h_name in self.operands(self.makers.get(name), "Add"):
            x, h = self.chunk(x_name), self.chunk(h_name)
            if (
                x is not None
                and h is not None
                and (x.source, h.source) == (x_source, h_source)
                and x.index == h.index
            ):
                return x.index
        return None

    # ---- their parts

    def made_by(self, name: str, op_type: str) -> Node | None:
        node = self.makers.get(name)
        return node if node and node.op_type == op_type and not node.domain else None

    def operands(self, node: Node | None, op_type: str) -> Iterator[tuple[str, str]]:
        """Both operands of a commutative node, both ways round."""
        if node and node.op_type == op_type and not node.domain and len(node.inputs) == 2:
            left, right = node.inputs
            yield left, right
            yield right, left

    def gate(self, name: str, activation: str) -> Chunk | None:
        node = self.made_by(name, activation)
        return None if node is None else self.chunk(node.inputs[0])

    def chunk(self, name: str) -> Chunk | None:
        """Which part of a value this is; of a Gemm's, so that axis 1 is the last one."""
        node = self.makers.get(name)
        if node is None or node.domain or not self.is_matrix(node.inputs[0] if node.inputs else ""):
            return None
        source = node.inputs[0]
        if node.op_type == "Split":
            if node.attributes.get("axis", 0) not in (1, -1):
                return None
            sizes = node.attributes.get("split")
            if len(node.inputs) > 1 and node.inputs[1]:
                given = self.constants.get(node.inputs[1])
                if given is None:
                    return None
                sizes = given.ravel().tolist()
            if sizes is not None and len(set(sizes)) != 1:
                return None
            return Chunk(source, node.outputs.index(name), len(node.outputs))
        if node.op_type == "Slice":
            return self.sliced(node)
        return None

    def sliced(self, node: Node) -> Chunk | None:
        """A Slice of the last axis that is one of equal parts; its bounds are constant."""
        if len(node.inputs) > 1:
            bounds = [self.constants.get(name) if name else None for name in node.inputs[1:]]
            if bounds[0] is None or len(bounds) < 3 or bounds[1] is None or bounds[2] is None:
                return None
            starts, ends, axes = (
                array.ravel().tolist() for array in bounds[:3] if array is not None
            )
            if len(bounds) > 3 and (bounds[3] is None or (bounds[3] != 1).any()):
                return None
        else:
            starts, ends, axes = (
                node.attributes.get(key, []) for key in ("starts", "ends", "axes")
            )
        if len(starts) != 1 or len(ends) != 1 or list(axes) not in ([1], [-1]):
            return None
        width = self.width(node.inputs[0])
        size = min(ends[0], width) - starts[0]
        if starts[0] < 0 or size <= 0 or width % size or starts[0] % size:
            return None
        return Chunk(node.inputs[0], starts[0] // size, width // size)

    def is_matrix(self, name: str) -> bool:
        """Whether a value is a Gemm's, or a sum of such."""
        return name in self.matrices

    def is_row(self, name: str) -> bool:
        constant = self.constants.get(name)
        return constant is not None and constant.size == (constant.shape or (0,))[-1]

    def width(self, name: str) -> int:
        terms = self.two_terms(name)
        affine = self.affine(name) if terms is None else terms[0]
        return 0 if affine is None else affine.weight.shape[0]

    def two_terms(self, name: str) -> tuple[Affine, Affine] | None:
        """The two products that a value is the sum of."""
        return self.pairs.get(name)

    def affine(self, name: str) -> Affine | None:
        return self.affines.get(name)

    def note(self, node: Node) -> None:
        """Whether a node's value is a matrix, an affine map or a sum of two; its inputs' is known.

        Once for each node, in their order: sums of sums cost no more than their number.
        """
        output = node.outputs[0]
        if node.op_type == "Gemm":
            self.matrices.add(output)
            affine = self.gemm(node)
            if affine is not None:
                self.affines[output] = affine
        elif node.op_type == "Add":
            terms = node.inputs
            if any(t in self.matrices for t in terms) and all(
                t in self.matrices or self.is_row(t) for t in terms
            ):
                self.matrices.add(output)
            for left, right in self.operands(node, "Add"):
                self.note_sum(output, left, right)

    def note_sum(self, output: str, left: str, right: str) -> None:
        first, second = self.affines.get(left), self.affines.get(right)
        if first is not None and second is not None:
            self.pairs.setdefault(output, (first, second))
        bias = self.constants.get(right)
        if bias is None or not self.is_row(right):
            return
        if first is not None and bias.size in (1, len(first.weight)):
            self.affines.setdefault(output, _plus(first, bias))
        inner = self.pairs.get(left)
        if inner is not None and bias.size in (1, len(inner[0].weight)):
            self.pairs.setdefault(output, (_plus(inner[0], bias), inner[1]))

    def gemm(self, node: Node) -> Affine | None:
        weight = self.constants.get(node.inputs[1])
        if node.attributes.get("transA", 0) or weight is None or weight.ndim != 2:
            return None
        if weight.dtype not in (np.float32, np.float64):
            return None
        if not node.attributes.get("transB", 0):
            weight = weight.T
        alpha, beta = (node.attributes.get(key, 1.0) for key in ("alpha", "beta"))
        affine = Affine(
            node.inputs[0], weight if alpha == 1 else weight * weight.dtype.type(alpha), None
        )
        if len(node.inputs) > 2 and node.inputs[2]:
            bias = self.constants.get(node.inputs[2])
            if bias is None or not self.is_row(node.inputs[2]):
                return None
            if bias.size not in (1, len(weight)) or bias.dtype != weight.dtype:
                return None
            return _plus(affine, bias if beta == 1 else bias * bias.dtype.type(beta))
        return affine


def _is_looked_at(program: Program, node: Node) -> bool:
    """Whether a node may be part of a cell, and has the inputs and attributes that it should."""
    entry = None
    if node.op_type in _INPUTS and not node.domain and len(node.inputs) in _INPUTS[node.op_type]:
        entry = find(node.op_type, "", program.opsets.get("", 1))
    if entry is None or not all(node.inputs[:2]):
        return False
    try:
        entry.bind(node)
    except (FormatError, UnsupportedError):
        return False  # which preparing the node will say
    return True


def _plus(affine: Affine, bias: np.ndarray) -> Affine:
    row = np.broadcast_to(bias.ravel(), affine.weight.shape[:1])
    total = row if affine.bias is None else affine.bias + row
    return Affine(affine.x, affine.weight, total)


def _weights(x: Affine, h: Affine, order: list[int]) -> dict[str, np.ndarray]:
    """The cell's attributes, the gates' rows in torch's order."""

    def ordered(array: np.ndarray) -> np.ndarray:
        gates = array.reshape(len(order), -1, *array.shape[1:])
        return np.ascontiguousarray(gates[order].reshape(array.shape))

    rows = x.weight.shape[0]
    zeros = np.zeros(rows, x.weight.dtype)
    return {
        "weight_ih": ordered(x.weight),
        "weight_hh": ordered(h.weight),
        "bias_ih": ordered(zeros if x.bias is None else x.bias),
        "bias_hh": ordered(zeros if h.bias is None else h.bias),
    }
