"""Models of which every call is a frame: states go in and come out, samples come by windows.

Voice activity detectors and other models of audio are exported so: a call takes some hundreds of
samples, perhaps with the last ones of the call before in front of them, and a state. Nothing is
rewritten and nothing has to be proven: the calls are those that a program of one's own would make.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from vledge.array_like import array_of
from vledge.errors import UnsupportedError
from vledge.graph.plan import Plan
from vledge.model.definition import ValueInfo
from vledge.model.element_types import DTYPES
from vledge.streaming.carried import Carried, Frames, carried
from vledge.streaming.frame_graph import FrameGraph, row_axis
from vledge.streaming.machine import Fed, Made, Outs, State, fitting

__all__ = ["CallMachine"]


class CallMachine:
    """A model that is called once a frame, for ``rows`` streams side by side.

    With ``hop``, its only input is a window of ``context + hop`` samples on the axis that is time
    (the last one, if nothing says otherwise); a frame is ``hop`` samples, and those of the context
    are the last ones before it, zeros at first.
    """

    def __init__(
        self, graph: FrameGraph, rows: int, hop: int | None = None, context: int = 0
    ) -> None:
        if rows < 1:
            raise ValueError(f"batch must be at least 1, got {rows}")
        self.rows = rows
        self._graph = graph
        graph.time_axes = {}
        self._windowed = hop is not None or context > 0
        if self._windowed:
            self._set_window(hop, context)
        self._plan = Plan(graph.model, graph.options)
        made = [info.name for info in graph.model.graph.outputs]
        self._made = made
        self._outputs = [name for name in made if name not in graph.pairs.values()]
        if not self._outputs:
            raise UnsupportedError("the model has no outputs but its states")
        self.row_axes = {i.name: row_axis(i.shape or ()) for i in graph.state_inputs}
        if self._windowed:
            self.row_axes[self._context_name] = row_axis(graph.frames[0].shape or ())
        self._use(rows)
        self._check_once()

    def _set_window(self, hop: int | None, context: int) -> None:
        """The window's axis and size, by what is asked and what the model declares."""
        graph = self._graph
        if len(graph.frames) != 1:
            raise ValueError(
                f"hop and context are for models of one input beside states, this one has "
                f"{[info.name for info in graph.frames]}"
            )
        (info,) = graph.frames
        shape = info.shape
        if not shape:
            raise ValueError(f"hop and context: the file does not say what shape {info.name!r} has")
        self._axis = graph.window_axis(info)
        size = shape[self._axis]
        if hop is None:
            if not isinstance(size, int):
                raise ValueError(f"context={context} goes with hop=: {info.name!r} takes any size")
            hop = size - context
        for name, count in (("hop", hop), ("context", context)):
            if not isinstance(count, (int, np.integer)):
                raise TypeError(f"{name} is {count!r}, expected a whole number of samples")
        if hop < 1 or context < 0:
            raise ValueError(f"hop must be at least 1 and context at least 0, got {hop}, {context}")
        if isinstance(size, int) and hop + context != size:
            raise ValueError(
                f"{info.name!r} takes {size} samples a call; hop {hop} and context {context} are "
                f"{hop + context} together"
            )
        self._hop, self._context_size = hop, context
        self._context_name = f"{info.name}.context"

    def _use(self, rows: int) -> None:
        """So many streams, at the initial state."""
        self.rows = rows
        graph, inputs = self._graph, self._plan.inputs
        self._shapes = {info.name: self._shape(info, rows) for info in graph.frames}
        frames = [
            Frames(i.name, inputs.index(i.name), DTYPES[i.type], tuple(self._shapes[i.name]), 0)
            for i in graph.frames
        ]
        if self._windowed:
            frames = [frames[0]._replace(time_axis=self._axis)]
        self._lengths = list(graph.lengths_of(rows, 1).values())
        pairs = graph.pairs
        self._runs: Carried = carried(
            self._plan,
            [(self._made.index(pairs[i.name]), inputs.index(i.name)) for i in graph.state_inputs],
            frames,
            [(inputs.index(name), array) for name, array in graph.lengths_of(rows, 1).items()],
            [(name, self._made.index(name), None) for name in self._outputs],
            lambda x: self._taken(x),
        )
        self.set_state(self.initial_state())

    def _shape(self, info: ValueInfo, rows: int) -> list[int]:
        """What a call takes."""
        shape = self._graph.sizes(info, rows, 1)
        if self._windowed:
            shape[self._axis] = self._context_size + self._hop
        return shape

    def _check_once(self) -> None:
        """A first call, so that a model that takes no such frames says so before any comes."""
        frames = [
            np.zeros(shape, DTYPES[info.type])
            for info, shape in zip(self._graph.frames, self._shapes.values(), strict=True)
        ]
        before = self.initial_state()
        try:
            self._runs.run([*frames, *self._lengths])
            after = dict(zip(self._state_names(), self._runs.get_states(), strict=True))
        except (ValueError, RuntimeError) as error:
            shown = ", ".join(f"{n!r} {shape}" for n, shape in self._shapes.items())
            raise UnsupportedError(f"the model does not run on {shown}: {error}") from error
        for name, array in after.items():
            if array.shape != before[name].shape or array.dtype != before[name].dtype:
                raise UnsupportedError(
                    f"output {self._graph.pairs[name]!r} is {array.dtype} {list(array.shape)}, "
                    f"which cannot be the next {name!r} of {before[name].dtype} "
                    f"{list(before[name].shape)}"
                )
        self.set_state(before)

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Of the inputs that are neither states nor fixed; of a window, what is new in it."""
        shapes = {}
        for info in self._graph.frames:
            shape = list(self._shapes[info.name])
            if self._windowed:
                shape[self._axis] = self._hop
            shapes[info.name] = (tuple(shape), DTYPES[info.type])
        return shapes

    def step(self, x: Fed, out: Outs = None) -> Made:
        """One frame; a dict for several inputs."""
        arrays = self._taken(x)
        result = self._runs.run([*arrays, *self._lengths], out)
        if self._windowed:  # only now: a frame that was refused leaves no trace
            place = [slice(None)] * arrays[0].ndim
            place[self._axis] = slice(self._hop, None)
            self._context = arrays[0][tuple(place)].copy()
        return result

    def push(self, chunk: Fed, out: Outs = None) -> Made:
        """Several frames: samples on the window's axis, or frames on a new first axis.

        The outputs of the calls are stacked on a new first axis.
        """
        frames = self._split(chunk)
        before = self.get_state()
        try:
            results = [self.step(frame) for frame in frames]
            if not results:
                raise ValueError("no frames were given: there is nothing to run")
            stacked = {
                name: np.stack([self._named(result)[name] for result in results])
                for name in self._outputs
            }
            if out is not None:
                outs = out if isinstance(out, Mapping) else {self._outputs[0]: out}
                for name, array in stacked.items():
                    fitting(outs.get(name), array.shape, array.dtype)[...] = array
                return out
        except BaseException:
            self.set_state(before)
            raise
        return stacked if len(stacked) > 1 else stacked[self._outputs[0]]

    def _split(self, chunk: Fed) -> Sequence[Fed]:
        if not self._windowed:
            if isinstance(chunk, Mapping):
                arrays = {name: np.asarray(array) for name, array in chunk.items()}
                counts = {len(array) for array in arrays.values()}
                if len(counts) != 1:
                    raise ValueError(f"the inputs have different numbers of frames: {counts}")
                return [{n: array[i] for n, array in arrays.items()} for i in range(counts.pop())]
            return list(array_of(chunk, "chunk"))
        samples = array_of(chunk, "chunk")
        count, left = divmod(samples.shape[self._axis], self._hop)
        if left:
            raise ValueError(
                f"{samples.shape[self._axis]} samples are no whole number of frames of "
                f"{self._hop}: keep the last {left} for the next call"
            )
        return np.split(samples, count, self._axis) if count else []

    def _named(self, result: Made) -> dict[str, np.ndarray]:
        return result if isinstance(result, dict) else {self._outputs[0]: result}

    def _taken(self, x: Fed) -> list[np.ndarray]:
        """What `step` was given as the model's inputs, or an error that says what is wrong."""
        names = [info.name for info in self._graph.frames]
        if not isinstance(x, Mapping):
            if len(names) != 1:
                raise ValueError(f"the model has several inputs, expected a dict with {names}")
            x = {names[0]: x}
        if x.keys() != set(names):
            raise ValueError(f"expected an array for each of {names}, got {list(x)}")
        arrays = []
        for name, (shape, dtype) in self.frames.items():
            array = np.asarray(x[name])
            if array.dtype != dtype and array.dtype.newbyteorder("=") == dtype:
                array = array.astype(dtype)
            if array.shape != shape or array.dtype != dtype:
                told = (
                    f"{name!r} is {array.dtype} {list(array.shape)}, expected {dtype} {list(shape)}"
                )
                if array.dtype.kind in "iu" and dtype.kind == "f" and self._windowed:
                    told += (
                        f": as samples are numbers from -1 to 1, x.astype(np.{dtype}) / "
                        f"{1 << (8 * array.dtype.itemsize - 1)}"
                    )
                raise ValueError(told)
            arrays.append(array)
        if self._windowed:
            arrays = [np.concatenate([self._context, arrays[0]], self._axis)]
        return arrays

    def _state_names(self) -> list[str]:
        return [info.name for info in self._graph.state_inputs]

    def get_state(self) -> State:
        """Under the names of the states' inputs; a window's context as ``<input>.context``."""
        state = dict(zip(self._state_names(), self._runs.get_states(), strict=True))
        return {**state, self._context_name: self._context.copy()} if self._windowed else state

    def set_state(self, state: State) -> None:
        """Replace it."""
        self._runs.set_states([state[name] for name in self._state_names()])
        if self._windowed:
            self._context = np.array(state[self._context_name])

    def initial_state(self) -> State:
        """Zeros."""
        state = self._graph.zeros(self.rows)
        if self._windowed:
            (info,) = self._graph.frames
            shape = list(self._shapes[info.name])
            shape[self._axis] = self._context_size
            state[self._context_name] = np.zeros(shape, DTYPES[info.type])
        return state

    def with_rows(self, rows: int) -> CallMachine:
        """The same model for another number of streams."""
        for info in (*self._graph.frames, *self._graph.state_inputs):
            old, new = (self._graph.sizes(info, count, 1) for count in (self.rows, rows))
            if rows != self.rows and old == new:
                raise UnsupportedError(f"the batch of {info.name!r} is fixed, and cannot be {rows}")
        machine = copy.copy(self)
        machine._use(rows)
        return machine
