"""Pools whose windows are long and overlap: by doubling, and not by the native handler."""

import time

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node, session
from tests.peers import peer
from vledge.convolution import windows


@pytest.mark.parametrize("ufunc", [np.maximum, np.add])
@pytest.mark.parametrize("kernel", [*range(1, 18), 31, 32, 33, 59])
def test_doubling_is_what_taps_are(ufunc, kernel):
    rng = np.random.default_rng(kernel)
    for _ in range(20):
        stride, dilation = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        length = (kernel - 1) * dilation + 1 + int(rng.integers(0, 40))
        x = rng.integers(-50, 50, (2, 3, length, 2)).astype(np.float32)
        (count,) = windows.window_of([kernel], [stride], [dilation]).steps([length])
        slide = windows.Slide(kernel, count, stride, dilation)
        want = windows._by_taps(x, 2, slide, ufunc)
        before = x.copy()
        assert np.array_equal(windows._by_doubling(x, 2, slide, ufunc), want)
        assert np.array_equal(x, before)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [40, 33]},
        {"kernel_shape": [40, 33], "pads": [20, 3, 7, 16]},
        {"kernel_shape": [50, 20], "strides": [1, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [37, 41], "strides": [2, 1], "ceil_mode": 1},
        {"kernel_shape": [25, 18], "dilations": [2, 3]},
    ],
)
def test_as_onnxruntime_has_it(op_type, attributes):
    onnxruntime = peer("onnxruntime")
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 70)).astype(np.float32)
    model = model_bytes([node(op_type, ["x"], ["y"], **attributes)], {"x": x}, ["y"], opset=19)
    want = onnxruntime.InferenceSession(model).run(None, {"x": x})[0]
    ours = vledge.InferenceSession(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(ours, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
def test_time_does_not_grow_with_the_window(op_type):
    x = np.ones((1, 1, 700, 700), np.float32)
    ours = session([node(op_type, ["x"], ["y"], kernel_shape=[350, 350])], {"x": x}, ["y"])
    begin = time.thread_time()
    (y,) = ours.run(None, {"x": x})
    assert time.thread_time() - begin < 2  # by windows: 15 thousand million elements, 3 s and more
    assert y.shape == (1, 1, 351, 351)
    assert np.allclose(y, 350 if op_type == "LpPool" else 1)


@pytest.mark.parametrize("size", [1, 2, 5, 128, 129, 200, 299, 300, 601, 2**31])
def test_normalization_over_many_channels(size):
    x = np.random.default_rng(0).standard_normal((2, 300, 7)).astype(np.float32)
    ours = session([node("LRN", ["x"], ["y"], size=size, alpha=3.0)], {"x": x}, ["y"])
    squares = np.square(x.astype(np.float64))
    sums = [squares[:, max(c - (size - 1) // 2, 0) : c + size // 2 + 1].sum(1) for c in range(300)]
    want = x / (1 + 3 / size * np.stack(sums, 1)) ** 0.75
    np.testing.assert_allclose(ours.run(None, {"x": x})[0], want, rtol=2e-5)
