"""Reductions, softmax, norms and TopK by the native program against the Python operators."""

import numpy as np
import pytest

from tests.program.test_typed import laid, operator
from vledge._ext.program import run_handler
from vledge.graph import registry
from vledge.graph.native.families.reduction import _KINDS

F32 = np.dtype(np.float32)


def numbers(shape, rng, scale=1.0):
    """float32 that lies in any way; without NaN and infinities."""
    a = laid(shape, F32, rng)
    if not a.flags.writeable:
        return np.broadcast_to(rng.normal(size=(1,) * a.ndim).astype(np.float32), a.shape)
    a[...] = rng.normal(size=shape) * scale
    return a


def some_shape(rng, fewest=0, most=6):
    rank = int(rng.integers(fewest, most))
    return [int(rng.choice([1, 2, 3, 5, 17, 33])) for _ in range(rank)]


def some_axes(rank, rng):
    axes = [a for a in range(rank) if rng.integers(2)]
    return [a - rank if rng.integers(2) else a for a in axes]


@pytest.mark.parametrize("kind", _KINDS)
def test_reductions(instruction_set, kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(80):
        x = numbers(some_shape(rng), rng)
        if kind in ("ReduceLogSum", "ReduceProd"):
            x = np.asarray(np.abs(x) + np.float32(0.5))
        if kind == "ReduceProd" and x.size > 500:
            continue
        axes, keep = some_axes(x.ndim, rng), int(rng.integers(2))
        expected = operator(kind, x.astype(np.float64), axes=axes, keepdims=keep, opset=11)
        for threads, inputs, own in (
            (1, [x], axes), (2, [x, np.array(axes, np.int64)], [])
        ):  # fmt: skip
            got = run_handler(
                "reduce", inputs, [_KINDS.index(kind), keep, 0, *own], threads=threads
            )
            assert got is not None
            assert got[0].shape == expected.shape
            # relative to what was added up
            size = operator("ReduceL1", x.astype(np.float64), axes=axes, keepdims=keep, opset=11)
            if kind in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceLogSum", "ReduceLogSumExp"):
                size = np.abs(expected) + 1
            if kind in ("ReduceProd", "ReduceSumSquare", "ReduceL2"):
                size = np.abs(expected)
            terms = x.size / max(expected.size, 1)
            bound = 6e-8 * (terms + 4) if kind == "ReduceProd" else 1e-6 + 4e-8 * np.sqrt(terms)
            if 0 in x.strides:  # all the same: every rounding goes the same way
                bound *= 4
            assert np.all(np.abs(got[0] - expected) <= bound * size + 1e-30)


def test_greatest_and_least_are_exact_and_pass_on_nan(instruction_set):
    rng = np.random.default_rng(0)
    for kind in ("ReduceMax", "ReduceMin", "ReduceSum"):
        for shape in [(3, 70), (70, 3), (5, 4, 33), (1,), (300,)]:
            x = rng.normal(size=shape).astype(np.float32)
            for place in rng.integers(0, x.size, 3):
                x.reshape(-1)[place] = rng.choice([np.nan, np.inf, -np.inf])
            for axis in range(x.ndim):
                got = run_handler("reduce", [x], [_KINDS.index(kind), 1, 0, axis])[0]
                expected = operator(kind, x, axes=[axis], keepdims=1, opset=11)
                np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["i8", "i4"])
def test_reductions_of_integers(dtype):
    rng = np.random.default_rng(1)
    for kind in _KINDS:
        for _ in range(20):
            shape = some_shape(rng, most=4)
            x = rng.integers(-9, 10, shape).astype(dtype).T
            axes, keep = some_axes(x.ndim, rng), int(rng.integers(2))
            got = run_handler("reduce", [x], [_KINDS.index(kind), keep, 0, *axes])
            if kind in ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp"):
                assert got is None
                continue
            expected = operator(kind, x, axes=axes, keepdims=keep, opset=11)
            np.testing.assert_array_equal(got[0], expected)
            assert got[0].dtype == x.dtype
            assert got[0].shape == expected.shape


