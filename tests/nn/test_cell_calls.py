"""Calls of cells: arrays that lie as kernels take them, which go straight there, and others."""

import numpy as np
import pytest

from tests.nn.test_calls import strided
from tests.streaming.test_layers import loaded
from vledge import nn

CELLS = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "rnn": nn.RNNCell,
    "rnn-relu": lambda *sizes, **o: nn.RNNCell(*sizes, nonlinearity="relu", **o),
}


def listed(result):
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [(), (1,), (5,)])
@pytest.mark.parametrize("kind", CELLS)
def test_both_ways_give_the_same_bits(kind, rows, dtype, monkeypatch):
    cell = loaded(CELLS[kind](5, 19, dtype=dtype))
    rng = np.random.default_rng(2)
    x, h, c = (rng.normal(size=(*rows, n)).astype(dtype) for n in (5, 19, 19))
    states = [None, (h, c), (None, c), (h, None)] if kind == "lstm" else [None, h]
    long = [listed(cell(strided(x), state)) for state in states]
    kept = [array.copy() for array in (x, h, c)]
    monkeypatch.setattr(cell, "_state", None)
    for state, expected in zip(states, long, strict=True):
        for mine, right in zip(listed(cell(x, state)), expected, strict=True):
            assert mine.dtype == dtype
            assert mine.shape == (*rows, 19)
            np.testing.assert_array_equal(mine, right)
    for array, before in zip((x, h, c), kept, strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("x", "h", "error", "match"),
    [
        (np.zeros((2, 4), "f4"), None, RuntimeError, "got 4 expected 5"),
        (np.zeros((2, 5)), None, ValueError, "input is float64"),
        (np.zeros((2, 2, 5), "f4"), None, ValueError, "1D or 2D, got 3D"),
        (np.zeros((2, 5), "f4"), np.zeros((1, 19), "f4"), RuntimeError, "Expected hidden of shape"),
        (np.zeros((2, 5), "f4"), np.zeros((2, 18), "f4"), RuntimeError, "Expected hidden of shape"),
        (np.zeros(5, "f4"), np.zeros((1, 19), "f4"), RuntimeError, "Expected hidden of shape"),
        (np.zeros((2, 5), "f4"), np.zeros((2, 19)), ValueError, "hidden is float64"),
    ],
)
def test_errors_are_those_of_the_long_way(x, h, error, match):
    with pytest.raises(error, match=match):
        loaded(nn.GRUCell(5, 19))(x, h)


def test_a_batch_of_none():
    assert loaded(nn.GRUCell(5, 19))(np.zeros((0, 5), np.float32)).shape == (0, 19)
