"""OneHot, Range, Clip of integers, LpNormalization and LRN, beside the Python operators."""

import numpy as np
import pytest

import vledge
from tests.peers import peer

peer("onnx")
from tests.graph.models import model_bytes, node  # noqa: E402
from tests.program.test_agreement import CASES, run_both, shape_of, strided  # noqa: E402
from tests.program.test_expressions import both_ways  # noqa: E402

WHOLE = ["i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"]


@pytest.fixture(params=range(CASES))
def rng(request):
    return np.random.default_rng(request.param)


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_one_hot(rng, kind):
    shape = shape_of(rng, most=3)
    depth = int(rng.integers(0, 7))
    indices = rng.integers(-depth - 2, depth + 3, shape).astype(kind)
    if rng.integers(2):
        indices = np.asfortranarray(indices)
    values = rng.integers(0, 90, 2).astype(rng.choice([np.float32, np.int64, np.uint8, np.float16]))
    size = np.array(depth if rng.integers(2) else [depth], kind)
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    run_both("OneHot", [indices, size, values], {"axis": axis})
    run_both("OneHot", [indices, size, values], {}, constants=["x1", "x2"])


def one_hot(indices, depth=3, values=(2, 5)):
    feeds = {"x": np.array(indices)}
    constants = {"d": np.array(depth), "v": np.array(values, np.float32)}
    model = model_bytes([node("OneHot", ["x", "d", "v"], ["y"])], feeds, ["y"], constants, 11)
    return vledge.InferenceSession(model).run(None, feeds)[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fractions_of_indices_are_cut_off(dtype):
    given = np.array([0.5, 1.9, -0.5, -1.2, -3.9, 3.1, -4.0, np.nan, np.inf], dtype)
    nowhere = 9
    expected = one_hot(np.array([0, 1, 0, -1, -3, nowhere, nowhere, nowhere, nowhere]))
    np.testing.assert_array_equal(one_hot(given), expected)


def test_one_hot_refuses_what_is_none():
    with pytest.raises(ValueError, match=r"OneHot node that makes 'y': depth is -1"):
        one_hot([1], depth=-1)
    for values in ((1, 2, 3), (1,)):
        with pytest.raises(ValueError, match=r"OneHot node that makes 'y': values has the shape"):
            one_hot([1], values=values)


@pytest.mark.parametrize("kind", ["i8", "i4", "f4", "f8"])
def test_range(rng, kind):
    start, limit, delta = rng.integers(-9, 10, 3) if kind[0] == "i" else rng.normal(size=3)
    arrays = [np.array(n, kind) for n in (start, limit * 3, delta or 1)]
    run_both("Range", arrays, {})


@pytest.mark.parametrize("kind", WHOLE)
def test_clip_of_integers(rng, kind):
    x = strided(rng, shape_of(rng), np.dtype(kind).type)
    ends = np.iinfo(kind)
    bounds = [np.array(n, kind) for n in sorted(int(n) for n in rng.integers(0, 100, 2))]
    run_both("Clip", [x], {})
    run_both("Clip", [x, bounds[0]], {})
    run_both("Clip", [x, None, bounds[1]], {})
    # known bounds are lists of one here, which would give a number an axis
    run_both("Clip", [x, *bounds], {}, constants=["x1", "x2"] if x.ndim else [])
    run_both("Clip", [x, *bounds[::-1]], {})
    run_both("Clip", [x, np.array(ends.min, kind), np.array(ends.max, kind)], {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(rng, p, dtype, monkeypatch):
    shape = shape_of(rng, least=1, zero=False)
    if rng.integers(4) == 0:
        shape[-1] = 300
    x = strided(rng, shape, dtype) - dtype(50)
    axis = int(rng.integers(-len(shape), len(shape)))
    x[(slice(None),) * (axis % x.ndim) + (slice(0, 1),)] *= 0
    if rng.integers(2):
        x[0] = 0  # rows of zeros stay so
    attributes = {"axis": axis, "p": p}
    model = model_bytes([node("LpNormalization", ["x"], ["y"], **attributes)], {"x": x}, ["y"])
    (got,), (expected,), declined, _ = both_ways(model, {"x": x}, monkeypatch)
    assert declined == 0
    assert got.dtype == dtype
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=0)


def test_lrn(rng, monkeypatch):
    shape = [int(n) for n in rng.integers(1, 9, rng.integers(2, 5))]
    x = strided(rng, shape, np.float32) / np.float32(10)
    attributes = {"size": int(rng.integers(1, 12))}
    if rng.integers(2):
        attributes |= {"alpha": 0.3, "beta": 0.6, "bias": 2.0}
    model = model_bytes([node("LRN", ["x"], ["y"], **attributes)], {"x": x}, ["y"])
    (got,), (expected,), declined, _ = both_ways(model, {"x": x}, monkeypatch)
    assert declined == 0
    np.testing.assert_allclose(got, expected, rtol=2e-6)
