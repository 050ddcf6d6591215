"""Models in float16 compute in float32 and round at their outputs, as onnxruntime does."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer

F16 = np.float16


def weights(rng, *shape):
    return (rng.standard_normal(shape) / max(shape[-1] if shape else 1, 1) ** 0.5).astype(F16)


def convolutions(rng):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1], kernel_shape=[3]),
        node("BatchNormalization", ["c", "s", "b", "b", "v"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2], strides=[2]),
        node("GlobalAveragePool", ["p"], ["y"]),
    ]
    given = {"w": weights(rng, 8, 6, 3), "b": weights(rng, 8), "s": weights(rng, 8)}
    return nodes, {**given, "v": np.abs(weights(rng, 8)) + F16(1)}, (3, 6, 20)


def attention(rng):
    nodes = [
        node("MatMul", ["x", "q"], ["a"]),
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["a", "t"], ["s"]),
        node("Div", ["s", "scale"], ["d"]),
        node("Softmax", ["d"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["o"]),
        node("Add", ["o", "x"], ["z"]),
        node("LayerNormalization", ["z", "g", "g"], ["n"]),
        node("Erf", ["n"], ["e"]),
        node("Concat", ["e", "x"], ["j"], axis=-1),
        node("ReduceMean", ["j"], ["y"], axes=[1]),
    ]
    scale = np.asarray(4, F16)
    return nodes, {"q": weights(rng, 16, 16), "g": weights(rng, 16), "scale": scale}, (2, 7, 16)


def recurrent(rng, kind, gates):
    nodes = [
        node(kind, ["x", "w", "r", "b"], ["o"], hidden_size=8, direction="bidirectional"),
        node("Transpose", ["o"], ["t"], perm=[2, 0, 1, 3]),
        node("Reshape", ["t", "shape"], ["f"]),
        node("Gemm", ["f", "m", "v"], ["y"]),
    ]
    given = {
        "w": weights(rng, 2, gates * 8, 5),
        "r": weights(rng, 2, gates * 8, 8),
        "b": weights(rng, 2, 2 * gates * 8),
        "m": weights(rng, 16, 3),
        "v": weights(rng, 3),
        "shape": np.array([-1, 16]),
    }
    return nodes, given, (9, 2, 5)


MODELS = {
    "convolutions": convolutions,
    "attention": attention,
    "LSTM": lambda rng: recurrent(rng, "LSTM", 4),
    "GRU": lambda rng: recurrent(rng, "GRU", 3),
}


@pytest.mark.parametrize("program", ["1", "0"])
@pytest.mark.parametrize("name", MODELS)
def test_against_onnxruntime(name, program, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    rng = np.random.default_rng(len(name))
    nodes, given, shape = MODELS[name](rng)
    x = rng.standard_normal(shape).astype(F16)
    data = model_bytes(nodes, {"x": x}, ["y"], given, 17)
    session = vledge.InferenceSession(data)
    (got,) = session.run(None, {"x": x})
    assert got.dtype == F16
    ort = peer("onnxruntime").InferenceSession
    # onnxruntime rounds between as well where it has kernels for float16
    np.testing.assert_allclose(got, ort(data).run(None, {"x": x})[0], rtol=2**-8, atol=1e-3)
    wide = {k: v.astype(np.float32) if v.dtype == F16 else v for k, v in given.items()}
    x32 = x.astype(np.float32)
    (expected,) = ort(model_bytes(nodes, {"x": x32}, ["y"], wide, 17)).run(None, {"x": x32})
    # float32 rounds in another order here, so the half next to it may be the nearer one
    np.testing.assert_allclose(got, expected, rtol=2**-10, atol=1e-5)
    if program == "1":
        assert not [row for row in session.profile({"x": x}, 1).rows if row.python_calls]


def test_nothing_is_rounded_between():
    nodes = [
        node("Div", ["x", "three"], ["a"]),
        node("Reshape", ["a", "shape"], ["r"]),
        node("Mul", ["r", "three"], ["b"]),
        node("Sub", ["b", "x"], ["y"]),
    ]
    x = np.linspace(1, 100, 1000, dtype=F16)
    given = {"three": np.array([3], F16), "shape": np.array([-1])}
    data = model_bytes(nodes, {"x": x}, ["y", "a"], given)
    y, a = vledge.InferenceSession(data).run(None, {"x": x})
    assert np.count_nonzero(x / F16(3) * F16(3) - x) > 100
    assert np.abs(y).max() < 1e-5
    np.testing.assert_array_equal(a, x / F16(3))  # an output is rounded, whoever reads it too


def test_what_the_file_rounds_is_rounded():
    nodes = [
        node("Div", ["x", "three"], ["a"]),
        node("Cast", ["a"], ["h"], to=10),
        node("Cast", ["h"], ["w"], to=1),
        node("Mul", ["w", "three"], ["y"]),
    ]
    x = np.linspace(1, 100, 1000, dtype=np.float32)
    data = model_bytes(nodes, {"x": x}, ["y"], {"three": np.array([3], np.float32)})
    (y,) = vledge.InferenceSession(data).run(None, {"x": x})
    np.testing.assert_array_equal(y, (x / np.float32(3)).astype(F16).astype(np.float32) * 3)


def test_in_bodies_and_for_who_takes_halves():
    """States of a loop are float16, and so is what a sequence keeps."""
    from tests.graph.models import helper, onnx

    def value(name, element, shape=None):
        return helper.make_tensor_value_info(name, element, shape)

    half = onnx.TensorProto.FLOAT16
    body = helper.make_graph(
        [
            node("Mul", ["h", "w"], ["m"]),
            node("Exp", ["m"], ["e"]),
            node("Add", ["e", "x"], ["h2"]),
            node("Identity", ["c"], ["c2"]),
        ],
        "body",
        [
            value("i", onnx.TensorProto.INT64, []),
            value("c", onnx.TensorProto.BOOL, []),
            value("h", half, [4]),
        ],
        [value("c2", onnx.TensorProto.BOOL, []), value("h2", half, [4])],
    )
    nodes = [
        node("Loop", ["trips", "", "x"], ["last"], body=body),
        node("SequenceConstruct", ["last", "x"], ["s"]),
        node("SequenceAt", ["s", "zero"], ["at"]),
        node("Sqrt", ["at"], ["y"]),
    ]
    x = np.array([0.1, 0.2, 0.3, 0.4], F16)
    given = {"trips": np.array(3), "zero": np.array(0), "w": np.array([-1], F16)}
    (y,) = vledge.InferenceSession(model_bytes(nodes, {"x": x}, ["y"], given)).run(None, {"x": x})
    state = x
    for _ in range(3):
        wide = state.astype(np.float32)
        state = (np.exp(-wide) + x.astype(np.float32)).astype(F16)
    np.testing.assert_allclose(y, np.sqrt(state), rtol=2**-9)
    assert y.dtype == F16


def of(nodes, outputs, constants, x, opset=17):
    feeds = {"x": x}
    session = vledge.InferenceSession(model_bytes(nodes, feeds, outputs, constants, opset))
    return session.run(None, feeds)


def test_outputs_that_are_not_as_the_first_keep_their_types():
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(F16)
    one = node("LayerNormalization", ["x", "w"], ["y", "mean", "inverse"])
    y, mean, inverse = of([one], ["y", "mean", "inverse"], {"w": np.ones(4, F16)}, x)
    wide = x.astype(np.float32)
    assert (y.dtype, mean.dtype, inverse.dtype) == (F16, np.float32, np.float32)
    np.testing.assert_allclose(mean, wide.mean(1, keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inverse, 1 / np.sqrt(wide.var(1, keepdims=True) + 1e-5), rtol=1e-5)
    places = ["first", "inverse", "counts"]
    values, *rest = of([node("Unique", ["x"], ["y", *places])], ["y", *places], {}, x)
    assert values.dtype == F16
    assert [array.dtype for array in rest] == [np.int64] * 3
    np.testing.assert_array_equal(values[rest[1]], x.reshape(-1))


@pytest.mark.parametrize("training", [0, 1])
def test_running_means_keep_their_type(training):
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(F16)
    outputs = ["y", "mean", "var"][: 1 + 2 * training]
    one = node("BatchNormalization", ["x", "w", "w", "m", "v"], outputs, training_mode=training)
    constants = {"w": np.ones(4, F16)} | dict.fromkeys("mv", np.ones(4, np.float32))
    got = of([one], outputs, constants, x)
    assert [array.dtype for array in got] == [F16, np.float32, np.float32][: len(outputs)]


def test_what_names_its_type_has_it():
    x = np.ones((3, 4), F16)
    nodes = [node("EyeLike", ["x"], ["e"], dtype=11), node("Add", ["e", "d"], ["y"])]
    (y,) = of(nodes, ["y"], {"d": np.full((3, 4), 1e-12)}, x)
    np.testing.assert_array_equal(y, np.eye(3, 4) + 1e-12, strict=True)
    nodes = [
        node("DequantizeLinear", ["x", "s"], ["d"], output_dtype=1),
        node("Mul", ["d", "k"], ["y"]),
    ]
    constants = {"s": np.asarray(0.1, F16), "k": np.full(3, 1e-7, np.float32)}
    (y,) = of(nodes, ["y"], constants, np.arange(3, dtype=np.uint8), 23)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.arange(3) * float(F16(0.1)) * 1e-7, rtol=1e-6)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_streams(kind, gates):
    rng = np.random.default_rng(0)
    nodes = [
        node(kind, ["x", "w", "r"], ["o"], hidden_size=6),
        node("Squeeze", ["o", "one"], ["s"]),
        node("MatMul", ["s", "m"], ["y"]),
    ]
    constants = {"w": weights(rng, 1, gates * 6, 5), "r": weights(rng, 1, gates * 6, 6)}
    constants |= {"m": weights(rng, 6, 3), "one": np.array([1])}
    x = rng.standard_normal((9, 1, 5)).astype(F16)
    onnx = peer("onnx")
    model = onnx.load_from_string(model_bytes(nodes, {"x": x}, ["y"], constants, 17))
    axes = model.graph.input[0].type.tensor_type.shape.dim
    axes[0].dim_param, axes[1].dim_value, axes[2].dim_value = "steps", 1, 5
    session = vledge.InferenceSession(model.SerializeToString())
    (whole,) = session.run(None, {"x": x})
    stream = session.stream(batch=1)
    frames = [np.asarray(stream.step(frame)) for frame in x]
    assert all(frame.dtype == F16 for frame in frames)
    np.testing.assert_allclose(np.concatenate(frames).reshape(9, 3), whole.reshape(9, 3), atol=0.01)
