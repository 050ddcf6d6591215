"""Takes out of a loop what depends on the step's own inputs only, for all steps at once.

A body's value that is computed from elements of sequences, constants and values around is a slice
of one large value; a product per step becomes one product in front of the loop. A recognised cell
whose states nobody else changes is such a value too: its loop is a recurrent layer. A loop that
then has nothing left to do goes.

Exact but for rounding, and for columns of a loop that runs no step at all: their further axes have
the sizes that steps would have given them, not those that the body declares.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.graph.native.types import infer
from vledge.graph.passes.carried import LoopParts
from vledge.graph.passes.growing import take_grown
from vledge.graph.passes.layers import Layer, layer_of
from vledge.graph.passes.program import Program, captured
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.passes.stacking import Stacking
from vledge.graph.passes.stacks import Stacked
from vledge.graph.passes.trips import Counters, Front, trip_count
from vledge.graph.passes.zeros import zeros_of
from vledge.model.definition import Attributes, Graph, Node, ValueInfo

__all__ = ["hoist_steps"]

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
        self.stacking = Stacking(program, parts.body, ranks, self.front)
        self.stacks = self.stacking.stacks
        self.layers: list[Layer] = []

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
                    self.stacking.visit(node)
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
            name = self.front.reversed(name, element)
        self.stacks[element] = Stacked(name, None if rank is None else rank - 1, False)

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
            name = self.front.reversed(stack.name, info.name) if ways[place] else stack.name
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
        attributes: Attributes = parts.node.attributes
        attributes["num_scan_inputs"] += 1
        for key in ("scan_input_axes", "scan_input_directions"):
            if attributes.get(key):
                attributes[key] = [*attributes[key], 0]
        parts.sequences = [*parts.sequences, stacked]
        parts.elements = [*parts.elements, ValueInfo(name, "", None)]
        return None
