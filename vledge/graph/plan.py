"""A graph made ready to run: every node prepared once, then the native program, or one function.

The function serves where the program does not (a strategy, `VLEDGE_PROGRAM=0`), and what its nodes'
stand-ins do is made in the same way. It is Python text made here and compiled, one statement a
node, values as its local variables: that is the least that a node can cost in Python, drops each
array at its last use, and has no state, so that threads share it. Nothing of the file's text gets
into it, only numbers.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np

from vledge._ext.room import Room
from vledge.budget import RunLimits
from vledge.errors import UnsupportedError
from vledge.graph.native.emit import Emitted, emit
from vledge.graph.passes import Program, simplify
from vledge.graph.passes.program import captured
from vledge.graph.prepared import Fallback, Prepared, blamed, prepare, several
from vledge.graph.values import as_value
from vledge.model.definition import Graph, Model, Node
from vledge.model.element_types import element_of
from vledge.nn.model_strategy import MODEL_STRATEGY

__all__ = [
    "NEWEST_OPSET",
    "OLDEST_OPSET",
    "MemoryUse",
    "Plan",
    "copied",
    "owned",
    "simplified",
    "unsupported",
]

OLDEST_OPSET: Final = 7  # before it, elementwise operators broadcast by rules of their own
NEWEST_OPSET: Final = 28  # of onnx 1.23

_FILE: Final = "<vledge plan>"
_Run = Callable[..., list[np.ndarray]]


class MemoryUse(NamedTuple):
    """Bytes of a session.

    ``constants`` are values that runs read as they are, weights of nodes in Python among them.
    ``packed`` is what instructions keep of weights in the kernels' own layout. ``held`` is what
    frames of earlier runs keep for the next one, ``peak`` the most that values of one run took, its
    inputs and small outputs not counted.
    """

    constants: int
    packed: int
    held: int
    peak: int


class Plan:
    """One model, ready to run: ``plan.run(*arrays of plan.inputs)`` gives those of its outputs.

    ``variable`` names initializers that are inputs of this plan rather than constants.
    ``options`` are handed to the operators (`Context.options`); ``fallback`` makes a node runnable
    that no operator here is for, or is None. ``where`` begins the messages of runs.

    ``native`` is the native program, whose results are the caller's own arrays, or None where
    ``VLEDGE_PROGRAM=0`` asks for none.

    Raises UnsupportedError that lists every node that cannot run, FormatError for a broken one. A
    run raises ValueError with the node's name for whatever went wrong in it, or MemoryError, or
    vledge's own errors where an operator did.
    """

    def __init__(
        self,
        model: Model,
        options: dict[str, Any],
        fallback: Fallback | None = None,
        variable: Iterable[str] = (),
        where: str = "",
    ) -> None:
        program = simplified(model, options, fallback, variable)
        self.inputs = [info.name for info in program.graph.inputs]
        self._graph = program.graph
        self._where = where
        self._limits = program.budget.run_limits
        with np.errstate(all="ignore"):
            operators = _Operators(program)
        problems = [*operators.problems, *_not_held(program.graph)]
        if problems:
            raise UnsupportedError(_listed(problems, model))
        self._compiler = _Compiler(program, operators)
        self.native: Emitted | None = None
        if os.environ.get("VLEDGE_PROGRAM", "1") != "0":
            self.native = emit(program, operators.prepared, self._compiler.compiled, options)
            self.native.program.limits = self._limits
        self._released_bytes = self._compiler.let_go(program.graph)

    def run(self, *arrays: Any, outs: list[Any] | None = None) -> list[Any]:
        """The outputs, as the caller's own, of values of the inputs.

        ``outs`` are where the native program writes them, as its ``run`` says.
        """
        if self.native is None or MODEL_STRATEGY.get() is not None:  # operators know strategies
            with np.errstate(all="ignore"):
                return owned(self.function(*arrays))
        try:
            return self.native.program.run(list(arrays), None, outs)
        except Exception as error:
            self.blame(error)
            raise

    def blame(self, error: Exception) -> None:
        """Raise a run's error again with the name of the node that was running, if one was."""
        _blame(error, self._where)

    def run_feed(
        self,
        feed: dict[str, np.ndarray],
        expected: tuple[tuple[str, int, tuple[int, ...] | None], ...],
        outs: list[Any] | None = None,
    ) -> list[Any] | None:
        """The same of arrays by name that are as expected (`Program.run_feed`), or None."""
        if self.native is None or MODEL_STRATEGY.get() is not None:
            return None
        try:
            return self.native.program.run_feed(feed, expected, outs)
        except Exception as error:
            self.blame(error)
            raise

    def memory(self) -> MemoryUse:
        """What is kept, and what runs have used."""
        constants = {id(array): array for array in self._compiler.constants.values()}
        packed, held, peak = self._released_bytes, 0, 0
        if self.native is not None:
            constants |= {id(array): array for array in self.native.constants}
            packed, (held, peak) = self.native.packed_bytes, self.native.program.memory()
        return MemoryUse(sum(a.nbytes for a in constants.values()), packed, held, peak)

    @functools.cached_property
    def function(self) -> _Run:
        """The graph as one Python function, whose results may be views of one another."""
        run = self._compiler.compiled(self._graph)
        return _naming_nodes(_within(run, self._limits), self._where)


