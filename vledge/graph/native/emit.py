"""Makes the native program of a simplified graph: slots for values, instructions for clusters.

Bodies of If, Loop and Scan are ranges of the same list, emitted before the node that runs them.
Their values have slots of the same frame: no two values share a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vledge._ext.program import Program as NativeProgram
from vledge.graph.native.clusters import Cluster, clusters
from vledge.graph.native.lowering import Lowered, Site, is_lowered
from vledge.graph.native.types import infer
from vledge.graph.passes.program import Program, captured
from vledge.graph.prepared import Prepared
from vledge.graph.registry import SessionSettings
from vledge.graph.values import Value
from vledge.model.definition import Graph, Node, ValueInfo

__all__ = ["Emitted", "emit"]

_Compile = Callable[[Graph], Callable[..., list[Value]]]


class HasBytes(Protocol):
    """What an instruction keeps: weights laid out for a kernel."""

    @property
    def nbytes(self) -> int: ...


class Emitted:
    """A native program, and by instruction its nodes, its handler (None: Python), what it keeps.

    ``constants`` are those that stand in slots, ``taken_bytes`` are of constants that Python
    operators keep in a form of their own.
    """

    def __init__(
        self,
        program: NativeProgram,
        nodes: list[Sequence[Node]],
        handlers: list[str | None],
        objects: list[Sequence[HasBytes]],
        constants: list[np.ndarray],
        taken_bytes: int,
    ):
        self.program = program
        self.nodes = nodes
        self.handlers = handlers
        self.objects = objects
        self.taken_bytes = taken_bytes
        self.constants = constants

    @property
    def packed_bytes(self) -> int:
        """Weights laid out for kernels, some of them only when a run has first wanted them so."""
        distinct = {id(one): one for line in self.objects for one in line}
        return self.taken_bytes + sum(one.nbytes for one in distinct.values())

    def why_python(self, instruction: int) -> str:
        """Why an instruction is its nodes' Python operators from the start; empty if it is not."""
        if self.handlers[instruction] is not None:
            return ""
        if any(is_lowered(node) for node in self.nodes[instruction]):
            return "no native handler for these attributes, types or weights"
        return "no native handler"


def emit(
    program: Program,
    prepared: Callable[[Node], Prepared],
    compile_: _Compile,
    options: SessionSettings,
) -> Emitted:
    """``prepared`` gives a node's Python operator, ``compile_`` a graph's Python function."""
    return _Emitter(program, prepared, compile_, options).emitted()


class _StandIn:
    """What runs a cluster's nodes in Python, made when it is first wanted."""

    def __init__(
        self,
        compile_: _Compile,
        nodes: Sequence[Node],
        inputs: Sequence[str],
        outputs: Sequence[str],
        constants: Mapping[str, np.ndarray],
    ) -> None:
        self._compile, self._nodes, self._outputs = compile_, nodes, outputs
        wanted = dict.fromkeys(name for name in inputs if name and name not in constants)
        self._names = list(wanted)
        places: dict[str, int] = {}
        for place, name in enumerate(inputs):
            places.setdefault(name, place)
        self._places = [places[name] for name in self._names]
        self._run: Callable[..., list[Value]] | None = None

    def __call__(self, *values: Value) -> list[Value]:
        if self._run is None:
            made = {name for node in self._nodes for name in node.outputs if name}
            graph = Graph(
                list(self._nodes),
                [ValueInfo(name, "", None) for name in self._names],
                [ValueInfo(name, "", None) for name in self._outputs if name in made],
            )
            run, self._kept = self._compile(graph), [name in made for name in self._outputs]
            self._run = run
        results = iter(self._run(*(values[place] for place in self._places)))
        return [next(results) if kept else None for kept in self._kept]


