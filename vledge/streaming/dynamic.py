"""torch's dynamically quantised layers in a stream: each frame's bytes have a scale of their own,
as in torch where a layer is called frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from vledge._ext.program import CarriedProgram
from vledge.recurrent.dynamic import DynamicStack
from vledge.recurrent.states import split
from vledge.streaming.carried import misfit
from vledge.streaming.machine import fitting

__all__ = ["DynamicStreamingStack"]

_FLOAT: Final = np.dtype(np.float32)


class DynamicStreamingStack:
    """What `vledge._ext.streaming.StreamingStack` is of other layers."""

    def __init__(self, stack: DynamicStack, rows: int) -> None:
        if rows < 0:
            raise ValueError(f"a stream has 0 or more rows, got {rows}")
        self._shape, self._rows = stack.shape, rows
        frame = (1, rows, self._shape.input_size)
        count = self._shape.num_layers * len(self._shape.kind.states)
        self._carried = CarriedProgram(
            stack.program,
            [(place, place) for place in range(1, 1 + count)],
            [("x", 0, _FLOAT, frame, 0)],
            [],
            [("out", 0, 0)],
            self._taken,
            misfit,
            _not_blamed,
        )
        self.set_state(*split(stack.zero_state(rows)))
        #: ``x [rows, input_size]`` -> ``[rows, output_size]``
        self.step: Callable[..., Any] = self._carried.step if rows else self._no_rows

    def push(self, chunk: Any, out: Any = None) -> np.ndarray:
        """``chunk [T, rows, input_size]`` -> ``[T, rows, output_size]``. Where it fails or Ctrl-C
        ends it, the state is what it was before."""
        steps = len(chunk) if isinstance(chunk, np.ndarray) and chunk.ndim == 3 else 0
        self._check(chunk, "chunk", (steps, self._rows, self._shape.input_size))
        shape = (steps, self._rows, self._shape.output_size)
        result = np.empty(shape, np.float32) if out is None else fitting(out, shape, _FLOAT)
        if out is not None and np.may_share_memory(chunk, out):
            chunk = chunk.copy()
        before = self._carried.get_states()
        try:
            for x, y in zip(chunk, result, strict=True):
                self.step(x, y)
        except BaseException:
            self._carried.set_states(before)
            raise
        return result

    def get_state(self) -> tuple[np.ndarray, np.ndarray | None]:
        """``h`` and, of an LSTM, ``c``: ``[layers, rows, hidden_size]``."""
        count, parts = self._shape.num_layers, self._carried.get_states()
        h, *c = (np.concatenate(parts[k : k + count]) for k in range(0, len(parts), count))
        return h, c[0] if c else None

    def set_state(self, h: np.ndarray, c: np.ndarray | None = None) -> None:
        """Replace it."""
        given = [h] if c is None else [h, c]
        shapes = self._shape.state_shapes(self._rows)
        if [state.shape for state in given] != list(shapes):
            raise ValueError("a state has other arrays than the stream's")
        states = [np.asarray(state, np.float32) for state in given]
        count = self._shape.num_layers
        self._carried.set_states([part for state in states for part in np.split(state, count)])

    def _check(self, x: object, name: str, shape: tuple[int, ...]) -> None:
        """ValueError for what is no array of float32 of this shape."""
        if isinstance(x, np.ndarray) and x.shape == shape and x.dtype == _FLOAT:
            return
        given = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ValueError(f"{name} is {given}, expected float32 {list(shape)}")

    def _taken(self, x: object) -> list[np.ndarray]:
        """A frame that handlers do not read as it lies."""
        self._check(x, "x", (self._rows, self._shape.input_size))
        return [np.array(x, np.float32)[None]]

    def _no_rows(self, x: object, out: object = None) -> np.ndarray:
        """A step of no streams."""
        self._check(x, "x", (0, self._shape.input_size))
        shape = (0, self._shape.output_size)
        return np.empty(shape, np.float32) if out is None else fitting(out, shape, _FLOAT)


def _not_blamed(error: Exception) -> None:
    """What a program's error has to do with its nodes: here they have no names."""
