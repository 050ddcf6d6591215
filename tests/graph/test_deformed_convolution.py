"""DeformConv beside onnxruntime's: random windows, groups, offsets within and outside of images."""

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge import InferenceSession

onnxruntime = peer("onnxruntime")


@pytest.mark.parametrize("seed", range(30))
def test_as_onnxruntime(seed):
    rng = np.random.default_rng(seed)
    samples, group, offset_group = (int(n) for n in rng.integers(1, 4, 3))
    channels = group * offset_group * int(rng.integers(1, 3))
    kernel, steps, apart = rng.integers(1, 4, 2), rng.integers(1, 3, 2), rng.integers(1, 3, 2)
    pads = rng.integers(0, 3, 4)
    size = apart * (kernel - 1) + 1 + rng.integers(0, 6, 2)
    out = (size + pads[:2] + pads[2:] - apart * (kernel - 1) - 1) // steps + 1
    taps = offset_group * int(kernel.prod())

    def reals(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    arrays = {
        "x": reals(samples, channels, *size),
        "w": reals(group * int(rng.integers(1, 4)), channels // group, *kernel),
        "offset": rng.uniform(0.5, 6) * reals(samples, 2 * taps, *out),
    }
    arrays["offset"] = arrays["offset"].astype(np.float32)
    if rng.random() < 0.5:  # whole ones: right on elements and on the edge
        arrays["offset"] = np.round(arrays["offset"])
    names = ["x", "w", "offset", "", ""]
    if rng.random() < 0.5:
        arrays["b"], names[3] = reals(len(arrays["w"])), "b"
    if rng.random() < 0.5:
        arrays["mask"], names[4] = reals(samples, taps, *out), "mask"
    while not names[-1]:
        names.pop()
    given = {
        "group": group,
        "offset_group": offset_group,
        "pads": pads.tolist(),
        "strides": steps.tolist(),
        "dilations": apart.tolist(),
        "kernel_shape": kernel.tolist(),
    }
    one = node("DeformConv", names, ["y"], **given)
    model = model_bytes([one], arrays, ["y"], opset=19)
    (ours,) = InferenceSession(model).run(None, arrays)
    (theirs,) = onnxruntime.InferenceSession(model).run(None, arrays)
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        (
            {"offset": np.zeros((1, 18, 3, 4), np.float32)},
            {},
            r"offset has the shape .*\(1, 18, 3, 3\)",
        ),
        ({}, {"group": 2}, "X has 1 channels"),
        ({}, {"strides": [0, 1]}, "strides is"),
        ({}, {"kernel_shape": [2, 2]}, "kernel_shape is"),
    ],
)
def test_what_does_not_fit_is_said(changes, given, message):
    arrays = {
        "x": np.zeros((1, 1, 5, 5), np.float32),
        "w": np.zeros((1, 1, 3, 3), np.float32),
        "offset": np.zeros((1, 18, 3, 3), np.float32),
    } | changes
    one = node("DeformConv", list(arrays), ["y"], "mine", **given)
    with pytest.raises(ValueError, match=f"node 'mine'.*{message}"):
        InferenceSession(model_bytes([one], arrays, ["y"], opset=19)).run(None, arrays)
