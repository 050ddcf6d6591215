"""LSTM, GRU and RNN in place of a loop that steps a cell: what the pass that finds them makes.

These operators are no file's: their domain is ``vledge``. They are ONNX's of the same name, forward
and with layout 0, but for what a loop does otherwise: without steps the final states are the
initial ones, what has one row is broadcast, and in place of ``sequence_lens`` stands ``mask``
``[T, B, 1]`` (bool), which may have holes anywhere. Where it is false the states stay as they are
and Y is zero, or with ``masked="hold"`` the state.
"""

from __future__ import annotations

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.recurrent import RecurrentNode
from vledge.graph.operators.recurrent_generic import Cell
from vledge.graph.registry import Context, prepared_operator

__all__ = ["SteppedLayer"]


class SteppedLayer:
    """``X [T, B, I], W, R, B, mask, initial_h, initial_c -> Y [T, 1, B, H], Y_h, Y_c``."""

    def __init__(self, context: Context, cell: Cell, hidden_size: int, masked: str) -> None:
        if masked not in ("zero", "hold"):
            raise FormatError(f"masked is {masked!r}, expected 'zero' or 'hold'")
        self.layer = RecurrentNode(context, cell, "forward", hidden_size, 0)
        self.layer.empty_state = "initial"
        self.size = hidden_size
        self.hold = masked == "hold"

    def __call__(
        self,
        x: np.ndarray,
        w: np.ndarray | None,
        r: np.ndarray | None,
        b: np.ndarray | None,
        mask: np.ndarray | None,
        *initial: np.ndarray,
    ) -> tuple[np.ndarray | None, ...]:
        steps, rows, features = x.shape
        if steps == 0:
            return (np.zeros((0, 1, *initial[0].shape[1:]), x.dtype), *initial)
        given = initial if mask is None else (*initial, mask)
        rows = np.broadcast_shapes((rows,), *((array.shape[1],) for array in given))[0]
        x = np.broadcast_to(x, (steps, rows, features))
        states = [np.broadcast_to(state, (1, rows, self.size)) for state in initial]
        if mask is None:
            return self.layer(x, w, r, b, None, *states)
        if mask.shape[2] != 1:
            return self._unit_by_unit(x, mask, states)
        mask = np.broadcast_to(mask, (steps, rows, 1))[:, :, 0]
        return self._without_masked(x, mask, states)

    def _without_masked(
        self, x: np.ndarray, mask: np.ndarray, states: list[np.ndarray]
    ) -> tuple[np.ndarray | None, ...]:
        """Each sequence's own steps side by side, as sequences of different lengths."""
        own = np.argsort(~mask, axis=0, kind="stable")
        lengths = mask.sum(0)
        packed = np.take_along_axis(x, own[:, :, None], 0)
        y, *final = self.layer(packed, None, None, None, lengths, *states)
        assert y is not None
        done = np.cumsum(mask, 0)  # steps up to and with this one
        before = np.concatenate([states[0], y[:, 0]])
        held = np.take_along_axis(before, done[:, :, None], 0)
        if not self.hold:
            held = np.where(mask[:, :, None], held, np.zeros((), held.dtype))
        return (held[:, None], *final)

    def _unit_by_unit(
        self, x: np.ndarray, mask: np.ndarray, states: list[np.ndarray]
    ) -> tuple[np.ndarray | None, ...]:
        """Step by step, where the mask tells units of one step apart."""
        outputs = []
        for step, own in zip(x[:, None], mask, strict=True):
            made = self.layer(step, None, None, None, None, *states)[1:]
            states = [
                np.where(own, new, old)
                for new, old in zip(made, states, strict=True)
                if new is not None
            ]
            zero = np.zeros((), x.dtype)
            outputs.append(states[0] if self.hold else np.where(own, states[0], zero))
        return (np.stack(outputs), *states)


@prepared_operator("LSTM", since=1, domain="vledge")
def lstm(context: Context, *, hidden_size: int, masked: str = "zero") -> SteppedLayer:
    return SteppedLayer(
        context, Cell("LSTM", None, None, None, None, "forward"), hidden_size, masked
    )


@prepared_operator("GRU", since=1, domain="vledge")
def gru(
    context: Context, *, hidden_size: int, linear_before_reset: int = 0, masked: str = "zero"
) -> SteppedLayer:
    cell = Cell("GRU", None, None, None, None, "forward")
    cell.linear_before_reset = bool(linear_before_reset)
    return SteppedLayer(context, cell, hidden_size, masked)


@prepared_operator("RNN", since=1, domain="vledge")
def rnn(
    context: Context,
    *,
    hidden_size: int,
    activations: list[str] | None = None,
    masked: str = "zero",
) -> SteppedLayer:
    cell = Cell("RNN", activations, None, None, None, "forward")
    return SteppedLayer(context, cell, hidden_size, masked)