def test_reductions_decline():
    x = np.ones((2, 3), np.float32)
    for inputs, ints in [
        ([x], [0, 1, 1]),  # noop_with_empty_axes
        ([x], [0, 1, 0, 2]),
        ([x], [0, 1, 0, 1, 1]),
        ([x, np.array([0.0])], [0, 1, 0]),
        ([np.ones((0, 3), np.float32)], [0, 1, 0]),
        ([x.astype(np.float16)], [0, 1, 0]),
        ([None], [0, 1, 0]),
    ]:
        assert run_handler("reduce", inputs, ints) is None


def test_long_sums_keep_their_digits(instruction_set):
    rng = np.random.default_rng(0)
    x = rng.random(1_000_000).astype(np.float32)
    for shape, axis in [((1_000_000,), 0), ((250_000, 4), 0), ((4, 250_000), 1)]:
        a = x.reshape(shape)
        exact = a.sum(axis, dtype=np.float64)
        got = run_handler("reduce", [a], [0, 0, 0, axis])[0]
        assert np.all(np.abs(got - exact) <= 1e-6 * exact)


def test_the_same_bits_on_several_threads():
    x = np.random.default_rng(0).normal(size=(40, 70, 90)).astype(np.float32)
    for a in (x, x.transpose(2, 0, 1)):
        for axes in ([0], [1], [2], [0, 2], [1, 2]):
            one = run_handler("reduce", [a], [1, 0, 0, *axes])[0]
            two = run_handler("reduce", [a], [1, 0, 0, *axes], threads=2)[0]
            np.testing.assert_array_equal(one, two)
        for axis in range(3):
            one = run_handler("softmax", [a], [axis, 0, 0])[0]
            two = run_handler("softmax", [a], [axis, 0, 0], threads=2)[0]
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4"])
def test_arg(name, dtype):
    rng = np.random.default_rng(0)
    for _ in range(60):
        x = laid(some_shape(rng, fewest=1), np.dtype(dtype), rng)
        axis, keep, last = int(rng.integers(x.ndim)), int(rng.integers(2)), int(rng.integers(2))
        got = run_handler("arg", [x], [axis - x.ndim, keep, last, int(name == "ArgMin")])[0]
        expected = operator(name, x, axis=axis, keepdims=keep, select_last_index=last)
        np.testing.assert_array_equal(got, expected)
        assert got.shape == expected.shape
        assert got.dtype == np.int64


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4"])
def test_cumsum(dtype):
    rng = np.random.default_rng(0)
    for _ in range(60):
        x = laid(some_shape(rng, fewest=1), np.dtype(dtype), rng)
        axis = np.array(int(rng.integers(-x.ndim, x.ndim)))
        exclusive, reverse = (int(b) for b in rng.integers(0, 2, 2))
        got = run_handler("cumsum", [x, axis], [exclusive, reverse])[0]
        expected = operator("CumSum", x, axis, exclusive=exclusive, reverse=reverse)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4"])
def test_topk(dtype):
    rng = np.random.default_rng(0)
    function = registry.find("TopK", "", 11).function
    for _ in range(100):
        x = laid(some_shape(rng, fewest=1), np.dtype(dtype), rng)
        if dtype == "i8":
            x = np.clip(x, -100, 100)
        axis, largest = int(rng.integers(-x.ndim, x.ndim)), int(rng.integers(2))
        k = int(rng.integers(1, x.shape[axis] + 1))
        values, places = function(x, np.array([k]), axis=axis, largest=largest)
        got = run_handler("topk", [x, np.array([k])], [axis, largest, -1], outputs=2)
        np.testing.assert_array_equal(got[0], values)
        np.testing.assert_array_equal(got[1], places)
    x = np.arange(5, dtype=dtype)
    for k in (0, 6):
        assert run_handler("topk", [x, np.array([k])], [0, 1, -1], outputs=2) is None


# ---- softmax


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_softmax(instruction_set, name, opset):
    rng = np.random.default_rng(opset)
    for case in range(100):
        shape = some_shape(rng, fewest=1)
        if case % 10 == 0:
            shape = [3, 1000]
        x = numbers(shape, rng, scale=4)
        axis = int(rng.integers(-x.ndim, x.ndim))
        function = registry.find(name, "", opset).function
        if registry.find(name, "", opset).is_factory:
            function = function(None, axis=axis)
            expected = function(x.astype(np.float64))
        else:
            expected = function(x.astype(np.float64), axis=axis)
        got = run_handler("softmax", [x], [axis, int(opset < 13), int(name == "LogSoftmax")])
        if name == "Softmax":  # x - max is rounded, too
            bound = (5e-7 + 6e-8 * 2 * np.abs(x).max()) * expected
        else:
            bound = 5e-7 * (np.abs(expected) + np.abs(x) + 1)
        assert np.all(np.abs(got[0] - expected) <= bound + 1e-37)


