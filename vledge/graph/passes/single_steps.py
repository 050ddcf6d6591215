"""Recurrent nodes that run one step, in loops or one behind the other, as the cells that they are.

torch's TorchScript exporter writes an LSTMCell as Unsqueeze, LSTM, Squeeze; a loop of such nodes is
a layer like a loop of any other cell. Elsewhere such a node stays: it is as quick.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vledge.graph.operators.recurrent import GATES, TORCH_ORDER
from vledge.graph.passes.carried import LoopParts, replace_values
from vledge.graph.passes.program import Program
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.passes.trips import Front
from vledge.model.definition import Graph, Node

__all__ = ["recognize_single_steps"]

_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
_ATTRIBUTES = frozenset(
    "activations direction hidden_size layout linear_before_reset output_sequence".split()  # noqa: SIM905
)


def recognize_single_steps(program: Program) -> bool:
    """Replace every such node, in every graph; whether there was one."""
    kinds = {node.op_type for graph in _graphs(program.graph) for node in graph.nodes}
    if not kinds & set(GATES):
        return False
    ranks = ranks_of(program.graph, program.constants)
    return _in_graph(program, program.graph, ranks, in_loop=False)


def _graphs(graph: Graph) -> list[Graph]:
    inner = [body for node in graph.nodes for body in node.subgraphs()]
    return [graph, *(deeper for body in inner for deeper in _graphs(body))]


def _in_graph(program: Program, graph: Graph, ranks: dict[str, int], in_loop: bool) -> bool:
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        parts = LoopParts.of(program, node)
        for body in node.subgraphs():
            changed |= _in_graph(program, body, ranks, parts is not None)
        if parts is None:
            nodes.append(node)
            continue
        before, behind, narrowed = _without_axis(program, parts, ranks)
        changed |= narrowed
        nodes += [*before, node, *behind]
    graph.nodes = nodes
    finder = _Finder(program, graph, ranks)
    cells: dict[int, list[Node]] = {}
    for node in graph.nodes:
        own = finder.cell(node, in_loop)
        if own is not None:
            cells[id(node)] = own
    graph.nodes = [each for node in graph.nodes for each in cells.get(id(node), [node])]
    return changed or bool(cells)


class _Finder:
    def __init__(self, program: Program, graph: Graph, ranks: dict[str, int]) -> None:
        self.program, self.graph, self.ranks = program, graph, ranks
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}

    def cell(self, node: Node, in_loop: bool) -> list[Node] | None:
        """The cell in a node's place, between what takes the axes of time off and puts them on."""
        if node.domain or node.op_type not in GATES or not self.is_plain(node):
            return None
        inputs = [*node.inputs, *[""] * (8 - len(node.inputs))]
        states = inputs[5:7] if node.op_type == "LSTM" else inputs[5:6]
        x = self.with_axis(inputs[0], (0,))
        one = x is not None or self.is_one_step(inputs[0])
        if not one or inputs[4] or inputs[7] or not all(states):
            return None
        if not in_loop and not self.in_a_row(node, states):
            return None
        attributes = self.weights(node, inputs)
        if attributes is None:
            return None
        front = Front(self.program, self.ranks)
        x = x or front.reshaped("Squeeze", inputs[0], [0], f"{inputs[0]}.row")
        given = [
            self.with_axis(name, (0,)) or front.reshaped("Squeeze", name, [0], f"{name}.row")
            for name in states
        ]
        base = node.name or node.outputs[0] or "cell"
        made = [self.program.fresh(f"{base}.{key}") for key in ("h", "c")[: len(states)]]
        front.nodes.append(
            Node(f"{node.op_type}Cell", [x, *given], made, attributes, node.name, "vledge")
        )
        for name in made:
            self.ranks[name] = 2
        for place, output in enumerate(node.outputs):
            if output:
                axes = [0, 1] if place == 0 else [0]
                whole = front.reshaped("Unsqueeze", made[max(place - 1, 0)], axes, output)
                front.nodes.append(Node("Identity", [whole], [output]))
                self.bypass(output, made[max(place - 1, 0)], axes)
        return front.nodes

    def is_one_step(self, name: str) -> bool:
        """Whether a value was gathered along its first axis by one index."""
        node = self.makers.get(name)
        if node is None or node.op_type != "Gather" or node.domain:
            return False
        index = self.program.constants.get(node.inputs[1])
        if index is None:
            made = self.makers.get(node.inputs[1])
            single = made is not None and made.op_type == "Unsqueeze" and not made.domain
            single = single and made is not None and self.ranks.get(made.inputs[0]) == 0
        else:
            single = index.shape == (1,)
        return single and self.ranks.get(name) == 3 and node.attributes.get("axis", 0) == 0

    def bypass(self, output: str, row: str, axes: list[int]) -> None:
        """Who takes the axes off again reads the cell's own value."""
        for node in self.graph.nodes:
            if node.op_type == "Squeeze" and not node.domain and node.inputs[0] == output:
                if self.axes(node) == axes:
                    node.op_type, node.inputs, node.attributes = "Identity", [row], {}
                elif self.axes(node) == [1] and axes == [0, 1]:  # Y without its directions
                    self._as_unsqueeze(node, row)

    def _as_unsqueeze(self, node: Node, row: str) -> None:
        front = Front(self.program, self.ranks)
        front.reshaped("Unsqueeze", row, [0], node.outputs[0])
        (made,) = front.nodes
        node.op_type, node.inputs, node.attributes = "Unsqueeze", made.inputs, made.attributes

    def is_plain(self, node: Node) -> bool:
        attributes = node.attributes
        activations = attributes.get("activations")
        if not attributes.keys() <= _ATTRIBUTES or attributes.get("layout", 0):
            return False
        if attributes.get("direction", "forward") != "forward":
            return False
        if node.op_type == "RNN":
            return activations is None or activations[:1] in (["Tanh"], ["Relu"])
        return activations is None or activations == _ACTIVATIONS[node.op_type]

    def in_a_row(self, node: Node, states: list[str]) -> bool:
        """Whether another node of this kind stands in front, or behind."""
        before = self.behind_moves(states[0])
        if before is not None and before.op_type == node.op_type and not before.domain:
            return True
        return any(
            other is not node
            and other.op_type == node.op_type
            and len(other.inputs) > 5
            and self.behind_moves(other.inputs[5]) is node
            for other in self.graph.nodes
        )

    def behind_moves(self, name: str) -> Node | None:
        node = self.makers.get(name)
        while node is not None and node.op_type in ("Squeeze", "Unsqueeze") and not node.domain:
            node = self.makers.get(node.inputs[0])
        return node

    def with_axis(self, name: str, axes: tuple[int, ...]) -> str | None:
        """What an Unsqueeze with these axes was given, if that is a matrix."""
        node = self.makers.get(name)
        if node is None or node.op_type != "Unsqueeze" or node.domain:
            return None
        if self.axes(node) != list(axes) or self.ranks.get(node.inputs[0]) != 2:
            return None
        return node.inputs[0]

    def made_with_axis(self, name: str) -> str | None:
        """The row that a state with an axis in front is made of; through another name or not."""
        node = self.makers.get(name)
        if node is not None and node.op_type == "Identity":
            node = self.makers.get(node.inputs[0])
        return None if node is None else self.with_axis(node.outputs[0], (0,))

    def axes(self, node: Node) -> list[int] | None:
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            known = self.program.constants.get(node.inputs[1])
            axes = None if known is None else known.ravel().tolist()
        return None if axes is None else sorted(axes)

    def weights(self, node: Node, inputs: list[str]) -> dict[str, Any] | None:
        """The node's weights in the cell's way, if they are known and fit."""
        gates, order = GATES[node.op_type], list(TORCH_ORDER[node.op_type])
        arrays = [self.program.constants.get(name) for name in inputs[1:3]]
        bias = self.program.constants.get(inputs[3]) if inputs[3] else None
        w, r = arrays
        if w is None or r is None or (inputs[3] and bias is None):
            return None
        if w.dtype not in (np.float32, np.float64) or w.ndim != 3 or r.ndim != 3:
            return None
        size = r.shape[2]
        if w.shape[:2] != (1, gates * size) or r.shape != (1, gates * size, size):
            return None
        if node.attributes.get("hidden_size", size) != size or r.dtype != w.dtype:
            return None
        if bias is None:
            bias = np.zeros((1, 2 * gates * size), w.dtype)
        if bias.shape != (1, 2 * gates * size) or bias.dtype != w.dtype:
            return None

        def ordered(array: np.ndarray) -> np.ndarray:
            rows = array.reshape(gates, size, *array.shape[1:])[order]
            return np.ascontiguousarray(rows.reshape(array.shape))

        half = gates * size
        attributes: dict[str, Any] = {
            "weight_ih": ordered(w[0]),
            "weight_hh": ordered(r[0]),
            "bias_ih": ordered(bias[0, :half]),
            "bias_hh": ordered(bias[0, half:]),
        }
        if node.op_type == "GRU" and not node.attributes.get("linear_before_reset", 0):
            attributes["reset_before"] = 1
        if node.op_type == "RNN":
            activations = node.attributes.get("activations") or ["Tanh"]
            attributes["nonlinearity"] = activations[0].lower()
        return attributes


