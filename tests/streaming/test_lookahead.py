"""Streams that look ahead: by their definition in NumPy, and equal to the whole run where they see
all of it; frames that wait, rows, states, modules."""

import numpy as np
import pytest

import vledge
from tests import reference
from tests.streaming.test_layers import BATCH, FRAMES, LAYERS, frames, loaded
from vledge import nn
from vledge.streaming import LookaheadStream

CUTS = {"steps": [1] * FRAMES, "chunks": [1, 6, 0, 2, 9, 5], "at once": [FRAMES]}


@pytest.fixture(params=LAYERS)
def make(request):
    """Makes a bidirectional layer."""
    return lambda **options: LAYERS[request.param](bidirectional=True, **options)


def direction(layer, suffix, data, state):
    """One direction over [T, B, features] in float64 NumPy: outputs, (h, c)."""
    weights = layer.state_dict()
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    found = {part: weights.get(f"{part}_{suffix}", np.float64(0)) for part in parts}
    if not layer.proj_size:
        del found["weight_hr"]
    if suffix.endswith("_reverse"):
        output, state = direction_over(layer, found, data[::-1], state)
        return output[::-1], state
    return direction_over(layer, found, data, state)


def direction_over(layer, params, data, state):
    batch_sizes = np.full(len(data), data.shape[1])
    rows = data.reshape(-1, data.shape[2])
    output, h, c = reference.run(
        layer._cell, params, rows, batch_sizes, *state, activations=layer._activations
    )
    return output.reshape(*data.shape[:2], h.shape[1]), (h, c)


def by_definition(layer, x, cuts, lookahead):
    """The outputs for ``x [T, B, features]`` that comes in so many frames a call, then ends.

    In every call the layers run whole over the frames that wait: forward directions from the state
    at the end of the chunk before, reverse ones from zeros.
    """
    zeros = np.zeros((x.shape[1], layer._width)), np.zeros((x.shape[1], layer.hidden_size))
    states = [zeros] * layer.num_layers
    outputs, start = [], 0
    for end, ahead in [*((end, lookahead) for end in np.cumsum(cuts)), (len(x), 0)]:
        ready = max(end - ahead - start, 0)
        data = x[start:end].astype(np.float64)
        for i in range(layer.num_layers):
            chunk, states[i] = direction(layer, f"l{i}", data[:ready], states[i])
            context, _ = direction(layer, f"l{i}", data[ready:], states[i])
            reverse, _ = direction(layer, f"l{i}_reverse", data, zeros)
            data = np.concatenate([np.concatenate([chunk, context]), reverse], 2)
        outputs.append(data[:ready])
        start += ready
    return outputs


