"""GridSample, AffineGrid and RotaryEmbedding against onnx's reference and onnxruntime."""

import numpy as np
import pytest

from tests.peers import peer

onnx = peer("onnx")
from onnx.reference import ReferenceEvaluator  # noqa: E402

from tests.graph.models import node, proto, session  # noqa: E402

SEEDS = range(8)
PADDINGS = ("zeros", "border", "reflection")


def by_reference(model, feeds):
    return ReferenceEvaluator(model).run(None, feeds)[0]


def by_onnxruntime(model, feeds):
    given = peer("onnxruntime").InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return given.run(None, feeds)[0]


def agree(op_type, feeds, attributes, opset, *judges, tolerance=2e-5):
    nodes = [node(op_type, list(feeds), ["y"], **attributes)]
    model = proto(nodes, feeds, ["y"], opset=opset)
    (ours,) = session(nodes, feeds, ["y"], opset=opset).run(None, feeds)
    for judge in judges:
        theirs = judge(model, feeds)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=20 * tolerance, atol=tolerance)
    return ours


def image_and_grid(seed, rank, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 2, *rng.integers(1 if seed % 4 == 0 else 2, 5, rank)))
    grid = rng.uniform(-1.6, 1.6, (2, *rng.integers(1, 4, rank), rank))
    return {"x": x.astype(dtype), "grid": grid.astype(dtype)}


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_grid_sample(rank, mode, padding, align_corners):
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align_corners}
    for seed in SEEDS if rank == 2 else SEEDS[:2]:
        feeds = image_and_grid(seed, rank)
        single = 1 in feeds["x"].shape[2:]  # the reference divides by 0 there
        judges = []
        if not single and (mode, padding) != ("cubic", "border"):
            judges.append(by_reference)
        if rank == 2 or (rank == 3 and mode != "cubic"):
            judges.append(by_onnxruntime)
        if not (single and padding == "reflection" and align_corners):
            agree("GridSample", feeds, attributes, 20, *judges)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_grid_sample_before_version_20(mode):
    for padding in PADDINGS:
        attributes = {"mode": mode, "padding_mode": padding}
        agree("GridSample", image_and_grid(1, 2), attributes, 16, by_onnxruntime)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_grid_sample_of_other_types(dtype):
    feeds = image_and_grid(3, 2, dtype)
    wide = {name: value.astype(np.float64) for name, value in feeds.items()}
    ours = agree("GridSample", feeds, {"mode": "linear"}, 20)
    expected = agree("GridSample", wide, {"mode": "linear"}, 20)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, expected, atol=1e-2 if dtype == np.float16 else 1e-12)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("align_corners", [0, 1])
def test_places_that_are_nowhere(mode, padding, align_corners):
    feeds = image_and_grid(1, 2)
    feeds["grid"][..., 0] = [np.nan, np.inf, -np.inf, 1e30, -3e38][: feeds["grid"].shape[2]]
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align_corners}
    ours = agree("GridSample", feeds, attributes, 20)
    assert np.isfinite(ours).all()
    if padding == "zeros":
        assert not ours.any()


def test_no_places_and_no_elements():
    x = np.ones((1, 2, 3, 3), np.float32)
    none = np.ones((1, 0, 2, 2), np.float32)
    assert agree("GridSample", {"x": x, "grid": none}, {}, 20).shape == (1, 2, 0, 2)
    with pytest.raises(ValueError, match=r"GridSample.*: X has the shape \(1, 2, 0, 3\)"):
        agree("GridSample", {"x": x[:, :, :0], "grid": np.ones((1, 1, 2, 2), np.float32)}, {}, 20)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_affine_grid(seed, align_corners):
    rng = np.random.default_rng(seed)
    for rank in (2, 3):
        feeds = {
            "theta": rng.normal(size=(2, rank, rank + 1)).astype(np.float32),
            "size": np.array([2, 3, *rng.integers(2, 6, rank)]),
        }
        agree("AffineGrid", feeds, {"align_corners": align_corners}, 20, by_reference)


def test_corners_of_an_axis_of_one_element():
    identity = np.eye(2, 3, dtype=np.float32)[None]
    feeds = {"theta": identity, "size": np.array([1, 1, 1, 3])}
    nodes = [node("AffineGrid", list(feeds), ["y"], align_corners=1)]
    made = session(nodes, feeds, ["y"], opset=20)
    (grid,) = made.run(None, feeds)
    np.testing.assert_array_equal(grid[0, 0], [[-1, -1], [0, -1], [1, -1]])


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("axes", [3, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("seed", SEEDS[:4])
def test_rotary_embedding(seed, interleaved, axes, positions):
    rng = np.random.default_rng(seed)
    batch, steps, heads, size = 2, 3, 2, 2 * int(rng.integers(1, 4))
    part = int(rng.choice([0, 2]))
    shape = (batch, heads, steps, size) if axes == 4 else (batch, steps, heads * size)
    half = (part or size) // 2
    table = (7, half) if positions else (batch, steps, half)
    arrays = [rng.normal(size=s).astype(np.float32) for s in (shape, table, table)]
    feeds = dict(zip(["x", "cos", "sin"], arrays, strict=True))
    if positions:
        feeds["positions"] = rng.integers(0, 7, (batch, steps))
    attributes = {"interleaved": interleaved, "num_heads": heads, "rotary_embedding_dim": part}
    agree("RotaryEmbedding", feeds, attributes, 23, by_reference)


@pytest.mark.parametrize(
    ("op_type", "opset", "shapes", "attributes", "message"),
    [
        ("GridSample", 20, [(1, 1, 2, 2), (2, 1, 1, 2)], {}, "as many axes and samples"),
        ("GridSample", 20, [(1, 1, 2, 2), (1, 1, 1, 3)], {}, "expected 2 coordinates"),
        ("GridSample", 20, [(1, 1), (1, 1)], {}, "as many axes and samples"),
        (
            "GridSample",
            20,
            [(1, 1, 2, 2), (1, 1, 1, 2)],
            {"mode": "bilinear"},
            "mode is 'bilinear'",
        ),
        ("GridSample", 16, [(1, 1, 2, 2), (1, 1, 1, 2)], {"padding_mode": "x"}, "padding_mode is"),
        ("RotaryEmbedding", 23, [(1, 2, 6), (1, 2, 1), (1, 2, 1)], {}, "num_heads=0 in the last"),
        ("RotaryEmbedding", 23, [(1, 1, 2, 4), (1, 2, 3), (1, 2, 3)], {}, r"expected \(1, 2, 2\)"),
    ],
)
def test_what_does_not_fit_is_told(op_type, opset, shapes, attributes, message):
    feeds = {f"x{k}": np.zeros(shape, np.float32) for k, shape in enumerate(shapes)}
    nodes = [node(op_type, list(feeds), ["y"], "here", **attributes)]
    with pytest.raises(Exception, match=rf"node 'here' \({op_type}\): .*{message}"):
        session(nodes, feeds, ["y"], opset=opset).run(None, feeds)
