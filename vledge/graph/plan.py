"""A graph made ready to run: every node prepared once, then the native program, or one function.

The function serves where the program does not (a strategy, `VLEDGE_PROGRAM=0`), and what its nodes'
stand-ins do is made in the same way (`python_function.py`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np

from vledge._ext.room import Room
from vledge.budget import RunLimits
from vledge.errors import LONGEST_MESSAGE, FormatError, UnsupportedError, VledgeError, cut
from vledge.graph.native.emit import Emitted, emit
from vledge.graph.passes import Program, simplify
from vledge.graph.prepared import Fallback, prepare
from vledge.graph.python_function import Compiler, Operators, Run, blame, naming_nodes
from vledge.graph.registry import SessionSettings
from vledge.graph.values import Result, Value
from vledge.lengths.model_strategy import MODEL_STRATEGY
from vledge.model.definition import Graph, Model
from vledge.model.element_types import element_of

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

    @classmethod
    def of_all(cls, uses: Sequence[MemoryUse]) -> MemoryUse:
        """Of several plans, of which one runs at a time."""
        constants, packed, held, peaks = zip(*uses, strict=True)
        return cls(sum(constants), sum(packed), sum(held), max(peaks))


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
        options: SessionSettings,
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
            operators = Operators(program)
        problems = [*operators.problems, *_not_held(program.graph)]
        if problems:
            raise UnsupportedError(_listed(problems, model))
        self._compiler = Compiler(program, operators)
        self.native: Emitted | None = None
        if os.environ.get("VLEDGE_PROGRAM", "1") != "0":
            with _doing("lowered"):
                self.native = emit(program, operators.prepared, self._compiler.compiled, options)
            self.native.program.limits = self._limits
        self._released_bytes = self._compiler.let_go(program.graph)

    def run(self, *arrays: Value, outs: list[np.ndarray | None] | None = None) -> list[Result]:
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
        blame(error, self._where)

    def run_feed(
        self,
        feed: dict[str, np.ndarray],
        expected: tuple[tuple[str, int, tuple[int, ...] | None], ...],
        outs: list[np.ndarray | None] | None = None,
    ) -> list[Result] | None:
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
    def function(self) -> Run:
        """The graph as one Python function, whose results may be views of one another."""
        return self.function_with(frozenset())

    def function_with(self, states: frozenset[int]) -> Run:
        """The same for a stream, whose states are the inputs at these places: what a step may take
        goes by its frames, not by the states that it grows."""
        run = self._compiler.compiled(self._graph)
        return naming_nodes(_within(run, self._limits, states), self._where)


def simplified(
    model: Model,
    options: SessionSettings | None = None,
    fallback: Fallback | None = None,
    variable: Iterable[str] = (),
) -> Program:
    """The model after every pass."""
    program = copied(model, options, fallback, variable)
    with _doing("made simpler"), np.errstate(all="ignore"):
        simplify(program)
    return program


@contextmanager
def _doing(what: str) -> Iterator[None]:
    """A step over a whole graph, which may take for granted what no file need have."""
    try:
        yield
    except (VledgeError, MemoryError):
        raise
    except Exception as error:
        why = cut(f"{type(error).__name__}: {error}", LONGEST_MESSAGE)
        raise FormatError(f"the graph cannot be {what}: {why}") from error


def copied(
    model: Model,
    options: SessionSettings | None = None,
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
    problems = Operators(program).problems
    return list(dict.fromkeys([*problems, *_not_held(program.graph)]))


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


def _within(run: Run, limits: RunLimits, states: frozenset[int]) -> Run:
    """The function, no value and no loop of which is beyond the limits of a run."""

    @functools.wraps(run)
    def limited(*arrays: np.ndarray) -> list[np.ndarray]:
        given = sum(
            array.nbytes
            for place, array in enumerate(arrays)
            if place not in states and isinstance(array, np.ndarray)
        )
        room = Room(limits.bytes_for(given), limits.trips)
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


def owned(results: list[Value]) -> list[Result]:
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
