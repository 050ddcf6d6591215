"""Models of which every call is a frame: windows of samples, states that go in and come out."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.streaming.test_layers import frames
from tests.streaming.test_sessions import FEATURES, HIDDEN, built, constants, recurrent
from vledge.model.definition import Graph, ValueInfo
from vledge.streaming.explicit_states import state_pairs

onnx = peer("onnx")

HOP, CONTEXT, CALLS = 6, 2, 7


def detector(samples="samples", name="state", rate=False):
    """A score of a window of samples and of a state: score = sum(window) + sum(state)."""
    nodes = [
        ("ReduceSum", ["input", "last"], ["total"], {"keepdims": 1}),
        ("Mul", [name, "decay"], ["kept"], {}),
        ("Add", ["kept", "total"], [f"{name}N"], {}),
        ("ReduceSum", [f"{name}N", "last"], ["whole"], {"keepdims": 1}),
        ("Add", ["whole", "total"], ["score"], {}),
    ]
    arrays = constants(last=[-1], decay=np.float32(0.5))
    inputs = {"input": ["batch", samples], name: ["batch", 3]}
    if rate:
        nodes[-1][2][0] = "unscaled"
        nodes.append(("Mul", ["unscaled", "sr"], ["score"], {}))
        inputs["sr"] = []
    return built(nodes, arrays, inputs, {"score": ["batch", 1], f"{name}N": ["batch", 3]})


def by_hand(x, batch=1):
    """The calls that a program of one's own would make."""
    session = vledge.InferenceSession(detector())
    context, state = np.zeros((batch, CONTEXT), np.float32), np.zeros((batch, 3), np.float32)
    for frame in np.split(x, x.shape[1] // HOP, 1):
        window = np.concatenate([context, frame], 1)
        context = window[:, -CONTEXT:]
        score, state = session.run(None, {"input": window, "state": state})
        yield score


@pytest.mark.parametrize("program", ["1", "0"])
@pytest.mark.parametrize("batch", [1, 3])
def test_windows_are_the_calls_of_a_program_of_ones_own(batch, program, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    x = frames((batch, CALLS * HOP))
    expected = np.stack(list(by_hand(x, batch)))
    session = vledge.InferenceSession(detector())
    stream = session.stream(batch, hop=HOP, context=CONTEXT)
    assert stream.frames == {"input": ((batch, HOP), np.dtype("float32"))}
    assert {n: a.shape for n, a in stream.state.items()} == {
        "state": (batch, 3),
        "input.context": (batch, CONTEXT),
    }
    for frame, wanted in zip(np.split(x, CALLS, 1), expected, strict=True):
        np.testing.assert_array_equal(stream.step(frame), wanted)
    stream.reset()
    np.testing.assert_array_equal(stream.push(x), expected)


def test_a_state_that_is_saved_goes_on(tmp_path):
    x = frames((1, CALLS * HOP))
    session = vledge.InferenceSession(detector())
    options = {"hop": HOP, "context": CONTEXT}
    stream = session.stream(**options)
    first = stream.push(x[:, : 3 * HOP])
    stream.save(tmp_path / "state.safetensors")
    rest = vledge.Stream.load(tmp_path / "state.safetensors", session, **options)
    both = np.concatenate([first, rest.push(x[:, 3 * HOP :])])
    np.testing.assert_array_equal(both, np.stack(list(by_hand(x))))


def test_rows_join_and_leave():
    x = frames((3, 2 * HOP))
    session = vledge.InferenceSession(detector())
    stream = session.stream(hop=HOP, context=CONTEXT)
    stream.step(x[:1, :HOP])
    assert stream.join(2) == [1, 2]
    late = stream.step(x[:, HOP:])
    np.testing.assert_array_equal(late[0], list(by_hand(x[:1]))[1][0])
    np.testing.assert_array_equal(late[1:], next(by_hand(x[1:, HOP:], 2)))
    stream.leave(0)
    assert stream.batch == 2


def test_a_frame_that_is_refused_leaves_no_trace():
    x = frames((1, 2 * HOP))
    stream = vledge.InferenceSession(detector()).stream(hop=HOP, context=CONTEXT)
    stream.step(x[:, :HOP])
    before = stream.state
    with pytest.raises(ValueError, match=r"'input' is float32 \[1, 5\], expected float32 \[1, 6\]"):
        stream.step(x[:, : HOP - 1])
    with pytest.raises(ValueError, match="out for 'score' is float32"):
        stream.step(x[:, HOP:], out=np.zeros((1, 2), np.float32))
    for name, array in stream.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_samples_as_a_sound_card_gives_them():
    stream = vledge.InferenceSession(detector()).stream(hop=HOP, context=CONTEXT)
    with pytest.raises(ValueError, match=r"as samples are .* x.astype\(np.float32\) / 32768"):
        stream.step(np.zeros((1, HOP), np.int16))
    with pytest.raises(
        ValueError, match=r"14 samples are no whole .*: keep the last 2 for the next"
    ):
        stream.push(frames((1, 2 * HOP + 2)))
    with pytest.raises(ValueError, match="no frames were given: there is nothing to run"):
        stream.push(frames((1, 0)))


def test_a_hop_that_is_no_number():
    with pytest.raises(TypeError, match="hop is '6', expected a whole number of samples"):
        vledge.InferenceSession(detector()).stream(hop="6")
    with pytest.raises(TypeError, match=r"context is 2\.0, expected a whole number of samples"):
        vledge.InferenceSession(detector()).stream(hop=6, context=2.0)


def test_a_state_is_loaded_into_a_model_and_not_into_its_path(tmp_path):
    session, path = vledge.InferenceSession(detector()), tmp_path / "state.safetensors"
    session.stream(hop=HOP).save(path)
    with pytest.raises(
        TypeError, match=r"model is 'model.onnx', expected .*InferenceSession\(path"
    ):
        vledge.Stream.load(path, "model.onnx", hop=HOP)


def test_a_window_that_the_file_fixes():
    session = vledge.InferenceSession(detector(samples=HOP + CONTEXT))
    assert session.stream(context=CONTEXT).frames["input"][0] == (1, HOP)
    assert session.stream().frames["input"][0] == (1, HOP + CONTEXT)  # a call is a frame
    message = "takes 8 samples a call; hop 6 and context 3 are 9 together"
    with pytest.raises(ValueError, match=message):
        session.stream(hop=6, context=3)


def test_a_call_with_states_and_no_open_axis_is_a_frame():
    """A step model: x and states in, outputs and states out, no axis of time anywhere."""
    node, arrays = recurrent("GRU", extra_inputs=["", "h_in"], outputs=["", "h_out"])
    squeezed = ("Squeeze", ["h_out"], ["y"], {})
    step = built(
        [node, squeezed],
        arrays,
        {"x": [1, 1, FEATURES], "h_in": [1, 1, HIDDEN]},
        {"y": [HIDDEN], "h_out": [1, 1, HIDDEN]},
    )
    x = frames((CALLS, 1, 1, FEATURES))
    stream = vledge.InferenceSession(step).stream()
    session, h = vledge.InferenceSession(step), np.zeros((1, 1, HIDDEN), np.float32)
    for frame in x:
        y, h = session.run(None, {"x": frame, "h_in": h})
        np.testing.assert_array_equal(stream.step(frame), y)
    np.testing.assert_array_equal(stream.state["h_in"], h)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"input 'sr' is one number of float, not frames: give it a value, fixed=\{'sr': n"),
        ({"fixed": {"sr": 1}, "context": 2}, "context=2 goes with hop=: 'input' takes any size"),
        ({"fixed": {"sr": 1}, "hop": 0}, "hop must be at least 1 and context at least 0, got 0, 0"),
        ({"fixed": {"sr": 1}, "hop": 4, "time_axis": 5}, "time_axis is 5, 'input' has 2 axes"),
    ],
)
def test_what_is_wrong_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        vledge.InferenceSession(detector(rate=True)).stream(**options)


