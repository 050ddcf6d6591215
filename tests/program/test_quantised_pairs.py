"""Products and convolutions between DequantizeLinear and QuantizeLinear run on integers,
activations between them as tables: beside the same in real numbers, and beside onnxruntime.
"""

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from tests.program.test_integer_agreement import Draw
from tests.program.test_quantised_operators import theirs
from vledge import InferenceSession

CASES = 30
OPSET = 17


def in_front(name, axis=None):
    attributes = {} if axis is None else {"axis": axis}
    return node(
        "DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_real"], **attributes
    )


BEHIND = node("QuantizeLinear", ["result", "y_scale", "y_zero"], ["y"])


def handlers(model):
    return InferenceSession(model)._plan.native.handlers


def ran(model, feed):
    """The result, the same both ways."""
    session = InferenceSession(model)
    native = session._plan.native
    declined = np.zeros(len(native.handlers), np.int32)
    arrays = [feed[name] for name in session._plan.inputs]
    (ours,) = native.program.run(arrays, (np.zeros(len(declined), np.int64), declined))
    assert not declined.any(), native.handlers
    (expected,) = session._plan.function(*arrays)
    if ours.dtype == np.float32:
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(ours, expected)
    return ours


def real(known, name, shape=()):
    scale, zero = (known[f"{name}_{part}"].reshape(shape) for part in ("scale", "zero"))
    return (known[name].astype(np.float64) - zero) * scale


def check(ours, expected, weights, bytes_out):
    """Against real numbers: apart by a rounding."""
    if not bytes_out:
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        return
    ends = np.iinfo(ours.dtype)
    steps = np.rint(expected / weights["y_scale"]) + weights["y_zero"]
    apart = np.abs(ours - np.clip(steps, ends.min, ends.max))
    assert apart.max() <= 1
    assert apart.mean() < 0.02


def parameters(draw, x_type, w_type, columns):
    per_column = draw.among((), (columns,))
    return {
        "x_scale": draw.scale(), "x_zero": draw.integers(x_type),
        "w_scale": draw.scale(*per_column), "w_zero": draw.integers(w_type, *per_column) * 0,
        "y_scale": np.float32(0.5), "y_zero": draw.integers(x_type),
    }  # fmt: skip


def with_bias(draw, weights, columns):
    weights["b"] = draw.rng.integers(-999, 999, columns).astype(np.int32)
    weights["b_scale"] = weights["x_scale"] * weights["w_scale"]
    weights["b_zero"] = np.zeros(weights["b_scale"].shape, np.int32)
    return node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_real"], axis=0)


TYPES = [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8)]


@pytest.mark.parametrize("bytes_out", [True, False])
def test_convolutions(integers, bytes_out):
    draw = Draw(11)
    for _ in range(CASES):
        rank = draw.among(1, 2)
        groups = draw.among(1, 1, 2, 5, 19)
        of_group, out = (1, 1) if groups > 2 else draw.sizes(1, 6, 2)
        x_type, w_type = TYPES[draw.rng.integers(len(TYPES))]
        channels = groups * out
        weights = parameters(draw, x_type, w_type, channels)
        weights["w"] = draw.integers(w_type, channels, of_group, *draw.sizes(1, 4, rank))
        nodes = [in_front("x"), in_front("w", axis=0)]
        names = ["x_real", "w_real"]
        if draw.among(True, False):
            nodes.append(with_bias(draw, weights, channels))
            names.append("b_real")
        attributes = {
            "group": groups, "strides": draw.sizes(1, 3, rank), "pads": draw.sizes(0, 3, 2 * rank),
            "dilations": draw.sizes(1, 3, rank),
        }  # fmt: skip
        convolution = node("Conv", names, ["result"], **attributes)
        feed = {"x": draw.integers(x_type, 2, groups * of_group, *draw.sizes(6, 12, rank))}
        if draw.among(True, False):
            feed["x"] = np.moveaxis(np.ascontiguousarray(np.moveaxis(feed["x"], 1, -1)), -1, 1)
        whole = [*nodes, convolution, *[BEHIND] * bytes_out]
        model = model_bytes(whole, feed, ["y" if bytes_out else "result"], weights, opset=OPSET)
        assert handlers(model) == ["qlinear_conv" if bytes_out else "conv_integer"]
        ours = ran(model, feed)
        known = {**weights, **feed}
        over = (-1, *[1] * (rank + 1)) if weights["w_scale"].ndim else ()
        floats = {"x_real": real(known, "x").astype(np.float32)}
        made = {"w_real": real(known, "w", over).astype(np.float32)}
        if len(names) > 2:
            made["b_real"] = (weights["b"] * weights["b_scale"]).astype(np.float32)
        alone = model_bytes([convolution], floats, ["result"], made, opset=OPSET)
        (expected,) = InferenceSession(alone).run(None, floats)
        check(ours, expected, weights, bytes_out)
        if bytes_out and x_type == np.uint8:
            np.testing.assert_array_equal(ours, theirs(model, feed))


