"""Streams of modules: causal convolutions in the ways that people write them; what is refused."""

import numpy as np
import pytest

import vledge
from tests.streaming.test_layers import frames, loaded
from vledge import nn
from vledge.errors import UnsupportedError

FRAMES, BATCH = 17, 2


class Detector(nn.Module):
    """[B, C, T] -> convolution, GRU, LSTM, a score for each frame [B, T, 1]."""

    def __init__(self, causality):
        super().__init__()
        self.causality = causality
        self.front = nn.Conv1d(3, 8, 3, dilation=2, padding=4 if causality == "cut" else 0)
        self.norm = nn.LayerNorm(8)
        self.gru = nn.GRU(8, 12, batch_first=True)
        self.lstm = nn.LSTM(12, 6, 2)
        self.score = nn.Linear(6, 1)

    def forward(self, x):
        if self.causality == "pad":
            x = np.pad(x, ((0, 0), (0, 0), (4, 0)))
        x = self.front(x)
        if self.causality == "cut":
            x = x[:, :, :-4]
        x = self.norm(np.ascontiguousarray(x.swapaxes(1, 2)))
        x, _ = self.gru(x)
        x, (_, c_n) = self.lstm(np.ascontiguousarray(x.swapaxes(0, 1)))
        assert c_n.shape == (2, x.shape[1], 6)
        return 1 / (1 + np.exp(-self.score(np.ascontiguousarray(x.swapaxes(0, 1)))))


@pytest.mark.parametrize("causality", ["pad", "cut", "none"])
def test_module_equals_its_whole_run(causality):
    module = loaded(Detector(causality))
    x = frames((BATCH, 3, FRAMES))
    whole = np.pad(x, ((0, 0), (0, 0), (4, 0))) if causality == "none" else x
    expected = module(whole)
    stream = module.stream(batch=BATCH)
    assert set(stream.state) == {"front.context", "gru.h", "lstm.h", "lstm.c"}
    steps = np.stack([stream.step(x[:, :, t]) for t in range(FRAMES)], 1)
    np.testing.assert_allclose(steps, expected, rtol=0, atol=2e-6)
    stream.reset()
    chunks = [stream.push(chunk) for chunk in np.split(x, [1, 6, 6, 11], 2)]
    np.testing.assert_allclose(np.concatenate(chunks, 1), expected, rtol=0, atol=2e-6)
    assert np.ptp(expected) > 0.02


def test_module_with_rows_that_come_and_go(tmp_path):
    module = loaded(Detector("pad"))
    x = frames((3, 3, FRAMES))
    expected = module(x)
    stream = module.stream(batch=2)
    stream.push(frames((2, 3, 4), seed=5))
    stream.reset([1])
    stream.leave(0)
    assert stream.join(2) == [1, 2]
    np.testing.assert_allclose(stream.push(x[:, :, :9]), expected[:, :9], rtol=0, atol=2e-6)
    path = tmp_path / "state.safetensors"
    stream.save(path)
    rest = vledge.Stream.load(path, module).push(x[:, :, 9:])
    np.testing.assert_allclose(rest, expected[:, 9:], rtol=0, atol=2e-6)


def test_module_writes_into_out():
    module = loaded(Detector("cut"))
    x = frames((BATCH, 3, 1))
    stream, out = module.stream(batch=BATCH), np.full((BATCH, 1), np.nan, np.float32)
    assert stream.step(x[:, :, 0], out=out) is out
    np.testing.assert_allclose(out, module(x)[:, 0], rtol=0, atol=2e-6)
    with pytest.raises(ValueError, match="expected an array of"):
        stream.step(x[:, :, 0], out=np.zeros((BATCH, 2), np.float32))


@pytest.mark.parametrize(("groups", "dilation", "padding"), [(1, 1, 0), (4, 3, 0), (2, 2, 4)])
def test_convolutions_equal_the_causal_whole_run(groups, dilation, padding):
    layer = loaded(nn.Conv1d(4, 8, 3, groups=groups, dilation=dilation, padding=padding))
    x = frames((BATCH, 4, FRAMES))
    past = 2 * dilation
    expected = layer(x if padding else np.pad(x, ((0, 0), (0, 0), (past, 0))))[:, :, :FRAMES]
    stream = layer.stream(batch=BATCH)
    steps = np.stack([stream.step(x[:, :, t]) for t in range(FRAMES)], 2)
    np.testing.assert_allclose(steps, expected, rtol=0, atol=2e-6)


