"""Streams of layers: frame by frame equal to the whole run, states, rows that come and go."""

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.streaming import Stream

FRAMES, BATCH = 23, 3


def loaded(layer, seed=0):
    rng = np.random.default_rng(seed)
    layer.load_state_dict(
        {
            name: rng.normal(0, 0.4, declared.shape).astype(declared.dtype)
            for name, _, _, declared in layer._named_declared()
        }
    )
    return layer


def frames(shape, dtype=np.float32, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


HARD = ("hard_sigmoid", 0.2, 0.5)
LAYERS = {
    "lstm": lambda **o: nn.LSTM(5, 19, **o),
    "lstm-3": lambda **o: nn.LSTM(5, 33, 3, **o),
    "lstm-projected": lambda **o: nn.LSTM(5, 19, 2, proj_size=7, **o),
    "gru": lambda **o: nn.GRU(5, 19, **o),
    "gru-2-no-bias": lambda **o: nn.GRU(5, 16, 2, bias=False, **o),
    "rnn": lambda **o: nn.RNN(5, 19, 2, **o),
    "indrnn": lambda **o: nn.IndRNN(5, 19, 2, "tanh", **o),
    "indrnn-relu": lambda **o: nn.IndRNN(5, 7, **o),
    "rnn-relu": lambda **o: nn.RNN(5, 9, nonlinearity="relu", **o),
    "rnn-softsign": lambda **o: nn.RNN(5, 9, nonlinearity="softsign", **o),
    "lstm-hard": lambda **o: nn.LSTM(5, 19, 2, recurrent_activation=HARD, **o),
    "gru-hard": lambda **o: nn.GRU(5, 19, activation="elu", recurrent_activation=HARD, **o),
    "gru-reset-before-hard": lambda **o: nn.GRU(
        5, 19, reset_after=False, recurrent_activation=HARD, **o
    ),
}


@pytest.fixture(params=LAYERS)
def make(request):
    return LAYERS[request.param]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_equal_the_whole_run(make, dtype):
    layer = loaded(make(dtype=dtype))
    x = frames((FRAMES, BATCH, 5), dtype)
    expected, state = layer(x)
    stream = layer.stream(batch=BATCH)
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=2e-6)
    finals = state if isinstance(state, tuple) else (state,)
    for (name, array), final in zip(stream.state.items(), finals, strict=True):
        np.testing.assert_allclose(array, final, rtol=0, atol=2e-6, err_msg=name)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_out", [False, True])
def test_chunks_equal_steps_bit_for_bit(make, batch_first, with_out):
    layer = loaded(make(batch_first=batch_first))
    x = frames((FRAMES, BATCH, 5))
    one, many = layer.stream(batch=BATCH), layer.stream(batch=BATCH)
    steps = np.stack([one.step(frame) for frame in x])
    chunks = []
    for chunk in np.split(x, [4, 4, 5, 17]):
        given = np.ascontiguousarray(chunk.swapaxes(0, 1)) if batch_first else chunk
        out = None
        if with_out:
            out = np.full((*given.shape[:2], steps.shape[2]), np.nan, np.float32)
        got = many.push(given, out=out)
        assert out is None or got is out
        chunks.append(got.swapaxes(0, 1) if batch_first else got)
    np.testing.assert_array_equal(np.concatenate(chunks), steps)


def test_weights_laid_out_for_blas(make):
    from vledge.machine import projection

    pytest.importorskip("scipy")
    before = projection.selected()
    try:
        projection.select("blas")
        layer = loaded(make())
    finally:
        projection.select(before)
    x = frames((FRAMES, BATCH, 5))
    stream = layer.stream(batch=BATCH)
    np.testing.assert_allclose(stream.push(x), layer(x)[0], rtol=0, atol=2e-6)


def test_step_writes_into_out(make):
    layer = loaded(make())
    x = frames((2, BATCH, 5))
    stream, other = layer.stream(batch=BATCH), layer.stream(batch=BATCH)
    for frame in x:
        expected = other.step(frame)
        out = np.full_like(expected, np.nan)
        assert stream.step(frame, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_state_is_a_dict_that_can_be_put_back(make):
    layer = loaded(make())
    x = frames((FRAMES, BATCH, 5))
    stream = layer.stream(batch=BATCH)
    stream.push(x[:7])
    kept = stream.state
    rest = stream.push(x[7:])
    stream.state = kept
    np.testing.assert_array_equal(stream.push(x[7:]), rest)
    other = layer.stream(batch=BATCH)
    other.state = kept
    np.testing.assert_array_equal(other.push(x[7:]), rest)
    kept["h"][:] = 9
    assert not (stream.state["h"] == 9).any()


def test_saved_and_loaded(make, tmp_path):
    layer = loaded(make())
    x = frames((FRAMES, BATCH, 5))
    stream = layer.stream(batch=BATCH)
    stream.push(x[:7])
    path = tmp_path / "state.safetensors"
    stream.save(path)
    rest = stream.push(x[7:])
    np.testing.assert_array_equal(Stream.load(path, layer).push(x[7:]), rest)
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]
    with pytest.raises(ValueError, match=r"state.safetensors is of another model: state 'h'"):
        Stream.load(path, loaded(type(layer)(5, 4)))


