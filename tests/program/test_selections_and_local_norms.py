"""OneHot, Range, Clip of integers, LpNormalization and LRN, beside the Python operators."""

import time

import numpy as np
import pytest

import vledge
from tests.peers import peer

peer("onnx")
from tests.graph.models import model_bytes, node, session  # noqa: E402
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


@pytest.mark.parametrize("kind", ["f4", "f8", *WHOLE[:-4], "u4", "u2", "u1", "?"])
def test_unique(rng, kind):
    shape = shape_of(rng, least=1, most=4, zero=False)
    x = rng.integers(-2 if kind[0] == "i" else 0, 3, shape).astype(kind)
    if kind[0] == "f" and rng.integers(2):
        x.reshape(-1)[rng.integers(x.size)] *= -0.0
        x.reshape(-1)[rng.integers(x.size)] = np.nan
    x = x if rng.integers(2) else np.asfortranarray(x)
    outputs = [f"y{k}" if rng.integers(4) else "" for k in range(4)]
    if not any(outputs):
        outputs[0] = "y0"
    for attributes in ({}, {"axis": int(rng.integers(-x.ndim, x.ndim))}):
        attributes["sorted"] = int(rng.integers(2))
        if "axis" in attributes and np.isnan(x.astype(float)).any():
            continue  # rows with NaN decline
        made = [node("Unique", ["x"], outputs, **attributes)]
        model = model_bytes(made, {"x": x}, [name for name in outputs if name])
        with pytest.MonkeyPatch.context() as patch:
            got, expected, declined, _ = both_ways(model, {"x": x}, patch)
        assert declined == 0
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["f4", "f8", *WHOLE[:-4], "u4", "u2", "u1", "?"])
def test_unique_of_many(rng, kind, monkeypatch):
    """Sorted by their digits, of which some are the same in all."""
    if kind[0] == "f":
        x = (rng.normal(size=3000) * 10.0 ** rng.integers(-30, 30, 3000)).astype(kind)
        x[rng.integers(3000, size=1500)] = rng.choice(
            [np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0], 1500
        )
    else:
        limits = np.iinfo(kind) if kind != "?" else np.iinfo("u1")
        x = rng.integers(limits.min, limits.max, 3000, np.int64, endpoint=True).astype(kind)
        x[1000:] = x[rng.integers(1000, size=2000)]
    names = ["y", "first", "which", "counts"]
    for given in (x, x[rng.integers(3, size=3000)]):
        made = [node("Unique", ["x"], names, sorted=int(rng.integers(2)))]
        feeds = {"x": given}
        got, expected, declined, _ = both_ways(model_bytes(made, feeds, names), feeds, monkeypatch)
        assert declined == 0
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)


def test_unique_of_many_takes_no_longer_than_numpy():
    x = np.random.default_rng(0).integers(0, 1 << 40, 20_000)
    native = session([node("Unique", ["x"], ["y"])], {"x": x}, ["y"])

    def seconds(function):
        times = []
        for _ in range(5):
            begin = time.thread_time()
            function()
            times.append(time.thread_time() - begin)
        return min(times)

    assert seconds(lambda: native.run(None, {"x": x})) < seconds(
        lambda: np.unique(x, True, True, True)
    )


def test_compress(rng):
    shape = shape_of(rng, least=1, most=4)
    x = strided(rng, shape, np.dtype(rng.choice(["f4", "f8", "i8", "u1", "f2"])).type)
    condition = rng.integers(0, 2, rng.integers(0, x.size + 1)).astype(bool)
    run_both("Compress", [x, condition], {})
    axis = int(rng.integers(-x.ndim, x.ndim))
    run_both("Compress", [x, condition[: x.shape[axis]]], {"axis": axis})
    longer = np.zeros(x.shape[axis] + 2, bool)  # by what is not taken
    longer[: x.shape[axis]] = rng.integers(0, 2, x.shape[axis])
    run_both("Compress", [x, longer], {"axis": axis}, declines=True)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hardmax(rng, dtype, opset, monkeypatch):
    shape = shape_of(rng, least=1, most=4, zero=False)
    x = strided(rng, shape, dtype).round(0)
    if rng.integers(3) == 0:
        x.reshape(-1)[: x.size // 2] = np.nan
    for attributes in ({}, {"axis": int(rng.integers(-x.ndim, x.ndim))}):
        if opset < 13 and not attributes and x.ndim < 2:
            continue
        made = [node("Hardmax", ["x"], ["y"], **attributes)]
        model = model_bytes(made, {"x": x}, ["y"], opset=opset)
        (got,), (expected,), declined, _ = both_ways(model, {"x": x}, monkeypatch)
        assert declined == 0
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_hot_of_reals(rng, dtype):
    indices = rng.uniform(-5, 5, shape_of(rng, most=3)).astype(dtype)
    values = np.array([2, 5], np.float32)
    run_both("OneHot", [indices, np.array(3), values], {"axis": 0})