class _Emitter:
    def __init__(
        self,
        program: Program,
        prepared: Callable[[Node], Prepared],
        compile_: _Compile,
        options: SessionSettings,
    ) -> None:
        self.source = program
        self.prepared = prepared
        self.compile = compile_
        self.options = options
        self.dtypes = infer(program.graph, program.constants, dict(program.dtypes))
        self.slots: dict[str, int] = {}
        self.constants: dict[int, np.ndarray] = {}
        self.instructions: list[tuple[Any, ...]] = []
        self.nodes: list[Sequence[Node]] = []
        self.taken_bytes = 0

    def emitted(self) -> Emitted:
        graph = self.source.graph
        inputs = [self.slot(info.name) for info in graph.inputs]
        main = self.block(graph, [info.name for info in graph.outputs], set())
        outputs = [self.slot(info.name) for info in graph.outputs]
        native = NativeProgram(
            len(self.slots), self.constants, self.instructions, main, inputs, outputs
        )
        return Emitted(
            native,
            self.nodes,
            [line[0] for line in self.instructions],
            [line[6] for line in self.instructions],
            list(self.constants.values()),
            self.taken_bytes,
        )

    def slot(self, name: str) -> int:
        if not name:
            return -1
        known = self.slots.get(name)
        if known is not None:
            return known
        slot = self.slots[name] = len(self.slots)
        if name in self.source.constants:
            self.constants[slot] = self.source.constants[name]
        return slot

    def site(self, node: Node) -> Site:
        return Site(
            node,
            self.source.opsets.get(node.domain, 1),
            self.prepared(node),
            self.source.constants,
            self.dtypes,
            self.options,
        )

    # ---- a graph's instructions

    def block(self, graph: Graph, outputs: Iterable[str], inputs: set[str]) -> tuple[int, int]:
        """Emit the graph; what stands in ``inputs`` is dropped by who set it."""
        lines = [self.line(cluster) for cluster in clusters(graph, self.site)]
        kept = {*outputs, *inputs, *self.source.constants}
        own = {name for line in lines for name in line.gives}
        own |= {info.name for info in graph.inputs}
        last: dict[str, int] = {}
        for index, line in enumerate(lines):
            for name in (*line.takes, *line.gives):
                if name and name in own and name not in kept:
                    last[name] = index
        dropped: dict[int, list[int]] = {}
        for name, index in last.items():
            dropped.setdefault(index, []).append(self.slot(name))
        first = len(self.instructions)
        for index, line in enumerate(lines):
            drops = dropped.get(index, [])
            low = line.lowered
            handler = None if low is None else low.handler
            ints, floats, objects = (
                ([], [], []) if low is None else (low.ints, low.floats, low.objects)
            )
            self.instructions.append(
                (
                    handler,
                    [self.slot(name) for name in line.takes],
                    [self.slot(name) for name in line.gives],
                    drops,
                    ints,
                    floats,
                    objects,
                    line.stand_in,
                )
            )
            self.nodes.append(line.nodes)
        return first, len(self.instructions)

    def line(self, cluster: Cluster) -> _Line:
        low = cluster.lowered
        if len(cluster.nodes) == 1 and not cluster.nodes[0].domain:
            node = cluster.nodes[0]
            control = {"If": self.if_, "Loop": self.loop, "Scan": self.scan}.get(node.op_type)
            if control is not None:
                low = control(node)
        made = [name for node in cluster.nodes for name in node.outputs]
        needed = [name for node in cluster.nodes for name in _read(node)]
        if low is not None and low.outputs is not None:
            gives = list(low.outputs)
        elif len(cluster.nodes) == 1:
            gives = list(made)
        else:
            raise ValueError("a cluster of several nodes names its outputs")
        if low is not None and low.inputs is not None:
            takes = list(low.inputs)
        elif len(cluster.nodes) == 1:
            takes = list(cluster.nodes[0].inputs)
            if low is None:
                self.leave_out(takes, self.prepared(cluster.nodes[0]).released)
        else:
            raise ValueError("a cluster of several nodes names its inputs")
        # What only the Python operators read stands behind what the handler reads.
        present = {*takes, *made}
        takes += [
            name
            for name in dict.fromkeys(needed)
            if name and name not in present and name not in self.source.constants
        ]
        stand_in = _StandIn(self.compile, cluster.nodes, takes, gives, self.source.constants)
        return _Line(cluster.nodes, low, takes, gives, stand_in)

    def leave_out(self, names: list[str], released: Iterable[int]) -> None:
        """Inputs that a Python operator has kept what it needs of: no slot holds the rest."""
        for index in released:
            if index < len(names) and names[index]:
                self.taken_bytes += self.source.constants[names[index]].nbytes
                names[index] = ""

    # ---- bodies

    def body(self, graph: Graph) -> tuple[list[int], list[int]]:
        """Emit a body, each of whose outputs becomes a value of its own: (range, output slots)."""
        made: set[str] = {name for node in graph.nodes for name in node.outputs if name}
        renamed, outputs = list(graph.nodes), []
        for info in graph.outputs:
            name = info.name
            if name not in made or name in outputs:
                fresh = self.source.fresh(name or "output")
                renamed.append(Node("Identity", [name], [fresh]))
                name = fresh
            outputs.append(name)
        inputs = {info.name for info in graph.inputs}
        inner = Graph(renamed, graph.inputs, [ValueInfo(name, "", None) for name in outputs])
        first, last = self.block(inner, outputs, inputs)
        return [first, last], [self.slot(name) for name in outputs]

    def if_(self, node: Node) -> Lowered | None:
        branches = [node.attributes.get(key) for key in ("then_branch", "else_branch")]
        ints: list[int] = []
        for branch in branches:
            if not isinstance(branch, Graph) or len(branch.outputs) != len(node.outputs):
                return None
            bounds, outputs = self.body(branch)
            ints += [*bounds, *outputs]
        return Lowered("if", ints)

    def loop(self, node: Node) -> Lowered | None:
        body = node.attributes.get("body")
        states = len(node.inputs) - 2
        if not isinstance(body, Graph) or states < 0 or len(body.inputs) != 2 + states:
            return None
        columns = len(body.outputs) - 1 - states
        if columns < 0 or len(node.outputs) > states + columns or not all(node.inputs[2:]):
            return None
        bounds, outputs = self.body(body)
        slots = [self.slot(info.name) for info in body.inputs]
        return Lowered("loop", [states, columns, *slots, *bounds, *outputs])

    def scan(self, node: Node) -> Lowered | None:
        body = node.attributes.get("body")
        count = node.attributes.get("num_scan_inputs", 0)
        states = len(node.inputs) - count
        if self.source.opsets.get("", 1) < 9 or not isinstance(body, Graph) or count < 1:
            return None
        columns = len(body.outputs) - states
        sizes = {"input": count, "output": columns}
        if any(
            len(node.attributes.get(f"scan_{key}_{what}") or [0] * size) != size
            for key, size in sizes.items()
            for what in ("axes", "directions")
        ):
            return None
        if states < 0 or len(body.inputs) != len(node.inputs) or columns < 0:
            return None
        if len(node.outputs) > states + columns or not all(node.inputs):
            return None
        parts = [
            [*pair]
            for key, size in sizes.items()
            for pair in zip(
                node.attributes.get(f"scan_{key}_axes") or [0] * size,
                node.attributes.get(f"scan_{key}_directions") or [0] * size,
                strict=True,
            )
        ]
        bounds, outputs = self.body(body)
        slots = [self.slot(info.name) for info in body.inputs]
        flat = [number for part in parts for number in part]
        return Lowered("scan", [states, count, columns, *flat, *slots, *bounds, *outputs])


class _Line:
    def __init__(
        self,
        nodes: Sequence[Node],
        lowered: Lowered | None,
        takes: list[str],
        gives: list[str],
        stand_in: _StandIn,
    ) -> None:
        self.nodes, self.lowered, self.takes, self.gives = nodes, lowered, takes, gives
        self.stand_in = stand_in


def _read(node: Node) -> list[str]:
    """What a node reads: its inputs, and what its graphs capture."""
    return [*node.inputs, *(name for graph in node.subgraphs() for name in captured(graph))]