def test_sequential_of_convolutions():
    module = loaded(nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Conv1d(6, 2, 2), nn.Tanh()))
    x = frames((BATCH, 3, FRAMES))
    expected = module(x)
    stream = module.stream(batch=BATCH)
    got = stream.push(x)
    np.testing.assert_allclose(got[:, :, 3:], expected, rtol=0, atol=2e-6)


class Wrapped(nn.Module):
    """A layer, and a function of the user's around it."""

    def __init__(self, layer, function):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x):
        return self.function(self.layer, x)


REFUSED = {
    "same padding": (
        lambda: nn.Conv1d(3, 3, 3, padding=1),
        lambda layer, x: layer(x),
        "'layer' has padding=.*still to come.*lookahead=",
    ),
    "stride": (lambda: nn.Conv1d(3, 3, 2, 2), lambda layer, x: layer(x), "'layer' has stride 2"),
    "bidirectional": (
        lambda: nn.GRU(3, 4, bidirectional=True),
        lambda layer, x: layer(x)[0],
        "bidirectional GRU 'layer' cannot be streamed",
    ),
    "future": (
        lambda: nn.Conv1d(3, 3, 3),
        lambda layer, x: layer(np.pad(x, ((0, 0), (0, 0), (1, 1)))),
        "something other than zeros is put in front",
    ),
    "too much": (
        lambda: nn.Conv1d(3, 3, 3),
        lambda layer, x: layer(np.pad(x, ((0, 0), (0, 0), (3, 0)))),
        "only padding by 2 zeros on the left",
    ),
    "given state": (
        lambda: nn.GRU(3, 4),
        lambda layer, x: layer(x, np.zeros((1, x.shape[1], 4), np.float32))[0],
        "'layer' is given a state",
    ),
    "lengths": (
        lambda: nn.GRU(3, 4),
        lambda layer, x: layer(x, lengths=[3, 3, 3])[0],
        "'layer' is given lengths",
    ),
    "twice": (lambda: nn.GRU(3, 3), lambda layer, x: layer(layer(x)[0])[0], "called twice"),
    "over time": (lambda: nn.GRU(3, 3), lambda layer, x: layer(x)[0].mean(0), "cannot be streamed"),
    "two results": (lambda: nn.GRU(3, 3), lambda layer, x: layer(x), "returns a tuple"),
    "no memory": (lambda: nn.Linear(3, 3), lambda layer, x: layer(x), "no recurrent layer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_streamed_is_refused(case):
    make, function, message = REFUSED[case]
    module = loaded(Wrapped(make(), function))
    with pytest.raises(vledge.UnsupportedError, match=message):
        module.stream(batch=3).push(frames((3, 3, 3)))


def test_a_failed_frame_leaves_the_state():
    module = loaded(nn.Sequential(nn.Conv1d(3, 6, 2), nn.Conv1d(6, 2, 2)))
    stream = module.stream(batch=BATCH)
    stream.push(frames((BATCH, 3, 4)))
    before = stream.state
    with pytest.raises(ValueError, match="float64"):
        stream.step(np.zeros((BATCH, 3)))
    for name, array in stream.state.items():
        np.testing.assert_array_equal(array, before[name])


class LooksElsewhere(nn.Module):
    """A layer, and beside it code of the author's own that looks at other frames."""

    def __init__(self, look):
        super().__init__()
        self.rnn = nn.GRU(3, 4)
        self.look = look

    def forward(self, x):
        return self.look(self.rnn(x)[0])


def delayed(y):
    return np.concatenate([np.zeros_like(y[:3]), y[:-3]])[: len(y)]


@pytest.mark.parametrize(
    ("look", "first"),
    [
        (lambda y: np.cumsum(y, 0), 1),
        (lambda y: y[::-1].copy(), 0),
        (lambda y: y - y.mean(0), 0),
        (lambda y: y / np.abs(y).max(0), 0),
        (delayed, 3),
        (lambda y: y + np.arange(len(y), dtype=np.float32)[:, None, None], 1),
    ],
)
def test_code_that_looks_at_other_frames_is_found_out(look, first):
    module = loaded(LooksElsewhere(look))
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    for feed in (lambda stream: stream.step(x), lambda stream: stream.push(x[None].repeat(5, 0))):
        with pytest.raises(UnsupportedError, match=rf"from frame {first} on: forward\(\) looks at"):
            feed(module.stream(batch=2))
    stream = loaded(LooksElsewhere(np.tanh)).stream(batch=2)
    before = stream.step(x)
    assert not np.array_equal(stream.step(x), before)  # the trial left no state behind
    stream.reset()
    assert np.array_equal(stream.step(x), before)
