"""A graph as one Python function, of text that is made here and compiled.

One statement a node, values as its local variables: that is the least that a node can cost in
Python, drops each array at its last use, and has no state, so that threads share it. Nothing of the
file's text gets into it, only numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.passes import Program
from vledge.graph.passes.program import captured
from vledge.graph.prepared import Prepared, blamed, several
from vledge.graph.registry import NodeFunction
from vledge.graph.values import Value, as_value
from vledge.model.definition import Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["Compiler", "Operators", "Run", "blame", "naming_nodes"]

_FILE: Final = "<vledge plan>"
Run = Callable[..., list[np.ndarray]]


class Operators:
    """Every node of a program made runnable, once; what cannot be is among the problems."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.problems: list[str] = []
        self._prepared: dict[int, tuple[Node, Prepared]] = {}  # by identity; the node is kept alive
        self._prepare(program.graph)

    def prepared(self, node: Node) -> Prepared:
        known = self._prepared.get(id(node))
        if known is None:
            known = self._prepared[id(node)] = node, self.program.prepared(node)
        return known[1]

    def _prepare(self, graph: Graph) -> None:
        for node in graph.nodes:
            try:
                self.prepared(node)
            except UnsupportedError as error:
                self.problems.append(str(error))
            for inner in node.subgraphs():
                self._prepare(inner)


class Compiler:
    """Writes and compiles the function of a graph, and of every graph inside of it."""

    def __init__(self, program: Program, operators: Operators) -> None:
        self.constants = program.constants
        self.operators = operators
        self._texts = _may_have_texts(program)

    def compiled(self, graph: Graph) -> Run:
        """The function of a graph: what it captures, then its inputs, to its outputs."""
        writer = _Writer(self.constants)
        parameters = [n for n in captured(graph) if n not in self.constants]
        parameters += [info.name for info in graph.inputs]
        writer.begin(parameters)
        last_use = _last_uses(graph)
        for index, node in enumerate(graph.nodes):
            bodies = {
                key: (self.compiled(value), [n for n in captured(value) if n in writer.variables])
                for key, value in node.attributes.items()
                if isinstance(value, Graph)
            }
            prepared = self.operators.prepared(node)
            function = prepared.checked if self._texts else prepared.function
            writer.step(node, function, prepared.released, bodies)
            writer.drop(name for name in last_use.get(index, ()) if name in writer.variables)
        return writer.end([info.name for info in graph.outputs])

    def let_go(self, graph: Graph) -> int:
        """Forget the constants whose readers have all taken what they need; returns their bytes.

        Their names stay, so that they are still known as constants.
        """
        kept = self._read(graph)
        bytes_ = 0
        for name, array in self.constants.items():
            if name not in kept:
                bytes_ += array.nbytes
                self.constants[name] = _GONE
        return bytes_

    def _read(self, graph: Graph) -> set[str]:
        names = {info.name for info in graph.outputs}
        for node in graph.nodes:
            released = self.operators.prepared(node).released
            names.update(n for index, n in enumerate(node.inputs) if index not in released)
            for body in node.subgraphs():
                names |= self._read(body)
        return names


_GONE: Final = np.empty(0, np.uint8)


