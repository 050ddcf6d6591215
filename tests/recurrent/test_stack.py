"""Stack: what runs, without a layer around it."""

import pickle

import numpy as np
import pytest

import vledge
from tests.lengths.cases import (
    KINDS,
    assert_same,
    make_layer,
    make_sequences,
    make_state,
    rectangle,
)
from vledge.lengths import run, run_many
from vledge.lengths.strategies import STRATEGIES
from vledge.recurrent.states import checked, side_by_side, take

LENGTHS = np.array([5, 1, 9, 3, 9, 2, 7])


def made(kind, **options):
    layer = make_layer(kind, batch_first=False, **options)
    return layer, layer.stack


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_stack_is_taken_for_a_layer(kind, bidirectional):
    layer, stack = made(kind, num_layers=2, bidirectional=bidirectional)
    sequences, hx = make_sequences(LENGTHS), make_state(layer, len(LENGTHS))
    x = rectangle(sequences, batch_first=False)
    for name, strategy in STRATEGIES.items():
        if bidirectional and strategy.forward_only:
            continue
        ways = {"lengths": LENGTHS, "strategy": name, **strategy.small}
        assert_same(run(stack, x, hx, **ways), layer(x, hx, **ways), 0)
    assert_same(run(stack, sequences, hx), layer(sequences, hx), 0)
    for one, other in zip(run_many(stack, sequences), run_many(layer, sequences), strict=True):
        assert_same(one.output, other.output, 0)
        assert_same(one.state, other.state, 0)
    assert vledge.plan(LENGTHS, stack).shapes == vledge.plan(LENGTHS, layer).shapes
    assert_same(vledge.initial_state(stack, 3), vledge.initial_state(layer, 3), 0)
    assert stack.nbytes == layer.nbytes > 0
    assert stack.backwards == layer.backwards == bidirectional


def test_a_stack_steps_forward_only():
    layer, stack = made("lstm")
    x = np.ones((2, 5), np.float32)
    state = stack.zero_state(2)
    y, h, c = stack.step(x, *state)
    assert_same((y, (h, c)), layer.step(x, state), 0)
    with pytest.raises(ValueError, match="runs backwards needs the whole sequence"):
        made("gru", bidirectional=True)[1].step(x, None)


def test_a_stack_is_kept_and_comes_back():
    layer, stack = made("gru", num_layers=2)
    x = make_sequences(LENGTHS)
    again = pickle.loads(pickle.dumps(stack))
    assert again.shape == stack.shape
    assert_same(run(again, x), layer(x), 0)


def test_one_state_of_an_lstm_may_be_none():
    layer, stack = made("lstm")
    x, (h, c) = make_sequences(LENGTHS), make_state(layer, len(LENGTHS))
    zeros = np.zeros_like(c)
    for strategy in ("packed", "bucketed", "lanes"):
        got = run(stack, x, (h, None), strategy=strategy)
        assert_same(got, run(stack, x, (h, zeros), strategy=strategy), 0)


def test_states_are_checked_once_and_in_one_way():
    layer, stack = made("lstm")
    h, c = make_state(layer, 3)
    for call in (
        lambda hx: run(stack, make_sequences([3, 2, 1]), hx),
        lambda hx: layer(make_sequences([3, 2, 1]), hx),
        lambda hx: checked(stack.shape, hx, 3),
    ):
        with pytest.raises(TypeError, match=r"LSTM: hx must be a tuple \(h_0, c_0\)"):
            call(h)
        with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(1, 3, 7\)"):
            call((h, c[:, :2]))
        with pytest.raises(ValueError, match="h_0 is float64 but the layer's weights are float32"):
            call((h.astype(float), c))
    gru = made("gru")[1]
    with pytest.raises(TypeError, match="GRU: hx must be one array"):
        run(gru, make_sequences([3, 2, 1]), (h, h))


def test_states_side_by_side():
    h = np.arange(12.0).reshape(2, 3, 2)
    parts = [take((h, h + 1), [place]) for place in range(3)]
    parts[1] = None
    joined = side_by_side(parts, [1, 1, 1])
    expected = h.copy()
    expected[:, 1] = 0
    np.testing.assert_array_equal(joined[0], expected)
    assert side_by_side([None, None], [1, 2]) is None
