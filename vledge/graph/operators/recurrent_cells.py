"""One step of an LSTM or GRU: what the pass that recognises cells puts into a graph.

These operators are no file's: their domain is ``vledge`` and their weights are attributes, in
torch's layout.
"""

from __future__ import annotations

import numpy as np

from vledge._ext.recurrent import Stepper
from vledge._ext.weights import Direction
from vledge.graph.registry import Context, prepared_operator

__all__ = ["Cell"]


class Cell:
    """The weights of a step, which the native program takes from here, and the step."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.stepper = Stepper([direction])


class _LSTMCell(Cell):
    def __call__(
        self, x: np.ndarray, h: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if not len(x) == len(h) == len(c):
            x, h, c = _same_rows(x, h, c)
        y, _, c_n = self.stepper.step(_matrix(x), _matrix(h)[None], _matrix(c)[None])
        assert c_n is not None
        return y, c_n[0]


class _GRUCell(Cell):
    def __call__(self, x: np.ndarray, h: np.ndarray) -> np.ndarray:
        if len(x) != len(h):
            x, h = _same_rows(x, h)
        return self.stepper.step(_matrix(x), _matrix(h)[None])[0]


@prepared_operator("LSTMCell", since=1, domain="vledge")
def lstm_cell(
    context: Context,
    *,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
) -> _LSTMCell:
    """x [B, I], h [B, H], c [B, H] -> h', c'."""
    return _LSTMCell(Direction("lstm", weight_ih, weight_hh, bias_ih, bias_hh))


@prepared_operator("GRUCell", since=1, domain="vledge")
def gru_cell(
    context: Context,
    *,
    weight_ih: np.ndarray,
    weight_hh: np.ndarray,
    bias_ih: np.ndarray,
    bias_hh: np.ndarray,
) -> _GRUCell:
    """x [B, I], h [B, H] -> h'."""
    return _GRUCell(Direction("gru", weight_ih, weight_hh, bias_ih, bias_hh))


def _matrix(array: np.ndarray) -> np.ndarray:
    if array.ndim != 2:
        raise ValueError(f"a cell's inputs have two axes, got the shape {array.shape}")
    return np.ascontiguousarray(array)


def _same_rows(*arrays: np.ndarray) -> list[np.ndarray]:
    """One row repeated, as it was in the sums that the cell was taken apart into."""
    rows = max(len(array) for array in arrays)
    return [np.broadcast_to(array, (rows, array.shape[-1])) for array in arrays]
