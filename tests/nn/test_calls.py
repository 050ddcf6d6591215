"""Calls of layers: arrays that lie as kernels take them, which go straight there, and others."""

import contextlib
import copy
import pickle
import threading

import numpy as np
import pytest

from tests.streaming.test_layers import LAYERS, loaded
from vledge import nn
from vledge._ext.recurrent import Stack
from vledge.machine import threads

SHAPES = {"one step": (1, 1), "a batch": (1, 3), "a few": (7, 1), "both": (9, 4), "long": (300, 2)}
WAYS = {
    "time first": {},
    "batch first": {"batch_first": True},
    "both ways": {"bidirectional": True},
    "all": {"bidirectional": True, "batch_first": True},
}


@pytest.fixture(params=LAYERS)
def make(request):
    return LAYERS[request.param]


def strided(array):
    """The same numbers, not in one run: what compiled code hands back to the long way."""
    return np.repeat(array[..., None], 2, -1)[..., 0]


def each(state, function):
    return tuple(map(function, state)) if isinstance(state, tuple) else function(state)


def states_of(layer, rng, *sequences):
    zeros = layer.zero_state(sequences[0] if sequences else 1)
    made = each(zeros, lambda z: rng.normal(size=z.shape).astype(z.dtype))
    return made if sequences else each(made, lambda s: np.ascontiguousarray(s[:, 0]))


def flat(result):
    output, state = result
    return [output, *(state if isinstance(state, tuple) else (state,))]


def assert_same(one, other):
    for a, b in zip(flat(one), flat(other), strict=True):
        assert a.dtype == b.dtype
        assert a.flags.c_contiguous
        assert a.flags.owndata or a.base is None
        np.testing.assert_array_equal(a, b)


def straight(monkeypatch, layer):
    """The long way fails from here on."""

    def long_way(*_):
        raise AssertionError("the long way")

    for name in ("_checked_input", "_checked_states", "_run_in_place"):
        monkeypatch.setattr(layer, name, long_way)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_give_the_same_bits(make, shape, way, dtype, monkeypatch):
    layer = loaded(make(dtype=dtype, **WAYS[way]))
    steps, sequences = SHAPES[shape]
    rng = np.random.default_rng(4)
    sizes = (sequences, steps, 5) if layer.batch_first else (steps, sequences, 5)
    x = rng.normal(size=sizes).astype(dtype)
    state = states_of(layer, rng, sequences)
    given = [(x, None), (x, state)]
    if isinstance(state, tuple):
        given += [(x, [state[0], None]), (x, (None, state[1]))]
    if sequences == 1:
        row = np.ascontiguousarray(x.reshape(steps, 5))
        given += [(row, None), (row, states_of(layer, rng))]
    long = [layer(strided(a), s) for a, s in given]
    before = [(a.copy(), copy.deepcopy(s)) for a, s in given]
    straight(monkeypatch, layer)
    for (a, s), expected, (a_before, s_before) in zip(given, long, before, strict=True):
        assert_same(layer(a, s), [np.ascontiguousarray(p) for p in (expected[0],)] + [expected[1]])
        np.testing.assert_array_equal(a, a_before)
        if s is not None and s is state:
            for mine, kept in zip(flat((a, s))[1:], flat((a, s_before))[1:], strict=True):
                np.testing.assert_array_equal(mine, kept)


def test_steps_are_calls_of_one_step(make):
    layer = loaded(make())
    rng = np.random.default_rng(4)
    x, state = rng.normal(size=(6, 3, 5)).astype(np.float32), None
    expected, last = layer(x)
    for t, frame in enumerate(x):
        y, state = layer.step(frame, state)
        np.testing.assert_allclose(y, expected[t], rtol=0, atol=1e-6)
    np.testing.assert_allclose(flat((y, state))[1], flat((y, last))[1], rtol=0, atol=1e-6)


def test_copies_call_too(make, monkeypatch):
    layer = loaded(make())
    x = np.ones((2, 1, 5), np.float32)
    expected = layer(x)
    for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        straight(monkeypatch, other)
        assert_same(other(x), expected)


