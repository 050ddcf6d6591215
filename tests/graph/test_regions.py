"""NonMaxSuppression, RoiAlign, MaxRoiPool and MaxUnpool against onnxruntime and onnx."""

import numpy as np
import pytest

from tests.graph.test_sampling import agree, by_onnxruntime, by_reference
from tests.peers import peer

peer("onnx")
from tests.graph.models import node, session  # noqa: E402

SEEDS = range(25)


@pytest.mark.parametrize("seed", SEEDS)
def test_non_max_suppression(seed):
    rng = np.random.default_rng(seed)
    batch, classes, boxes = rng.integers(1, [3, 4, 40])
    scores = rng.uniform(size=(batch, classes, boxes)).round(1)  # with equal ones
    feeds = {
        "boxes": rng.uniform(size=(batch, boxes, 4)).astype(np.float32),
        "scores": scores.astype(np.float32),
        "most": rng.integers(0, 8, 1),
        "iou": rng.uniform(size=1).astype(np.float32),
    }
    if seed % 2:
        feeds["least"] = rng.uniform(0, 0.5, 1).astype(np.float32)
    attributes = {"center_point_box": int(rng.integers(2))}
    agree("NonMaxSuppression", feeds, attributes, 11, by_onnxruntime)


def test_boxes_without_an_area_and_numbers_that_are_none():
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, np.nan, 1], [2, 2, 1, 1]]], np.float32)
    scores = np.array([[[0.5, 0.9, 0.7, np.inf]]], np.float32)
    feeds = {"boxes": boxes, "scores": scores, "most": np.array([9]), "iou": np.float32([0])}
    found = agree("NonMaxSuppression", feeds, {}, 11)
    assert found.tolist() == [[0, 0, 3], [0, 0, 1], [0, 0, 2], [0, 0, 0]]


@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("seed", SEEDS)
def test_roi_align(seed, mode, coordinates):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 4))
    corner = rng.uniform(-2, 14, (count, 2))
    rois = np.concatenate([corner, corner + rng.uniform(0, 8, (count, 2))], 1)
    if seed % 7 == 0:  # from the far corner to the near one
        rois = rois[:, ::-1].copy()
    feeds = {
        "x": rng.normal(size=(2, 3, *rng.integers(1, 12, 2))).astype(np.float32),
        "rois": rois.astype(np.float32),
        "samples": rng.integers(0, 2, count),
    }
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "output_height": int(rng.integers(1, 4)),
        "output_width": int(rng.integers(1, 4)),
        "sampling_ratio": int(rng.integers(0, 4)),
        "spatial_scale": float(rng.choice([1.0, 0.5])),
    }
    agree("RoiAlign", feeds, attributes, 16, by_reference, by_onnxruntime)
    del attributes["coordinate_transformation_mode"]
    before = agree("RoiAlign", feeds, attributes, 10)
    if coordinates == "output_half_pixel":
        attributes["coordinate_transformation_mode"] = coordinates
        np.testing.assert_array_equal(before, agree("RoiAlign", feeds, attributes, 16))


@pytest.mark.parametrize("seed", SEEDS)
def test_max_roi_pool(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 4))
    corner = rng.integers(0, 9, (count, 2))
    rois = [rng.integers(0, 2, (count, 1)), corner, corner + rng.integers(0, 8, (count, 2))]
    feeds = {
        "x": rng.normal(size=(2, 3, *rng.integers(1, 12, 2))).astype(np.float32),
        "rois": np.concatenate(rois, 1).astype(np.float32),
    }
    attributes = {
        "pooled_shape": rng.integers(1, 4, 2).tolist(),
        "spatial_scale": float(rng.choice([1.0, 0.5, 0.3])),
    }
    agree("MaxRoiPool", feeds, attributes, 16, by_onnxruntime)


@pytest.mark.parametrize("seed", SEEDS)
def test_max_unpool(seed):
    """Of what a MaxPool has taken."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    kernel = rng.integers(1, 4, rank)
    sizes = kernel * rng.integers(1, 4, rank)
    x = rng.normal(size=(2, 2, *sizes)).astype(np.float32)
    windows = {"kernel_shape": kernel.tolist(), "strides": kernel.tolist()}
    pool = session([node("MaxPool", ["x"], ["y", "i"], **windows)], {"x": x}, ["y", "i"])
    maxima, places = pool.run(None, {"x": x})
    feeds = {"maxima": maxima, "places": places}
    whole = agree("MaxUnpool", feeds, windows, 11, by_reference, by_onnxruntime)
    assert whole.shape == x.shape
    np.testing.assert_array_equal(whole, np.where(whole, x, 0))
    feeds["shape"] = np.array([2, 2, *(sizes + rng.integers(0, 3, rank))])
    agree("MaxUnpool", feeds, windows, 11, by_reference)


BOXES = {
    "boxes": np.zeros((1, 5, 4), np.float32),
    "scores": np.zeros((1, 2, 5), np.float32),
    "most": np.array([3]),
    "iou": np.float32([0.5]),
}
REGIONS = {
    "x": np.zeros((1, 2, 5, 5), np.float32),
    "rois": np.zeros((3, 4), np.float32),
    "samples": np.zeros(3, np.int64),
}
MAXIMA = {"x": np.zeros((1, 1, 2, 2), np.float32), "places": np.zeros((1, 1, 2, 2), np.int64)}
WINDOWS = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.mark.parametrize(
    ("op_type", "feeds", "attributes", "message"),
    [
        ("NonMaxSuppression", BOXES | {"boxes": np.zeros((1, 5, 3), np.float32)}, {}, "boxes has"),
        (
            "NonMaxSuppression",
            BOXES | {"scores": np.zeros((1, 2, 4), np.float32)},
            {},
            "scores has",
        ),
        ("NonMaxSuppression", BOXES | {"iou": np.float32([2])}, {}, "iou_threshold is 2"),
        ("NonMaxSuppression", BOXES | {"most": np.array([3, 4])}, {}, "max_output_boxes_per_class"),
        (
            "RoiAlign",
            REGIONS | {"samples": np.array([0, 0, 1])},
            {},
            "sample outside of the 1 of X",
        ),
        ("RoiAlign", REGIONS | {"samples": np.array([0, 0, -1])}, {}, "sample outside of the 1"),
        ("RoiAlign", REGIONS | {"rois": np.full((3, 4), np.nan, np.float32)}, {}, "not finite"),
        ("RoiAlign", REGIONS | {"rois": np.zeros((3, 5), np.float32)}, {}, "rois has the shape"),
        ("RoiAlign", REGIONS, {"mode": "sum"}, "mode is 'sum'"),
        ("RoiAlign", REGIONS, {"output_height": 0}, "expected 1 or more"),
        ("MaxUnpool", MAXIMA | {"places": np.full((1, 1, 2, 2), 16)}, WINDOWS, "indices outside"),
        ("MaxUnpool", MAXIMA | {"places": np.full((1, 1, 2, 2), -1)}, WINDOWS, "indices outside"),
        ("MaxUnpool", MAXIMA | {"shape": np.array([1, 1, 3, 9])}, WINDOWS, "output_shape is"),
        ("MaxUnpool", MAXIMA, {"kernel_shape": [2]}, "with 3 axes"),
    ],
)
def test_what_does_not_fit_is_told(op_type, feeds, attributes, message):
    nodes = [node(op_type, list(feeds), ["y"], "here", **attributes)]
    with pytest.raises(Exception, match=rf"node 'here' \({op_type}\): .*{message}"):
        session(nodes, feeds, ["y"], opset=16).run(None, feeds)
