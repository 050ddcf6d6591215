"""What each input of a model is to a stream: frames, a state, lengths, or a fixed value."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, product

import numpy as np
from numpy.typing import ArrayLike

from vledge.errors import UnsupportedError, cut
from vledge.graph.registry import SessionSettings
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Graph, Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.streaming.explicit_states import state_pairs
from vledge.streaming.recurrences import lengths_inputs

__all__ = ["FrameGraph", "row_axis"]

# Each way of reading the axes costs a trial, most of which fail at once.
MOST_WAYS = 6


class FrameGraph:
    """The model, and what its inputs are to a stream: frames, states, lengths, or fixed values.

    Fixed values are the model's constants from here on. Lengths, which tell recurrent nodes how
    many of the frames are there, are as many as each call has. States that nobody named
    (``states`` is None) are those that inputs' and outputs' names tell.
    """

    def __init__(
        self,
        model: Model,
        options: SessionSettings,
        time_axis: int | Mapping[str, int] | None,
        states: Mapping[str, str] | None,
        fixed: dict[str, ArrayLike],
    ) -> None:
        self.options, self.positive = options, False
        inputs = [i for i in model.graph.inputs if i.name not in model.graph.initializers]
        infos = {info.name: info for info in inputs}
        outputs = {info.name for info in model.graph.outputs}
        axes = time_axis if isinstance(time_axis, Mapping) else {}
        for name in [*(states or ()), *fixed, *axes]:
            if name not in infos:
                raise ValueError(
                    f"the model has no input named {name!r}: there are {sorted(infos)}"
                )
        for name in (states or {}).values():
            if name not in outputs:
                raise ValueError(f"no output named {name!r}: there are {sorted(outputs)}")
        constants = {name: _constant(infos[name], value) for name, value in fixed.items()}
        graph = model.graph
        given_here = [info for info in graph.inputs if info.name not in constants]
        initializers = {**graph.initializers, **constants}
        inner = Graph(graph.nodes, given_here, graph.outputs, initializers, graph.name)
        self.model = Model(inner, model.opset_imports, model.ir_version)
        lengths = lengths_inputs(self.model) - {*(states or ()), *fixed, *axes}
        if states is None:
            states = state_pairs(graph, {*fixed, *axes, *lengths})
        self.pairs = dict(states)
        self.lengths = [info for info in inputs if info.name in lengths]
        self.state_inputs = [info for info in inputs if info.name in states]
        known = {*states, *fixed, *lengths}
        self.frames = [info for info in inputs if info.name not in known]
        if not self.frames:
            raise ValueError("the model has no input left for the frames")
        for info in self.frames:
            if info.shape is not None and not info.shape:
                raise ValueError(
                    f"input {info.name!r} is one number of {info.type}, not frames: give it a "
                    f"value, fixed={{{info.name!r}: number}}"
                )
        default = time_axis if isinstance(time_axis, int) else None
        self._given = {info.name: axes.get(info.name, default) for info in self.frames}
        self.time_axes: dict[str, int] = {}

    @property
    def called_by_frame(self) -> bool:
        """Whether a call is a frame: states go in and come out, and no axis is open for time."""
        return bool(self.pairs) and not any(
            self._given[info.name] is not None
            or "time" in axes_from_symbols(info)
            or any(not isinstance(size, int) for size in (info.shape or ())[1:])
            or not info.shape
            for info in self.frames
        )

    def ways(self) -> list[dict[str, int]]:
        """Time axes by input: what is said and known, or all that they may be, likely ones first.

        Raises ValueError where nothing can be said, UnsupportedError for an axis of a fixed size.
        """
        choices = [self._choices(info, self._given[info.name]) for info in self.frames]
        names = [info.name for info in self.frames]
        every = product(*choices)
        return [dict(zip(names, axes, strict=True)) for axes in islice(every, MOST_WAYS)]

    def _choices(self, info: ValueInfo, given: int | None) -> list[int]:
        shape = info.shape or ()
        if given is not None:
            return [self._said(info, given)]
        free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
        told = axes_from_symbols(info)
        if "time" in told:
            return [told["time"]]
        left = [axis for axis in free if axis != told.get("batch")]
        if not left:
            raise ValueError(
                f"which axis of {info.name!r} {_shown(shape)} is time? Pass time_axis=, for "
                f"several inputs a dict; or, where the input is a state, states={{input: output}}"
                f"{self.or_windows()}"
            )
        # [batch, time, features] is what most exporters write, [time, batch, features] the rest
        return sorted(left, key=lambda axis: (axis != 1, axis))

    def _said(self, info: ValueInfo, given: object) -> int:
        shape = info.shape or ()
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"time_axis is {cut(repr(given))}, expected a whole number")
        if not -len(shape) <= given < len(shape):
            raise ValueError(f"time_axis is {given}, {info.name!r} has {len(shape)} axes")
        given %= len(shape)
        size = shape[given]
        if isinstance(size, int) and size != 1:
            raise UnsupportedError(
                f"{info.name!r} has {size} frames, neither more nor fewer: export the model with a "
                f"dynamic time axis; or, if {size} samples are one frame, pass hop={size}"
            )
        return given

    def window_axis(self, info: ValueInfo) -> int:
        """The axis of an input that samples lie on: the one that is said, else the last one."""
        shape, given = info.shape or (), self._given[info.name]
        if given is not None:
            if not -len(shape) <= given < len(shape):
                raise ValueError(f"time_axis is {given}, {info.name!r} has {len(shape)} axes")
            return given % len(shape)
        return axes_from_symbols(info).get("time", len(shape) - 1)

    def or_windows(self) -> str:
        """What else there is for a model of one input that may be samples."""
        samples = len(self.frames) == 1 and len(self.frames[0].shape or ()) <= 2
        return (
            "; or, where each call takes a window of samples, hop=512 (and context=64 where "
            "windows lap over each other)"
            if samples
            else ""
        )

    def sizes(self, info: ValueInfo, rows: int, steps: int) -> list[int]:
        """An input's shape for so many streams and frames."""
        axis = self.time_axes.get(info.name)
        shape = [size if isinstance(size, int) else rows for size in info.shape or ()]
        if axis is not None:
            shape[axis] = steps
        return shape

    def feed(self, rows: int, steps: int) -> dict[str, np.ndarray]:
        """Noise for the frames (integers 0 and 1: every table has them), zeros for the states."""
        rng = np.random.default_rng(steps)
        feed = self.lengths_of(rows, steps)
        for info in self.frames:
            dtype = DTYPES[info.type]
            shape = self.sizes(info, rows, steps)
            noise = rng.uniform(0.05, 1, shape) if self.positive else rng.normal(size=shape)
            feed[info.name] = (noise if dtype.kind == "f" else noise > 0.5).astype(dtype)
        return feed | self.zeros(rows)

    def zeros(self, rows: int) -> dict[str, np.ndarray]:
        """The states of the model's own that a stream begins with."""
        return {
            info.name: np.zeros(self.sizes(info, rows, 1), DTYPES[info.type])
            for info in self.state_inputs
        }

    def lengths_of(self, rows: int, steps: int) -> dict[str, np.ndarray]:
        """The inputs that hold lengths, for so many frames, all of them there."""
        return {
            info.name: np.full(self.sizes(info, rows, steps), steps, DTYPES[info.type])
            for info in self.lengths
        }


def row_axis(shape: tuple[int | str | None, ...]) -> int:
    """The axis of a state on which the streams lie: the first one that is free, or of size 1."""
    free = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    return next(iter(free or [axis for axis, size in enumerate(shape) if size == 1]), 0)


def _constant(info: ValueInfo, value: ArrayLike) -> np.ndarray:
    """A fixed value, which takes the shape that the model declares if it has as many elements."""
    array = np.asarray(value, DTYPES.get(info.type))
    shape = info.shape
    if shape is not None and len(shape) != array.ndim and array.size == 1:
        return array.reshape([1] * len(shape))
    return array


def _shown(shape: tuple[int | str | None, ...]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
