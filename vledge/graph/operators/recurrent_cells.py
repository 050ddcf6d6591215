"""One step of an LSTM, GRU or RNN: what the pass that recognises cells puts into a graph.

These operators are no file's: their domain is ``vledge`` and their weights are attributes, in
torch's layout.
"""

from __future__ import annotations

import numpy as np

from vledge._ext.stack import Stepper
from vledge._ext.weights import Direction
from vledge.errors import FormatError
from vledge.graph.registry import Context, prepared_operator

__all__ = ["RecognizedCell"]


class RecognizedCell:
    """The weights of a step, which the native program takes from here, and the step."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.stepper = Stepper([direction])
        self.sizes = [direction.input_size, *[direction.hidden_size] * 2]

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """x [..., I] and the states [..., H]; they broadcast as in the sums of the cell's gates."""
        leading = np.broadcast_shapes(*(array.shape[:-1] for array in inputs))
        rows = [
            np.ascontiguousarray(np.broadcast_to(array, (*leading, size))).reshape(-1, size)
            for array, size in zip(inputs, self.sizes, strict=False)
        ]
        x, *states = rows
        shape = (*leading, self.sizes[1])
        if len(x) == 0:
            return tuple(np.zeros(shape, x.dtype) for _ in states)
        y, _, c_n = self.stepper.step(x, *(state[None] for state in states))
        return (y.reshape(shape),) if c_n is None else (y.reshape(shape), c_n[0].reshape(shape))


@prepared_operator("LSTMCell", since=1, domain="vledge")
def lstm_cell(
    context: Context,
    *,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
) -> RecognizedCell:
    """x [B, I], h [B, H], c [B, H] -> h', c'."""
    return RecognizedCell(Direction("lstm", weight_ih, weight_hh, bias_ih, bias_hh))


@prepared_operator("GRUCell", since=1, domain="vledge")
def gru_cell(
    context: Context,
    *,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
    reset_before: int = 0,
) -> RecognizedCell:
    """x [B, I], h [B, H] -> h'; ``reset_before``: the reset gate acts before the product."""
    kind = "gru_reset_before" if reset_before else "gru"
    return RecognizedCell(Direction(kind, weight_ih, weight_hh, bias_ih, bias_hh))


@prepared_operator("RNNCell", since=1, domain="vledge")
def rnn_cell(
    context: Context,
    *,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
    nonlinearity: str,
) -> RecognizedCell:
    """x [B, I], h [B, H] -> h'; ``nonlinearity`` is "tanh" or "relu"."""
    if nonlinearity not in ("tanh", "relu"):
        raise FormatError(f"nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
    return RecognizedCell(Direction(f"rnn_{nonlinearity}", weight_ih, weight_hh, bias_ih, bias_hh))
