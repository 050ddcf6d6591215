"""Operators that are registered as element-wise are so; what asks the registry knows new ones."""

import numpy as np
import pytest

import vledge
from tests.graph.models import helper, model_bytes, node, onnx, session
from vledge.formats.onnx.model import read
from vledge.graph.native.types import as_first_input
from vledge.graph.plan import NEWEST_OPSET, simplified
from vledge.graph.registry import pointwise_operators
from vledge.pieces import PIECE, in_pieces, in_slices, other_axes

FLOAT = onnx.TensorProto.FLOAT
RNG = np.random.default_rng(4)
NUMBERS = RNG.uniform(0.05, 0.95, (3, 4, 5)).astype(np.float32)
INPUTS = {
    "bool": NUMBERS > 0.5,
    "uint8": RNG.integers(0, 8, (3, 4, 5)).astype(np.uint8),
    "float32": NUMBERS,
}
KINDS = {
    **dict.fromkeys(("And", "Or", "Xor", "Not"), ("bool",)),
    **dict.fromkeys(
        ("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"), ("uint8",)
    ),
    "Where": ("bool", "float32", "float32"),
}
ATTRIBUTES = {"BitShift": {"direction": "LEFT"}, "Cast": {"to": 11}, "Mod": {"fmod": 1}}
SAME_SHAPE = ["SwiGLU"]  # they broadcast nothing


def inputs_of(op_type):
    """Arrays of (4, 5), and of (5,) for the last of several."""
    kinds = KINDS.get(op_type, ("float32",))
    if op_type in pointwise_operators().of_several and len(kinds) == 1:
        kinds = kinds * 2
    arrays = [INPUTS[kind][place] for place, kind in enumerate(kinds)]
    if len(arrays) > 1 and op_type not in SAME_SHAPE:
        arrays[-1] = arrays[-1][0]
    return arrays


def run(op_type, arrays):
    feed = {f"x{place}": array for place, array in enumerate(arrays)}
    only = node(op_type, list(feed), ["y"], **ATTRIBUTES.get(op_type, {}))
    (result,) = session([only], feed, ["y"], opset=NEWEST_OPSET).run(None, feed)
    return result


@pytest.mark.parametrize("op_type", sorted(set().union(*pointwise_operators())))
def test_an_element_is_made_of_those_at_its_place(op_type):
    arrays = inputs_of(op_type)
    whole = run(op_type, arrays)
    assert whole.shape == (4, 5)
    part = run(
        op_type, [array[..., 1:3, 2:4] if array.ndim > 1 else array[2:4] for array in arrays]
    )
    assert part.tobytes() == np.ascontiguousarray(whole[1:3, 2:4]).tobytes()
    assert as_first_input(op_type) <= (whole.dtype == arrays[0].dtype)


@pytest.mark.parametrize("op_type", ["Sin", "Gelu", "Mish", "Mean"])
def test_a_loop_s_product_behind_any_of_them_is_one_product(op_type):
    """A Scan of MatMul(op(x_t), W): all steps at once, without the loop."""
    weight = RNG.standard_normal((5, 6)).astype(np.float32)
    several = op_type in pointwise_operators().of_several
    body = helper.make_graph(
        [
            node(op_type, ["x_t", "bias"] if several else ["x_t"], ["bent"]),
            node("MatMul", ["bent", "weight"], ["y_t"]),
        ],
        "body",
        [helper.make_tensor_value_info("x_t", FLOAT, (4, 5))],
        [helper.make_tensor_value_info("y_t", FLOAT, (4, 6))],
    )
    constants = {"weight": weight, "bias": NUMBERS[0, 0]}
    model = model_bytes(
        [node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1)],
        {"x": NUMBERS},
        ["y"],
        constants,
        opset=NEWEST_OPSET,
    )
    assert {n.op_type for n in simplified(read(model)).graph.nodes} >= {"MatMul"}
    assert not {n.op_type for n in simplified(read(model)).graph.nodes} & {"Scan", "Loop"}
    (y,) = vledge.InferenceSession(model).run(None, {"x": NUMBERS})
    for step, x_t in enumerate(NUMBERS):
        bent = run(op_type, [x_t, constants["bias"]][: 1 + several])
        np.testing.assert_allclose(y[step], bent @ weight, rtol=0, atol=2e-6)


