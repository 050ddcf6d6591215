"""DynamicQuantizeLSTM, as onnxruntime's quantize_dynamic writes it, against onnxruntime itself."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.test_recurrent import HIDDEN, UNSORTED, make_inputs, make_model
from tests.peers import peer
from vledge.graph.plan import Plan
from vledge.graph.session import read_model
from vledge.validation.running.saturation import saturating_plan, unsaturated

onnxruntime = peer("onnxruntime")
quantization = peer("onnxruntime.quantization")
onnx = peer("onnx")


def quantized(tmp_path, inputs, attributes, weight_type, per_channel):
    model, feed = make_model("LSTM", inputs, attributes)
    (tmp_path / "float.onnx").write_bytes(model)
    quantization.quantize_dynamic(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        weight_type=getattr(quantization.QuantType, weight_type),
        per_channel=per_channel,
    )
    return str(tmp_path / "int8.onnx"), feed


def exact_session(path):
    """onnxruntime on the same weights as uint8, whose sums no CPU saturates."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # with more, it quantizes each thread's rows by themselves
    proto = onnx.load(path)
    signed = any(t.data_type == onnx.TensorProto.INT8 for t in proto.graph.initializer)
    assert unsaturated(proto) == (4 if signed else 0)  # W, R and their zero points
    return onnxruntime.InferenceSession(proto.SerializeToString(), options)


@pytest.mark.parametrize("lengths", [None, UNSORTED], ids=["full", "unsorted"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weight_type", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("variant", [{}, {"clip": 0.5}, {"input_forget": 1}, {"P": True}], ids=str)
def test_exactly_as_onnxruntime(tmp_path, variant, direction, weight_type, per_channel, lengths):
    attributes = {k: v for k, v in variant.items() if k != "P"} | {"direction": direction}
    inputs = make_inputs("LSTM", direction, states=True, lengths=lengths, peepholes="P" in variant)
    path, feed = quantized(tmp_path, inputs, attributes, weight_type, per_channel)
    expected = exact_session(path).run(None, feed)
    actual = vledge.InferenceSession(path).run(None, feed)
    for ours, reference in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=0, atol=2e-6)


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_model_of_saturation(tmp_path, per_channel):
    """onnxruntime on int8 weights is exact with VNNI, and as `saturating_plan` without it."""
    inputs = make_inputs("LSTM", lengths=UNSORTED)
    path, feed = quantized(tmp_path, inputs, {}, "QInt8", per_channel)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    default = onnxruntime.InferenceSession(path, options).run(None, feed)
    model = read_model(path)

    def apart(plan):
        actual = plan.run(*(feed[name] for name in plan.inputs))
        return max(np.abs(a - b).max() for a, b in zip(actual, default, strict=True))

    nearest, other = sorted([apart(Plan(model, {})), apart(saturating_plan(model))])
    assert nearest < 2e-6
    assert other > 0.01


def test_near_the_float_model(tmp_path):
    inputs = make_inputs("LSTM", lengths=UNSORTED)
    path, feed = quantized(tmp_path, inputs, {}, "QInt8", True)
    exact = vledge.InferenceSession(str(tmp_path / "float.onnx")).run(None, feed)
    actual = vledge.InferenceSession(path).run(None, feed)
    errors = [np.abs(a - b).max() for a, b in zip(actual, exact, strict=True)]
    assert 1e-5 < max(errors) < 0.05


def test_more_than_float32_can_hold_is_still_exact():
    """300 features at the ends of their range: the integers sum beyond float32's 24 bits."""
    features = 300
    w = np.full((1, features, 4 * HIDDEN), 255, np.uint8)
    w[:, ::2] = 254
    arrays = {
        "W": w,
        "R": np.zeros((1, HIDDEN, 4 * HIDDEN), np.uint8),
        "ws": np.full(1, 1e-5, np.float32),
        "wz": np.zeros(1, np.uint8),
        "rs": np.ones(1, np.float32),
        "rz": np.zeros(1, np.uint8),
    }
    names = ["X", "W", "R", "", "", "", "", "", "ws", "wz", "rs", "rz"]
    lstm = node("DynamicQuantizeLSTM", names, ["Y"], domain="com.microsoft", hidden_size=HIDDEN)
    x = np.linspace(0.5, 1, features, dtype=np.float32).reshape(1, 1, features)
    model = model_bytes([lstm], {"X": x}, ["Y"], arrays, domains=["com.microsoft"])
    (actual,) = vledge.InferenceSession(model).run(None, {"X": x})
    (expected,) = onnxruntime.InferenceSession(model).run(None, {"X": x})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
    assert actual.any()


def test_wrong_zero_points_are_refused(tmp_path):
    path, _ = quantized(tmp_path, make_inputs("LSTM"), {}, "QInt8", False)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if "zero_point" in tensor.name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([3], np.int8), tensor.name))
    with pytest.raises(vledge.FormatError, match=r"DynamicQuantizeLSTM.*zero point must be 0"):
        vledge.InferenceSession(model.SerializeToString())
