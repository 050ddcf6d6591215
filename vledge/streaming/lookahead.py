"""`LookaheadStream`: a model that looks ahead, its outputs so many frames late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of
from vledge.streaming.machine import Fed, Made, Outs, RowNumbers, State, WindowMachine, fitting
from vledge.streaming.stream import Stream

__all__ = ["LookaheadStream"]


class LookaheadStream(Stream):
    """A stream whose output for a frame is made when ``lookahead`` later frames have arrived.

    The frames that a call makes ready are a chunk. The model runs over the chunk and the frames
    ahead of it, which are all that have arrived: forward directions and causal convolutions go on
    from the chunk before, reverse directions begin with zeros at the last frame that has arrived.
    The outputs of the chunk are given out; the frames ahead wait for the next call. So the outputs
    depend on how the frames are cut into calls: of a chunk of several frames all but the last one
    see more than ``lookahead`` frames ahead.

    >>> stream = nn.LSTM(8, 16, bidirectional=True).stream(lookahead=5)  # doctest: +SKIP
    >>> stream.step(x) is None  # ... five times, then the first frame's output  # doctest: +SKIP
    >>> stream.flush()  # those of the last five frames  # doctest: +SKIP
    """

    _windows: WindowMachine

    def __init__(self, machine: WindowMachine, lookahead: int) -> None:
        self.lookahead = lookahead  #: in frames
        self._use(machine)

    def _use(self, machine: Any) -> None:
        self._machine = self._windows = machine
        self._waiting = self._nothing()

    def _nothing(self) -> np.ndarray | None:
        """No frames that wait; None where only the first frame will tell their shape."""
        for shape, dtype in self._machine.frames.values():
            axis = self._windows.time_axis
            return np.zeros((*shape[:axis], 0, *shape[axis:]), dtype)
        return None

    @property
    def waiting(self) -> int:
        """How many frames have arrived whose outputs have not been given out."""
        return 0 if self._waiting is None else self._waiting.shape[self._windows.time_axis]

    def step(self, x: Fed, out: Outs = None) -> Made:
        """Feed one frame of every stream; the output for the frame ``lookahead`` frames ago.

        None until there is one. Arguments as `Stream.step`'s.
        """
        frame = np.expand_dims(array_of(x, "x"), self._windows.time_axis)
        frames = self._joined(self._waiting, frame)
        if self.waiting < self.lookahead:
            self._decided(frames, 0, None)
            return None
        return self._decided(frames, 1, out, one=True)

    def push(self, chunk: Fed, out: Outs = None) -> Made:
        """Feed several frames; the outputs that are ready now, which may be none.

        The first frames to come bring ``lookahead`` outputs fewer; later on there are as many
        outputs as frames. Arguments as `Stream.push`'s.
        """
        frames = self._joined(self._waiting, array_of(chunk, "chunk"))
        ready = max(frames.shape[self._windows.time_axis] - self.lookahead, 0)
        return self._decided(frames, ready, out)

    def flush(self, out: Outs = None) -> Made:
        """The stream has ended: the outputs of all frames that wait.

        Reverse directions begin at the last one, as they do in the whole run. The state is then
        that at the end; `reset` begins a new sequence.

        Raises ValueError for a Module that was never fed: only its first frame tells the shapes.
        """
        if self._waiting is None:
            raise ValueError("no frame has come yet, there is nothing to flush")
        return self._decided(self._waiting, self.waiting, out)

    def _joined(self, waiting: np.ndarray | None, frames: np.ndarray) -> np.ndarray:
        """The frames that wait and those that come, if they are alike."""
        axis = self._windows.time_axis
        if frames.ndim <= axis:
            raise ValueError(f"frames of the shape {list(frames.shape)} have no time axis {axis}")
        if waiting is None:
            kept: np.ndarray = frames.copy()
            return kept
        if frames.dtype != waiting.dtype or _frame(frames, axis) != _frame(waiting, axis):
            shown = [str(size) for size in waiting.shape]
            shown[axis] = "T"
            raise ValueError(
                f"the frames are {frames.dtype} {list(frames.shape)} with their time axis, "
                f"expected {waiting.dtype} [{', '.join(shown)}]"
            )
        return np.concatenate([waiting, frames], axis)

    def _decided(self, frames: np.ndarray, ready: int, out: Outs, one: bool = False) -> Made:
        """The outputs of the first frames, after which the stream then stands; the others wait."""
        windows = self._windows
        before = windows.get_state() if out is not None else {}
        result = windows.window(frames, ready)
        if one:
            result = result.take(0, windows.output_axis)
        if out is not None:
            try:
                fitting(out, result.shape, result.dtype)[...] = result
            except ValueError:
                windows.set_state(before)
                raise
        # a copy: a view would keep the whole chunk in memory
        self._waiting = np.split(frames, [ready], windows.time_axis)[1].copy()
        return result if out is None else out

    # ---- state

    @property
    def state(self) -> State:
        """As `Stream.state`, of the forward directions; where frames wait, they are ``waiting``."""
        state = self._machine.get_state()
        if self._waiting is not None and self.waiting:
            state["waiting"] = self._waiting.copy()
        return state

    @state.setter
    def state(self, state: Mapping[str, ArrayLike]) -> None:
        layers = {name: array for name, array in state.items() if name != "waiting"}
        checked, waiting = self._checked_state(layers), self._nothing()
        if "waiting" in state:
            waiting = self._joined(waiting, array_of(state["waiting"], "waiting"))
            count = waiting.shape[self._windows.time_axis]
            if count > self.lookahead:
                raise ValueError(
                    f"{count} frames wait, more than the lookahead of {self.lookahead}"
                )
        self._machine.set_state(checked)
        self._waiting = waiting

    def reset(self, rows: RowNumbers | None = None) -> None:
        """Take all streams back to the start; some, only while no frames wait."""
        if rows is not None and len(set(self._rows(rows))) < self.batch:
            self._refuse_to_begin()
        super().reset(rows)
        self._waiting = self._nothing()

    def join(self, count: int = 1) -> list[int]:
        """Add streams, as `Stream.join`, while no frames wait."""
        self._refuse_to_begin()
        return super().join(count)

    def _refuse_to_begin(self) -> None:
        if self.waiting:
            raise ValueError(
                f"{self.waiting} frames wait for those after them: a row that begins now has none "
                "to wait with. flush() first, or give it a stream of its own"
            )

    def leave(self, rows: RowNumbers) -> None:
        """End streams, as `Stream.leave`; the outputs for their frames that wait are lost."""
        gone = self._rows(rows)
        waiting = self._waiting if self.waiting else None
        axis = 1 if self._windows.time_axis == 0 else 0
        if waiting is not None and waiting.shape[axis] != self.batch:
            raise ValueError(
                f"frames of the shape {list(waiting.shape)} wait, whose axis {axis} should be the "
                f"{self.batch} rows: flush() first"
            )
        super().leave(gone)
        if waiting is not None:
            self._waiting = np.delete(waiting, gone, axis)


def _frame(frames: np.ndarray, time_axis: int) -> list[int]:
    """The shape without the time axis."""
    shape = list(frames.shape)
    del shape[time_axis]
    return shape