@pytest.mark.parametrize("op_type", sorted(pointwise_operators().of_one))
def test_large_arrays_in_pieces(op_type, monkeypatch):
    """By Python's operators, which take a large array piece by piece: the bits of small ones."""
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    kind = KINDS.get(op_type, ("float32",))[0]
    small = np.resize(INPUTS[kind], 1000)
    large = np.resize(small, (251, 1100))  # two pieces and some
    assert large.size > 2 * PIECE
    expected = np.resize(run(op_type, [small]), large.shape)
    assert run(op_type, [large]).tobytes() == expected.tobytes()


def test_pieces_of_arrays_of_any_order():
    calls = []

    def noted(x):
        calls.append(x.size)
        return np.tan(x)

    x = RNG.uniform(size=(4, PIECE)).astype(np.float32)
    for array in (x, x[:1], x.T, x[:0]):
        np.testing.assert_array_equal(in_pieces(noted)(array), np.tan(array))
    assert calls == [PIECE] * 4 + [PIECE] + [PIECE] * 4 + [0]
    calls.clear()
    assert in_pieces(lambda x: x)(x) is x


def test_pieces_of_several_arrays():
    calls = []

    def noted(*given):
        calls.append(given[0].size)
        return given[0] + (given[1] if given[1] is not None else 0)

    x = RNG.uniform(size=(4, PIECE)).astype(np.float32)
    for other in (x[::-1].copy(), np.float32(2), np.array(2, np.float32), None):
        expected = x + (0 if other is None else other)
        np.testing.assert_array_equal(in_pieces(noted)(x, other), expected)
    assert calls == [PIECE] * 16
    calls.clear()
    for other in (x[:1], x[:, :1], np.asfortranarray(x), np.ones(1, np.float32)):
        np.testing.assert_array_equal(in_pieces(noted)(x, other), x + other)
    assert calls == [PIECE] * 16
    calls.clear()
    row, column = x[:1], np.arange(4, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(in_pieces(noted)(column, row), column + row)
    assert len(calls) == 4
    with pytest.raises(ValueError, match="broadcast"):
        in_pieces(noted)(x, x[:3])


@pytest.mark.parametrize(
    "shape", [(5, 3, PIECE), (1, PIECE, 5), (PIECE, 9), (3, 1), (0, 5), (2, 0)]
)
def test_slices(shape):
    """The sums along the last axis of whatever part there is."""
    calls = []

    def noted(x):
        calls.append(x.size)
        return np.add.reduce(x, -1, keepdims=True)

    x = RNG.integers(0, 9, shape)
    result = in_slices(noted, x, other_axes(x.ndim, -1))
    np.testing.assert_array_equal(result, x.sum(-1, keepdims=True))
    if x.size > 2 * PIECE:
        assert max(calls) < 2 * PIECE
    else:
        assert calls == [x.size]


@pytest.mark.parametrize(
    ("op_type", "constants", "attributes"),
    [
        ("LRN", {}, {"size": 3}),
        ("LpPool", {}, {"kernel_shape": [3, 3]}),
        ("GlobalLpPool", {}, {}),
        ("LpNormalization", {}, {"axis": 1}),
        ("Hardmax", {}, {"axis": 2}),
        ("MeanVarianceNormalization", {}, {"axes": [2, 3]}),
        ("CumSum", {"axis": np.array(3)}, {"exclusive": 1, "reverse": 1}),
        ("Det", {}, {}),
        ("DFT", {}, {"axis": 1}),
    ],
)
def test_slices_are_what_the_whole_is(op_type, constants, attributes, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    x = RNG.uniform(size=(3, 4, 6, 6 if op_type != "DFT" else 2)).astype(np.float32)
    model = model_bytes(
        [node(op_type, ["x", *constants], ["y"], **attributes)], {"x": x}, ["y"], constants
    )
    (whole,) = vledge.InferenceSession(model).run(None, {"x": x})
    monkeypatch.setattr("vledge.pieces.PIECE", 7)
    (sliced,) = vledge.InferenceSession(model).run(None, {"x": x})
    assert sliced.dtype == whole.dtype
    np.testing.assert_allclose(sliced, whole, rtol=1e-5, atol=1e-5)
