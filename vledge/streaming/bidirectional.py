"""Bidirectional layers over a window: a chunk whose outputs are wanted, and frames ahead of it.

Both directions of every layer run over the whole window. The forward ones go on from the state that
they had at the end of the last chunk, and keep the one at the end of this chunk. The reverse ones
begin with zeros at the window's last frame. Source: Zhang et al. 2016, "Highway long short-term
memory RNNs for distant speech recognition" (latency-controlled BLSTM).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from vledge._ext.recurrent import run_padded
from vledge._ext.weights import Direction
from vledge.errors import UnsupportedError, with_article
from vledge.nn.recurrent import RecurrentBase
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State as LayerState
from vledge.recurrent.states import joined
from vledge.small_matrix import DYNAMIC
from vledge.streaming.machine import State

__all__ = ["BackwardMachine", "BidirectionalMachine"]


class BidirectionalMachine:
    """An RNN, GRU or LSTM of two directions; the state is that of the forward ones."""

    def __init__(self, layer: RecurrentBase, rows: int) -> None:
        if not layer.bidirectional:
            raise UnsupportedError(
                f"{type(layer).__name__} has one direction and looks at nothing ahead: stream it "
                "without lookahead="
            )
        stack = _looking_ahead(layer)
        if rows < 0:
            raise ValueError(f"a stream has 0 or more rows, got {rows}")
        self.rows = rows
        self.time_axis = self.output_axis = 1 if layer.batch_first else 0
        self._layer = layer
        self._layers, self._shape = stack.layers, stack.shape
        self.row_axes = dict.fromkeys(stack.cell.states, 1)
        self._state = self.initial_state()

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Of ``x``."""
        return {"x": ((self.rows, self._shape.input_size), self._shape.dtype)}

    def window(self, frames: np.ndarray, kept: int) -> np.ndarray:
        """``frames [T, rows, input_size]`` -> ``[kept, rows, 2 * width]``; or batch first."""
        if kept == 0:
            shape = [0, self.rows] if self.time_axis == 0 else [self.rows, 0]
            return np.empty((*shape, self._shape.output_size), self._shape.dtype)
        return self._run(frames, kept, kept)[0]

    def run(self, frames: np.ndarray, kept: int) -> tuple[np.ndarray, LayerState]:
        """The outputs of all frames and the states, as the layer's ``forward`` returns them."""
        return self._run(frames, kept, frames.shape[self.time_axis])

    def _run(self, frames: np.ndarray, kept: int, wanted: int) -> tuple[np.ndarray, LayerState]:
        data = np.ascontiguousarray(frames.swapaxes(0, self.time_axis))
        zeros = self._zeros()
        finals: dict[str, list[np.ndarray]] = {name: [] for name in self._state}
        for index, (forward, reverse) in enumerate(self._layers):
            # nobody reads what the last layer's forward direction makes of the frames ahead
            end = wanted if index + 1 == len(self._layers) else len(data)
            state = {name: array[index : index + 1] for name, array in self._state.items()}
            chunk, state = _direction(forward, data[:kept], state)
            ahead, _ = _direction(forward, data[kept:end], state)
            back, first = _direction(reverse, data, zeros)
            data = np.concatenate([np.concatenate([chunk, ahead]), back[:end]], 2)
            for name, states in finals.items():
                states += [state[name], first[name]]
        finals_of = {name: np.concatenate(states) for name, states in finals.items()}
        self._state = {name: array[::2].copy() for name, array in finals_of.items()}
        output = np.ascontiguousarray(data.swapaxes(0, self.time_axis))
        return output, joined(finals_of["h"], finals_of.get("c"))

    def _zeros(self) -> State:
        """A direction's initial state."""
        shapes = zip(self.row_axes, self._shape.state_shapes(self.rows), strict=True)
        return {name: np.zeros((1, *shape[1:]), self._shape.dtype) for name, shape in shapes}

    def get_state(self) -> State:
        """``h [layers, rows, width]`` and, for an LSTM, ``c [layers, rows, hidden_size]``."""
        return {name: array.copy() for name, array in self._state.items()}

    def set_state(self, state: State) -> None:
        """Replace it."""
        self._state = {name: np.array(array, order="C") for name, array in state.items()}

    def initial_state(self) -> State:
        """Zeros."""
        return {name: array.repeat(len(self._layers), 0) for name, array in self._zeros().items()}

    def with_rows(self, rows: int) -> BidirectionalMachine:
        """The same layer for another number of streams."""
        return BidirectionalMachine(self._layer, rows)


class BackwardMachine:
    """A layer that runs backwards only, the second half of a `vledge.nn.Bidirectional`: it begins
    with zeros at the window's last frame, and keeps no state."""

    row_axes: ClassVar[dict[str, int]] = {}

    def __init__(self, layer: RecurrentBase, rows: int) -> None:
        self.rows = rows
        self._layer = layer

    def run(self, frames: np.ndarray, kept: int) -> tuple[np.ndarray, LayerState]:
        """The outputs of all frames and the states at the first, as the layer returns them."""
        result: tuple[np.ndarray, LayerState] = self._layer.forward(frames)
        return result

    def get_state(self) -> State:
        """Nothing."""
        return {}

    def set_state(self, state: State) -> None:
        """Nothing to do."""


def _direction(direction: Direction, data: np.ndarray, state: State) -> tuple[np.ndarray, State]:
    """One direction over ``data [T, rows, features]`` from the state given: outputs, last state."""
    steps, rows = data.shape[:2]
    if steps == 0 or rows == 0:
        return np.empty((steps, rows, state["h"].shape[2]), data.dtype), state
    batch_sizes = np.full(steps, rows, np.int64)
    output, h, c = run_padded([direction], data, batch_sizes, None, state["h"], state.get("c"))
    return output, {"h": h} if c is None else {"h": h, "c": c}


def _looking_ahead(layer: RecurrentBase) -> Stack:
    """The layer's stack. UnsupportedError where frames ahead have a part in what others become."""
    if layer.storage in DYNAMIC:
        raise UnsupportedError(
            f"{with_article(type(layer).__name__)} stored as {layer.storage} has one scale for all "
            "frames of a call, and is not streamed with lookahead"
        )
    return layer.stack