def test_weights_that_are_loaded_anew_are_called():
    layer = loaded(LAYERS["gru"]())
    x = np.ones((2, 1, 5), np.float32)
    before = layer(x)[0]
    loaded(layer, seed=5)
    after = layer(x)[0]
    assert np.abs(before - after).max() > 1e-3
    np.testing.assert_array_equal(after, layer(strided(x))[0])


X, STATE = np.zeros((3, 2, 5), np.float32), np.zeros((2, 2, 19), np.float32)


@pytest.mark.parametrize(
    ("x", "state", "error", "match"),
    [
        (X[..., :4], STATE, RuntimeError, "Expected 5, got 4"),
        (X.astype("f8"), STATE, ValueError, "input is float64"),
        (X[0, 0], STATE, ValueError, "2D or 3D, got 1D"),
        (X[None], STATE, ValueError, "2D or 3D, got 4D"),
        (X[:0], STATE, RuntimeError, "sequence length"),
        (X, STATE[:1], RuntimeError, "Expected hidden size"),
        (X, STATE[:, :1], RuntimeError, "Expected hidden size"),
        (X, STATE[..., :7].copy(), RuntimeError, "Expected hidden size"),
        (X, STATE[0], RuntimeError, "should also be 3-D"),
        (X[:, 0].copy(), STATE, RuntimeError, "should also be 2-D"),
        (X, STATE.astype("f8"), ValueError, "h_0 is float64"),
    ],
)
def test_errors_are_those_of_the_long_way(x, state, error, match):
    layer = loaded(LAYERS["rnn"]())
    for a, s in ((x, state), (strided(x), strided(state))):
        with pytest.raises(error, match=match):
            layer(a, s)


def test_empty_batches_and_other_forms():
    layer = loaded(LAYERS["rnn"]())
    output, h_n = layer(np.zeros((3, 0, 5), np.float32))
    assert (output.shape, h_n.shape) == ((3, 0, 19), (2, 0, 19))
    x = np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32)
    expected = layer(x)
    odd = np.concatenate([np.zeros(1, np.uint8), x.view(np.uint8).ravel()])[1:].view("f4")
    readonly = x.copy()
    readonly.flags.writeable = False
    for form in (x.astype(">f4"), np.asfortranarray(x), odd.reshape(x.shape), readonly):
        assert_same(layer(form), expected)


def test_threads_share_a_layer():
    layer = loaded(LAYERS["lstm-3"]())
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(t, b, 5)).astype(np.float32) for t, b in [(1, 1), (1, 3), (5, 2)]]
    expected = [layer(x) for x in inputs]
    steps = [layer.step(x[0]) for x in inputs]
    problems = []

    def work():
        try:
            for turn in range(300):
                at = turn % len(inputs)
                assert_same(layer(inputs[at]), expected[at])
                assert_same(layer.step(inputs[at][0]), steps[at])
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert problems == []


def test_calls_use_the_threads_that_are_set(monkeypatch):
    """Compiled code reads what `vledge.get_num_threads` does, and raises its errors."""
    layer, x = loaded(LAYERS["gru"]()), np.zeros((3, 2, 5), np.float32)
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("VLEDGE_NUM_THREADS", "many")
    for call in (lambda: layer(x), lambda: layer(strided(x)), lambda: layer.step(x[0])):
        with pytest.raises(ValueError, match="VLEDGE_NUM_THREADS is 'many'"):
            call()
        with threads.using_threads(1):
            call()
    threads.set_num_threads(2)
    layer(x)


@pytest.mark.parametrize("layers", [[], [[]], [None], [[None]], None, [["gru"]], [[1, 2, 3]]])
def test_lists_that_are_no_stack(layers):
    with pytest.raises((TypeError, ValueError)):
        Stack(layers)


def test_stacks_of_layers_that_do_not_follow_one_another():
    one, other = (loaded(nn.GRU(*sizes))._layers[0] for sizes in ((5, 7), (5, 9)))
    two = loaded(nn.GRU(5, 7, bidirectional=True))._layers[0]
    for layers in ([one, one], [one, other], [one, two], [two, two]):
        with pytest.raises(ValueError, match="stacked layers must"):
            Stack(layers)
    empty = Stack.__new__(Stack)
    for kind in (bool, np.float32):
        with contextlib.suppress(TypeError):
            assert empty.run(np.zeros((1, 1, 0), kind), None, None, False) is None
