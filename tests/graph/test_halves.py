"""float16 graphs are computed in float32, natively, and give onnxruntime's values."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node, proto

HALF = np.float16


def drawn(rng, *shape):
    return rng.standard_normal(shape).astype(HALF)


def compared(nodes, feed, outputs, weights, opset=17, tolerance=1.1e-3):
    """Our outputs, which are onnxruntime's but for what sums differ by, and the session."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = model_bytes(nodes, feed, outputs, weights, opset)
    session = vledge.InferenceSession(model)
    ours = session.run(None, feed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    theirs = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for own, their in zip(ours, theirs.run(None, feed), strict=True):
        assert own.dtype == their.dtype
        wide = their.astype(np.float64)
        if their.dtype == HALF:  # a sum's last bits may bring it to a neighbour
            np.testing.assert_allclose(own.astype(np.float64), wide, rtol=tolerance, atol=2e-7)
        else:
            np.testing.assert_allclose(own.astype(np.float64), wide, rtol=2e-5, atol=2e-6)
    plain = vledge.InferenceSession(model)._plan.run(*feed.values())
    for own, their in zip(ours, plain, strict=True):
        np.testing.assert_allclose(own.astype(np.float32), their.astype(np.float32), rtol=1.1e-3)
    return ours, session


def in_python(session, feed):
    return [row.operators for row in session.profile(feed, 1).rows if row.python_calls]


CONVOLUTION = [
    node("Unsqueeze", ["x", "axis"], ["wide"]),
    node("Conv", ["wide", "w"], ["c"], pads=[0, 2, 0, 2]),
    node("Squeeze", ["c", "axis"], ["s"]),
    node("Add", ["s", "b"], ["a"]),
    node("Relu", ["a"], ["r"]),
    node("Softmax", ["r"], ["p"], axis=1),
    node("Transpose", ["p"], ["y"], perm=[0, 2, 1]),
]


def convolution_weights(rng):
    return {"w": drawn(rng, 8, 6, 1, 5), "b": drawn(rng, 8, 1), "axis": np.array([2])}


@pytest.mark.parametrize("length", [1, 7, 40])
def test_what_computes_is_native_and_rounded_once(length):
    rng = np.random.default_rng(length)
    feed = {"x": drawn(rng, 1, 6, length)}
    weights = convolution_weights(rng)
    _, session = compared(CONVOLUTION, feed, ["y"], weights)
    assert in_python(session, feed) == []
    casts = [one for one in session._plan._graph.nodes if one.op_type == "Cast"]
    assert len(casts) == 2  # in and out


def test_the_values_are_those_of_a_float32_model():
    rng = np.random.default_rng(0)
    feed, weights = {"x": drawn(rng, 2, 6, 30)}, convolution_weights(rng)
    ours = vledge.InferenceSession(model_bytes(CONVOLUTION, feed, ["y"], weights, 17)).run(
        None, feed
    )
    wide = {k: a if a.dtype == np.int64 else a.astype(np.float32) for k, a in weights.items()}
    single = {"x": feed["x"].astype(np.float32)}
    exact = vledge.InferenceSession(model_bytes(CONVOLUTION, single, ["y"], wide, 17)).run(
        None, single
    )
    np.testing.assert_array_equal(ours[0], exact[0].astype(HALF))


@pytest.mark.parametrize("outputs", [["c"], ["s", "y"], ["a", "c", "p", "y"]])
def test_outputs_in_between(outputs):
    rng = np.random.default_rng(3)
    feed, weights = {"x": drawn(rng, 1, 6, 20)}, convolution_weights(rng)
    compared(
        CONVOLUTION, feed, outputs, weights, tolerance=1e-2
    )  # theirs goes on from rounded ones


KINDS = {
    "matmul": [node("MatMul", ["x", "m"], ["y"])],
    "gemm": [node("Gemm", ["x", "m", "v"], ["y"])],
    "norm": [node("LayerNormalization", ["x", "n", "n"], ["y"])],
    "reduce": [node("ReduceMean", ["x"], ["y"], axes=[1])],
    "where": [
        node("Exp", ["x"], ["e"]),
        node("Greater", ["e", "x"], ["g"]),
        node("Where", ["g", "e", "x"], ["y"]),
    ],
    "concat": [
        node("Sigmoid", ["x"], ["e"]),
        node("Concat", ["e", "x"], ["c"], axis=0),
        node("Tanh", ["c"], ["y"]),
    ],
    "gather": [node("Gather", ["m", "i"], ["g"]), node("Mul", ["g", "g"], ["y"])],
    "cast out": [node("Exp", ["x"], ["e"]), node("Cast", ["e"], ["y"], to=1)],
    "cast to integers": [node("Mul", ["x", "x"], ["e"]), node("Cast", ["e"], ["y"], to=7)],
    "cast to double": [node("Mul", ["x", "x"], ["e"]), node("Cast", ["e"], ["y"], to=11)],
    "cast in": [
        node("Cast", ["x"], ["f"], to=1),
        node("Exp", ["f"], ["e"]),
        node("Cast", ["e"], ["h"], to=10),
        node("Sqrt", ["h"], ["y"]),
    ],
    "split": [
        node("Split", ["x"], ["l", "r"], axis=1),
        node("Sub", ["l", "r"], ["d"]),
        node("Erf", ["d"], ["y"]),
    ],
    "top": [node("Neg", ["x"], ["n1"]), node("TopK", ["n1", "k"], ["y", "at"])],
    "shape": [
        node("Abs", ["x"], ["e"]),
        node("Shape", ["e"], ["s"]),
        node("Expand", ["v", "s"], ["w"]),
        node("Add", ["e", "w"], ["y"]),
    ],
    "moved alone": [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("Flatten", ["t"], ["y"])],
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_operators(kind):
    rng = np.random.default_rng(5)
    every = {
        "m": drawn(rng, 12, 16),
        "v": drawn(rng, 1),
        "n": drawn(rng, 12),
        "i": np.array([[3, 0], [11, 5]]),
        "k": np.array([4]),
    }
    names = {name for one in KINDS[kind] for name in one.input}
    feed = {"x": drawn(rng, 5, 12)} if "x" in names else {"unused": drawn(rng, 1)}
    weights = {name: array for name, array in every.items() if name in names}
    compared(KINDS[kind], feed, ["y"], weights)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_recurrent_nodes(op):
    rng = np.random.default_rng(6)
    gates = {"LSTM": 4, "GRU": 3}[op]
    weights = {
        "w": drawn(rng, 1, gates * 8, 6) / HALF(4),
        "r": drawn(rng, 1, gates * 8, 8) / HALF(4),
    }
    nodes = [node(op, ["x", "w", "r"], ["h", "y"], hidden_size=8), node("Relu", ["h"], ["z"])]
    x = drawn(rng, 9, 2, 6)
    feed = {"x": x}
    session = vledge.InferenceSession(model_bytes(nodes, feed, ["z", "y"], weights, 17))
    ours = session.run(None, feed)
    wide = {k: a.astype(np.float32) for k, a in weights.items()}
    single = {"x": x.astype(np.float32)}
    exact = vledge.InferenceSession(model_bytes(nodes, single, ["z", "y"], wide, 17))
    for own, other in zip(ours, exact.run(None, single), strict=True):
        np.testing.assert_array_equal(own, other.astype(HALF))
    assert in_python(session, feed) == []


@pytest.mark.parametrize("condition", [True, False])
def test_bodies_read_and_give_float16(condition):
    def branch(nodes):
        return proto(nodes, {}, ["out"], {}, 17).graph

    rng = np.random.default_rng(7)
    nodes = [
        node("Exp", ["x"], ["e"]),
        node(
            "If",
            ["c"],
            ["i"],
            then_branch=branch([node("Add", ["e", "x"], ["t"]), node("Relu", ["t"], ["out"])]),
            else_branch=branch([node("Identity", ["e"], ["out"])]),
        ),
        node("Mul", ["i", "e"], ["y"]),
    ]
    feed = {"x": drawn(rng, 3, 4), "c": np.array(condition)}
    compared(nodes, feed, ["y"], {})


def test_a_value_of_an_unknown_type_is_left_alone():
    """What a sequence has is not known to be float16: such nodes compute as they did."""
    rng = np.random.default_rng(8)
    nodes = [
        node("SequenceConstruct", ["x", "x"], ["s"]),
        node("SequenceAt", ["s", "k"], ["e"]),
        node("Add", ["e", "x"], ["y"]),
    ]
    compared(nodes, {"x": drawn(rng, 3, 4)}, ["y"], {"k": np.array(1)})


def test_large_numbers_overflow_only_where_they_are_rounded():
    x = np.array([300, -300, 1], HALF)
    nodes = [node("Mul", ["x", "x"], ["m"]), node("Sqrt", ["m"], ["y"])]
    (y, m), _ = compared(nodes, {"x": x}, ["y", "m"], {})
    np.testing.assert_array_equal(y, np.abs(x))
    np.testing.assert_array_equal(m, [np.inf, np.inf, 1])