def test_a_file_that_is_no_state(tmp_path):
    path = tmp_path / "weights.safetensors"
    vledge.save_weights(path, {"h": np.zeros((1, 1, 4), np.float32)})
    with pytest.raises(vledge.FormatError, match="holds no state of a stream"):
        Stream.load(path, loaded(nn.GRU(2, 4)))


def test_rows_reset_join_and_leave(make):
    """Each row is what a stream of its own would be, whatever its neighbours do."""
    layer = loaded(make())
    x = frames((FRAMES, 5, 5))
    alone = [layer.stream() for _ in range(5)]
    stream = layer.stream(batch=2)
    live = [0, 1]

    def check(t):
        got = stream.step(np.ascontiguousarray(x[t, live]))
        for row, source in zip(got, live, strict=True):
            expected = alone[source].step(x[t, source : source + 1])[0]
            np.testing.assert_allclose(row, expected, rtol=0, atol=2e-6)

    for t in range(3):
        check(t)
    assert stream.join(3) == [2, 3, 4]
    live += [2, 3, 4]
    for t in range(3, 6):
        check(t)
    stream.reset(rows=[1, 3])
    alone[1].reset()
    alone[3].reset()
    for t in range(6, 9):
        check(t)
    stream.leave([0, 3])
    live = [1, 2, 4]
    assert stream.batch == 3
    for t in range(9, 12):
        check(t)
    stream.leave(range(3))
    assert stream.batch == 0
    assert stream.step(np.zeros((0, 5), np.float32)).shape[0] == 0


def test_reset_everything(make):
    layer = loaded(make())
    x = frames((4, BATCH, 5))
    stream = layer.stream(batch=BATCH)
    first = stream.push(x)
    assert np.abs(stream.push(x) - first).max() > 1e-3
    stream.reset()
    np.testing.assert_array_equal(stream.push(x), first)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5)), r"x is float64 \[2, 5\], expected .* float32 \[2, 4\]"),
        (np.zeros((1, 4), np.float32), r"float32 \[1, 4\]"),
        ([[0.0] * 4] * 2, "x is list"),
    ],
)
def test_frames_that_do_not_fit(x, message):
    layer = loaded(nn.LSTM(4, 6))
    stream = layer.stream(batch=2)
    stream.step(np.ones((2, 4), np.float32))
    before = stream.state
    with pytest.raises(ValueError, match=message):
        stream.step(x)
    for name, array in stream.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_outs_that_do_not_fit():
    stream = loaded(nn.GRU(4, 6)).stream(batch=2)
    x = np.ones((2, 4), np.float32)
    read_only = np.zeros((2, 6), np.float32)
    read_only.flags.writeable = False
    for out in (np.zeros((2, 5), np.float32), np.zeros((2, 6)), read_only, [0.0]):
        with pytest.raises(ValueError, match="out"):
            stream.step(x, out=out)
    assert not stream.state["h"].any()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "the state has"),
        ({"h": np.zeros((1, 2, 5), np.float32)}, r"'h' is float32 \[1, 2, 5\]"),
        ({"h": np.zeros((1, 2, 6))}, "float64"),
    ],
)
def test_states_that_do_not_fit(state, message):
    stream = loaded(nn.GRU(4, 6)).stream(batch=2)
    with pytest.raises(ValueError, match=message):
        stream.state = state


def test_rows_that_are_not_there():
    stream = loaded(nn.GRU(4, 6)).stream(batch=2)
    for rows in (2, [-1], [0, 5]):
        with pytest.raises(ValueError, match="there is no row"):
            stream.leave(rows)
    assert stream.batch == 2


def test_a_bidirectional_layer_says_why_not():
    with pytest.raises(vledge.UnsupportedError, match=r"end of the sequence.*lookahead="):
        loaded(nn.LSTM(3, 4, bidirectional=True)).stream()


def test_a_layer_without_weights():
    with pytest.raises(RuntimeError, match="no weights yet"):
        nn.LSTM(3, 4).stream()
