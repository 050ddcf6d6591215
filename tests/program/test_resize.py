"""Resize natively beside the Python operator, bit for bit: modes, coordinates, layouts, sizes."""

import numpy as np
import pytest

import vledge
from tests.peers import peer

peer("onnx")
from tests.graph.models import model_bytes, node  # noqa: E402
from tests.program.test_agreement import run_both, strided  # noqa: E402

COORDINATES = [
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_half_pixel_for_nn",
]
NEAREST = ["ceil", "floor", "round_prefer_ceil", "round_prefer_floor"]
SCALES = np.array([0.3, 0.5, 0.75, 1, 1.25, 2, 3, 3.7], np.float32)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("seed", range(8))
def test_modes(mode, coordinates, seed):
    rng = np.random.default_rng([seed, COORDINATES.index(coordinates)])
    rank = int(rng.integers(1, 5))
    dtype = np.float32
    if mode == "nearest":
        dtype = rng.choice([np.float32, np.int64, np.uint8, np.float64, np.float16, np.bool_])
    x = strided(rng, list(rng.integers(4, 9, rank)), dtype)
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = str(rng.choice(NEAREST))
    elif rng.random() < 0.5:
        attributes["exclude_outside"] = 1
    if mode == "cubic" and rng.random() < 0.5:
        attributes["cubic_coeff_a"] = -0.5
    over = list(range(rank))
    if rng.random() < 0.5:
        over = [int(axis) for axis in rng.permutation(rank)[: rng.integers(1, rank + 1)]]
        attributes["axes"] = over
    if rng.random() < 0.5:
        arrays = [x, None, rng.choice(SCALES, len(over))]
    else:
        arrays = [x, None, None, rng.integers(1, 20, len(over))]
    run_both("Resize", arrays, attributes)


@pytest.mark.parametrize(("op_type", "opset"), [("Resize", 10), ("Upsample", 9)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_before_operator_set_11(op_type, opset, mode):
    rng = np.random.default_rng(2)
    x = strided(rng, [2, 3, 5, 7], np.float32)
    for scales in ([1, 1, 2, 3], [1, 1, 0.5, 1.5], [1, 1, 1, 1]):
        run_both(op_type, [x, np.array(scales, np.float32)], {"mode": mode}, opset=opset)


@pytest.mark.parametrize("channels", [3, 4, 24, 200])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_channels_last(mode, channels):
    """Up along one axis and down along the other: what is on the way is larger than both ends."""
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((2, 6, 9, channels)).astype(np.float32).transpose(0, 3, 1, 2)
    for scales in ([1, 1, 2, 2], [1, 1, 0.5, 3], [1, 1, 3, 0.25], [1, 1, 1, 2], [1, 1, 1, 1]):
        run_both("Resize", [x, None, np.array(scales, np.float32)], {"mode": mode})


def test_what_is_left_to_the_reference():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 2, 6, 6)).astype(np.float32)
    scales = np.array([1, 1, 2, 2], np.float32)
    for attributes in (
        {"mode": "cubic", "antialias": 1},
        {"mode": "linear", "antialias": 1},
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ):
        roi = np.zeros(8, np.float32)
        roi[4:] = 1
        run_both("Resize", [x, roi, scales], attributes, declines=True)
    sizes = np.array([1, 2, 9, 12])
    policy = {"keep_aspect_ratio_policy": "not_larger", "mode": "linear"}
    run_both("Resize", [x, None, None, sizes], policy, declines=True)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sizes_that_no_array_has_are_refused(mode):
    x = np.ones((2, 2, 4, 4), np.float32)
    for inputs, given in (
        (["x", "", "s"], np.array([1, 1, -1, 2], np.float32)),
        (["x", "", "s"], np.array([1, 1, 0, 2], np.float32)),
        (["x", "", "s"], np.array([1, 1, np.nan, 2], np.float32)),
        (["x", "", "", "s"], np.array([1, 1, -3, 2])),
    ):
        resize = node("Resize", inputs, ["y"], mode=mode)
        session = vledge.InferenceSession(model_bytes([resize], {"x": x}, ["y"], {"s": given}, 13))
        with pytest.raises(ValueError, match=r"Resize node that makes 'y': (scales|sizes) has"):
            session.run(None, {"x": x})
