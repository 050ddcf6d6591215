"""Streams of ONNX models: hidden states promoted, contexts carried, and what is refused."""

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.streaming.test_layers import frames

onnx = peer("onnx")
onnxruntime = peer("onnxruntime")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

FRAMES, FEATURES, HIDDEN = 21, 3, 5


def weights(**shapes):
    rng = np.random.default_rng(3)
    arrays = {n: rng.normal(0, 0.5, s).astype(np.float32) for n, s in shapes.items()}
    return [numpy_helper.from_array(a, n) for n, a in arrays.items()]


def constants(**arrays):
    return [numpy_helper.from_array(np.array(a), n) for n, a in arrays.items()]


def built(nodes, initializers, inputs, outputs, opset=17):
    def info(name, shape):
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [
            helper.make_node(kind, i, o, f"{kind}_{at}", **a)
            for at, (kind, i, o, a) in enumerate(nodes)
        ],
        "test",
        [info(n, s) for n, s in inputs.items()],
        [info(n, s) for n, s in outputs.items()],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(kind, direction="forward", extra_inputs=(), outputs=("Y",), **attributes):
    count = 2 if direction == "bidirectional" else 1
    node = (
        kind,
        ["x", "w", "r", "b", *extra_inputs],
        list(outputs),
        {"hidden_size": HIDDEN, "direction": direction, **attributes},
    )
    rows = GATES[kind] * HIDDEN
    return node, weights(w=(count, rows, FEATURES), r=(count, rows, HIDDEN), b=(count, 2 * rows))


def hidden_state(kind):
    """As torch's exporter writes it: zeros of [1, the batch of x, HIDDEN]."""
    zeros = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "one"], ["batch"], {}),
        ("Concat", ["ones", "batch", "hidden"], ["sizes"], {"axis": 0}),
        ("ConstantOfShape", ["sizes"], ["zeros"], {}),
    ]
    states = ["", "zeros", "zeros"] if kind == "LSTM" else ["", "zeros"]
    node, arrays = recurrent(kind, extra_inputs=states)
    arrays += constants(one=np.array([1]), ones=np.array([1]), hidden=np.array([HIDDEN]))
    return built([*zeros, node], arrays, {"x": ["T", "N", FEATURES]}, {"Y": ["T", 1, "N", HIDDEN]})


def theirs(model, **feed):
    return onnxruntime.InferenceSession(model).run(None, feed)


