"""Whole ONNX models as machines: what they remember is found, carried, and proven at the start.

Nothing says of a graph whether it is causal. So a stream is tried when it is made: noise goes
through it frame by frame and through the model whole, and where the two differ the model is
refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from vledge.errors import UnsupportedError
from vledge.formats.element_types import DTYPES
from vledge.formats.graph_definition import Model, ValueInfo
from vledge.graph.plan import Plan
from vledge.streaming.machine import State
from vledge.streaming.promotion import PromotedState, Promotion, values
from vledge.streaming.stream import Stream

__all__ = ["SessionMachine", "stream"]

TRIAL_FRAMES = 16
TOLERANCE = 1e-4  # of the largest output: sums over time steps are not in the same order


def stream(
    model: Model,
    where: str,
    options: dict[str, Any],
    batch: int,
    time_axis: int | Mapping[str, int] | None,
    states: Mapping[str, str] | None,
    fixed: Mapping[str, Any] | None,
) -> Stream:
    """A stream of a model; what ``InferenceSession.stream`` calls."""
    try:
        graph = _FrameGraph(model, options, time_axis, dict(states or {}), dict(fixed or {}))
        return Stream(SessionMachine(graph, batch))
    except UnsupportedError as error:
        raise UnsupportedError(f"{where}{error}") from None


class _FrameGraph:
    """The model, and what its inputs are to a stream: frames, states, or fixed values."""

    def __init__(
        self,
        model: Model,
        options: dict[str, Any],
        time_axis: int | Mapping[str, int] | None,
        states: dict[str, str],
        fixed: dict[str, Any],
    ) -> None:
        self.model, self.options, self.pairs = model, options, states
        inputs = [i for i in model.graph.inputs if i.name not in model.graph.initializers]
        known = {info.name for info in inputs}
        outputs = {info.name for info in model.graph.outputs}
        for name in [*states, *fixed, *(time_axis if isinstance(time_axis, Mapping) else ())]:
            if name not in known:
                raise ValueError(
                    f"the model has no input named {name!r}: there are {sorted(known)}"
                )
        for name in states.values():
            if name not in outputs:
                raise ValueError(f"no output named {name!r}: there are {sorted(outputs)}")
        self.fixed = {
            info.name: np.asarray(fixed[info.name], DTYPES.get(info.type))
            for info in inputs
            if info.name in fixed
        }
        self.state_inputs = [info for info in inputs if info.name in states]
        self.frames = [i for i in inputs if i.name not in states and i.name not in fixed]
        if not self.frames:
            raise ValueError("the model has no input left for the frames")
        given = time_axis if isinstance(time_axis, Mapping) else {}
        default = time_axis if isinstance(time_axis, int) else None
        self.time_axes = {
            info.name: _time_axis(info, given.get(info.name, default)) for info in self.frames
        }

    def sizes(self, info: ValueInfo, rows: int, steps: int) -> list[int]:
        """An input's shape for so many streams and frames."""
        axis = self.time_axes.get(info.name)
        shape = [size if isinstance(size, int) else rows for size in info.shape or ()]
        if axis is not None:
            shape[axis] = steps
        return shape

    def feed(self, rows: int, steps: int) -> dict[str, np.ndarray]:
        """Noise for the frames, zeros for the states."""
        rng = np.random.default_rng(steps)
        feed = dict(self.fixed)
        for info in self.frames:
            dtype = DTYPES[info.type]
            shape = self.sizes(info, rows, steps)
            noise = rng.normal(size=shape) if dtype.kind == "f" else np.zeros(shape)
            feed[info.name] = noise.astype(dtype)
        for info in self.state_inputs:
            feed[info.name] = np.zeros(self.sizes(info, rows, steps), DTYPES[info.type])
        return feed


def _time_axis(info: ValueInfo, given: int | None) -> int:
    shape = info.shape or ()
    if given is None:
        free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
        if len(free) != 1:
            shown = ", ".join("?" if size is None else str(size) for size in shape)
            raise ValueError(
                f"which axis of {info.name!r} [{shown}] is time? Pass time_axis=, for several "
                "inputs a dict; or, where the input is a state, states={input: output}"
            )
        return free[0]
    if not -len(shape) <= given < len(shape):
        raise ValueError(f"time_axis is {given}, {info.name!r} has {len(shape)} axes")
    given %= len(shape)
    if isinstance(shape[given], int) and shape[given] != 1:
        raise UnsupportedError(
            f"{info.name!r} has {shape[given]} frames, neither more nor fewer: export the model "
            "with a dynamic time axis"
        )
    return given