def _without_axis(
    program: Program, parts: LoopParts, ranks: dict[str, int]
) -> tuple[list[Node], list[Node], bool]:
    """Carry states ``[1, B, H]`` of cells in a body as ``[B, H]``: the nodes in front of the loop,
    those behind it, and whether there are such states."""
    finder = _Finder(program, parts.body, ranks)
    front, ends, changed = Front(program, ranks), Front(program, ranks), False
    for place, (info, following) in enumerate(zip(parts.states, parts.next, strict=True)):
        reads = [node for node in parts.body.nodes if info.name in node.inputs]
        squeezes = [n for n in reads if n.op_type == "Squeeze" and finder.axes(n) == [0]]
        row = finder.made_with_axis(following.name)
        used_once = [n.name for n in (*parts.next, *parts.columns)].count(info.name) == 0
        if not reads or squeezes != reads or row is None or not used_once:
            continue
        if ranks.get(parts.initial[place]) != 3:
            continue
        changed = True
        parts.initial[place] = front.reshaped("Squeeze", parts.initial[place], [0], info.name)
        replace_values(parts.body, {node.outputs[0]: info.name for node in squeezes})
        parts.body.nodes = [n for n in parts.body.nodes if all(n is not s for s in squeezes)]
        info.shape = None if info.shape is None else info.shape[1:]
        ranks[info.name] = 2
        following.name = row
        following.shape = None if following.shape is None else following.shape[1:]
        if parts.final[place]:
            own = program.fresh(parts.final[place])
            whole = ends.reshaped("Unsqueeze", own, [0], own)
            ends.nodes.append(Node("Identity", [whole], [parts.final[place]]))
            parts.final[place] = own
        parts.store()
    return front.nodes, ends.nodes, changed
