"""Finds LSTM, GRU and RNN cells that an exporter took apart, and puts the cell's kernel in place.

torch writes an LSTMCell as Gemm + Gemm + Add + Split + Sigmoid, Tanh, Mul, Add, Keras as MatMul +
MatMul + Add + Add; others make each gate by products of its own, or one product of x and h joined.
The match starts at the new state and goes back along its equation to the gates, which are sums of
products with known matrices (``affine.py``); in which order gates lie, and in which order terms
are added, is free. Values inside that something else uses stay: only what nobody needs any more
is removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vledge.graph.passes.affine import Affine, AffineForms
from vledge.graph.passes.carried import LoopParts
from vledge.graph.passes.program import Program
from vledge.graph.passes.ranks import ranks_of
from vledge.model.definition import Graph, Node

__all__ = ["follows", "recognize_cells"]


def recognize_cells(program: Program) -> bool:
    """Replace every cell found, in every graph; whether there was one."""
    ranks = ranks_of(program.graph, program.constants)
    return _in_graph(program, program.graph, frozenset(), ranks)


def _in_graph(
    program: Program, graph: Graph, states: frozenset[str], ranks: dict[str, int]
) -> bool:
    found = False
    for node in graph.nodes:
        parts = LoopParts.of(program, node)
        own = frozenset(info.name for info in parts.states) if parts else frozenset()
        for inner in node.subgraphs():
            found |= _in_graph(program, inner, own, ranks)
    matcher = _Matcher(program, graph, states, ranks)
    cells: dict[int, Node | None] = {}  # id of a node -> the cell in its place, or None
    for node in graph.nodes:
        if node.domain or node.op_type not in ("Add", "Mul", "Relu", "Tanh"):
            continue
        lstm = matcher.lstm(node)
        if lstm is not None:
            cell, sum_node = lstm
            # the whole cell where its new c was made: its inputs are there, and c may be used next
            cells[id(sum_node)], cells[id(node)] = cell, None
        else:
            cell_or_none = matcher.gru(node) or matcher.rnn(node)
            if cell_or_none is None:
                continue
            cell = cells[id(node)] = cell_or_none
        matcher.hidden.add(cell.outputs[0])
    cells |= matcher.rows_of_rnn()
    replaced = (cells.get(id(node), node) for node in graph.nodes)
    graph.nodes = [node for node in replaced if node is not None]
    return found or bool(cells)


def follows(before: Node, cell: Node) -> bool:
    """Whether a cell has its states from another of the same weights."""
    if before.op_type != cell.op_type or before.domain != cell.domain:
        return False
    if before.outputs != cell.inputs[1:] or before.attributes.keys() != cell.attributes.keys():
        return False
    return all(
        np.array_equal(value, cell.attributes[key]) for key, value in before.attributes.items()
    )


class _Matcher:
    def __init__(
        self, program: Program, graph: Graph, states: frozenset[str], ranks: dict[str, int]
    ) -> None:
        self.constants = program.constants
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.ranks = ranks
        self.states = states
        self.hidden = set(states)  #: what is a cell's state, as far as is known by now
        self.forms = AffineForms(program.constants, self.makers, ranks)
        for node in graph.nodes:  # in their order: sums of sums cost no more than their number
            for name in node.outputs:
                self.forms.of(name)

    # ---- the three equations

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
                        found = self.weights([i, f, g, o])
                        if found is None:
                            continue
                        x, h, weights = found
                        outputs = [node.outputs[0], sum_node.outputs[0]]
                        cell = Node("LSTMCell", [x, h, c], outputs, weights, node.name, "vledge")
                        return cell, sum_node
        return None

    def gru(self, node: Node) -> Node | None:
        """``h' = (h - n) * z + n``, ``(1 - z) * n + z * h``, or ``(n - h) * u + h``, u = 1 - z."""
        for left, right in self.operands(node, "Add"):
            for first, second in self.operands(self.makers.get(left), "Mul"):
                difference = self.makers.get(first)
                if difference is None or difference.op_type != "Sub" or difference.domain:
                    continue
                minuend, subtrahend = difference.inputs
                z = self.gate(second, "Sigmoid")
                if z is not None and subtrahend == right:
                    cell = self.gru_cell(right, z, minuend, node) or self.gru_cell(
                        minuend, z.negated(), right, node
                    )
                    if cell is not None:
                        return cell
                one, z = self.constants.get(minuend), self.gate(subtrahend, "Sigmoid")
                if z is None or one is None or one.size != 1 or one.ndim > 1 or one.item() != 1:
                    continue
                for z_name, h in self.operands(self.makers.get(right), "Mul"):
                    if z_name != subtrahend:
                        continue
                    cell = self.gru_cell(second, z, h, node) or self.gru_cell(
                        h, z.negated(), second, node
                    )
                    if cell is not None:
                        return cell
        return None

    def gru_cell(self, n: str, z: Affine, h: str, node: Node) -> Node | None:
        """``n = tanh(xn + r * hn)``, or ``tanh(xn + (r * h) @ R.T)``; r and z are sigmoids."""
        tanh = self.made_by(n, "Tanh")
        if tanh is None or (h not in z.terms and not self.joined(z, h)):
            return None
        found = self.reset_after(tanh.inputs[0], z, h) or self.reset_before(tanh.inputs[0], z, h)
        if found is None:
            return None
        x, weights = found
        return Node("GRUCell", [x, h], [node.outputs[0]], weights, node.name, "vledge")

    def reset_after(self, name: str, z: Affine, h: str) -> tuple[str, dict[str, object]] | None:
        for xn_name, reset_name in self.operands(self.makers.get(name), "Add"):
            for r_name, hn_name in self.operands(self.makers.get(reset_name), "Mul"):
                xn, hn = self.forms.of(xn_name), self.forms.of(hn_name)
                r = self.gate(r_name, "Sigmoid")
                if xn is None or hn is None or r is None or set(hn.terms) != {h}:
                    continue
                candidate = xn.plus(Affine(hn.terms, None, hn.rows, hn.matrix))
                if candidate is None or set(xn.terms) & {h}:
                    continue
                found = self.weights([r, z, candidate], h)
                if found is None:
                    continue
                x, _, weights = found
                alone = np.zeros_like(weights["bias_hh"])
                if hn.bias is not None:
                    alone[2 * hn.rows :] = hn.bias
                return x, {**weights, "bias_hh": alone}
        return None

    def reset_before(self, name: str, z: Affine, h: str) -> tuple[str, dict[str, object]] | None:
        form = self.forms.of(name)
        if form is None:
            return None
        for source in form.terms:
            for term in (source, *self.parts_of(source)):
                for r_name, state in self.operands(self.makers.get(term), "Mul"):
                    r = self.gate(r_name, "Sigmoid")
                    if r is None or state != h:
                        continue
                    # the candidate has the gated state where the gates have the state
                    own = self.separated(form, term)
                    if own is None or h in own.terms:
                        continue
                    candidate = Affine(
                        {(h if x == term else x): w for x, w in own.terms.items()},
                        own.bias,
                        own.rows,
                        own.matrix,
                    )
                    found = self.weights([r, z, candidate], h)
                    if found is not None:
                        x, _, weights = found
                        return x, {**weights, "reset_before": 1}
        return None

    def rnn(self, node: Node) -> Node | None:
        """``h' = tanh(x @ W.T + h @ R.T + b)``, or relu; only of a state that a loop carries:
        elsewhere it is any two layers whose sum is taken."""
        return next((cell for cell in self.rnns(node) if cell.inputs[1] in self.states), None)

    def rnns(self, node: Node) -> Iterator[Node]:
        """What a node would be as a cell, by which of its inputs is the state."""
        form = None
        if node.op_type in ("Relu", "Tanh") and not node.domain:
            form = self.forms.of(node.inputs[0])
        if form is None:
            return
        for term in form.terms:
            for h in (term, *self.parts_of(term)):
                found = self.weights([form], h)
                if found is None or not self.ranks.get(found[0]) == self.ranks.get(h) == 2:
                    continue
                attributes = {**found[2], "nonlinearity": node.op_type.lower()}
                yield Node("RNNCell", [found[0], h], node.outputs, attributes, node.name, "vledge")

    def rows_of_rnn(self) -> dict[int, Node | None]:
        """RNN cells that go on from one another, by the nodes that they stand for."""
        made = {id(node): list(self.rnns(node)) for node in self.makers.values()}
        found: dict[int, Node | None] = {}
        for place, cells in made.items():
            for cell in cells:
                before = self.makers.get(cell.inputs[1])
                for other in made.get(id(before), ()):
                    if follows(other, cell):
                        found[id(before)] = other
                        found[place] = cell
        return found

    # ---- their parts

    def weights(
        self, gates: Sequence[Affine], h: str | None = None
    ) -> tuple[str, str, dict[str, np.ndarray]] | None:
        """x, h, and the cell's attributes, for gates in torch's order that are sums over both."""
        size = gates[0].rows
        if h is None:
            h = self.hidden_of(gates[0])
        if h is None:
            return None
        separate = [self.separated(gate, h) for gate in gates]
        names: set[str] = set()
        for form in separate:
            if form is None or len(form.terms) != 2 or form.rows != size or h not in form.terms:
                return None
            names |= set(form.terms)
        if len(names) != 2:
            return None
        (x,) = names - {h}
        forms = [form for form in separate if form is not None]
        if any(form.terms[h].shape != (size, size) for form in forms):
            return None
        if len({form.terms[x].shape for form in forms}) != 1:
            return None
        weight_ih = np.concatenate([form.terms[x] for form in forms])
        weight_hh = np.concatenate([form.terms[h] for form in forms])
        if weight_ih.dtype != weight_hh.dtype:
            return None
        zeros = np.zeros(size, weight_ih.dtype)
        bias = np.concatenate([zeros if form.bias is None else form.bias for form in forms])
        return (
            x,
            h,
            {
                "weight_ih": np.ascontiguousarray(weight_ih),
                "weight_hh": np.ascontiguousarray(weight_hh),
                "bias_ih": bias.astype(weight_ih.dtype, copy=False),
                "bias_hh": np.zeros_like(bias),
            },
        )

    def hidden_of(self, gate: Affine) -> str | None:
        """Which of a gate's two terms is the state: the one that is known to be, or fits."""
        pieces = [name for term in gate.terms for name in (term, *self.parts_of(term))]
        known = [name for name in pieces if name in self.hidden]
        if len(set(known)) == 1:
            return known[0]
        fitting = [x for x, weight in gate.terms.items() if weight.shape[1] == gate.rows]
        return fitting[-1] if fitting and not known else None

    def parts_of(self, name: str) -> list[str]:
        """The two values that one joins along the last axis."""
        node = self.makers.get(name)
        if node is None or node.domain or node.op_type != "Concat" or len(node.inputs) != 2:
            return []
        axis = node.attributes.get("axis")
        last = axis == -1 or (axis == 1 and self.ranks.get(name) == 2)
        return list(node.inputs) if last and node.inputs[0] != node.inputs[1] else []

    def joined(self, form: Affine, h: str) -> bool:
        return any(h in self.parts_of(term) for term in form.terms)

    def separated(self, form: Affine, h: str) -> Affine | None:
        """The sum with the state's own term, taken out of one for x and the state joined."""
        if h in form.terms:
            return form
        for term, weight in form.terms.items():
            parts = self.parts_of(term)
            if h not in parts or weight.shape[1] <= form.rows:
                continue
            others = {x: w for x, w in form.terms.items() if x != term}
            cut = form.rows if parts[0] == h else weight.shape[1] - form.rows
            own = dict(zip(parts, (weight[:, :cut], weight[:, cut:]), strict=True))
            if set(own) & set(others):
                return None
            return Affine({**others, **own}, form.bias, form.rows, form.matrix)
        return None

    def made_by(self, name: str, op_type: str) -> Node | None:
        node = self.makers.get(name)
        return node if node and node.op_type == op_type and not node.domain else None

    def operands(self, node: Node | None, op_type: str) -> Iterator[tuple[str, str]]:
        """Both operands of a commutative node, both ways round."""
        if node and node.op_type == op_type and not node.domain and len(node.inputs) == 2:
            left, right = node.inputs
            yield left, right
            yield right, left

    def gate(self, name: str, activation: str) -> Affine | None:
        node = self.made_by(name, activation)
        return None if node is None else self.forms.of(node.inputs[0])
