"""Modules as machines: a copy of the module whose layers with a memory of time keep their state.

The copy shares every weight and runs the module's own ``forward`` on the frames of one call: a
recurrent layer goes on from its last state, a convolution sees the frames before. Everything else
in ``forward`` must treat each frame by itself.
"""

from __future__ import annotations

import operator

import numpy as np

from vledge.array_like import array_of
from vledge.errors import UnsupportedError, with_article
from vledge.nn.convolution import Conv1d
from vledge.nn.module import Module
from vledge.nn.recurrent import RecurrentBase
from vledge.nn.recurrent.parts import RecurrentParts
from vledge.streaming.bidirectional import BidirectionalMachine
from vledge.streaming.convolution import StreamingConv1d
from vledge.streaming.layers import RecurrentMachine, StreamingRecurrent
from vledge.streaming.lookahead import LookaheadStream
from vledge.streaming.machine import Fed, Made, Outs, State, checked_rows, fitting
from vledge.streaming.stream import Stream
from vledge.streaming.trial import differs

__all__ = ["ModuleMachine", "stream"]

TRIAL_FRAMES = 8  # as many as a module's own lag may have for the trial to see it

_Leaf = StreamingRecurrent | StreamingConv1d


def stream(
    module: Module,
    batch: int = 1,
    *,
    time_axis: int | None = None,
    lookahead: int | None = None,
) -> Stream:
    """A stream of any module; what ``Module.stream`` calls."""
    batch = checked_rows(batch)
    if lookahead is not None:
        lookahead = operator.index(lookahead)
        if lookahead < 0:
            raise ValueError(f"lookahead is a number of frames from 0, got {lookahead}")
    if isinstance(module, RecurrentBase):
        if time_axis is not None:
            raise ValueError(
                f"time_axis goes with modules; {with_article(type(module).__name__)} knows its own"
            )
        if lookahead is None:
            return Stream(RecurrentMachine(module, batch))
        return LookaheadStream(BidirectionalMachine(module, batch), lookahead)
    if lookahead is None:
        return Stream(ModuleMachine(module, batch, time_axis))
    return LookaheadStream(ModuleMachine(module, batch, time_axis, True), lookahead)