def test_softmax_of_infinities(instruction_set):
    x = np.zeros((5, 19), np.float32)
    x[0, 3] = -np.inf
    x[1, 3] = np.inf
    x[2, 18] = np.nan
    x[3] = -np.inf
    for a, axis in ((x, 1), (x.T.copy(), 0), (x.T, 0)):
        got = run_handler("softmax", [a], [axis, 0, 0])[0]
        expected = operator("Softmax", a, axis=axis)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


# ---- norms


@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_row_norms(instruction_set, name):
    rng = np.random.default_rng(2)
    centred = name == "LayerNormalization"
    for case in range(60):
        x = numbers(some_shape(rng, fewest=1), rng)
        x = np.asarray(x + np.float32(case % 3 * 5))
        axis = int(rng.integers(-x.ndim, x.ndim))
        scale = rng.normal(size=x.shape[axis:]).astype(np.float32)
        bias = rng.normal(size=x.shape[axis:]).astype(np.float32)
        inputs = [x, scale] + [bias] * (centred and case % 2)
        function = registry.find(name, "", 23).function(None, axis=axis, epsilon=1e-3)
        expected = function(*(a.astype(np.float64) for a in inputs))
        expected = expected if centred else (expected,)
        outputs = len(expected)
        got = run_handler("row_norm", inputs, [axis, int(centred)], [1e-3], outputs=outputs)
        for a, b in zip(got, expected, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_row_norms_decline():
    x = np.ones((2, 3, 4), np.float32)
    for inputs, axis in [
        ([x, np.ones(3, np.float32)], -1),
        ([x, np.ones(4)], -1),
        ([x, np.ones((3, 4), np.float32)], -1),
        ([x, np.ones(4, np.float32), np.ones((2, 3, 4), np.float32)], -1),
        ([x, np.ones(4, np.float32)], 3),
    ]:
        assert run_handler("row_norm", inputs, [axis, 1], [1e-5], outputs=3) is None
    assert run_handler("row_norm", [x, np.ones((1, 1, 4), np.float32)], [-1, 1], [1e-5], outputs=3)


@pytest.mark.parametrize("groups", [0, 1, 2, 6])
@pytest.mark.parametrize("of_groups", [0, 1])
def test_channel_norms(instruction_set, groups, of_groups):
    rng = np.random.default_rng(groups)
    for case in range(40):
        shape = [int(rng.integers(1, 4)), 6 * int(rng.integers(1, 5)), *some_shape(rng, 1, 4)]
        x = numbers(shape, rng)
        if case % 2:
            x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
        if case % 4 > 1:
            x = x + np.float32(7)
        count = (groups or shape[1]) if of_groups else shape[1]
        if np.ptp(x) == 0:
            continue  # the variance is 0, and rounding errors are all there is
        scale, bias = (rng.normal(size=count).astype(np.float32) for _ in range(2))
        wide = [a.astype(np.float64) for a in (x, scale, bias)]
        if groups:
            opset = 18 if of_groups else 21
            function = registry.find("GroupNormalization", "", opset).function
            expected = function(None, num_groups=groups, epsilon=1e-3)(*wide)
        else:
            expected = operator("InstanceNormalization", *wide, epsilon=1e-3)
        for threads in (1, 2):
            got = run_handler(
                "channel_norm", [x, scale, bias], [groups, of_groups], [1e-3], threads=threads
            )
            np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=5e-5)


def test_channels_last_stays_so():
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 6)).astype(np.float32).transpose(0, 3, 1, 2)
    one = np.ones(6, np.float32)
    (y,) = run_handler("channel_norm", [x, one, one], [0, 0], [1e-3])
    assert y.strides == x.strides
    for axis in range(4):
        (y,) = run_handler("softmax", [x], [axis, 0, 0])
        assert y.strides == x.strides
    (y,) = run_handler("reduce", [x], [0, 1, 0, 2])
    assert y.shape == (2, 6, 1, 7)
    assert y.strides[1] == 4