class _Writer:
    """The text of one function, line by line, and the objects that it refers to by number."""

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.constants = constants
        self.variables: dict[str, str] = {}
        self.lines: list[str] = []
        self.nodes: dict[int, Node] = {}  # line → the node that it runs
        self.scope: dict[str, Any] = {
            "Array": np.ndarray,
            "one": _one,
            "several": several,
            "partial": functools.partial,
            "nodes": self.nodes,
        }

    def begin(self, parameters: Iterable[str]) -> None:
        names = [self.variable(name) for name in parameters]
        self.lines.append(f"def run({', '.join(names)}):")

    def variable(self, name: str) -> str:
        return self.variables.setdefault(name, f"v{len(self.variables)}")

    def object(self, value: object) -> str:
        name = f"o{len(self.scope)}"
        self.scope[name] = value
        return name

    def value(self, name: str) -> str:
        if not name:
            return "None"
        if name in self.variables:
            return self.variables[name]
        return self.object(self.constants[name])

    def step(
        self,
        node: Node,
        function: NodeFunction,
        released: frozenset[int],
        bodies: dict[str, tuple[Run, list[str]]],
    ) -> None:
        arguments = [
            "None" if index in released else self.value(name)
            for index, name in enumerate(node.inputs)
        ]
        for key, (body, names) in bodies.items():
            bound = ", ".join([self.object(body), *(self.variables[name] for name in names)])
            arguments.append(f"{key}=partial({bound})" if names else f"{key}={bound}")
        call = f"{self.object(function)}({', '.join(arguments)})"
        targets = [self.variable(name) if name else "_" for name in node.outputs]
        if len(targets) == 1:
            target = targets[0]
            self.line(f"{target} = {call}", node)
            self.line(f"if type({target}) is not Array: {target} = one({target})", node)
        else:
            self.line(f"{', '.join(targets)} = several({call}, {len(targets)})", node)

    def line(self, text: str, node: Node | None = None) -> None:
        self.lines.append(f"    {text}")
        if node is not None:
            self.nodes[len(self.lines)] = node

    def drop(self, names: Iterable[str]) -> None:
        targets = [self.variables[name] for name in names]
        if targets:
            self.line(" = ".join(targets) + " = None")

    def end(self, outputs: Iterable[str]) -> Run:
        self.line(f"return [{', '.join(self.value(name) for name in outputs)}]")
        exec(compile("\n".join(self.lines), _FILE, "exec"), self.scope)
        run: Run = self.scope.pop("run")
        return run


def _last_uses(graph: Graph) -> dict[int, list[str]]:
    """Node index → the values that no later node and no output uses."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        inner = (name for body in node.subgraphs() for name in captured(body))
        for name in (*node.inputs, *node.outputs, *inner):
            if name:
                last[name] = index
    for info in graph.outputs:
        last.pop(info.name, None)
    uses: dict[int, list[str]] = {}
    for name, index in last.items():
        uses.setdefault(index, []).append(name)
    return uses


def _one(result: object) -> Value:
    """The value that an operator returned in another guise."""
    if isinstance(result, (tuple, list)):
        result = result[0]
    return as_value(result)


def naming_nodes(run: Run, where: str) -> Run:
    """The function, whose errors name the node that was running."""

    @functools.wraps(run)
    def named(*arrays: np.ndarray) -> list[np.ndarray]:
        try:
            return run(*arrays)
        except Exception as error:
            blame(error, where)
            raise

    return named


def blame(error: Exception, where: str) -> None:
    """Raise the error again with the name of the node that was running, if one was."""
    node = _failed_node(error.__traceback__)
    if node is not None:
        raise blamed(error, node, ValueError, where) from error


def _failed_node(traceback: TracebackType | None) -> Node | None:
    """The innermost node of a plan that was running when an exception was raised."""
    innermost = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_filename == _FILE:
            innermost = frame.f_globals["nodes"].get(traceback.tb_lineno, innermost)
        traceback = traceback.tb_next
    return innermost


def _may_have_texts(program: Program) -> bool:
    """Whether a run may meet tensors of texts: given, known, or made by a Cast."""
    if any(not info.type or "string" in info.type for info in program.graph.inputs):
        return True
    if any(array.dtype.char == "O" for array in program.constants.values()):
        return True
    return _makes_texts(program.graph)


def _makes_texts(graph: Graph) -> bool:
    return any(
        (node.op_type == "Cast" and node.attributes.get("to") == NUMBERS["string"])
        or node.op_type == "Constant"  # one that was not computed at load
        or any(
            getattr(value, "dtype", None) is np.dtype(object) for value in node.attributes.values()
        )
        or any(map(_makes_texts, node.subgraphs()))
        for node in graph.nodes
    )