def simplified(
    model: Model,
    options: dict[str, Any] | None = None,
    fallback: Fallback | None = None,
    variable: Iterable[str] = (),
) -> Program:
    """The model after every pass."""
    program = copied(model, options, fallback, variable)
    with np.errstate(all="ignore"):
        simplify(program)
    return program


def copied(
    model: Model,
    options: dict[str, Any] | None = None,
    fallback: Fallback | None = None,
    variable: Iterable[str] = (),
) -> Program:
    """The model before any pass: a copy of each node, where the file has it."""
    for domain, opset in model.opset_imports.items():
        if domain == "" and opset > NEWEST_OPSET:
            raise UnsupportedError(
                f"the model is written in operator set {opset}; the newest that is known here is "
                f"{NEWEST_OPSET}. Export it with opset_version={NEWEST_OPSET} or older"
            )
    preparing = functools.partial(prepare, options=options or {}, fallback=fallback)
    return Program(model, preparing, variable)


def unsupported(program: Program) -> list[str]:
    """What keeps a program from running, by node; empty if nothing does."""
    problems = _Operators(program).problems
    return list(dict.fromkeys([*problems, *_not_held(program.graph)]))


class _Operators:
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


def _listed(problems: Sequence[str], model: Model) -> str:
    lines = "".join(f"\n  {problem}" for problem in dict.fromkeys(problems))
    hint = ""
    opset = model.opset_imports.get("", NEWEST_OPSET)
    if opset < OLDEST_OPSET:
        hint = (
            f"\nThe model is written in operator set {opset}; convert it to {OLDEST_OPSET} or "
            "newer with onnx.version_converter"
        )
    return f"the model cannot run here:{lines}{hint}"


def _not_held(graph: Graph) -> list[str]:
    """Inputs and outputs that no array, list of arrays or None can hold."""
    return [
        f"{info.name!r} is of the type {info.type}, which is not supported"
        for info in (*graph.inputs, *graph.outputs)
        if info.type and element_of(info.type) is None
    ]


class _Compiler:
    """Writes and compiles the function of a graph, and of every graph inside of it."""

    def __init__(self, program: Program, operators: _Operators) -> None:
        self.constants = program.constants
        self.operators = operators

    def compiled(self, graph: Graph) -> _Run:
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
            writer.step(node, self.operators.prepared(node), bodies)
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

    def object(self, value: Any) -> str:
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
        self, node: Node, prepared: Prepared, bodies: dict[str, tuple[_Run, list[str]]]
    ) -> None:
        arguments = [
            "None" if index in prepared.released else self.value(name)
            for index, name in enumerate(node.inputs)
        ]
        for key, (body, names) in bodies.items():
            bound = ", ".join([self.object(body), *(self.variables[name] for name in names)])
            arguments.append(f"{key}=partial({bound})" if names else f"{key}={bound}")
        call = f"{self.object(prepared.function)}({', '.join(arguments)})"
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

    def end(self, outputs: Iterable[str]) -> _Run:
        self.line(f"return [{', '.join(self.value(name) for name in outputs)}]")
        exec(compile("\n".join(self.lines), _FILE, "exec"), self.scope)
        run: _Run = self.scope.pop("run")
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


def _one(result: Any) -> Any:
    """The value that an operator returned in another guise."""
    if isinstance(result, (tuple, list)):
        result = result[0]
    return as_value(result)


def _within(run: _Run, limits: RunLimits) -> _Run:
    """The function, no value and no loop of which is beyond the limits of a run."""

    def limited(*arrays: Any) -> list[Any]:
        given = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
        room = Room(limits.memory + limits.times_inputs * given, limits.trips)
        try:
            with room:
                return run(*arrays)
        except (MemoryError, ValueError, OverflowError) as error:
            if room.refused:
                raise limits.too_large(room.refused).with_traceback(error.__traceback__) from error
            if room.left < 0:
                raise limits.too_long().with_traceback(error.__traceback__) from error
            raise

    return limited


def _naming_nodes(run: _Run, where: str) -> _Run:
    """The function, whose errors name the node that was running."""

    @functools.wraps(run)
    def named(*arrays: np.ndarray) -> list[np.ndarray]:
        try:
            return run(*arrays)
        except Exception as error:
            _blame(error, where)
            raise

    return named


def _blame(error: Exception, where: str) -> None:
    """Raise the error again with the name of the node that was running, if one was."""
    node = _failed_node(error.__traceback__)
    if node is not None:
        raise blamed(error, node, ValueError, where) from error


def _failed_node(traceback: TracebackType | None) -> Node | None:
    """The innermost node of a plan that was running when an exception was raised."""
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_filename == _FILE:
            found = frame.f_globals["nodes"].get(traceback.tb_lineno, found)
        traceback = traceback.tb_next
    return found


def owned(results: list[Any]) -> list[Any]:
    """Results that the caller may change: no view of an input, of a constant or of one another.

    A sequence becomes a list.
    """
    seen: set[int] = set()
    for index, array in enumerate(results):
        if not isinstance(array, np.ndarray):
            results[index] = None if array is None else [each.copy() for each in array.arrays]
            continue
        base = id(array if array.base is None else array.base)
        if not array.flags.writeable or base in seen:
            results[index] = array.copy()
        seen.add(base)
    return results