def test_a_number_of_one_element_fits_its_input():
    stream = vledge.InferenceSession(detector(rate=True)).stream(hop=HOP, fixed={"sr": [2]})
    twice = stream.step(frames((1, HOP)))
    once = vledge.InferenceSession(detector()).stream(hop=HOP).step(frames((1, HOP)))
    np.testing.assert_array_equal(twice, 2 * once)


def test_a_state_of_another_size_is_refused():
    """The output is as wide as the state and the window's sum together."""
    nodes = [
        ("ReduceSum", ["input", "last"], ["total"], {"keepdims": 1}),
        ("Concat", ["state", "total"], ["stateN"], {"axis": 1}),
    ]
    model = built(
        nodes,
        constants(last=[-1]),
        {"input": [1, "n"], "state": [1, 3]},
        {"total": [1, 1], "stateN": [1, "m"]},
    )
    with pytest.raises(
        vledge.UnsupportedError, match=r"'stateN' is float32 \[1, 4\], which cannot"
    ):
        vledge.InferenceSession(model).stream(hop=4)


def layered(first, names=(None, None)):
    """[batch, time, features] as exporters lay it out, or time first, axes named or not."""
    node, arrays = recurrent("GRU")
    turned = [("Transpose", ["input"], ["x"], {"perm": [1, 0, 2]})] if first == "batch" else []
    if not turned:
        turned = [("Identity", ["input"], ["x"], {})]
    return built([*turned, node], arrays, {"input": [*names, FEATURES]}, {"Y": [None] * 4})


