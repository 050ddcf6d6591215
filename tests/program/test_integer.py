"""Products of bytes on every instruction set and in every way, beside plain integers; and quantised
operators in the native program, beside their Python operators."""

import itertools

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from vledge import InferenceSession
from vledge._ext import isa
from vledge._ext.integer_matrix import IntegerMatrix
from vledge._ext.program import run_handler


def test_a_way_that_cannot_run_is_refused():
    with pytest.raises(ValueError, match="by 'magic' cannot run here"):
        isa.select_integers("magic")


@pytest.mark.parametrize("variable", ["VLEDGE_VNNI", "VLEDGE_DOTPROD"])
def test_dots_can_be_left_out(monkeypatch, variable):
    monkeypatch.setenv(variable, "0")
    assert isa.selected_integers() in set(isa.integer_ways()) - {"dots"}


def total(a, w, a_zero, w_zero):
    return (a.astype(np.int64) - int(a_zero)) @ (w.astype(np.int64) - np.int64(w_zero))


def product(a, w, a_zero=None, w_zero=None, threads=1):
    matrix = IntegerMatrix(w, w_zero)
    zero = None if a_zero is None else np.asarray(a_zero, a.dtype)
    found = run_handler(
        "matmul_integer", [a, zero, None], matrix.ints, threads=threads, objects=matrix.objects
    )
    return found[0]


TYPES = list(itertools.product([np.uint8, np.int8], repeat=2))


@pytest.mark.parametrize("types", TYPES, ids=lambda t: f"{t[0].__name__}-{t[1].__name__}")
def test_sizes(integers, types):
    """Tails of rows, columns and depth, with zero points at the ends of their types."""
    rng = np.random.default_rng(0)
    lanes = isa.lanes(np.float32)
    a_type, w_type = types
    a_ends, w_ends = (np.iinfo(t) for t in types)
    for depth, columns in [
        (1, 1),
        (2, 3),
        (3, lanes),
        (4, lanes + 1),
        (7, 4 * lanes),
        (65, 9 * lanes - 1),
    ]:
        w = rng.integers(w_ends.min, w_ends.max, (depth, columns), w_type, endpoint=True)
        for rows in [*range(10), 13]:
            a = rng.integers(a_ends.min, a_ends.max, (rows, depth), a_type, endpoint=True)
            for a_zero, w_zero in [
                (0, 0),
                (a_ends.max, w_ends.min),
                (a_ends.min, w_ends.max),
                (3, 5),
            ]:
                found = product(a, w, a_zero, np.array(w_zero, w_type))
                assert found.dtype == np.int32
                np.testing.assert_array_equal(found, total(a, w, a_zero, w_zero))
            zeros = rng.integers(w_ends.min, w_ends.max, columns, w_type, endpoint=True)
            found = product(a, w, 1, zeros)
            np.testing.assert_array_equal(found, total(a, w, 1, zeros))


@pytest.mark.parametrize("a_number", [0, 127, 128, 255])
@pytest.mark.parametrize("w_number", [-128, -127, 127])
def test_the_largest_products_do_not_saturate(integers, a_number, w_number):
    for depth in (2, 64, 1001):
        a = np.full((3, depth), a_number, np.uint8)
        w = np.full((depth, 37), w_number, np.int8)
        np.testing.assert_array_equal(product(a, w), total(a, w, 0, 0))
        np.testing.assert_array_equal(product(a, w, 255), total(a, w, 255, 0))
        w[::2] = -1 - w[::2]
        np.testing.assert_array_equal(product(a[:1], w), total(a[:1], w, 0, 0))


def test_memory_layouts(integers):
    rng = np.random.default_rng(1)
    w = rng.integers(-128, 128, (24, 21), np.int8)
    whole = rng.integers(0, 256, (5, 48, 6), np.uint8)
    for a in (
        whole[:, :24].transpose(0, 2, 1),
        np.ascontiguousarray(whole.transpose(0, 2, 1))[:, ::-1, 3:27],
        whole[:, ::-2].transpose(2, 0, 1),
        np.broadcast_to(whole[:1, :24, 0], (4, 24)),
        whole[:0, :24].transpose(0, 2, 1),
    ):
        np.testing.assert_array_equal(product(a, w, 7), total(a, w, 7, 0))