class ModuleMachine:
    """A module whose ``forward`` takes one array and returns one, a frame out for a frame in."""

    def __init__(
        self, module: Module, rows: int, time_axis: int | None = None, lookahead: bool = False
    ) -> None:
        self.rows = rows
        self._module = module
        self._lookahead = lookahead
        self._leaves: dict[str, _Leaf] = {}
        self._copy = self._streaming(module, "", rows)
        if not self._leaves:
            raise UnsupportedError(
                f"{type(module).__name__} has no recurrent layer and no convolution: there is no "
                "state that a stream could carry, and whether forward() may be called frame by "
                "frame its code alone tells"
            )
        if lookahead and not any(leaf.looks_ahead for leaf in self._leaves.values()):
            raise UnsupportedError(
                f"no layer of {type(module).__name__} looks ahead: stream it without lookahead="
            )
        first = next(iter(self._leaves.values()))
        self.time_axis = first.time_axis if time_axis is None else time_axis
        self._out_axis: int | None = None
        self.row_axes = {
            f"{name}.{part}" if name else part: axis
            for name, leaf in self._leaves.items()
            for part, axis in leaf.row_axes.items()
        }

    def _streaming(self, module: Module, name: str, rows: int) -> Module:
        """The module's copy; layers that stream are noted by their dotted names."""
        leaf: _Leaf
        if isinstance(module, RecurrentBase):
            leaf = self._leaves[name] = StreamingRecurrent(module, rows, name, self._lookahead)
            return leaf
        if isinstance(module, Conv1d):
            leaf = self._leaves[name] = StreamingConv1d(module, rows, name, self._lookahead)
            return leaf
        dot = "." if name else ""
        return module.with_children(
            {
                key: self._streaming(child, f"{name}{dot}{key}", rows)
                for key, child in module.named_children()
            }
        )

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Of a layer made of layers its "x"; else nothing is known but by ``forward``."""
        if isinstance(self._module, RecurrentParts):
            return {"x": ((self.rows, self._module.input_size), self._module.dtype)}
        return {}

    @property
    def output_axis(self) -> int:
        """The outputs' axis that is time; known once frames have come."""
        assert self._out_axis is not None
        return self._out_axis

    def step(self, x: Fed, out: Outs = None) -> Made:
        """One frame, without its time axis."""
        chunk = np.expand_dims(array_of(x, "x"), self.time_axis)
        if self._out_axis is None:
            self._out_axis = self._found_out_axis(chunk)
        before = self.get_state() if out is not None else {}
        return self._delivered(self._run(chunk, 1).take(0, self._out_axis), out, before)

    def push(self, chunk: Fed, out: Outs = None) -> Made:
        """Several frames, as ``forward`` takes them."""
        chunk = array_of(chunk, "chunk")
        if chunk.ndim <= self.time_axis:
            raise ValueError(
                f"chunk has the shape {chunk.shape}, its time axis should be {self.time_axis}"
            )
        before = self.get_state()
        return self._delivered(self._outputs(chunk, chunk.shape[self.time_axis]), out, before)

    def window(self, frames: np.ndarray, kept: int) -> np.ndarray:
        """``frames`` as ``forward`` takes them; of its outputs the first ``kept``."""
        result = self._outputs(frames, kept)
        return np.ascontiguousarray(np.split(result, [kept], self.output_axis)[0])

    def _outputs(self, chunk: np.ndarray, kept: int) -> np.ndarray:
        """One for each frame; the state is then that after the first ``kept``."""
        if self._out_axis is None:
            self._out_axis = self._found_out_axis(chunk)
        before = self.get_state()
        result = self._run(chunk, kept)
        if result.shape[self._out_axis] != chunk.shape[self.time_axis]:
            self.set_state(before)
            raise UnsupportedError(self._uneven(chunk.shape[self.time_axis], result.shape))
        return result

    def _run(self, chunk: np.ndarray, kept: int) -> np.ndarray:
        before = self.get_state()
        for leaf in self._leaves.values():
            leaf.expect(chunk.shape[self.time_axis], kept)
        try:
            result = self._copy(chunk)
        except BaseException:
            self.set_state(before)
            raise
        if isinstance(self._module, RecurrentParts):
            result, _ = result  # the states are the machines'
        if not isinstance(result, np.ndarray):
            raise UnsupportedError(
                f"{type(self._module).__name__}.forward returns a {type(result).__name__}; a "
                "stream runs modules that return one array"
            )
        return result

    def _found_out_axis(self, chunk: np.ndarray) -> int:
        """The output's axis that grows with the number of frames; the state is left as it was.

        Frames of noise run whole and one by one, too, and must give the same: ``forward`` may look
        at other frames in ways that are no layer's.
        """
        before = self.get_state()
        shapes = []
        try:
            for frames in (1, 2):
                probe = self._noise(chunk, frames)
                shapes.append(self._run(probe, frames).shape)
        finally:
            self.set_state(before)
        axes = [axis for axis, sizes in enumerate(zip(*shapes, strict=False)) if sizes == (1, 2)]
        if len(shapes[0]) != len(shapes[1]) or len(axes) != 1:
            raise UnsupportedError(self._uneven(2, shapes[1]))
        if not self._lookahead:
            self._try(chunk, axes[0])
        return axes[0]

    def _noise(self, chunk: np.ndarray, frames: int) -> np.ndarray:
        """Frames like the chunk's: in zeros, a module's own padding that looks ahead could not be
        told from frames. Numbers that stand for something (ids) are the chunk's own."""
        shape = list(chunk.shape)
        shape[self.time_axis] = frames
        if chunk.dtype.kind == "f":
            return np.random.default_rng(0).normal(size=shape).astype(chunk.dtype)
        return np.resize(chunk, shape)

    def _try(self, chunk: np.ndarray, out_axis: int) -> None:
        """UnsupportedError if frames one by one do not give what they give in one run."""
        frames = self._noise(chunk, TRIAL_FRAMES)
        before = self.get_state()
        try:
            self.set_state(self.initial_state())
            whole = self._run(frames, TRIAL_FRAMES)
            self.set_state(self.initial_state())
            parts = [self._run(x, 1) for x in np.split(frames, TRIAL_FRAMES, self.time_axis)]
        finally:
            self.set_state(before)
        wrong = differs(np.concatenate(parts, out_axis), whole)
        if wrong.any():
            first = int(np.argwhere(wrong)[:, out_axis].min())
            raise UnsupportedError(
                f"{type(self._module).__name__} cannot be streamed: one by one, frames of noise "
                f"do not give what they give in one run, from frame {first} on: forward() looks at "
                "other frames in a way that is no layer's, of which no state is carried"
            )

    def _uneven(self, frames: int, shape: tuple[int, ...]) -> str:
        return (
            f"{type(self._module).__name__} cannot be streamed: {frames} frames make an output of "
            f"the shape {list(shape)}, which has no axis with one output for each frame"
        )

    def _delivered(self, result: np.ndarray, out: Outs, before: State) -> Outs:
        """The result in out; back to the state before if out is wrong."""
        if out is None:
            return result
        try:
            fitting(out, result.shape, result.dtype)[...] = result
        except ValueError:
            self.set_state(before)
            raise
        return out

    def get_state(self) -> State:
        """The layers' states under their dotted names."""
        return {
            f"{name}.{part}" if name else part: array
            for name, leaf in self._leaves.items()
            for part, array in leaf.get_state().items()
        }

    def set_state(self, state: State) -> None:
        """Replace it."""
        for name, leaf in self._leaves.items():
            prefix = f"{name}." if name else ""
            leaf.set_state({part: state[prefix + part] for part in leaf.row_axes})

    def initial_state(self) -> State:
        """Zeros."""
        return {name: np.zeros_like(array) for name, array in self.get_state().items()}

    def with_rows(self, rows: int) -> ModuleMachine:
        """The same module for another number of streams."""
        machine = ModuleMachine(self._module, rows, self.time_axis, self._lookahead)
        machine._out_axis = self._out_axis  # it was found, and the module was tried
        return machine
