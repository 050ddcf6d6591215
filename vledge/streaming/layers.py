"""Recurrent layers as machines: a thin order of axes around the compiled stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vledge._ext.streaming import StreamingStack
from vledge.array_like import array_of
from vledge.errors import UnsupportedError
from vledge.nn.module import Module
from vledge.nn.recurrent import RecurrentBase
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import GivenState, joined
from vledge.recurrent.states import State as LayerState
from vledge.small_matrix import DYNAMIC
from vledge.streaming.bidirectional import BackwardMachine, BidirectionalMachine
from vledge.streaming.machine import Made, State, fitting

if TYPE_CHECKING:
    from vledge.recurrent.dynamic import DynamicStack
    from vledge.streaming.dynamic import DynamicStreamingStack

__all__ = ["RecurrentMachine", "StreamingRecurrent"]


class RecurrentMachine:
    """An RNN, GRU or LSTM of one direction, any number of layers."""

    def __init__(self, layer: RecurrentBase, rows: int, name: str = "") -> None:
        self.rows = rows
        self._layer = layer
        self._shape = layer.shape
        _refuse_backwards(layer, name)
        self._stack = _streaming(layer.stack, rows)
        self.row_axes = dict.fromkeys(self._shape.kind.states, 1)

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Of ``x``."""
        return {"x": ((self.rows, self._shape.input_size), self._shape.dtype)}

    @property
    def step(self) -> Callable[..., np.ndarray]:
        """``x [rows, input_size]`` -> ``[rows, width]``: the compiled method itself."""
        return self._stack.step

    def push(self, chunk: Any, out: Any = None) -> Made:
        """``chunk [T, rows, input_size]``, or ``[rows, T, input_size]`` with batch_first."""
        if not self._layer.batch_first:
            return self._stack.push(chunk, out)
        chunk = array_of(chunk, "chunk")
        if chunk.ndim != 3:
            raise ValueError(f"chunk has {chunk.ndim} axes, expected [batch, T, input_size]")
        if out is not None:  # before the state goes on
            fitting(out, (*chunk.shape[:2], self._shape.width), self._shape.dtype)
        result = self._stack.push(np.ascontiguousarray(chunk.swapaxes(0, 1))).swapaxes(0, 1)
        if out is None:
            return np.ascontiguousarray(result)
        out[...] = result
        return out

    def run(self, frames: np.ndarray, kept: int) -> tuple[np.ndarray, LayerState]:
        """The outputs of all frames, and the state after the first ``kept``, which is kept."""
        axis = 1 if self._layer.batch_first else 0
        if kept == frames.shape[axis]:
            output, state = self.push(frames), self.get_state()
        else:
            chunk, ahead = np.split(frames, [kept], axis)
            output, state = self.push(chunk), self.get_state()
            output = np.concatenate([output, self.push(ahead)], axis)
            self.set_state(state)
        return output, joined(state["h"], state.get("c"))

    def get_state(self) -> State:
        """``h [layers, rows, width]`` and, for an LSTM, ``c [layers, rows, hidden_size]``."""
        h, c = self._stack.get_state()
        return {"h": h} if c is None else {"h": h, "c": c}

    def set_state(self, state: State) -> None:
        """Replace it."""
        self._stack.set_state(**state)

    def initial_state(self) -> State:
        """Zeros."""
        return {name: np.zeros_like(array) for name, array in self.get_state().items()}

    def with_rows(self, rows: int) -> RecurrentMachine:
        """The same layer for another number of streams."""
        return RecurrentMachine(self._layer, rows)


class StreamingRecurrent(Module):
    """Stands in a streaming module where the layer stood: goes on from its last state."""

    machine: RecurrentMachine | BidirectionalMachine | BackwardMachine

    def __init__(self, layer: RecurrentBase, rows: int, name: str, lookahead: bool) -> None:
        super().__init__()
        self.looks_ahead = lookahead and layer.backwards
        if self.looks_ahead and layer.bidirectional:
            self.machine = BidirectionalMachine(layer, rows)
        elif self.looks_ahead:
            self.machine = BackwardMachine(layer, rows)
        else:
            self.machine = RecurrentMachine(layer, rows, name)
        self.name = f"{type(layer).__name__} {name!r}"
        self.time_axis = 1 if layer.batch_first else 0
        self.row_axes = self.machine.row_axes
        self.get_state, self.set_state = self.machine.get_state, self.machine.set_state
        self.expect(0, 0)

    def expect(self, steps: int, kept: int) -> None:
        """So many frames are coming; the state is to be that after the first ``kept``."""
        self.steps, self.kept = steps, kept
        self.served = False

    def forward(
        self, input: object, hx: GivenState = None, **ways: object
    ) -> tuple[np.ndarray, LayerState]:
        """As the layer's; the state that is returned is the stream's."""
        for name, value in ways.items():
            if value is not None:
                raise UnsupportedError(
                    f"{self.name} is given {name}: in a stream every frame counts"
                )
        if hx is not None:
            raise UnsupportedError(f"{self.name} is given a state by its module: a stream keeps it")
        if self.served:
            raise UnsupportedError(f"{self.name} is called twice for one frame")
        self.served = True
        if not isinstance(input, np.ndarray) or input.ndim != 3:
            given = [*np.shape(input)] if isinstance(input, np.ndarray) else type(input).__name__
            raise UnsupportedError(f"{self.name} gets {given}, expected an array [B, T, features]")
        if input.shape[self.time_axis] != self.steps:
            raise UnsupportedError(
                f"{self.name} gets {input.shape[self.time_axis]} steps where {self.steps} frames "
                "were pushed"
            )
        return self.machine.run(np.ascontiguousarray(input), self.kept)


def _streaming(stack: Stack, rows: int) -> StreamingStack | DynamicStreamingStack:
    if stack.shape.storage not in DYNAMIC:
        return StreamingStack(stack.directions, rows)
    # imported by who has such a layer
    from vledge.streaming.dynamic import DynamicStreamingStack

    return DynamicStreamingStack(cast("DynamicStack", stack), rows)


def _refuse_backwards(layer: RecurrentBase, name: str) -> None:
    kind = type(layer).__name__ + (f" {name!r}" if name else "")
    if layer.backwards:
        which = "its reverse direction" if layer.bidirectional else "it"
        raise UnsupportedError(
            f"a {'bidirectional' if layer.bidirectional else 'turned'} {kind} cannot be streamed: "
            f"{which} begins at the end of the sequence, which a stream has not seen; with "
            "lookahead=N it begins N frames ahead, and the outputs come N frames late"
        )