def test_results_do_not_depend_on_threads(integers):
    rng = np.random.default_rng(2)
    w = rng.integers(-128, 128, (300, 1000), np.int8)
    for rows in (1, 3, 50):
        a = rng.integers(0, 256, (rows, 300), np.uint8)
        for threads in (1, 2, 3):
            np.testing.assert_array_equal(product(a, w, 9, threads=threads), total(a, w, 9, 0))


# ---- whole operators, both ways


def run_both(nodes, feed, weights, outputs=("y",), handlers=None, opset=21, domains=()):
    """Results of the native program, which agree bit for bit with the Python operators'."""
    model = model_bytes(nodes, feed, list(outputs), weights, opset=opset, domains=domains)
    session = InferenceSession(model)
    native = session._plan.native
    arrays = [feed[name] for name in session._plan.inputs]
    declined = np.zeros(len(native.handlers), np.int32)
    results = native.program.run(arrays, (np.zeros(len(declined), np.int64), declined))
    expected = session._plan.run(*arrays)
    assert not declined.any(), native.handlers
    if handlers is not None:
        assert native.handlers == handlers
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    return results


def reals(rng, *shape):
    return (4 * rng.standard_normal(shape)).astype(np.float32)


def test_dynamic_quantize_linear(integers):
    rng = np.random.default_rng(3)
    quantise = node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    for x in (
        reals(rng, 1),
        reals(rng, 3, 37),
        reals(rng, 2, 5, 6).transpose(2, 0, 1),
        reals(rng, 9, 7)[::-1, ::2],
        np.abs(reals(rng, 40)),
        -np.abs(reals(rng, 40)),
        np.zeros((3, 5), np.float32),
        reals(rng, 0, 5),
        np.linspace(0, 255, 511, dtype=np.float32),  # halves
        np.float32(1e30) * reals(rng, 50),
    ):
        run_both([quantise], {"x": x}, {}, ["y", "scale", "zero"], ["dynamic_quantize"])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_has_no_range_is_left_to_python(number):
    x = np.array([1, number, 2], np.float32)
    assert run_handler("dynamic_quantize", [x], outputs=3) is None


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4, 2), ()])
def test_few_elements_keep_their_shape(shape):
    x = np.ones(shape, np.float32)
    scale = {"scale": np.float32(0.1).reshape(())}
    there = node("QuantizeLinear", ["x", "scale"], ["q"])
    back = node("DequantizeLinear", ["q", "scale"], ["y"])
    dynamic = node("DynamicQuantizeLinear", ["x"], ["d", "s", "z"])
    run_both([there, back, dynamic], {"x": x}, scale, ["q", "y", "d", "s", "z"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_real_operators_between_bytes_are_one_chain(integers, dtype):
    rng = np.random.default_rng(8)
    ends = np.iinfo(dtype)
    a = rng.integers(ends.min, ends.max, (3, 5, 37), dtype, endpoint=True)
    b = rng.integers(ends.min, ends.max, (5, 1), dtype, endpoint=True)
    weights = {
        "a_scale": np.float32(0.02), "a_zero": dtype(ends.max - 3), "b_scale": np.float32([0.5]),
        "y_scale": np.float32(0.0625), "y_zero": dtype(ends.min + 9),
    }  # fmt: skip
    nodes = [
        node("DequantizeLinear", ["a", "a_scale", "a_zero"], ["a_real"]),
        node("DequantizeLinear", ["b", "b_scale"], ["b_real"]),
        node("Add", ["a_real", "b_real"], ["sum"]),
        node("Tanh", ["sum"], ["bent"]),
        node("QuantizeLinear", ["bent", "y_scale", "y_zero"], ["y"]),
    ]
    run_both(nodes, {"a": a, "b": b}, weights, handlers=["chain"])
    run_both(nodes, {"a": a.T, "b": b}, weights, handlers=["chain"])
    run_both(nodes, {"a": a[:, ::-1, ::2], "b": b}, weights, handlers=["chain"])
    half = [node("Cast", ["a"], ["r"], to=1), node("Add", ["r", "b"], ["y"])]
    run_both(half, {"a": a, "b": reals(rng, 5, 37)}, {}, handlers=["chain"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_quantize_and_back(integers, dtype, axis):
    rng = np.random.default_rng(4)
    x = reals(rng, 3, 5, 33) * 20
    shape = () if axis is None else (x.shape[axis],)
    ends = np.iinfo(dtype)
    weights = {
        "scale": rng.uniform(0.01, 1, shape).astype(np.float32),
        "zero": rng.integers(ends.min, ends.max, shape, dtype, endpoint=True),
    }
    attributes = {} if axis is None else {"axis": axis}
    there = node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **attributes)
    back = node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **attributes)
    run_both([there, back], {"x": x}, weights, ["q", "y"], ["quantize_linear", "dequantize_linear"])
    x[0, 0, :3] = 1e30, -1e30, -0.0
    if axis in (None, -1):
        run_both([there, back], {"x": x.transpose(1, 0, 2)[::-1]}, weights, ["q", "y"])


def scaled(after, x_scale="x_scale"):
    """The nodes that a quantiser writes behind a product of integers."""
    return [
        node("Cast", ["total"], ["real"], to=1),
        node("Mul", [x_scale, "w_scale"], ["scales"]),
        node("Mul", ["real", "scales"], ["product" if after else "y"]),
        *([node("Add", ["b", "product"], ["y"])] if after else []),
    ]


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_dynamic_product_is_one_instruction(integers, by_column, after):
    rng = np.random.default_rng(5)
    for depth, columns, shape in [(24, 37, (2, 5)), (33, 16, (1,)), (6, 1, (7,))]:
        x = reals(rng, *shape, depth)
        weights = {
            "w": rng.integers(-128, 128, (depth, columns), np.int8),
            "w_zero": np.zeros((), np.int8),
            "w_scale": rng.uniform(0.01, 0.1, columns if by_column else ()).astype(np.float32),
            "b": reals(rng, columns),
        }
        nodes = [
            node("DynamicQuantizeLinear", ["x"], ["q", "x_scale", "x_zero"]),
            node("MatMulInteger", ["q", "w", "x_zero", "w_zero"], ["total"]),
            *scaled(after),
        ]
        run_both(nodes, {"x": x}, weights, handlers=["dynamic_quantize", "matmul_integer"])


def test_what_others_read_is_kept(integers):
    """Sums, or scales, that somebody else reads are values of the graph."""
    rng = np.random.default_rng(6)
    weights = {
        "w": rng.integers(0, 256, (12, 5), np.uint8),
        "w_zero": np.array(100, np.uint8),
        "w_scale": np.float32(0.3).reshape(()),
    }
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "x_scale", "x_zero"]),
        node("MatMulInteger", ["q", "w", "x_zero", "w_zero"], ["total"]),
        *scaled(False),
    ]
    x = reals(rng, 4, 12)
    for outputs in (["y", "total"], ["y", "scales"], ["y", "real"]):
        run_both(nodes, {"x": x}, weights, outputs)


