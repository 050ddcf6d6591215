"""Takes out of a loop what depends on the step's own inputs only, for all steps at once.

A body's value that is computed from elements of sequences, constants and values around is a slice
of one large value; a product per step becomes one product in front of the loop. A recognised cell
whose states nobody else changes is such a value too: its loop is a recurrent layer. A loop that
then has nothing left to do goes.

Exact but for rounding, and for columns of a loop that runs no step at all: their further axes have
the sizes that steps would have given them, not those that the body declares.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vledge.graph.native.types import infer
from vledge.graph.passes.carried import LoopParts
from vledge.graph.passes.growing import take_grown
from vledge.graph.passes.layers import Layer, layer_of
from vledge.graph.passes.program import Program, captured
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.passes.stacks import Stacked
from vledge.graph.passes.trips import Counters, Front, trip_count
from vledge.graph.passes.zeros import zeros_of
from vledge.model.definition import Graph, Node, ValueInfo

__all__ = ["hoist_steps"]

_UNARY: Final = frozenset(
    """
    Abs Cast Ceil Clip Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Log Neg Not
    Reciprocal Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Tanh
    """.split()  # noqa: SIM905
)
_BROADCAST: Final = frozenset(
    """
    Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mul Or Pow Sub Where Xor
    """.split()  # noqa: SIM905
)
_OLDEST_OPSET: Final = 11  # Range


def hoist_steps(program: Program) -> bool:
    """Treat every Loop and Scan, in place, the innermost first; whether anything changed."""
    if program.opsets.get("", 1) < _OLDEST_OPSET:
        return False
    if not _has_loop(program.graph):
        return False
    ranks = ranks_of(program.graph, program.constants)
    dtypes = infer(program.graph, program.constants, dict(program.dtypes))
    zeros = zeros_of(program.graph, program.constants)
    return _in_graph(program, program.graph, ranks, dtypes, zeros)


def _has_loop(graph: Graph) -> bool:
    return any(
        node.op_type in ("Loop", "Scan") or any(_has_loop(body) for body in node.subgraphs())
        for node in graph.nodes
    )


def _in_graph(
    program: Program,
    graph: Graph,
    ranks: dict[str, int],
    dtypes: dict[str, np.dtype],
    zeros: set[str],
) -> bool:
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        for inner in node.subgraphs():
            changed |= _in_graph(program, inner, ranks, dtypes, zeros)
        parts = LoopParts.of(program, node)
        made = None
        if parts is not None:
            made = _Hoister(program, graph, parts, ranks, dtypes, zeros).made()
        changed |= made is not None
        nodes += [node] if made is None else made
    graph.nodes = nodes
    return changed


class _Hoister:
    def __init__(
        self,
        program: Program,
        graph: Graph,
        parts: LoopParts,
        ranks: dict[str, int],
        dtypes: dict[str, np.dtype],
        zeros: set[str],
    ) -> None:
        self.program, self.graph, self.parts = program, graph, parts
        self.constants = program.constants
        self.ranks, self.dtypes, self.zeros = ranks, dtypes, zeros
        self.front = Front(program, ranks)
        self.stacks: dict[str, Stacked] = {}
        self.layers: list[Layer] = []
        body = parts.body
        self.inside = {info.name for info in body.inputs}
        self.inside |= {name for node in body.nodes for name in node.outputs if name}

    def made(self) -> list[Node] | None:
        """The nodes that stand in the loop's place, or None where it stays as it is."""
        if not self.begin():
            return None
        known = -1
        # again while there is more: a mask may stand behind the cell whose states it chooses
        while known != len(self.stacks) + len(self.layers):
            known = len(self.stacks) + len(self.layers)
            for node in self.parts.body.nodes:
                if node.domain != "vledge":
                    self.visit(node)
            for node in self.parts.body.nodes:
                if node.domain == "vledge" and self.place_layer(node):
                    break
        if not self.layers and not any(stack.heavy for stack in self.stacks.values()):
            return None
        behind = self.take_columns() + self.take_states()
        self.shrink_body()
        self.parts.store()
        return [*self.front.nodes, self.parts.node, *behind]

    # ---- what steps are given

    def begin(self) -> bool:
        """Stack the counters of a Loop, or the elements of a Scan; whether steps are countable."""
        parts, front = self.parts, self.front
        if not parts.is_loop:
            scanned = parts.node.attributes["num_scan_inputs"]
            axes = parts.node.attributes.get("scan_input_axes") or [0] * scanned
            ways = parts.node.attributes.get("scan_input_directions") or [0] * scanned
            for info, name, axis, way in zip(
                parts.elements, parts.sequences, axes, ways, strict=False
            ):
                self.scanned(info.name, name, axis, way)
            return True
        counters = Counters(self.program, parts, self.ranks, self.dtypes)
        trips = trip_count(front, parts, counters)
        if trips is None:
            return False
        ends = [front.constant(np.array(k, np.int64), f"{trips}.{k}") for k in (0, 1)]
        numbers = front.add("Range", [ends[0], trips, ends[1]], 1, parts.lead_states[0].name)
        self.stacks[counters.iteration] = Stacked(numbers, 0, False)
        for state, (begin, step) in counters.states.items():
            stacked = numbers
            if step.dtype != np.int64:
                to = {4: 6, 2: 5, 1: 3}[step.dtype.itemsize]
                stacked = front.add("Cast", [stacked], 1, state, to=to)
            if step != 1:
                factor = front.constant(step, f"{state}.step")
                stacked = front.add("Mul", [stacked, factor], 1, state)
            known = self.constants.get(begin)
            if known is None or known.item() != 0:
                stacked = front.add("Add", [stacked, begin], 1, state)
            self.stacks[state] = Stacked(stacked, 0, False)
        return True

    def scanned(self, element: str, name: str, axis: int, backwards: int) -> None:
        rank = self.ranks.get(name)
        if axis < 0 and rank is not None:
            axis += rank
        if axis != 0:
            if rank is None or not 0 <= axis < rank:
                return
            order = [axis, *(a for a in range(rank) if a != axis)]
            name = self.front.add("Transpose", [name], rank, element, perm=order)
        if backwards:
            name = self.reversed(name, element)
        self.stacks[element] = Stacked(name, None if rank is None else rank - 1, False)

    def reversed(self, name: str, like: str) -> str:
        bounds = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": 0, "steps": -1}
        given = [
            self.front.constant(np.array([bound], np.int64), f"{like}.{key}")
            for key, bound in bounds.items()
        ]
        return self.front.add("Slice", [name, *given], self.ranks.get(name), like)

    # ---- nodes

    def place_layer(self, cell: Node) -> bool:
        if any(layer.cell is cell for layer in self.layers):
            return False
        layer = layer_of(
            self.program, self.parts, cell, self.stacks,
            self.ranks, self.dtypes, self.zeros, self.layers,
        )  # fmt: skip
        if layer is None:
            return False
        self.layers.append(layer)
        for name, stacked in layer.place(self.front, self.stacks).items():
            self.stacks[name] = Stacked(stacked, 2, True)
        return True

    def visit(self, node: Node) -> None:
        if node.domain or any(node.subgraphs()) or not node.outputs:
            return
        if node.outputs[0] in self.stacks:  # the choices that a layer makes
            return
        if not any(name in self.stacks for name in node.inputs):
            return
        if any(name in self.inside and name not in self.stacks for name in node.inputs):
            return
        rule = getattr(self, f"stack_{node.op_type.lower()}", None)
        if node.op_type in _UNARY:
            rule = self.alone
        elif node.op_type in _BROADCAST:
            rule = self.broadcast
        if rule is not None:
            rule(node)

    def stack_of(self, node: Node, index: int = 0) -> Stacked | None:
        return self.stacks.get(node.inputs[index]) if index < len(node.inputs) else None

    def note(self, name: str, stacked: str, rank: int | None, *sources: Stacked) -> None:
        heavy = any(source.heavy for source in sources)
        self.stacks[name] = Stacked(stacked, rank, heavy)

    def alone(self, node: Node) -> None:
        x = self.stack_of(node)
        if x is None or any(name in self.stacks for name in node.inputs[1:]):
            return
        rank = None if x.rank is None else x.rank + 1
        output = node.outputs[0]
        inputs = [x.name, *node.inputs[1:]]
        name = self.front.add(node.op_type, inputs, rank, output, **node.attributes)
        self.note(output, name, x.rank, x)

    def broadcast(self, node: Node) -> None:
        """Element by element: what has fewer axes gets its new one where the others have it."""
        output = node.outputs[0]
        sources = [self.stacks[name] for name in node.inputs if name in self.stacks]
        aligned = self.aligned(node.inputs, output)
        if aligned is None:
            return
        inputs, rank = aligned
        name = self.front.add(
            node.op_type, inputs, None if rank is None else rank + 1, output, **node.attributes
        )
        self.note(output, name, rank, *sources)

    def aligned(self, names: list[str], like: str) -> tuple[list[str], int | None] | None:
        known: list[int] = []
        unknown: set[str] = set()
        for name in names:
            stack = self.stacks.get(name)
            rank = self.ranks.get(name) if stack is None else stack.rank
            if rank is not None:
                known.append(rank)
            elif stack is None:
                return None
            else:
                unknown.add(name)
        if unknown:
            # one value of unknown axes, alone or with numbers
            if len(unknown) > 1 or any(known):
                return None
            if any(n in self.stacks and n not in unknown for n in names):
                return None
            return [self.stacks[n].name if n in self.stacks else n for n in names], None
        most = max(known)
        inputs = []
        for name in names:
            stack = self.stacks.get(name)
            if stack is None:
                inputs.append(name)
                continue
            assert stack.rank is not None
            axes = list(range(1, 1 + most - stack.rank))
            inputs.append(
                self.front.reshaped("Unsqueeze", stack.name, axes, like) if axes else stack.name
            )
        return inputs, most

    def stack_matmul(self, node: Node) -> None:
        x, matrix = self.stack_of(node), node.inputs[1]
        if x is None or matrix in self.stacks or self.ranks.get(matrix) != 2:
            return
        rank = None if x.rank is None else x.rank + 1
        name = self.front.add("MatMul", [x.name, matrix], rank, node.outputs[0])
        self.stacks[node.outputs[0]] = Stacked(name, x.rank, True)

    def stack_gemm(self, node: Node) -> None:
        x, weight = self.stack_of(node), self.constants.get(node.inputs[1])
        attributes = node.attributes
        if x is None or weight is None or attributes.get("transA", 0):
            return
        alpha, beta = (attributes.get(key, 1.0) for key in ("alpha", "beta"))
        if attributes.get("transB", 0):
            weight = weight.T
        if alpha != 1:
            weight = weight * weight.dtype.type(alpha)
        output = node.outputs[0]
        third = node.inputs[2] if len(node.inputs) > 2 else ""
        if third and (third in self.stacks or self.ranks.get(third, 3) > 2):
            return
        matrix = self.front.constant(np.ascontiguousarray(weight), f"{output}.weight")
        name = self.front.add("MatMul", [x.name, matrix], 3, output)
        if third:
            if beta != 1:
                known = self.constants.get(third)
                if known is None:
                    return
                third = self.front.constant(known * known.dtype.type(beta), f"{output}.bias")
            name = self.front.add("Add", [name, third], 3, output)
        self.stacks[output] = Stacked(name, 2, True)

    def stack_gather(self, node: Node) -> None:
        data, index = node.inputs
        output, axis = node.outputs[0], node.attributes.get("axis", 0)
        x, i = self.stack_of(node), self.stack_of(node, 1)
        if x is not None and i is None:
            place = self.ranks.get(index)
            rank = None if x.rank is None or place is None else x.rank + place - 1
            axis += axis >= 0
            name = self.front.add("Gather", [x.name, index], _more(rank), output, axis=axis)
            self.note(output, name, rank, x)
            return
        if x is not None or i is None or i.rank is None:
            return
        axes = self.ranks.get(data)
        if axis < 0 and axes is not None:
            axis += axes
        rank = None if axes is None else axes + i.rank - 1
        if axis != 0 and (rank is None or axis < 0):
            return
        name = self.front.add("Gather", [data, i.name], _more(rank), output, axis=axis)
        if axis != 0 and rank is not None:
            order = [axis, *(a for a in range(rank + 1) if a != axis)]
            name = self.front.add("Transpose", [name], rank + 1, output, perm=order)
        self.note(output, name, rank, i)

    def stack_squeeze(self, node: Node) -> None:
        self.reshape(node)

    def stack_unsqueeze(self, node: Node) -> None:
        self.reshape(node)

    def reshape(self, node: Node) -> None:
        x, output = self.stack_of(node), node.outputs[0]
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1 and node.inputs[1]:
            known = self.constants.get(node.inputs[1])
            axes = None if known is None else known.ravel().tolist()
        if x is None or axes is None:
            return
        moved = [axis + (axis >= 0) for axis in axes]
        name = self.front.reshaped(node.op_type, x.name, moved, output)
        change = len(axes) if node.op_type == "Unsqueeze" else -len(axes)
        self.note(output, name, None if x.rank is None else x.rank + change, x)

    def stack_transpose(self, node: Node) -> None:
        x, order = self.stack_of(node), node.attributes.get("perm")
        if x is None or order is None:
            return
        moved = [0, *(axis + 1 for axis in order)]
        name = self.front.add("Transpose", [x.name], len(moved), node.outputs[0], perm=moved)
        self.note(node.outputs[0], name, len(order), x)

    def stack_concat(self, node: Node) -> None:
        stacks = [self.stacks.get(name) for name in node.inputs]
        ranks = {None if stack is None else stack.rank for stack in stacks}
        axis = node.attributes.get("axis", 0)
        if len(ranks) != 1 or None in ranks:
            return
        (rank,) = ranks
        axis += axis >= 0
        known = [stack for stack in stacks if stack is not None]
        inputs = [stack.name for stack in known]
        name = self.front.add("Concat", inputs, _more(rank), node.outputs[0], axis=axis)
        self.note(node.outputs[0], name, rank, *known)

    def stack_split(self, node: Node) -> None:
        x, axis = self.stack_of(node), node.attributes.get("axis", 0)
        if x is None or any(name in self.stacks for name in node.inputs[1:]):
            return
        attributes = {**node.attributes, "axis": axis + (axis >= 0)}
        names = [self.program.fresh(output) if output else "" for output in node.outputs]
        self.front.nodes.append(Node("Split", [x.name, *node.inputs[1:]], names, attributes))
        for output, name in zip(node.outputs, names, strict=True):
            if output:
                if x.rank is not None:
                    self.ranks[name] = x.rank + 1
                self.note(output, name, x.rank, x)

    def stack_softmax(self, node: Node) -> None:
        axis = node.attributes.get("axis", -1)
        if self.program.opsets.get("", 1) >= 13 and axis < 0:
            self.alone(node)

    # ---- what is left of the loop

    def take_columns(self) -> list[Node]:
        """Columns of stacked values are those values."""
        parts, nodes, taken = self.parts, [], set()
        count = len(parts.columns)
        axes = parts.node.attributes.get("scan_output_axes") or [0] * count
        ways = parts.node.attributes.get("scan_output_directions") or [0] * count
        for place, (info, output) in enumerate(zip(parts.columns, parts.collected, strict=True)):
            stack = self.stacks.get(info.name)
            if stack is None or (axes[place] != 0 and stack.rank is None):
                continue
            taken.add(place)
            if not output:
                continue
            name = self.reversed(stack.name, info.name) if ways[place] else stack.name
            if axes[place] == 0:
                nodes.append(Node("Identity", [name], [output]))
                continue
            assert stack.rank is not None
            order = list(range(1, stack.rank + 1))
            order.insert(axes[place] + (stack.rank + 1 if axes[place] < 0 else 0), 0)
            nodes.append(Node("Transpose", [name], [output], {"perm": order}))
        parts.drop_columns(taken)
        return nodes

    def take_states(self) -> list[Node]:
        parts = self.parts
        finals = {state: final for layer in self.layers for state, final in layer.finals.items()}
        places = {k for k, info in enumerate(parts.states) if info.name in finals}
        nodes = [
            Node("Identity", [finals[parts.states[k].name]], [parts.final[k]])
            for k in sorted(places)
            if parts.final[k]
        ]
        grown = take_grown(self.front, self.graph, parts, self.stacks)
        nodes += [node for made in grown.values() for node in made]
        parts.drop_states(places | set(grown))
        return nodes

    def shrink_body(self) -> None:
        """Leave the nodes that something still needs; they read stacked values step by step."""
        parts, body = self.parts, self.parts.body
        needed = {info.name for info in (*parts.condition, *parts.next, *parts.columns)}
        kept: list[Node] = []
        for node in reversed(body.nodes):
            own = [name for name in node.outputs if name in needed]
            if not own or all(self.is_heavy(name) for name in own):
                continue
            kept.append(node)
            needed.update(node.inputs)
            needed.update(name for inner in node.subgraphs() for name in captured(inner))
        made = {name for node in kept for name in node.outputs}
        reads = [
            self.read(name, self.stacks[name].name)
            for name in sorted(needed - made)
            if self.is_heavy(name)
        ]
        body.nodes = [node for node in reads if node is not None] + kept[::-1]

    def is_heavy(self, name: str) -> bool:
        return name in self.stacks and self.stacks[name].heavy

    def read(self, name: str, stacked: str) -> Node | None:
        """What gives a step its part of a stacked value: an element of a Scan, or a Gather."""
        parts = self.parts
        if parts.is_loop:
            iteration = parts.lead_states[0].name
            return Node("Gather", [stacked, iteration], [name], {"axis": 0})
        attributes: dict[str, Any] = parts.node.attributes
        attributes["num_scan_inputs"] += 1
        for key in ("scan_input_axes", "scan_input_directions"):
            if attributes.get(key):
                attributes[key] = [*attributes[key], 0]
        parts.sequences = [*parts.sequences, stacked]
        parts.elements = [*parts.elements, ValueInfo(name, "", None)]
        return None


def _more(rank: int | None) -> int | None:
    return None if rank is None else rank + 1