@pytest.mark.parametrize(
    ("first", "names", "axis"),
    [
        ("batch", (None, None), 1),
        ("time", (None, None), 0),
        ("batch", ("batch_size", "sequence_length"), 1),
        ("time", ("seq_len", "batch"), 0),
        ("time", ("anything", "N"), 0),
    ],
)
def test_the_time_axis_is_guessed_and_proven(first, names, axis):
    session = vledge.InferenceSession(layered(first, names))
    x = frames((CALLS, 1, FEATURES))
    (whole,) = session.run(None, {"input": x if axis == 0 else x.swapaxes(0, 1)})
    stream = session.stream()
    got = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(got, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "pairs"),
    [
        ({"x": [1, 4], "state": [2, 8]}, {"y": [1], "stateN": [2, 8]}, {"state": "stateN"}),
        (
            {"x": [4], "h": [1, 8], "c": [1, 8]},
            {"hn": [1, 8], "cn": [1, 8]},
            {"h": "hn", "c": "cn"},
        ),
        (
            {"x": [4], "h_0": [8], "c_0": [8]},
            {"h_n": [8], "c_n": [8]},
            {"h_0": "h_n", "c_0": "c_n"},
        ),
        (
            {"frame": [4], "cache_in": ["B", 3], "pastKv": [9]},
            {"cache_out": [None, 3], "presentKv": [9]},
            {"cache_in": "cache_out", "pastKv": "presentKv"},
        ),
        ({"x": [4], "state": [8]}, {"stateN": [9]}, {}),  # another size
        ({"x": [4], "state": [8]}, {"state_out": [8], "new_state": [8]}, {}),  # which of the two?
        ({"input": [4]}, {"output": [4]}, {}),  # nothing but words that tell when
        ({"audio": [4]}, {"audio_out": [4]}, {}),  # nothing would be left for the frames
    ],
)
def test_states_are_told_by_their_names(inputs, outputs, pairs):
    def infos(declared):
        return [ValueInfo(name, "float", tuple(shape)) for name, shape in declared.items()]

    assert state_pairs(Graph([], infos(inputs), infos(outputs), {}, "")) == pairs