@pytest.mark.parametrize("bytes_out", [True, False])
@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
def test_products(integers, op_type, bytes_out):
    draw = Draw(12)
    for _ in range(CASES):
        rows, depth, columns = draw.sizes(1, 50, 3)
        x_type, w_type = TYPES[draw.rng.integers(len(TYPES))]
        turned = op_type == "Gemm" and draw.among(True, False)
        weights = parameters(draw, x_type, w_type, columns)
        weights["w"] = draw.integers(w_type, *((columns, depth) if turned else (depth, columns)))
        nodes = [in_front("x"), in_front("w", axis=0 if turned else 1)]
        names = ["x_real", "w_real"]
        if op_type == "Gemm" and draw.among(True, False):
            nodes.append(with_bias(draw, weights, columns))
            names.append("b_real")
        attributes = {"transB": 1} if turned else {}
        product = node(op_type, names, ["result"], **attributes)
        lead = [] if op_type == "Gemm" else draw.sizes(1, 3, 1)
        feed = {"x": draw.integers(x_type, *lead, rows, depth)}
        whole = [*nodes, product, *[BEHIND] * bytes_out]
        model = model_bytes(
            whole, feed, ["y" if bytes_out else "result"], weights, opset=OPSET,
            domains={"com.microsoft": 1},
        )  # fmt: skip
        assert handlers(model) == ["qlinear_matmul" if bytes_out else "matmul_integer"]
        ours = ran(model, feed)
        known = {**weights, **feed}
        over = ((-1, 1) if turned else (-1,)) if weights["w_scale"].ndim else ()
        w = real(known, "w", over)
        expected = real(known, "x") @ (w.T if turned else w)
        if len(names) > 2:
            expected = expected + weights["b"] * weights["b_scale"]
        check(ours, expected, weights, bytes_out)


