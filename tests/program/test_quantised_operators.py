"""com.microsoft's quantised operators: the native program beside their Python operators, bit for
bit, and beside onnxruntime."""

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from tests.peers import peer
from tests.program.test_integer_agreement import TYPES, Draw
from vledge import InferenceSession
from vledge.graph.prepared import prepare
from vledge.model.definition import Node

CASES = 40
OURS = {"com.microsoft": 1}


def results(op_type, names, feed, weights, attributes, opset=17, domain="com.microsoft"):
    """Of the program, as that of the Python operator by itself; and the model."""
    one = node(op_type, names, ["y"], domain=domain, **attributes)
    model = model_bytes([one], feed, ["y"], weights, opset=opset, domains=OURS)
    session = InferenceSession(model)
    native = session._plan.native
    declined = np.zeros(len(native.handlers), np.int32)
    arrays = [feed[name] for name in session._plan.inputs]
    (ours,) = native.program.run(arrays, (np.zeros(len(declined), np.int64), declined))
    assert not declined.any(), native.handlers
    assert None not in native.handlers
    known = {**weights, **feed}
    plain = Node(op_type, list(names), ["y"], attributes, domain=domain)
    prepared = prepare(plain, {"": opset, **OURS}, {}, options={})
    arguments = [np.asarray(known[name]) if name else None for name in names]
    (expected,) = prepared.call(*arguments)
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected)
    return ours, model


def theirs(model, feed):
    onnxruntime = peer("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options).run(None, feed)[0]


def parameters(draw, dtype, *prefixes):
    made = {}
    for prefix in prefixes:
        made[f"{prefix}_scale"] = draw.scale()
        made[f"{prefix}_zero"] = draw.integers(dtype)
    return made


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_of_two(op_type):
    draw = Draw(3)
    for _ in range(CASES):
        dtype = draw.among(*TYPES)
        shape = draw.sizes(1, 9, 4)
        other = draw.among(shape, shape, [1, *shape[1:]], [shape[1], 1, 1], [1])
        feed = {"a": draw.integers(dtype, *shape), "b": draw.integers(dtype, *other)}
        if draw.among(True, False):
            feed["a"] = np.moveaxis(np.ascontiguousarray(np.moveaxis(feed["a"], 1, -1)), -1, 1)
        weights = parameters(draw, dtype, "a", "b", "c")
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c_scale", "c_zero"]
        ours, model = results(op_type, names, feed, weights, {})
        distance = np.abs(ours.astype(int) - theirs(model, feed))
        assert distance.max() <= 1  # its loop for the last elements rounds apart from its own
        assert (distance > 0).mean() < 0.02 + 1 / ours.size


SPREAD = [([6, 40], [6, 40]), ([6, 40], [40]), ([6, 40], [1]), ([6, 40], [6, 1]), ([40], [6, 40])]


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("first_known", [False, True])
def test_what_is_near_to_a_half_rounds_as_theirs(op_type, first_known):
    """Ratios of scales are sixteenths, or next to them."""
    draw = Draw(30)
    names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c_scale", "c_zero"]
    for shape, other in SPREAD + [([1], [6, 40]), ([6, 1], [6, 40])] * first_known:
        for _ in range(6):
            dtype = draw.among(*TYPES)
            feed = {"a": draw.integers(dtype, *shape), "b": draw.integers(dtype, *other)}
            weights = parameters(draw, dtype, "a", "b", "c")
            for part in "ab":
                ratio = np.float32(draw.rng.integers(1, 17) / 16)
                weights[f"{part}_scale"] = ratio * weights["c_scale"]
            if op_type == "QLinearMul":
                weights["b_scale"] = ratio / 4
            if first_known:
                weights["a"] = feed.pop("a")
            ours, model = results(op_type, names, feed, weights, {})
            np.testing.assert_array_equal(ours, theirs(model, feed))


@pytest.mark.parametrize(
    ("op_type", "attributes", "most"),
    [
        ("QLinearSigmoid", {}, 0),
        ("QLinearLeakyRelu", {"alpha": 0.3}, 0),
        ("QLinearGlobalAveragePool", {}, 1),
        ("QLinearAveragePool", {"kernel_shape": [2, 3], "pads": [1, 0, 0, 1]}, 1),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 1),
        ("QLinearSoftmax", {"axis": 1, "opset": 17}, 1),
        ("QLinearSoftmax", {"axis": -1, "opset": 17}, 1),
    ],
)
def test_of_one(op_type, attributes, most):
    draw = Draw(4)
    names = ["x", "x_scale", "x_zero", "y_scale", "y_zero"]
    for _ in range(CASES):
        dtype = draw.among(*TYPES)
        feed = {"x": draw.integers(dtype, draw.among(1, 2), *draw.sizes(3, 9, 3))}
        weights = parameters(draw, dtype, "x", "y")
        if op_type == "QLinearSoftmax":  # which onnxruntime wants so
            weights["y_scale"] = np.float32(1 / 256)
            weights["y_zero"] = dtype(np.iinfo(dtype).min)
        ours, model = results(op_type, names, feed, weights, attributes)
        assert np.abs(ours.astype(int) - theirs(model, feed)).max() <= most