@pytest.mark.parametrize("kind", GATES)
def test_a_state_that_the_graph_makes_is_promoted(kind):
    model = hidden_state(kind)
    x = frames((FRAMES, 2, FEATURES))
    (expected,) = theirs(model, x=x)
    stream = vledge.InferenceSession(model).stream(batch=2, time_axis=0)
    names = {f"{kind}_4.h", f"{kind}_4.c"} if kind == "LSTM" else {f"{kind}_4.h"}
    assert stream.state.keys() == names
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
    stream.reset()
    chunks = [stream.push(chunk) for chunk in np.split(x, [1, 8])]
    np.testing.assert_allclose(np.concatenate(chunks), expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("kind", GATES)
def test_an_absent_state_and_a_layout_of_batch_first(kind, tmp_path):
    node, arrays = recurrent(kind, layout=1)
    model = built([node], arrays, {"x": ["N", "T", FEATURES]}, {"Y": ["N", "T", 1, HIDDEN]})
    x = frames((3, FRAMES, FEATURES))
    session = vledge.InferenceSession(model)
    (expected,) = session.run(None, {"x": x})
    stream = session.stream(batch=1, time_axis=1)
    assert stream.join(2) == [1, 2]
    stream.push(x[:, :4])
    stream.reset([0, 1, 2])
    first = stream.push(x[:, :9])
    path = tmp_path / "state.safetensors"
    stream.save(path)
    loaded = vledge.Stream.load(path, session, time_axis=1)
    got = np.concatenate([first, loaded.push(x[:, 9:])], 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    stream.leave([0])
    np.testing.assert_allclose(stream.step(x[1:, 9]), expected[1:, 9], rtol=0, atol=1e-5)


def test_a_learned_initial_state_is_where_a_stream_begins():
    node, arrays = recurrent("GRU", extra_inputs=["", "learned"])
    arrays += weights(learned=(1, 1, HIDDEN))
    model = built([node], arrays, {"x": ["T", 1, FEATURES]}, {"Y": ["T", 1, 1, HIDDEN]})
    x = frames((FRAMES, 1, FEATURES))
    stream = vledge.InferenceSession(model).stream()
    stream.push(x)
    stream.reset()
    np.testing.assert_allclose(stream.push(x), theirs(model, x=x)[0], rtol=0, atol=1e-5)
    assert stream.state.keys() == {"GRU_0.h"}


def test_states_that_are_inputs_are_paired_by_the_caller():
    node, arrays = recurrent("LSTM", extra_inputs=["", "h_0", "c_0"], outputs=["Y", "h_n", "c_n"])
    state = [1, "N", HIDDEN]
    model = built(
        [node],
        arrays,
        {"x": ["T", "N", FEATURES], "h_0": state, "c_0": state},
        {"Y": ["T", 1, "N", HIDDEN], "h_n": state, "c_n": state},
    )
    x = frames((FRAMES, 2, FEATURES))
    zeros = np.zeros((1, 2, HIDDEN), np.float32)
    expected = theirs(model, x=x, h_0=zeros, c_0=zeros)[0]
    session = vledge.InferenceSession(model)
    stream = session.stream(2, time_axis=0, states={"h_0": "h_n", "c_0": "c_n"})
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
    assert stream.state.keys() == {"h_0", "c_0"}
    with pytest.raises(ValueError, match="no output named 'h_m'"):
        session.stream(states={"h_0": "h_m"})


def convolution(pads, front=None, opset=17):
    nodes = []
    arrays = weights(w=(4, FEATURES, 3))
    if front is not None:
        nodes.append(("Pad", ["x", "pads"], ["padded"], {}))
        arrays += constants(pads=np.array([0, 0, front[0], 0, 0, front[1]]))
    attributes = {"pads": pads, "dilations": [2]}
    nodes.append(("Conv", ["padded" if front else "x", "w"], ["c"], attributes))
    nodes.append(("Relu", ["c"], ["y"], {}))
    return built(nodes, arrays, {"x": ["N", FEATURES, "T"]}, {"y": ["N", 4, "M"]}, opset)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize(("pads", "front"), [([4, 0], None), ([0, 0], (4, 0))])
def test_the_context_of_a_causal_convolution_is_carried(pads, front, opset):
    model = convolution(pads, front, opset)
    x = frames((2, FEATURES, FRAMES))
    stream = vledge.InferenceSession(model).stream(2, time_axis=2)
    steps = np.stack([stream.step(x[:, :, t]) for t in range(FRAMES)], 2)
    np.testing.assert_allclose(steps, theirs(model, x=x)[0], rtol=0, atol=1e-5)


def over_time(operator, **attributes):
    node, arrays = recurrent("GRU")
    return built(
        [node, (operator, ["Y"], ["mixed"], attributes)],
        arrays,
        {"x": ["T", 1, FEATURES]},
        {"mixed": None},
    )


REFUSED = {
    "bidirectional": (
        lambda: built(
            [(node := recurrent("LSTM", "bidirectional"))[0]],
            node[1],
            {"x": ["T", 1, FEATURES]},
            {"Y": None},
        ),
        r"LSTM_0' \(LSTM\) has direction='bidirectional'.*not seen.*nn.LSTM.from_onnx",
    ),
    "padded behind": (lambda: convolution([2, 2]), "2 frames behind the last"),
    "Pad behind": (lambda: convolution([0, 0], (3, 1)), "'Pad_0'.*1 frames behind the last"),
    "padded twice": (lambda: convolution([1, 0], (3, 0)), "gets 19 frames where the input has 16"),
    "no padding": (lambda: convolution([0, 0]), r"\(Conv\) needs 4 frames more than it gives"),
    "too little padding": (lambda: convolution([2, 0]), "one frame at a time"),
    "mean over time": (lambda: over_time("ReduceMean", axes=[0], keepdims=0), "from frame 0 on"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_streamed_is_refused(case):
    make, message = REFUSED[case]
    axis = 2 if "padd" in case or "Pad" in case else 0
    session = vledge.InferenceSession(make())
    with pytest.raises(vledge.UnsupportedError, match=message):
        session.stream(time_axis=axis)


def test_the_time_axis_must_be_known():
    session = vledge.InferenceSession(hidden_state("GRU"))
    with pytest.raises(ValueError, match=r"which axis of 'x' \[T, N, 3\] is time\?"):
        session.stream()
    with pytest.raises(ValueError, match="no input named 'z'"):
        session.stream(time_axis={"z": 0})


def test_frames_that_do_not_fit():
    stream = vledge.InferenceSession(hidden_state("GRU")).stream(time_axis=0)
    for x in (np.zeros((1, 3)), np.zeros((2, 3), np.float32), np.zeros(3, np.float32)):
        with pytest.raises(ValueError, match=r"'x' is .*, expected float32 \[T, 1, 3\]"):
            stream.step(x)
    with pytest.raises(ValueError, match="out for 'Y' is float32"):
        stream.step(np.zeros((1, 3), np.float32), out=np.zeros((1, 3), np.float32))
    assert not stream.state["GRU_4.h"].any()


def test_rows_that_come_and_go_are_streams_of_their_own():
    model = hidden_state("LSTM")
    x = frames((FRAMES, 4, FEATURES))
    session = vledge.InferenceSession(model)
    alone = [session.stream(time_axis=0) for _ in range(4)]
    stream, live = session.stream(time_axis=0), [0]
    for t in range(FRAMES):
        if t == 3:
            assert stream.join(3) == [1, 2, 3]
            live = [0, 1, 2, 3]
        if t == 8:
            stream.leave([0, 2])
            live = [1, 3]
        if t == 12:
            stream.leave([0, 1])
            assert stream.join() == [0]
            live = [2]
            alone[2].reset()
        got = stream.step(x[t, live])
        for row, source in enumerate(live):
            expected = alone[source].step(x[t, source : source + 1])
            np.testing.assert_allclose(got[:, row], expected[:, 0], rtol=0, atol=1e-6)


def test_a_fixed_batch_stays():
    node, arrays = recurrent("GRU")
    model = built([node], arrays, {"x": ["T", 1, FEATURES]}, {"Y": None})
    stream = vledge.InferenceSession(model).stream()
    with pytest.raises(
        vledge.UnsupportedError, match="the model's batch is fixed, and cannot be 0"
    ):
        stream.leave(0)
    with pytest.raises(
        vledge.UnsupportedError, match="the model's batch is fixed, and cannot be 3"
    ):
        vledge.InferenceSession(model).stream(batch=3)


def test_bands_side_by_side_are_one_stream():
    """[1, BANDS, T, FEATURES] with the bands as a GRU's batch, as speech models have it."""
    bands = 4
    node, arrays = recurrent("GRU")
    shaped = [
        ("Transpose", ["s"], ["t"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["t", "flat"], ["x"], {}),
    ]
    arrays += constants(flat=np.array([-1, bands, FEATURES]))
    model = built(
        [*shaped, node], arrays, {"s": [1, bands, "T", FEATURES]}, {"Y": ["T", 1, bands, HIDDEN]}
    )
    s = frames((1, bands, FRAMES, FEATURES))
    stream = vledge.InferenceSession(model).stream()
    (expected,) = theirs(model, s=s)
    for _ in range(2):
        steps = np.stack([stream.step(s[:, :, t]) for t in range(FRAMES)])
        np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
        stream.reset(rows=[0])
    with pytest.raises(vledge.UnsupportedError, match="cannot be 2"):
        stream.join()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_activations_of_their_own(kind):
    tail = ["Softsign", "Softsign"] if kind == "LSTM" else ["Softsign"]
    node, arrays = recurrent(kind, activations=["HardSigmoid", *tail])
    model = built([node], arrays, {"x": ["T", "N", FEATURES]}, {"Y": ["T", 1, "N", HIDDEN]})
    x = frames((FRAMES, 2, FEATURES))
    (expected,) = theirs(model, x=x)
    stream = vledge.InferenceSession(model).stream(batch=2, time_axis=0)
    steps = np.stack([stream.step(frame) for frame in x])
    np.testing.assert_allclose(steps, expected, rtol=0, atol=1e-5)
    assert np.abs(expected).max() > 0.1


def test_frames_of_another_byte_order():
    """A session's stream takes them as layers' streams and sessions do."""
    h = onnx.helper
    body = h.make_graph(
        [h.make_node("Add", ["s", "xt"], ["sn"]), h.make_node("Identity", ["sn"], ["yt"])],
        "body",
        [h.make_tensor_value_info(name, 1, [2]) for name in ("s", "xt")],
        [h.make_tensor_value_info(name, 1, [2]) for name in ("sn", "yt")],
    )
    graph = h.make_graph(
        [h.make_node("Scan", ["zero", "x"], ["end", "y"], body=body, num_scan_inputs=1)],
        "sum",
        [h.make_tensor_value_info("x", 1, ["T", 2])],
        [h.make_tensor_value_info("y", 1, ["T", 2])],
        [onnx.numpy_helper.from_array(np.zeros(2, np.float32), "zero")],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    stream = vledge.InferenceSession(model.SerializeToString()).stream()
    got = [stream.step(x[0].astype(">f4")), *stream.push(x[1:].astype(">f4"))]
    np.testing.assert_array_equal(got, np.cumsum(x, 0))