def test_what_has_other_scales_stays_real():
    """Scales along another axis than the outputs', or that come as inputs."""
    draw = Draw(13)
    weights = parameters(draw, np.uint8, np.int8, 4)
    weights |= {"w": draw.integers(np.int8, 5, 4), "w_zero": np.zeros(5, np.int8)}
    weights["w_scale"] = draw.scale(5)
    nodes = [in_front("x"), in_front("w", axis=0), node("MatMul", ["x_real", "w_real"], ["result"])]
    feed = {"x": draw.integers(np.uint8, 3, 5)}
    model = model_bytes([*nodes, BEHIND], feed, ["y"], weights, opset=OPSET)
    assert "qlinear_matmul" not in handlers(model)
    known = {**weights, **feed}
    check(ran(model, feed), real(known, "x") @ real(known, "w", (-1, 1)), weights, True)
    weights |= {"w_scale": np.float32(0.1), "w_zero": np.int8(0)}
    feed["x_scale"] = weights.pop("x_scale")
    model = model_bytes([*nodes, BEHIND], feed, ["y"], weights, opset=OPSET)
    assert "qlinear_matmul" not in handlers(model)
    known = {**weights, **feed}
    (ours,) = InferenceSession(model).run(None, feed)
    check(ours, real(known, "x") @ real(known, "w"), weights, True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_functions_of_one_byte_are_tables(dtype):
    """A hard swish in quantised operators, as quantisers write it."""
    draw = Draw(14)
    weights = {
        "x_scale": np.float32(0.05), "x_zero": draw.integers(dtype), "three": dtype(100),
        "three_scale": np.float32(0.03), "three_zero": dtype(0), "s_scale": np.float32(0.06),
        "s_zero": dtype(np.iinfo(dtype).min), "p_scale": np.float32(0.2), "p_zero": dtype(5),
        "six": np.float32(6), "y_scale": np.float32(0.04), "y_zero": dtype(7),
    }  # fmt: skip
    x, s, p = (["x", "x_scale", "x_zero"], ["s", "s_scale", "s_zero"], ["p", "p_scale", "p_zero"])
    nodes = [
        node("QLinearAdd", [*x, "three", "three_scale", "three_zero", *s[1:]], ["s"],
             domain="com.microsoft"),
        node("QLinearMul", [*x, *s, *p[1:]], ["p"], domain="com.microsoft"),
        node("DequantizeLinear", p, ["p_real"]),
        node("Div", ["p_real", "six"], ["result"]),
        BEHIND,
    ]  # fmt: skip
    feed = {"x": draw.integers(dtype, 2, 3, 300)}
    model = model_bytes(nodes, feed, ["y"], weights, opset=OPSET, domains={"com.microsoft": 1})
    assert handlers(model) == ["byte_table"]
    assert np.abs(ran(model, feed).astype(int) - theirs(model, feed)).max() <= 1
    turned = {"x": feed["x"].transpose(2, 0, 1)[::-1]}
    model = model_bytes(nodes, turned, ["y"], weights, opset=OPSET, domains={"com.microsoft": 1})
    ran(model, turned)


def test_a_number_with_axes_may_change_the_shape():
    weights = {
        "x_scale": np.float32(0.1),
        "x_zero": np.uint8(3),
        "one": np.ones((1, 1), np.float32),
    }
    weights |= {"y_scale": np.float32(0.1), "y_zero": np.uint8(3)}
    nodes = [in_front("x"), node("Add", ["x_real", "one"], ["result"]), BEHIND]
    feed = {"x": np.arange(5, dtype=np.uint8)}
    model = model_bytes(nodes, feed, ["y"], weights, opset=OPSET)
    np.testing.assert_array_equal(ran(model, feed), feed["x"][None] + 10)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_the_greatest_bytes_of_windows(dtype):
    draw = Draw(15)
    for _ in range(CASES):
        rank = draw.among(1, 2)
        feed = {"x": draw.integers(dtype, 2, draw.among(1, 7, 40), *draw.sizes(4, 9, rank))}
        attributes = {
            "kernel_shape": draw.sizes(2, 4, rank), "strides": draw.sizes(1, 3, rank),
            "pads": [1] * 2 * rank, "ceil_mode": draw.among(0, 1),
        }  # fmt: skip
        pool = node("MaxPool", ["x"], ["y"], **attributes)
        model = model_bytes([pool], feed, ["y"], {}, opset=OPSET)
        assert handlers(model) == ["pool"]
        np.testing.assert_array_equal(ran(model, feed), theirs(model, feed))


def test_tables_take_numbers_with_axes_where_the_bytes_have_as_many():
    """x * w + b, a hard swish: as PP-OCR has them."""
    number = lambda x: np.full((1, 1, 1, 1), x, np.float32)  # noqa: E731
    weights = {
        "x_scale": np.float32(0.05), "x_zero": np.uint8(130), "w": number(1.3), "b": number(-0.2),
        "six": np.full(1, 6, np.float32), "y_scale": np.float32(0.04), "y_zero": np.uint8(7),
    }  # fmt: skip
    nodes = [
        in_front("x"), node("Mul", ["x_real", "w"], ["p"]), node("Add", ["b", "p"], ["s"]),
        node("HardSwish", ["s"], ["h"]), node("Div", ["h", "six"], ["result"]), BEHIND,
    ]  # fmt: skip
    feed = {"x": np.arange(256, dtype=np.uint8).reshape(1, 2, 16, 8)}
    model = model_bytes(nodes, feed, ["y"], weights, opset=OPSET)
    assert handlers(model) == ["byte_table"]
    ours = ran(model, feed)
    assert ours.shape == feed["x"].shape
    assert np.abs(ours.astype(int) - theirs(model, feed)).max() <= 1


MOVES = {
    "MaxPool": ([], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "Transpose": ([], {"perm": [0, 2, 3, 1]}),
    "Reshape": ([np.array([0, 3, -1])], {}),
    "Flatten": ([], {"axis": 2}),
    "Slice": ([np.array([1]), np.array([5]), np.array([3])], {}),
    "Gather": ([np.array([3, 0, 2])], {"axis": 2}),
    "Unsqueeze": ([np.array([1])], {}),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("op_type", MOVES)
@pytest.mark.parametrize("same", [True, False])
def test_moves_between_pairs_are_moves_of_bytes(dtype, op_type, same):
    draw = Draw(16)
    constants, attributes = MOVES[op_type]
    weights = {f"k{k}": c for k, c in enumerate(constants)}
    weights |= {"x_scale": np.float32(0.05), "x_zero": draw.integers(dtype)}
    weights |= {"y_scale": np.float32(0.05 if same else 0.07), "y_zero": weights["x_zero"]}
    move = node(op_type, ["x_real", *(f"k{k}" for k in range(len(constants)))], ["result"],
                **attributes)  # fmt: skip
    feed = {"x": draw.integers(dtype, 2, 3, 8, 10)}
    model = model_bytes([in_front("x"), move, BEHIND], feed, ["y"], weights, opset=OPSET)
    found = handlers(model)
    assert "dequantize_linear" not in found
    assert ("byte_table" in found) is not same
    np.testing.assert_array_equal(ran(model, feed), theirs(model, feed))


def test_what_is_joined_from_bytes_of_two_scales_stays_real():
    draw = Draw(17)
    weights = {"y_scale": np.float32(0.05), "y_zero": np.uint8(3)}
    for name, scale in (("a", 0.05), ("b", 0.05), ("c", 0.04)):
        weights |= {f"{name}_scale": np.float32(scale), f"{name}_zero": np.uint8(3)}
    feed = {name: draw.integers(np.uint8, 2, 5) for name in "abc"}
    for names, bytes_only in (("ab", True), ("ac", False)):
        nodes = [in_front(name) for name in names]
        nodes.append(node("Concat", [f"{name}_real" for name in names], ["result"], axis=1))
        own = {name: feed[name] for name in names}
        model = model_bytes([*nodes, BEHIND], own, ["y"], weights, opset=OPSET)
        kinds = set(handlers(model)) & {"chain", "quantize_linear", "dequantize_linear"}
        assert (not kinds) is bytes_only
        np.testing.assert_array_equal(ran(model, own), theirs(model, own))


def test_a_pair_that_others_look_into_keeps_its_numbers():
    """What is dequantised is an output, too; and a scale so small that steps are flushed to 0."""
    draw = Draw(18)
    feed = {"x": draw.integers(np.uint8, 3, 4)}
    weights = {"x_zero": np.uint8(3), "y_zero": np.uint8(3)}
    nodes = [in_front("x"), node("Transpose", ["x_real"], ["result"]), BEHIND]
    for scale in (0.1, 1e-43):
        weights |= {"x_scale": np.float32(scale), "y_scale": np.float32(scale)}
        model = model_bytes(nodes, feed, ["y", "x_real", "result"], weights, opset=OPSET)
        ours = InferenceSession(model).run(None, feed)
        if scale > 1e-30:
            np.testing.assert_array_equal(ours[0], feed["x"].T)
        np.testing.assert_array_equal(ours[1].T, ours[2])
        np.testing.assert_allclose(
            ours[1], (feed["x"] - 3.0) * np.float32(scale), rtol=1e-6, atol=1e-38
        )
