"""Conv in every form, against onnxruntime."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.test_passes import operators, same_as_onnxruntime
from vledge.errors import FormatError

FORMS = {
    "one axis": ((2, 3, 11), (4, 3, 3), {}),
    "strides and pads": ((2, 3, 11), (4, 3, 3), {"strides": [2], "pads": [2, 1]}),
    "dilation": ((1, 3, 11), (4, 3, 3), {"dilations": [2], "pads": [1, 1]}),
    "pointwise": ((2, 3, 11), (5, 3, 1), {}),
    "pointwise, strided": ((2, 3, 11), (5, 3, 1), {"strides": [3]}),
    "one channel": ((2, 1, 40), (7, 1, 16), {"strides": [4]}),
    "two axes": ((2, 3, 8, 9), (4, 3, 3, 2), {"pads": [1, 0, 1, 1]}),
    "two axes, a run": ((2, 3, 8, 9), (4, 3, 1, 3), {"strides": [2, 2], "pads": [0, 1, 0, 1]}),
    "two axes, pointwise": ((2, 3, 8, 9), (4, 3, 1, 1), {}),
    "two axes, along the first": ((2, 3, 8, 9), (4, 3, 3, 1), {"dilations": [2, 1]}),
    "three axes": ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), {}),
    "groups": ((2, 4, 11), (6, 2, 3), {"group": 2, "pads": [1, 1]}),
    "groups of two axes": ((2, 2, 8, 9), (6, 1, 3, 3), {"group": 2}),
    "depthwise": ((2, 5, 11), (5, 1, 3), {"group": 5, "strides": [2], "pads": [1, 1]}),
    "depthwise, two axes": ((1, 20, 8, 9), (20, 1, 3, 3), {"group": 20, "dilations": [2, 1]}),
    "depthwise, more outputs": ((2, 3, 11), (6, 1, 3), {"group": 3}),
    "same": ((2, 3, 10), (4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [3]}),
    "same, beyond the kernel": ((1, 3, 9), (4, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [5]}),
    "same, lower, beyond": ((1, 3, 8), (4, 3, 1), {"auto_pad": "SAME_LOWER", "strides": [3]}),
    "narrow": ((1, 96, 40, 41), (24, 96, 1, 1), {}),
    "narrower than a vector": ((1, 16, 20, 21), (8, 16, 2, 2), {"pads": [0, 0, 1, 1]}),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, bias):
    x_shape, w_shape, attributes = FORMS[form]
    rng = np.random.default_rng(len(form))
    x, w = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in (x_shape, w_shape))
    weights = {"w": w}
    if bias:
        weights["b"] = rng.uniform(-1, 1, w_shape[0]).astype(np.float32)
    conv = node("Conv", ["x", *weights], ["y"], **attributes)
    model = model_bytes([conv], {"x": x}, ["y"], weights)
    same_as_onnxruntime(model, {"x": x}, 5e-6)
    again = vledge.InferenceSession(model)
    first = again.run(None, {"x": x})[0]
    longer = rng.uniform(-1, 1, (*x_shape[:2], x_shape[2] + 2, *x_shape[3:])).astype(np.float32)
    again.run(None, {"x": longer})  # another shape in between
    assert np.array_equal(again.run(None, {"x": x})[0], first)
    if "SAME" not in attributes.get("auto_pad", ""):
        whole = model_bytes([conv], {"x": x, **weights}, ["y"])  # weights that arrive with x
        assert np.array_equal(
            vledge.InferenceSession(whole).run(None, {"x": x, **weights})[0], first
        )


@pytest.mark.parametrize("known", [True, False])
def test_an_output_padding_below_0_is_refused(known):
    x, w = np.ones((1, 2, 5), np.float32), np.ones((2, 3, 3), np.float32)
    one = node("ConvTranspose", ["x", "w"], ["y"], strides=[2], output_padding=[-1])
    feed = {"x": x} if known else {"x": x, "w": w}
    model = model_bytes([one], feed, ["y"], {"w": w} if known else {})
    with pytest.raises(FormatError, match=r"output_padding is \[-1\], expected none below 0"):
        vledge.InferenceSession(model).run(None, feed)


def test_large_inputs_in_blocks():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 8, 120, 100)).astype(np.float32)
    w = rng.uniform(-1, 1, (9, 8, 3, 3)).astype(np.float32)
    model = model_bytes([node("Conv", ["x", "w"], ["y"])], {"x": x}, ["y"], {"w": w})
    same_as_onnxruntime(model, {"x": x}, 1e-5)


def test_relu_is_done_with_its_conv():
    rng = np.random.default_rng(1)
    x, w = (rng.uniform(-1, 1, s).astype(np.float32) for s in ((1, 3, 9), (3, 3, 3)))
    feed, weights = {"x": x}, {"w": w}
    pair = [node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"])]
    model = model_bytes(pair, feed, ["y"], weights)
    assert operators(model) == ["ConvRelu"]
    same_as_onnxruntime(model, feed)
    for nodes, outputs in (
        (pair, ["y", "c"]),  # what is between is asked for
        ([*pair, node("Add", ["c", "y"], ["z"])], ["z"]),  # or read once more
    ):
        model = model_bytes(nodes, feed, outputs, weights)
        assert operators(model)[:2] == ["Conv", "Relu"]
        same_as_onnxruntime(model, feed)


@pytest.mark.parametrize("pads", [[2**63 - 1, 0] * 2, [0, 2**63 - 1] * 2, [2**62] * 4], ids=str)
@pytest.mark.parametrize(
    "op_type", ["AveragePool", "Conv", "ConvInteger", "ConvTranspose", "MaxPool"]
)
def test_pads_whose_sums_are_no_integer_are_refused(op_type, pads):
    x, w = np.ones((1, 3, 9, 11)), np.ones((3, 3, 3, 2))
    dtypes = (np.uint8, np.int8) if op_type == "ConvInteger" else (np.float32, np.float32)
    feeds = {"x": x.astype(dtypes[0])}
    if op_type.endswith("Pool"):
        one = node(op_type, ["x"], ["y"], kernel_shape=[3, 2], pads=pads)
    else:
        one = node(op_type, ["x", "w"], ["y"], pads=pads)
    constants = {"w": w.astype(dtypes[1])} if len(one.input) > 1 else {}
    with pytest.raises(FormatError, match=rf"{op_type} node that makes 'y': pads .* too large"):
        vledge.InferenceSession(model_bytes([one], feeds, ["y"], constants, 13)).run(None, feeds)