class SessionMachine:
    """A model that was rewritten so that its states are inputs and outputs."""

    def __init__(self, graph: _FrameGraph, rows: int) -> None:
        if rows < 1:
            raise ValueError(f"batch must be at least 1, got {rows}")
        self.rows = self._tried_rows = rows
        self._graph = graph
        feeds = (graph.feed(rows, TRIAL_FRAMES), graph.feed(rows, TRIAL_FRAMES + 1))
        promotion = Promotion(graph.model, TRIAL_FRAMES, feeds, graph.options)
        own = [
            PromotedState(
                info.name, graph.pairs[info.name], feeds[0][info.name], _row_axis(info.shape or ())
            )
            for info in graph.state_inputs
        ]
        self._states = [*own, *promotion.states]
        if not self._states:
            raise UnsupportedError("the model keeps no state over time: run it frame by frame")
        # a layer over time may run for the bands of a spectrum side by side: all are one stream's
        self._divisible = all(s.initial.shape[s.row_axis] == rows for s in promotion.states)
        if rows > 1 and not self._divisible:
            raise UnsupportedError(f"the model's batch is fixed, and cannot be {rows}")
        self.row_axes = {state.input: state.row_axis for state in self._states}
        self._plan = Plan(promotion.model, graph.options)
        named = [info.name for info in promotion.model.graph.outputs]
        declared = [info.name for info in graph.model.graph.outputs]
        self._outputs = [name for name in declared if name not in graph.pairs.values()]
        if not self._outputs:
            raise UnsupportedError("the model has no outputs but its states")
        self._output_places = [named.index(name) for name in self._outputs]
        self._state_places = [named.index(state.output) for state in self._states]
        self._shapes = {info.name: graph.sizes(info, rows, 1) for info in graph.frames}
        self._values = self.initial_state()
        self._out_axes = self._tried(feeds)

    def _tried(self, feeds: tuple[dict[str, np.ndarray], ...]) -> list[int | None]:
        """Each output's time axis; UnsupportedError if frames differ from the whole run."""
        graph = self._graph
        whole, longer = (values(graph.model, self._outputs, feed, graph.options) for feed in feeds)
        axes: list[int | None] = []
        for name in self._outputs:
            pairs = enumerate(zip(whole[name].shape, longer[name].shape, strict=True))
            grown = [axis for axis, (short, long) in pairs if long == short + 1]
            axes.append(grown[0] if grown else None)
        feed = feeds[0]
        results: list[list[np.ndarray]] = []
        for t in range(TRIAL_FRAMES):
            frame = {n: feed[n].take([t], axis) for n, axis in graph.time_axes.items()}
            try:
                results.append(self._run(frame))
            except (ValueError, IndexError) as error:
                raise UnsupportedError(
                    f"the model does not run on one frame at a time: {error}"
                ) from error
        for place, (name, axis) in enumerate(zip(self._outputs, axes, strict=True)):
            expected = whole[name]
            parts = [result[place] for result in results]
            got = parts[-1] if axis is None else np.concatenate(parts, axis)
            if got.shape != expected.shape:
                raise UnsupportedError(
                    f"output {name!r} has the shape {list(got.shape)} frame by frame, "
                    f"{list(expected.shape)} in the whole run: a stream has an output a frame"
                )
            if got.dtype.kind != "f":
                continue
            bound = TOLERANCE * max(float(np.abs(expected).max(initial=0)), 1e-3)
            wrong = ~(np.abs(got - expected) <= bound)
            if wrong.any():
                first = 0 if axis is None else int(np.argwhere(wrong)[:, axis].min())
                raise UnsupportedError(
                    f"output {name!r} is not the same frame by frame as in the whole run, from "
                    f"frame {first} on: the model looks ahead, or remembers in a way that is not "
                    "known here (known: RNN, GRU, LSTM, and zeros in front of convolutions)"
                )
        self._values = self.initial_state()
        return axes

    def _run(self, frames: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        feed = {**frames, **self._values, **self._graph.fixed}
        with np.errstate(all="ignore"):
            results = self._plan.run(*(feed[name] for name in self._plan.inputs))
        values = zip(self._states, self._state_places, strict=True)
        self._values = {state.input: results[place] for state, place in values}
        return [results[place] for place in self._output_places]

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Of the inputs that are neither states nor fixed."""
        found = {}
        for info in self._graph.frames:
            shape = list(self._shapes[info.name])
            del shape[self._graph.time_axes[info.name]]
            found[info.name] = (tuple(shape), DTYPES[info.type])
        return found

    def step(self, x: Any, out: Any = None) -> Any:
        """One frame, without its time axis; a dict for several inputs."""
        frames = {}
        for name, array in self._by_name(x).items():
            frames[name] = self._checked(np.expand_dims(array, self._graph.time_axes[name]), name)
        before = self._values
        results = [
            array if axis is None else array.take(0, axis)
            for array, axis in zip(self._run(frames), self._out_axes, strict=True)
        ]
        return self._delivered(results, out, before)

    def push(self, chunk: Any, out: Any = None) -> Any:
        """Several frames, as the model takes them; a dict for several inputs."""
        frames = {n: self._checked(array, n) for n, array in self._by_name(chunk).items()}
        counts = {array.shape[self._graph.time_axes[name]] for name, array in frames.items()}
        if len(counts) != 1:
            raise ValueError(f"the inputs have different numbers of frames: {sorted(counts)}")
        before = self._values
        return self._delivered(self._run(frames), out, before)

    def _by_name(self, given: Any) -> dict[str, np.ndarray]:
        names = [info.name for info in self._graph.frames]
        if isinstance(given, Mapping):
            if given.keys() != set(names):
                raise ValueError(f"expected an array for each of {names}, got {list(given)}")
            return {name: np.asarray(array) for name, array in given.items()}
        if len(names) != 1:
            raise ValueError(f"the model has several inputs, expected a dict with {names}")
        return {names[0]: np.asarray(given)}

    def _checked(self, array: np.ndarray, name: str) -> np.ndarray:
        expected = self._shapes[name]
        axis = self._graph.time_axes[name]
        dtype = DTYPES[next(info.type for info in self._graph.frames if info.name == name)]
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

    def _delivered(self, results: list[np.ndarray], out: Any, before: State) -> Any:
        """The array of one output, a dict of several; back to the state before if out is wrong."""
        named = dict(zip(self._outputs, results, strict=True))
        if out is None:
            named = {name: np.array(array) for name, array in named.items()}
            return named if len(named) > 1 else next(iter(named.values()))
        outs = out if isinstance(out, Mapping) else {self._outputs[0]: out}
        problems = [
            f"out for {name!r} must be an array of {array.dtype} {list(array.shape)}"
            for name, array in named.items()
            if not isinstance(outs.get(name), np.ndarray)
            or outs[name].shape != array.shape
            or outs[name].dtype != array.dtype
        ]
        if problems:
            self._values = before
            raise ValueError("; ".join(problems))
        for name, array in named.items():
            outs[name][...] = array
        return out

    def get_state(self) -> State:
        """Under the names of the states' inputs."""
        return {state.input: np.array(self._values[state.input]) for state in self._states}

    def set_state(self, state: State) -> None:
        """Replace it."""
        self._values = {name: array.copy() for name, array in state.items()}

    def initial_state(self) -> State:
        """As the model begins: its own initial values, zeros for what was not there."""
        if self.rows == self._tried_rows:
            return {state.input: state.initial.copy() for state in self._states}
        rows = [0] * self.rows
        return {state.input: state.initial.take(rows, state.row_axis) for state in self._states}

    def with_rows(self, rows: int) -> SessionMachine:
        """The same model for another number of streams; tried again only from one to several."""
        if rows > 1 and self._tried_rows == 1:
            return SessionMachine(self._graph, 2).with_rows(rows)
        shapes = {info.name: self._graph.sizes(info, rows, 1) for info in self._graph.frames}
        if rows != self.rows and (shapes == self._shapes or not self._divisible):
            raise UnsupportedError(f"the model's batch is fixed, and cannot be {rows}")
        machine = copy.copy(self)
        machine.rows, machine._shapes = rows, shapes
        machine._values = machine.initial_state()
        return machine


def _row_axis(shape: tuple[int | str | None, ...]) -> int:
    """The axis of a state on which the streams lie: the first one that is free, or of size 1."""
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    return next(iter(free or [axis for axis, size in enumerate(shape) if size == 1]), 0)