def test_nothing_to_multiply():
    """A matrix without rows or columns stays with NumPy; no rows of x are nothing to do."""
    multiply = node("MatMulInteger", ["x", "w"], ["y"])
    for rows, depth, columns, handler in [
        (3, 0, 5, None),
        (3, 4, 0, None),
        (0, 4, 5, "matmul_integer"),
    ]:
        feed = {"x": np.ones((rows, depth), np.uint8)}
        model = model_bytes([multiply], feed, ["y"], {"w": np.ones((depth, columns), np.int8)})
        session = InferenceSession(model)
        assert session._plan.native.handlers == [handler]
        (y,) = session.run(None, feed)
        np.testing.assert_array_equal(y, np.full((rows, columns), depth))


WINDOWS = {
    "plain": ((2, 3, 9, 10), (4, 3, 3, 3), {}),
    "pointwise": ((2, 8, 5, 6), (5, 8, 1, 1), {}),
    "pads": ((1, 5, 9, 10), (4, 5, 3, 2), {"pads": [1, 0, 2, 1]}),
    "one axis": ((2, 4, 30), (35, 4, 5), {"strides": [2], "pads": [4, 0]}),
    "one axis, dilated": ((2, 4, 30), (3, 4, 5), {"dilations": [2], "pads": [4, 0]}),
    "three axes": ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"pads": [1, 0, 0, 0, 1, 1]}),
    "same upper": ((1, 3, 10, 11), (4, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    "same lower": ((1, 3, 10, 11), (4, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "valid": ((1, 3, 10, 11), (4, 3, 4, 3), {"auto_pad": "VALID"}),
    "depthwise": ((1, 6, 8, 9), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "groups": ((2, 8, 8, 9), (6, 4, 3, 3), {"group": 2}),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_convolutions(integers, name):
    shape, kernel, attributes = WINDOWS[name]
    rng = np.random.default_rng(7)
    channels = kernel[0]
    for x_type, w_type in TYPES:
        x_ends, w_ends = np.iinfo(x_type), np.iinfo(w_type)
        x = rng.integers(x_ends.min, x_ends.max, shape, x_type, endpoint=True)
        weights = {
            "w": rng.integers(w_ends.min, w_ends.max, kernel, w_type, endpoint=True),
            "x_zero": np.array(x_ends.max - 9, x_type),
            "w_zero": np.array(4, w_type),
        }
        names = ["x", "w", "x_zero", "w_zero"]
        conv = node("ConvInteger", names, ["y"], **attributes)
        run_both([conv], {"x": x}, weights, handlers=["conv_integer"])
        weights |= {
            "w_zero": rng.integers(0, 9, channels).astype(w_type),
            "x_scale": np.float32(0.02).reshape(()),
            "w_scale": rng.uniform(0.01, 0.1, channels).astype(np.float32),
            "y_scale": np.float32(0.2).reshape(()),
            "y_zero": np.array(100, x_type),
            "b": rng.integers(-999, 999, channels).astype(np.int32),
        }
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "b"]
        for count in (8, 9):
            conv = node("QLinearConv", names[:count], ["y"], **attributes)
            run_both([conv], {"x": x}, weights, handlers=["qlinear_conv"])


@pytest.mark.parametrize("name", WINDOWS)
def test_a_dynamic_convolution_is_one_instruction(integers, name):
    shape, kernel, attributes = WINDOWS[name]
    rng = np.random.default_rng(8)
    ones = (1,) * (len(shape) - 2)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "x_scale", "x_zero"]),
        node("ConvInteger", ["q", "w", "x_zero", "w_zero"], ["total"], **attributes),
        *scaled(True),
    ]
    for scales in ((), (1, kernel[0], *ones)):
        weights = {
            "w": rng.integers(-128, 128, kernel, np.int8),
            "w_zero": np.zeros((), np.int8),
            "w_scale": rng.uniform(0.01, 0.1, scales).astype(np.float32),
            "b": reals(rng, 1, kernel[0], *ones),
        }
        x = reals(rng, *shape)
        run_both(nodes, {"x": x}, weights, handlers=["dynamic_quantize", "conv_integer"])


@pytest.mark.parametrize("types", TYPES, ids=lambda t: f"{t[0].__name__}-{t[1].__name__}")
def test_qlinear_matmul(integers, types):
    rng = np.random.default_rng(9)
    a_type, b_type = types
    a = rng.integers(0, 120, (3, 4, 30)).astype(a_type)
    for columns in (1, 19, 70):
        for shape in ((), (columns,)):
            weights = {
                "a_scale": np.float32(0.01).reshape(()),
                "a_zero": np.array(11, a_type),
                "b": rng.integers(0, 120, (30, columns)).astype(b_type),
                "b_scale": rng.uniform(0.01, 0.1, shape).astype(np.float32),
                "b_zero": rng.integers(0, 99, shape).astype(b_type),
                "y_scale": np.float32(0.04).reshape(()),
                "y_zero": np.array(3, a_type),
            }
            names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
            multiply = node("QLinearMatMul", names, ["y"])
            run_both([multiply], {"a": a}, weights, handlers=["qlinear_matmul"])


def test_weights_between_quantise_nodes_are_real_from_the_start():
    """A constant DequantizeLinear is computed at load, however much wider its result is."""
    rng = np.random.default_rng(10)
    weights = {
        "w": rng.integers(-128, 128, (700, 900), np.int8),
        "w_scale": np.full(700, 0.01, np.float32),  # by row: no scales of an integer product's
        "scale": np.float32(0.05).reshape(()),
        "zero": np.array(128, np.uint8),
    }
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["r"]),
        node("DequantizeLinear", ["w", "w_scale"], ["real"], axis=0),
        node("MatMul", ["r", "real"], ["y"]),
    ]
    run_both(
        nodes,
        {"x": reals(rng, 2, 700)},
        weights,
        handlers=["chain", "matmul_known"],
    )
