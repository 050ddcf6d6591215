"""What computes on float64 natively, against the Python operators: products, reductions, softmax
and norms in any layout, and whole models. Element-wise operators are in test_expressions.py."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer
from tests.program.test_reduce import some_axes, some_shape
from tests.program.test_typed import HOW, operator
from vledge._ext.program import run_handler
from vledge.graph.native.families.reduction import _KINDS

F64 = np.float64


def numbers(shape, rng):
    """float64 that lies in any way."""
    how = HOW[rng.integers(5)]
    order = rng.permutation(len(shape)) if how == "permuted" else np.arange(len(shape))
    gaps = [1 + (how == "sliced" and int(rng.integers(2))) for _ in shape]
    a = rng.normal(size=[shape[k] * gaps[k] for k in order]).transpose(np.argsort(order))
    a = np.asarray(a[tuple(slice(None, None, g) for g in gaps)])
    if how == "backwards":
        a = a[tuple(slice(None, None, -1) for _ in shape)]
    if how == "repeated" and a.size:
        a = np.broadcast_to(a[(slice(1),) * a.ndim], a.shape)
    return np.asarray(a)


@pytest.mark.parametrize("kind", _KINDS)
def test_reductions(instruction_set, kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(60):
        x = numbers(some_shape(rng), rng)
        if kind in ("ReduceLogSum", "ReduceProd"):
            x = np.asarray(np.abs(x) + 0.5)
        if kind == "ReduceProd" and x.size > 300:
            continue
        axes, keep = some_axes(x.ndim, rng), int(rng.integers(2))
        expected = operator(kind, x, axes=axes, keepdims=keep, opset=11)
        for threads in (1, 2):
            ints = [_KINDS.index(kind), keep, 0, *axes]
            (got,) = run_handler("reduce", [x], ints, threads=threads)
            assert got.dtype == F64
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax(instruction_set, name):
    rng = np.random.default_rng(5)
    for case in range(60):
        x = numbers([3, 1000] if case % 10 == 0 else some_shape(rng, fewest=1), rng) * 4
        axis = int(rng.integers(-x.ndim, x.ndim))
        (got,) = run_handler("softmax", [x], [axis, 0, int(name == "LogSoftmax")])
        np.testing.assert_allclose(got, operator(name, x, axis=axis), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_row_norms(instruction_set, name):
    rng = np.random.default_rng(2)
    centred = name == "LayerNormalization"
    for _ in range(40):
        x = numbers(some_shape(rng, fewest=1), rng)
        axis = int(rng.integers(-x.ndim, x.ndim))
        inputs = [x, *(rng.normal(size=x.shape[axis:]) for _ in range(1 + centred))]
        (got,) = run_handler("row_norm", inputs, [axis, int(centred)], [1e-3])
        x = np.asarray(x)
        own = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(own, keepdims=True) if centred else 0.0
        spread = np.sqrt(((x - mean) ** 2).mean(own, keepdims=True) + np.float32(1e-3))
        expected = (x - mean) / spread * inputs[1] + (inputs[2] if centred else 0)
        assert got.dtype == F64
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def test_products(instruction_set):
    rng = np.random.default_rng(1)
    for _ in range(60):
        depth, columns, rows = (int(n) for n in rng.choice([0, 1, 2, 7, 16, 33, 130], 3))
        batch = some_shape(rng, most=3)
        a = numbers([*batch, rows, depth], rng)
        own = [n if rng.integers(2) else 1 for n in batch[int(rng.integers(len(batch) + 1)) :]]
        b = numbers([*own, depth, columns], rng)
        for threads in (1, 2):
            (got,) = run_handler("matmul", [a, b], threads=threads)
            np.testing.assert_allclose(got, np.matmul(a, b), rtol=1e-12, atol=1e-12)
    assert run_handler("matmul", [np.ones((2, 3)), np.ones((3, 2), np.float32)]) is None


@pytest.mark.parametrize("known", [[], ["b"], ["b", "c"]])
def test_gemm_and_einsum(known):
    rng = np.random.default_rng(len(known))
    for turn_a, turn_b in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        a = rng.normal(size=(9, 5) if turn_a else (5, 9))
        given = {
            "b": rng.normal(size=(20, 9) if turn_b else (9, 20)),
            "c": rng.normal(size=(20,)),
            "m": rng.normal(size=(20, 6)),
        }
        feed = {"a": a, **{n: v for n, v in given.items() if n not in known and n != "m"}}
        nodes = [
            node("Gemm", ["a", "b", "c"], ["g"], transA=turn_a, transB=turn_b, beta=0.5),
            node("Einsum", ["g", "m"], ["e"], equation="ij,jk->ki"),
            node("MatMul", ["m", "e"], ["y"]),
        ]
        constants = {n: given[n] for n in [*known, "m"]}
        session = vledge.InferenceSession(model_bytes(nodes, feed, ["y"], constants))
        (got,) = session.run(None, feed)
        left = a.T if turn_a else a
        right = given["b"].T if turn_b else given["b"]
        exact = given["m"] @ ((left @ right + 0.5 * given["c"]) @ given["m"]).T
        np.testing.assert_allclose(got, exact, rtol=1e-12, atol=1e-12)
        assert not [row for row in session.profile(feed, 1).rows if row.python_calls]


def test_a_classifier_in_double():
    """As sklearn-onnx writes an MLP that was fitted on float64."""
    rng = np.random.default_rng(0)
    given = {
        "w": rng.normal(size=(12, 30)), "b": rng.normal(size=(1, 30)),
        "v": rng.normal(size=(30, 4)), "c": rng.normal(size=(1, 4)),
        "mean": rng.normal(size=(1, 12)), "scale": np.abs(rng.normal(size=(1, 12))) + 0.1,
        "low": np.array(-2.0), "high": np.array(2.0), "axes": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("Sub", ["x", "mean"], ["x1"]),
        node("Div", ["x1", "scale"], ["x2"]),
        node("Clip", ["x2", "low", "high"], ["x3"]),
        node("MatMul", ["x3", "w"], ["h1"]),
        node("Add", ["h1", "b"], ["h2"]),
        node("Tanh", ["h2"], ["h3"]),
        node("MatMul", ["h3", "v"], ["o1"]),
        node("Add", ["o1", "c"], ["o2"]),
        node("Softmax", ["o2"], ["p"], axis=1),
        node("ReduceSum", ["p", "axes"], ["s"], keepdims=1),
        node("Div", ["p", "s"], ["y"]),
        node("ArgMax", ["y"], ["label"], axis=1),
        node("Cast", ["label"], ["k"], to=1),
    ]
    x = rng.normal(size=(7, 12))
    data = model_bytes(nodes, {"x": x}, ["y", "k"], given)
    session = vledge.InferenceSession(data)
    got = session.run(None, {"x": x})
    for ours, theirs in zip(
        got, peer("onnxruntime").InferenceSession(data).run(None, {"x": x}), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert not [row for row in session.profile({"x": x}, 1).rows if row.python_calls]
