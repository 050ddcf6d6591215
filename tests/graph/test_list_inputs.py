"""Scalars where a list is expected: taken where onnxruntime takes them, else refused by name."""

import re

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.peers import peer

ONE, TWO = np.int64(1), np.int64(2)

# operator, opset, the input's shape, the other inputs, how many outputs
TAKEN = {
    "Expand": ("Expand", 13, (2, 1), {"shape": np.int64(3)}, 1),
    "Unsqueeze": ("Unsqueeze", 13, (2, 3), {"axes": ONE}, 1),
    "CenterCropPad": ("CenterCropPad", 18, (3,), {"shape": TWO}, 1),
    "Compress": ("Compress", 11, (3,), {"condition": np.array(True)}, 1),
    "Resize by scales": ("Resize", 13, (3,), {"roi": None, "scales": np.float32(2)}, 1),
    "Resize by sizes": ("Resize", 13, (3,), {"roi": None, "scales": None, "sizes": TWO}, 1),
    "Upsample": ("Upsample", 9, (3,), {"scales": np.float32(2)}, 1),
    "TopK by a list": ("TopK", 11, (3,), {"k": np.array([2])}, 1),
    "CumSum by a list": ("CumSum", 14, (2, 3), {"axis": np.array([1])}, 1),
}
REFUSED = {
    "Reshape": ("Reshape", 13, (2, 3), {"shape": np.int64(6)}, 1),
    "Reshape by a matrix": ("Reshape", 13, (2, 3), {"shape": np.array([[6]])}, 1),
    "ReduceSum": ("ReduceSum", 13, (2, 3), {"axes": ONE}, 1),
    "Split": ("Split", 13, (4, 3), {"split": TWO}, 2),
    "Split into one": ("Split", 13, (2, 3), {"split": TWO}, 1),
    "Tile": ("Tile", 13, (3,), {"repeats": TWO}, 1),
    "Tile by too few": ("Tile", 13, (2, 3), {"repeats": np.array([2])}, 1),
    "Pad": ("Pad", 13, (3,), {"pads": TWO}, 1),
    "Pad on an axis": ("Pad", 18, (3,), {"pads": np.array([1, 1]), "v": None, "axes": ONE - 1}, 1),
    **{
        f"Reduce{kind}": (f"Reduce{kind}", 18, (2, 3), {"axes": ONE}, 1)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
}


def model(op_type, opset, shape, others, outputs, constant):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    given = {name: np.asarray(array) for name, array in others.items() if array is not None}
    feed = {"x": x}
    names = ["x", *(name if array is not None else "" for name, array in others.items())]
    made = [f"y{index}" for index in range(outputs + (op_type == "TopK"))]
    nodes = [node(op_type, names, made, name="the node")]
    inputs = feed if constant else feed | given
    data = model_bytes(nodes, inputs, made[:1], given if constant else {}, opset=opset)
    return data, inputs


def theirs(data, feed):
    ort = peer("onnxruntime")
    ort.set_default_logger_severity(4)
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feed)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "input"])
@pytest.mark.parametrize("case", TAKEN)
def test_taken(case, constant):
    data, feed = model(*TAKEN[case], constant)
    ours = vledge.InferenceSession(data).run(None, feed)
    wanted = theirs(*model(*TAKEN[case], True))  # an input that is declared a scalar it refuses
    np.testing.assert_array_equal(ours[0], wanted[0])


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "input"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, constant):
    data, feed = model(*REFUSED[case], constant)
    with pytest.raises(Exception):  # noqa: B017
        theirs(data, feed)
    op_type, *_, others, _ = REFUSED[case]
    names = "|".join(others)
    with pytest.raises(ValueError, match=rf"node 'the node' \({op_type}\): ({names}) (is|has) "):
        vledge.InferenceSession(data).run(None, feed)


def test_a_float_is_no_axis():
    data, _ = model("ReduceSum", 13, (2, 3), {"axes": np.array([1.0])}, 1, True)
    message = re.escape(
        "node 'the node' (ReduceSum): axes has the dtype float64, expected integers"
    )
    with pytest.raises(vledge.FormatError, match=message):
        vledge.InferenceSession(data)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("samples", [2, 16])
def test_stft_of_a_signal_without_an_axis_for_its_parts(samples, onesided):
    """[B, L] is real, also where L is 2; as torch's exporter writes it."""
    x = np.random.default_rng(0).standard_normal((3, samples)).astype(np.float32)
    given = {"step": np.array(1), "window": np.array([0.5, 1], np.float32), "length": np.array(2)}
    nodes = [node("STFT", ["x", *given], ["y"], onesided=onesided)]
    data = model_bytes(nodes, {"x": x}, ["y"], given)
    (ours,) = vledge.InferenceSession(data).run(None, {"x": x})
    (wanted,) = theirs(data, {"x": x})
    np.testing.assert_allclose(ours, wanted, atol=1e-6)
    with pytest.raises(ValueError, match=r"\(STFT\) *.*|STFT node.*expected \[B, L, 1 or 2\]"):
        vledge.InferenceSession(model_bytes(nodes, {"x": x[0]}, ["y"], given)).run(
            None, {"x": x[0]}
        )


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("shape", [(5,), (2, 5), (3, 5, 2), (0, 5), (5, 0), (0,)], ids=str)
@pytest.mark.parametrize("k", [0, 1, 3])
def test_top_k_of_any_shape(shape, k, largest):
    """Ties go to the lower index."""
    x = np.random.default_rng(0).integers(0, 3, shape).astype(np.float32)
    x[x == 2] = np.nan if x.ndim == 3 else 2
    axis = shape.index(5) if 5 in shape else 0
    if k > shape[axis]:
        pytest.skip("K is more than there is")
    nodes = [node("TopK", ["x", "k"], ["v", "i"], axis=axis, largest=largest)]
    session = vledge.InferenceSession(
        model_bytes(nodes, {"x": x}, ["v", "i"], {"k": np.array([k])})
    )
    values, indices = session.run(None, {"x": x})
    wanted = np.argsort(-x if largest else x, axis, kind="stable")
    if not np.isnan(x).any():
        np.testing.assert_array_equal(indices, wanted.take(range(k), axis))
    np.testing.assert_array_equal(values, np.take_along_axis(x, indices, axis))
    assert indices.dtype == np.int64


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((3, 1), [4]), ((1,), [2, 3]), ((2, 1, 3), [1, 5, 1]), ((), [2, 2]), ((2, 3), [1]),
        ((1, 3), [0, 1]), ((0, 1), [1, 4]), ((3, 1), [3, 2000]), ((2, 3), []),
    ],
)  # fmt: skip
def test_expand_to_any_shape(shape, wanted):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    sizes = np.broadcast_shapes(shape, tuple(wanted))
    nodes, known = [node("Expand", ["x", "s"], ["y"])], {"s": np.array(wanted, np.int64)}
    (y,) = vledge.InferenceSession(model_bytes(nodes, {"x": x}, ["y"], known)).run(None, {"x": x})
    np.testing.assert_array_equal(y, np.broadcast_to(x, sizes))
    assert y.flags.writeable


@pytest.mark.parametrize("wanted", [[2], [3, 4], [-1, 3], [2, 0]], ids=str)
def test_what_does_not_broadcast_is_refused(wanted):
    nodes, known = [node("Expand", ["x", "s"], ["y"], name="n")], {"s": np.array(wanted)}
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"node 'n' \(Expand\): an input of the shape \(2, 3\)"):
        vledge.InferenceSession(model_bytes(nodes, {"x": x}, ["y"], known)).run(None, {"x": x})
