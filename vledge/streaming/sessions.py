"""Whole ONNX models as machines: what they remember is found, carried, and proven at the start.

`vledge.streaming.promotion` finds it and `vledge.streaming.trial` proves it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from vledge.errors import UnsupportedError, quoted
from vledge.graph.plan import Plan
from vledge.graph.registry import SessionSettings
from vledge.model.definition import Model
from vledge.model.element_types import DTYPES, element_of
from vledge.streaming.calls import CallMachine
from vledge.streaming.carried import Carried, Frames, carried, misfit
from vledge.streaming.contexts import CONTEXTS
from vledge.streaming.frame_graph import FrameGraph, row_axis
from vledge.streaming.machine import Fed, Made, Outs, State, checked_rows
from vledge.streaming.promotion import PromotedState, Promotion
from vledge.streaming.recurrences import RECURRENCES
from vledge.streaming.stream import Stream
from vledge.streaming.trial import NotFiniteError, prove

__all__ = ["SessionMachine", "stream"]

TRIAL_FRAMES = 16


def stream(
    model: Model,
    where: str,
    options: SessionSettings,
    batch: int,
    time_axis: int | Mapping[str, int] | None,
    states: Mapping[str, str] | None,
    fixed: Mapping[str, ArrayLike] | None,
    hop: int | None,
    context: int | None,
) -> Stream:
    """A stream of a model; what ``InferenceSession.stream`` calls."""
    batch = checked_rows(batch)
    for name, given in (("states", states), ("fixed", fixed)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{name} is a {type(given).__name__}, expected a dict by input")
    for info in model.graph.inputs:
        if element_of(info.type) is None:
            raise UnsupportedError(
                f"{where}input {quoted(info.name)} has no type of numbers in the file: a stream "
                "must know what its frames are of"
            )
    try:
        graph = FrameGraph(model, options, time_axis, states, dict(fixed or {}))
        if hop is not None or context is not None:
            return Stream(CallMachine(graph, batch, hop, context or 0))
        if graph.called_by_frame:
            return Stream(CallMachine(graph, batch))
        return _framed(graph, batch)
    except UnsupportedError as error:
        raise UnsupportedError(f"{where}{error}") from None


def _framed(graph: FrameGraph, batch: int) -> Stream:
    """A stream over the axis that is time: the first of those that it may be with which it runs."""
    refused: list[str] = []
    ways = graph.ways()
    for way in ways:
        graph.time_axes = way
        try:
            try:
                return Stream(SessionMachine(graph, batch))
            except NotFiniteError:
                graph.positive = True  # as levels and powers are, of which a logarithm is taken
                return Stream(SessionMachine(graph, batch))
        except UnsupportedError as error:
            if len(ways) == 1:
                raise
            shown = ", ".join(f"axis {axis} of {name!r}" for name, axis in way.items())
            refused.append(f"with {shown} as time: {error}")
    hint = f"say which it is, time_axis={graph.or_windows()}"
    raise UnsupportedError(
        f"no axis that may be time can be streamed: {hint}. {'; '.join(refused)}"
    )


class SessionMachine:
    """A model that was rewritten so that its states are inputs and outputs."""

    def __init__(self, graph: FrameGraph, rows: int) -> None:
        if rows < 1:
            raise ValueError(f"batch must be at least 1, got {rows}")
        self.rows = self._tried_rows = rows
        self._graph = graph
        kinds = {**CONTEXTS, **RECURRENCES}
        promotion = Promotion(graph.model, kinds, graph.feed, rows, TRIAL_FRAMES, graph.options)
        feed = promotion.feeds[0]
        own = [
            PromotedState(
                info.name, graph.pairs[info.name], feed[info.name], row_axis(info.shape or ())
            )
            for info in graph.state_inputs
        ]
        self._states = [*own, *promotion.states]
        # a layer over time may run for the bands of a spectrum side by side: all are one stream's
        self._divisible = all(
            s.row_axis is not None and s.initial.shape[s.row_axis] == rows for s in promotion.states
        )
        shared = [state.input for state in promotion.states if state.row_axis is None]
        self._shared = shared[0] if shared and promotion.takes_more_streams else None
        self.row_axes = {state.input: state.row_axis or 0 for state in self._states}
        declared = [info.name for info in graph.model.graph.outputs]
        self._outputs = [name for name in declared if name not in graph.pairs.values()]
        if not self._outputs:
            raise UnsupportedError("the model has no outputs but its states")
        frames = [
            {name: feed[name].take([t], axis) for name, axis in graph.time_axes.items()}
            | graph.lengths_of(rows, 1)
            for t in range(TRIAL_FRAMES)
        ]
        self._out_axes = prove(promotion, self._outputs, self._states, frames)
        if not self._states:
            raise UnsupportedError(
                "the model keeps no state over time, and gives the same frame by frame as whole: "
                "run it frame by frame"
            )
        if rows > 1 and not self._divisible:
            raise self._not_so_many(rows)
        self._plan = Plan(promotion.model, graph.options)
        self._made = [info.name for info in promotion.model.graph.outputs]
        self._shapes = {info.name: graph.sizes(info, rows, 1) for info in graph.frames}
        self._runs = self._carried()

    def _not_so_many(self, rows: int) -> UnsupportedError:
        if self._shared is not None:
            why = f"state {self._shared!r} is one for all streams, and there cannot be {rows}"
        else:
            why = f"the model's batch is fixed, and cannot be {rows}"
        return UnsupportedError(why)

    def _carried(self) -> Carried:
        """The model's runs for as many streams as there are, at the initial state."""
        graph, inputs = self._graph, self._plan.inputs
        runs = carried(
            self._plan,
            [(self._made.index(s.output), inputs.index(s.input)) for s in self._states],
            [
                Frames(
                    info.name,
                    inputs.index(info.name),
                    DTYPES[info.type],
                    tuple(self._shapes[info.name]),
                    graph.time_axes[info.name],
                )
                for info in graph.frames
            ],
            [(inputs.index(n), array) for n, array in graph.lengths_of(self.rows, 1).items()],
            [
                (name, self._made.index(name), axis)
                for name, axis in zip(self._outputs, self._out_axes, strict=True)
            ],
            self._one_frame,
        )
        initial = self.initial_state()
        runs.set_states([initial[state.input] for state in self._states])
        return runs

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Of the inputs that are neither states nor fixed."""
        shapes = {}
        for info in self._graph.frames:
            shape = list(self._shapes[info.name])
            del shape[self._graph.time_axes[info.name]]
            shapes[info.name] = (tuple(shape), DTYPES[info.type])
        return shapes

    @property
    def step(self) -> Callable[..., Made]:
        """One frame, without its time axis; a dict for several inputs."""
        return self._runs.step

    def _one_frame(self, x: Fed) -> list[np.ndarray]:
        """What `step` was given as arrays with a time axis, or an error that says what is wrong."""
        given, frames = self._by_name(x), []
        for name, axis in self._graph.time_axes.items():
            array = given[name]
            one = np.expand_dims(array, min(axis, array.ndim))  # too few axes are told like others
            frames.append(self._checked_frames(one, name))
        return frames

    def push(self, chunk: Fed, out: Outs = None) -> Made:
        """Several frames, as the model takes them; a dict for several inputs."""
        given, axes = self._by_name(chunk), self._graph.time_axes
        frames = {name: self._checked_frames(given[name], name) for name in axes}
        counts = {array.shape[axes[name]] for name, array in frames.items()}
        if len(counts) != 1:
            raise ValueError(f"the inputs have different numbers of frames: {sorted(counts)}")
        steps = counts.pop()
        if steps == 0:
            return self._nothing(out)
        lengths = self._graph.lengths_of(self.rows, steps)
        return self._runs.run([*frames.values(), *lengths.values()], out)

    def _nothing(self, out: Outs) -> Made:
        """What no frames give; a node's final state would not be the one before, but zero."""
        for name, axis in zip(self._outputs, self._out_axes, strict=True):
            if axis is None:
                raise ValueError(f"no frames were given, and output {name!r} has no time axis")
        before = self._runs.get_states()
        kinds = {info.name: DTYPES[info.type] for info in self._graph.frames}
        frame = [np.zeros(self._shapes[name], kinds[name]) for name in self._graph.time_axes]
        lengths = self._graph.lengths_of(self.rows, 1)
        results = self._runs.run([*frame, *lengths.values()])
        self._runs.set_states(before)
        named = results if isinstance(results, dict) else {self._outputs[0]: results}
        none = {
            name: named[name].take([], axis)
            for name, axis in zip(self._outputs, self._out_axes, strict=True)
        }
        if out is not None:
            wanted = {name: (array.dtype, array.shape) for name, array in none.items()}
            problem = misfit(wanted, out)
            if problem:
                raise ValueError(problem)
            return out
        return none if len(none) > 1 else none[self._outputs[0]]

    def _by_name(self, given: Fed) -> dict[str, np.ndarray]:
        names = [info.name for info in self._graph.frames]
        if isinstance(given, Mapping):
            if given.keys() != set(names):
                raise ValueError(f"expected an array for each of {names}, got {list(given)}")
            return {name: np.asarray(array) for name, array in given.items()}
        if len(names) != 1:
            raise ValueError(f"the model has several inputs, expected a dict with {names}")
        return {names[0]: np.asarray(given)}

    def _checked_frames(self, array: np.ndarray, name: str) -> np.ndarray:
        expected = self._shapes[name]
        axis = self._graph.time_axes[name]
        dtype = DTYPES[next(info.type for info in self._graph.frames if info.name == name)]
        if array.dtype != dtype and array.dtype.newbyteorder("=") == dtype:
            array = array.astype(dtype)  # of another byte order, as every door takes it
        fits = array.ndim == len(expected) and array.dtype == dtype
        if not fits or any(
            n != m for a, (n, m) in enumerate(zip(array.shape, expected, strict=True)) if a != axis
        ):
            shown = ["T" if a == axis else str(n) for a, n in enumerate(expected)]
            raise ValueError(
                f"{name!r} is {array.dtype} {list(array.shape)} with its time axis, expected "
                f"{dtype} [{', '.join(shown)}]"
            )
        return array

    def get_state(self) -> State:
        """Under the names of the states' inputs."""
        states = zip(self._states, self._runs.get_states(), strict=True)
        return {state.input: array for state, array in states}

    def set_state(self, state: State) -> None:
        """Replace it."""
        self._runs.set_states([state[each.input] for each in self._states])

    def initial_state(self) -> State:
        """As the model begins: its own initial values, zeros for what was not there."""
        if self.rows == self._tried_rows:
            return {state.input: state.initial.copy() for state in self._states}
        rows = [0] * self.rows
        axes = self.row_axes
        return {state.input: state.initial.take(rows, axes[state.input]) for state in self._states}

    def with_rows(self, rows: int) -> SessionMachine:
        """The same model for another number of streams; tried again only from one to several."""
        if rows > 1 and self._tried_rows == 1:
            return SessionMachine(self._graph, 2).with_rows(rows)
        shapes = {info.name: self._graph.sizes(info, rows, 1) for info in self._graph.frames}
        if rows != self.rows and (shapes == self._shapes or not self._divisible):
            raise self._not_so_many(rows)
        machine = copy.copy(self)
        machine.rows, machine._shapes = rows, shapes
        machine._runs = machine._carried()
        return machine
