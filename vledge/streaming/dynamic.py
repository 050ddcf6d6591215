"""torch's dynamically quantised layers in a stream: each frame's bytes have a scale of their own,
as in torch where a layer is called frame by frame."""

from __future__ import annotations

import numpy as np

from vledge.recurrent.stack import Stack
from vledge.recurrent.states import split

__all__ = ["DynamicStreamingStack"]


class DynamicStreamingStack:
    """What `vledge._ext.streaming.StreamingStack` is of other layers."""

    def __init__(self, stack: Stack, rows: int) -> None:
        if rows < 0:
            raise ValueError(f"a stream has 0 or more rows, got {rows}")
        self._stack, self._rows = stack, rows
        self._h, self._c = split(stack.zero_state(rows))

    def step(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``x [rows, input_size]`` -> ``[rows, hidden_size]``."""
        y: np.ndarray = self.push(np.asarray(x)[None], None if out is None else out[None])[0]
        return y

    def push(self, chunk: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``chunk [T, rows, input_size]`` -> ``[T, rows, hidden_size]``."""
        wanted = (self._rows, self._stack.shape.input_size)
        if chunk.ndim != 3 or chunk.shape[1:] != wanted or chunk.dtype != np.float32:
            raise ValueError(
                f"frames are {chunk.dtype} {list(chunk.shape)}, expected float32 "
                f"[time, {wanted[0]}, {wanted[1]}]"
            )
        shape = (len(chunk), self._rows, self._stack.shape.output_size)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise ValueError(
                f"out is {out.dtype} {list(out.shape)}, expected float32 {list(shape)}"
            )
        for t, x in enumerate(chunk):
            out[t], self._h, self._c = self._stack.step(x, self._h, self._c)
        return out

    def get_state(self) -> tuple[np.ndarray, np.ndarray | None]:
        """``h`` and, of an LSTM, ``c``: ``[layers, rows, hidden_size]``."""
        return self._h.copy(), None if self._c is None else self._c.copy()

    def set_state(self, h: np.ndarray, c: np.ndarray | None = None) -> None:
        """Replace it."""
        for given, own in ((h, self._h), (c, self._c)):
            if (given is None) != (own is None) or (
                given is not None and own is not None and given.shape != own.shape
            ):
                raise ValueError("a state has other arrays than the stream's")
        self._h = np.array(h, np.float32)
        self._c = None if c is None else np.array(c, np.float32)