def fed(stream, x, cuts, axis=0):
    """The outputs of each call, the last one's that of flush()."""
    parts = np.split(x, np.cumsum(cuts)[:-1], axis)
    return [*(stream.push(part) for part in parts), stream.flush()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lookahead", [0, 3])
@pytest.mark.parametrize("cuts", CUTS)
def test_outputs_are_those_of_the_definition(make, dtype, lookahead, cuts):
    layer, cuts = loaded(make(dtype=dtype)), CUTS[cuts]
    x = frames((FRAMES, BATCH, 5), dtype)
    got = fed(layer.stream(batch=BATCH, lookahead=lookahead), x, cuts)
    bound = 2e-5 if dtype == np.float32 else 1e-13
    for part, expected in zip(got, by_definition(layer, x, cuts, lookahead), strict=True):
        assert part.dtype == dtype
        np.testing.assert_allclose(part, expected, rtol=bound, atol=bound)
    assert np.abs(got[-2]).max() > 0.1


def test_with_all_of_the_sequence_ahead_it_is_the_whole_run(make):
    layer = loaded(make())
    x = frames((FRAMES, BATCH, 5))
    expected, _ = layer(x)
    for lookahead in (FRAMES, FRAMES + 4):
        stream = layer.stream(batch=BATCH, lookahead=lookahead)
        assert [stream.step(frame) for frame in x] == [None] * FRAMES
        assert stream.waiting == FRAMES
        np.testing.assert_allclose(stream.flush(), expected, rtol=1e-6, atol=2e-6)
    stream = layer.stream(batch=BATCH, lookahead=0)
    np.testing.assert_allclose(stream.push(x), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("lookahead", [0, 2, 7])
def test_the_forward_direction_is_exact_whatever_comes(lookahead):
    layer = loaded(nn.LSTM(5, 19, bidirectional=True))
    x = frames((FRAMES, BATCH, 5))
    whole, (h_n, c_n) = layer(x)
    stream = layer.stream(batch=BATCH, lookahead=lookahead)
    got = np.concatenate(fed(stream, x, CUTS["steps"]))
    np.testing.assert_allclose(got[:, :, :19], whole[:, :, :19], rtol=0, atol=2e-6)
    assert np.abs(got[:-lookahead, :, 19:] - whole[:-lookahead, :, 19:]).max(initial=1) > 1e-3
    np.testing.assert_allclose(stream.state["h"][0], h_n[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(stream.state["c"][0], c_n[0], rtol=0, atol=2e-6)


def test_more_frames_ahead_are_closer_to_the_whole_run():
    layer = loaded(nn.GRU(5, 16, 2, bidirectional=True))
    x = frames((FRAMES, BATCH, 5))
    errors = []
    for lookahead in (0, 4, 12):
        got = np.concatenate(fed(layer.stream(batch=BATCH, lookahead=lookahead), x, CUTS["steps"]))
        errors.append(np.abs(got - layer(x)[0]).mean())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_and_chunks_of_one_frame_are_the_same(make, batch_first):
    layer = loaded(make(batch_first=batch_first))
    x, axis = frames((FRAMES, BATCH, 5)), 1 if batch_first else 0
    one, many = (layer.stream(batch=BATCH, lookahead=2) for _ in range(2))
    for t, frame in enumerate(x):
        chunk = many.push(np.expand_dims(frame, axis))
        out = np.full((BATCH, 2 * layer._width), np.nan, np.float32)
        step = one.step(frame, out=out)
        if t < 2:
            assert step is None
            assert chunk.shape[axis] == 0
            assert np.isnan(out).all()
        else:
            assert step is out
            np.testing.assert_array_equal(step, chunk.take(0, axis))
    out = np.full_like(many.state["waiting"], np.nan, shape=one.flush().shape)
    assert out.shape[axis] == 2
    assert many.flush(out=out) is out
    assert one.waiting == many.waiting == 0
    assert one.flush().shape[axis] == 0
    np.testing.assert_array_equal(one.state["h"], many.state["h"])


def test_frames_that_were_given_may_be_overwritten():
    layer = loaded(nn.GRU(5, 4, bidirectional=True))
    x = frames((FRAMES, BATCH, 5))
    stream, other = (layer.stream(batch=BATCH, lookahead=4) for _ in range(2))
    frame = np.empty_like(x[0])
    for source in x:
        frame[:] = source
        stream.step(frame)
    other.push(x)
    np.testing.assert_array_equal(stream.state["waiting"], other.state["waiting"])


# ---- state


def test_saved_and_loaded_with_the_frames_that_wait(make, tmp_path):
    layer = loaded(make())
    x = frames((FRAMES, BATCH, 5))
    stream = layer.stream(batch=BATCH, lookahead=4)
    stream.push(x[:9])
    path, kept = tmp_path / "state.safetensors", stream.state
    stream.save(path)
    np.testing.assert_array_equal(kept["waiting"], x[5:9])
    assert kept["h"].shape == (layer.num_layers, BATCH, layer._width)
    rest = [stream.push(x[9:11]), stream.push(x[11:]), stream.flush()]
    other = layer.stream(batch=BATCH, lookahead=4)
    other.state = kept
    kept["waiting"][:] = kept["h"][:] = 9
    stream.reset()
    assert stream.waiting == 0
    assert "waiting" not in stream.state
    for again in (other, vledge.Stream.load(path, layer, lookahead=4)):
        assert isinstance(again, LookaheadStream)
        got = [again.push(x[9:11]), again.push(x[11:]), again.flush()]
        for part, expected in zip(got, rest, strict=True):
            np.testing.assert_array_equal(part, expected)
    with pytest.raises(ValueError, match=r"of another model: 4 frames wait, .* lookahead of 3"):
        vledge.Stream.load(path, layer, lookahead=3)


@pytest.mark.parametrize(
    ("waiting", "message"),
    [
        (np.zeros((2, 2, 4)), "float64"),
        (np.zeros((2, 3, 4), np.float32), r"\[2, 3, 4\] .* expected float32 \[T, 2, 4\]"),
        (np.float32(0), "no time axis"),
        (np.zeros((6, 2, 4), np.float32), "6 frames wait"),
    ],
)
def test_waiting_frames_that_do_not_fit(waiting, message):
    stream = loaded(nn.GRU(4, 6, bidirectional=True)).stream(batch=2, lookahead=5)
    stream.push(frames((7, 2, 4)))
    before = stream.state
    with pytest.raises(ValueError, match=message):
        stream.state = {"h": np.zeros_like(before["h"]), "waiting": waiting}
    for name, array in stream.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_arguments_that_do_not_fit_leave_the_state():
    stream = loaded(nn.LSTM(4, 6, bidirectional=True)).stream(batch=2, lookahead=1)
    x = frames((5, 2, 4))
    stream.push(x)
    before = stream.state
    wrong = [
        (stream.step, np.zeros((2, 4)), None, r"float64 \[1, 2, 4\] .* float32 \[T, 2, 4\]"),
        (stream.step, x[0, 0], None, "float32"),
        (stream.push, x[:, :1], None, r"\[5, 1, 4\]"),
        (stream.step, x[0], np.zeros((2, 6), np.float32), r"expected an array of .* \[2, 12\]"),
        (
            stream.push,
            x,
            np.zeros((5, 2, 12)),
            r"expected an array of float32 \[5, 2, 12\]",
        ),
    ]
    for call, given, out, message in wrong:
        with pytest.raises(ValueError, match=message):
            call(given, out=out)
    with pytest.raises(ValueError, match=r"expected an array of .* \[1, 2, 12\]"):
        stream.flush(out=np.zeros((2, 2, 12), np.float32))
    for name, array in stream.state.items():
        np.testing.assert_array_equal(array, before[name])


# ---- rows


@pytest.mark.parametrize("batch_first", [False, True])
def test_rows_leave_at_any_time_and_join_when_nothing_waits(batch_first):
    layer = loaded(nn.LSTM(5, 7, 2, bidirectional=True, batch_first=batch_first))
    x = frames((FRAMES, 4, 5))
    alone = [layer.stream(lookahead=3) for _ in range(4)]
    stream, live = layer.stream(batch=3, lookahead=3), [0, 1, 2]

    def check(t):
        got = stream.step(np.ascontiguousarray(x[t, live]))
        for place, source in enumerate(live):
            expected = alone[source].step(x[t, source : source + 1])
            if expected is None:
                assert got is None
            else:
                np.testing.assert_allclose(got[place], expected[0], rtol=0, atol=2e-6)

    for t in range(5):
        check(t)
    for begin in (stream.join, lambda: stream.reset(1), lambda: stream.reset([0, 2])):
        with pytest.raises(ValueError, match=r"3 frames wait .* flush\(\) first"):
            begin()
    stream.leave(1)
    live = [0, 2]
    for t in range(5, 9):
        check(t)
    for row in live:
        alone[row].flush()
    assert stream.flush().shape[1 if batch_first else 0] == 3
    assert stream.join(1) == [2]
    stream.reset(0)
    alone[0].reset()
    live = [0, 2, 3]
    for t in range(9, 15):
        check(t)
    stream.leave(range(3))
    assert stream.batch == 0
    assert stream.step(np.zeros((0, 5), np.float32)).shape == (0, 14)


def test_reset_begins_anew():
    layer = loaded(nn.GRU(5, 7, bidirectional=True))
    x = frames((FRAMES, BATCH, 5))
    stream = layer.stream(batch=BATCH, lookahead=3)
    first = stream.push(x)
    for rows in (None, range(BATCH)):
        stream.reset(rows)
        np.testing.assert_array_equal(stream.push(x), first)


# ---- what is refused


def test_layers_of_one_direction_have_nothing_to_look_at():
    with pytest.raises(
        vledge.UnsupportedError, match=r"GRU has one direction .* without lookahead"
    ):
        loaded(nn.GRU(3, 4)).stream(lookahead=2)
    module = loaded(nn.Sequential(nn.Conv1d(3, 4, 2), nn.ReLU()))
    with pytest.raises(vledge.UnsupportedError, match="no layer of Sequential looks ahead"):
        module.stream(lookahead=2)


def test_a_refusal_names_lookahead():
    for module in (nn.LSTM(3, 4, bidirectional=True), nn.Conv1d(3, 3, 3, padding=1)):
        with pytest.raises(vledge.UnsupportedError, match="lookahead="):
            loaded(module).stream()
    with pytest.raises(vledge.UnsupportedError, match=r"padding=\(1,\) \(circular\)"):
        loaded(nn.Conv1d(3, 3, 3, padding=1, padding_mode="circular")).stream(lookahead=1)


@pytest.mark.parametrize(("lookahead", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_lookahead_is_a_number_of_frames(lookahead, error):
    with pytest.raises(error):
        loaded(nn.GRU(3, 4, bidirectional=True)).stream(lookahead=lookahead)


def test_a_layer_without_weights():
    with pytest.raises(RuntimeError, match="no weights yet"):
        nn.LSTM(3, 4, bidirectional=True).stream(lookahead=2)


# ---- modules


class Tagger(nn.Module):
    """[B, C, T] -> convolutions that look ahead and back, both directions, one, [B, T, 2]."""

    def __init__(self, above=True):
        super().__init__()
        self.past = nn.Conv1d(3, 8, 2, padding=1)
        self.same = nn.Conv1d(8, 8, 4, dilation=2, padding="same")
        self.both = nn.LSTM(8, 6, 1, bidirectional=True)
        self.above = nn.GRU(12, 9, batch_first=True) if above else nn.Linear(12, 9)
        self.score = nn.Linear(9, 2)

    def forward(self, x):
        x = self.past(x)[:, :, :-1]
        x = np.tanh(self.same(x))
        x, (h_n, _) = self.both(np.ascontiguousarray(x.transpose(2, 0, 1)))
        assert h_n.shape == (2, x.shape[1], 6)
        x = self.above(np.ascontiguousarray(x.swapaxes(0, 1)))
        return self.score(x[0] if isinstance(x, tuple) else x)


@pytest.mark.parametrize("cuts", CUTS)
def test_module_that_sees_all_is_the_whole_run(cuts):
    module = loaded(Tagger())
    x = frames((BATCH, 3, FRAMES))
    stream = module.stream(batch=BATCH, lookahead=FRAMES)
    assert set(stream.state) == {"past.context", "same.context", "both.h", "both.c", "above.h"}
    got = fed(stream, x, CUTS[cuts], 2)
    assert all(part.shape == (BATCH, 0, 2) for part in got[:-1])
    np.testing.assert_allclose(got[-1], module(x), rtol=0, atol=2e-6)
    assert np.ptp(got[-1]) > 0.1


def test_module_step_by_step_is_the_whole_run_of_what_has_come():
    """Where nothing above the reverse direction remembers, and convolutions see all they need."""
    module = loaded(Tagger(above=False))
    x = frames((BATCH, 3, FRAMES))
    stream = module.stream(batch=BATCH, time_axis=-1, lookahead=5)
    for t in range(5):
        assert stream.step(x[:, :, t]) is None
    for t in range(5, FRAMES):
        expected = module(x[:, :, : t + 1])[:, t - 5]
        np.testing.assert_allclose(stream.step(x[:, :, t]), expected, rtol=0, atol=2e-6)
    rest = stream.flush()
    np.testing.assert_allclose(rest, module(x)[:, -5:], rtol=0, atol=2e-6)


@pytest.mark.parametrize("cuts", CUTS)
def test_a_layer_above_remembers_what_was_given_out(cuts):
    both, above = nn.GRU(5, 6, 2, bidirectional=True), nn.LSTM(12, 7)

    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.both, self.above = both, above

        def forward(self, x):
            return self.above(self.both(x)[0])[0]

    module = loaded(Stacked())
    x, cuts = frames((FRAMES, BATCH, 5)), CUTS[cuts]
    below = np.concatenate(fed(both.stream(batch=BATCH, lookahead=3), x, cuts))
    got = np.concatenate(fed(module.stream(batch=BATCH, lookahead=3), x, cuts))
    np.testing.assert_allclose(got, above(below)[0], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (4, 1), (3, 3), (2, 1)])
def test_convolutions_see_both_sides_exactly(kernel, dilation):
    layer = loaded(nn.Conv1d(4, 8, kernel, dilation=dilation, padding="same"))
    right = dilation * (kernel - 1) - dilation * (kernel - 1) // 2
    x = frames((BATCH, 4, FRAMES))
    for cuts in CUTS.values():
        got = fed(layer.stream(batch=BATCH, lookahead=right), x, cuts, 2)
        np.testing.assert_allclose(np.concatenate(got, 2), layer(x), rtol=0, atol=2e-6)


def test_module_states_and_rows(tmp_path):
    module = loaded(Tagger())
    x = frames((4, 3, FRAMES))
    stream = module.stream(batch=3, lookahead=5)
    with pytest.raises(ValueError, match="no frame has come yet"):
        stream.flush()
    stream.push(x[:3, :, :9])
    stream.leave(1)
    path = tmp_path / "state.safetensors"
    stream.save(path)
    again = vledge.Stream.load(path, module, lookahead=5)
    whole = module.stream(batch=4, lookahead=5)
    whole.push(x[:, :, :9])
    expected = whole.push(x[:, :, 9:])
    for resumed in (stream, again):
        got = resumed.push(np.ascontiguousarray(x[[0, 2], :, 9:]))
        np.testing.assert_allclose(got, expected[[0, 2]], rtol=0, atol=2e-6)
    expected = whole.flush()
    for resumed in (stream, again):
        with pytest.raises(ValueError, match="5 frames wait"):
            resumed.join()
        np.testing.assert_allclose(resumed.flush(), expected[[0, 2]], rtol=0, atol=2e-6)
        assert resumed.join() == [2]


def test_a_failed_frame_leaves_a_module_as_it_was():
    module = loaded(Tagger())
    stream = module.stream(batch=BATCH, lookahead=2)
    with pytest.raises(ValueError, match="past"):
        stream.step(np.zeros((BATCH, 5), np.float32))
    stream.push(frames((BATCH, 3, 6)))
    before = stream.state
    for call, x, out in (
        (stream.step, np.zeros((BATCH, 4), np.float32), None),
        (stream.step, np.zeros((BATCH, 3), np.float32), np.zeros((BATCH, 3), np.float32)),
    ):
        with pytest.raises(ValueError, match=r"expected|expected an array of"):
            call(x, out=out)
    for name, array in stream.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_a_session_says_what_to_do_instead():
    pytest.importorskip("onnx")
    from tests.streaming.test_sessions import hidden_state

    session = vledge.InferenceSession(hidden_state("GRU"))
    with pytest.raises(vledge.UnsupportedError, match=r"lookahead= is for layers.*from_onnx"):
        session.stream(lookahead=3)