def test_concatenation():
    draw = Draw(5)
    for _ in range(CASES):
        dtype, axis = draw.among(*TYPES), int(draw.rng.integers(3))
        weights = parameters(draw, dtype, "y", "same", "b")
        weights |= {"same_scale": weights["y_scale"], "same_zero": weights["y_zero"]}
        shape = draw.sizes(1, 6, 3)
        feed = {name: draw.integers(dtype, *shape) for name in ("a", "b")}
        names = ["y_scale", "y_zero", "a", "same_scale", "same_zero", "b", "b_scale", "b_zero"]
        ours, model = results("QLinearConcat", names, feed, weights, {"axis": axis})
        np.testing.assert_array_equal(ours, theirs(model, feed))


@pytest.mark.parametrize("bytes_out", [True, False])
def test_gemm(integers, bytes_out):
    draw = Draw(6)
    for _ in range(CASES):
        rows, depth, columns = draw.sizes(1, 70, 3)
        x_type, w_type = draw.among((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8))
        turned = draw.among(0, 1)
        per_column = draw.among((), (columns,))
        weights = parameters(draw, x_type, "a", "y") | {
            "b": draw.integers(w_type, *((columns, depth) if turned else (depth, columns))),
            "b_scale": draw.scale(*per_column),
            "b_zero": draw.integers(w_type, *per_column),
            "c": draw.rng.integers(-9999, 9999, columns).astype(np.int32),
        }
        weights["y_scale"] *= np.float32(depth)
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", draw.among("c", "")]
        names += ["y_scale", "y_zero"] if bytes_out else []
        feed = {"a": draw.integers(x_type, rows, depth)}
        if not bytes_out:
            names = names[: 7 if names[6] else 6]
        attributes = {"transB": turned, "alpha": draw.among(1.0, 0.5)}
        if bytes_out:
            ours, model = results("QGemm", names, feed, weights, attributes)
            if attributes["alpha"] == 1 and x_type == np.uint8:  # theirs has no int8
                np.testing.assert_array_equal(ours, theirs(model, feed))
            continue
        one = node("QGemm", names, ["y"], domain="com.microsoft", **attributes)
        model = model_bytes([one], feed, ["y"], weights, opset=17, domains=OURS)
        session = InferenceSession(model)
        assert session._plan.native.handlers == ["matmul_integer"]
        ours, expected = session.run(None, feed)[0], session._plan.function(feed["a"])[0]
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_products_that_become_real(integers):
    draw = Draw(7)
    for _ in range(CASES):
        rows, depth, columns = draw.sizes(1, 70, 3)
        per_column = draw.among((), (columns,))
        weights = {
            "b": draw.integers(np.int8, depth, columns),
            "b_scale": draw.scale(*per_column),
            "b_zero": draw.integers(np.int8, *per_column),
            "bias": draw.rng.standard_normal(columns).astype(np.float32),
        }
        x = draw.rng.standard_normal((2, rows, depth)).astype(np.float32)
        names = ["x", "b", "b_scale", "b_zero", draw.among("bias", "")]
        ours, model = results("DynamicQuantizeMatMul", names, {"x": x}, weights, {})
        np.testing.assert_allclose(ours, theirs(model, {"x": x}), rtol=1e-5, atol=1e-3)
        weights |= parameters(draw, np.uint8, "a")
        feed = {"x": draw.integers(np.uint8, rows, depth)}
        names = ["x", "b", "a_scale", "b_scale", "a_zero", "b_zero", names[4]]
        ours, model = results("MatMulIntegerToFloat", names, feed, weights, {})
        np.testing.assert_allclose(ours, theirs(model, feed), rtol=1e-5, atol=1e-2)


def test_products_of_two_inputs():
    draw = Draw(9)
    names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c_scale", "c_zero"]
    for _ in range(CASES):
        dtype = draw.among(*TYPES)
        rows, depth, columns = draw.sizes(1, 70, 3)
        feed = {
            "a": draw.integers(dtype, 2, rows, depth),
            "b": draw.integers(dtype, 2, depth, columns),
        }
        weights = parameters(draw, dtype, "a", "b", "c")
        weights["c_scale"] *= np.float32(depth)
        ours, model = results("QLinearMatMul", names, feed, weights, {}, domain="")
        np.testing.assert_array_equal(ours, theirs(model, feed))


def test_what_is_not_known_at_load_runs_in_python():
    """Scales that come as inputs."""
    draw = Draw(8)
    feed = {"a": draw.integers(np.uint8, 3, 5), "b": draw.integers(np.uint8, 3, 5)}
    feed |= parameters(draw, np.uint8, "a", "b", "c")
    names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c_scale", "c_zero"]
    one = node("QLinearAdd", names, ["y"], domain="com.microsoft")
    session = InferenceSession(model_bytes([one], feed, ["y"], {}, opset=17, domains=OURS))
    assert session._plan.native.handlers == [None]
    real = [(feed[n].astype(float) - feed[f"{n}_zero"]) * feed[f"{n}_scale"] for n in "ab"]
    expected = np.rint(sum(real) / feed["c_scale"]) + feed["c_zero"]
    (ours,) = session.run(None, feed)
    assert np.abs(ours - np.clip(expected, 0, 255)).max() <= 1
