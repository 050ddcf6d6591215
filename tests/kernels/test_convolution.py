"""Convolutions against their definition in float64: every form, tail and layout."""

import itertools
import time

import numpy as np
import pytest

from vledge._ext.convolution import Convolution
from vledge._ext.isa import lanes
from vledge._ext.phases import runs_of

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-14}


def convolution(x, w, b, strides, dilations, groups, before, sizes):
    """What it means: ``x [N, C, *spatial]``, ``w [M, C / groups, *kernel]``."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    rank, kernel = w.ndim - 2, w.shape[2:]
    reach = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(sizes, strides, kernel, dilations, strict=True)
    ]
    after = [max(r - b - n, 0) for r, b, n in zip(reach, before, x.shape[2:], strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    result = np.zeros((len(x), len(w), *sizes))
    for index in itertools.product(*map(range, kernel)):
        at = tuple(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(index, dilations, sizes, strides, strict=True)
        )
        tap = x[(slice(None), slice(None), *at)].reshape(len(x), groups, -1, *sizes)
        own = w[(slice(None), slice(None), *index)].reshape(groups, -1, w.shape[1])
        result += np.einsum("ngc...,gmc->ngm...", tap, own).reshape(result.shape)
    return result + (0 if b is None else b.reshape(-1, *(1,) * rank).astype(np.float64))


def transposed(x, w, b, strides, dilations, groups, before, sizes):
    """The same for ``w [C, M / groups, *kernel]``: each input's share is added where it falls."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    rank, kernel, steps = w.ndim - 2, w.shape[2:], x.shape[2:]
    inside = w.shape[0] // groups
    extent = [
        max((n - 1) * s + (k - 1) * d + 1, before + size)
        for n, s, k, d, before, size in zip(
            steps, strides, kernel, dilations, before, sizes, strict=True
        )
    ]
    result = np.zeros((len(x), groups * w.shape[1], *extent))
    grouped = x.reshape(len(x), groups, inside, *steps)
    for index in itertools.product(*map(range, kernel)):
        own = w[(slice(None), slice(None), *index)].reshape(groups, inside, -1)
        at = tuple(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(index, dilations, steps, strides, strict=True)
        )
        share = np.einsum("ngc...,gcm->ngm...", grouped, own)
        result[(slice(None), slice(None), *at)] += share.reshape(len(x), -1, *steps)
    inner = tuple(slice(p, p + size) for p, size in zip(before, sizes, strict=True))
    bias = 0 if b is None else b.reshape(-1, *(1,) * rank).astype(np.float64)
    return result[(slice(None), slice(None), *inner)] + bias


def last(x):
    """The same array with channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def layouts(x):
    """The same numbers in other memory."""
    wide = np.zeros((*x.shape[:-1], x.shape[-1] * 2), x.dtype)[..., ::2]
    wide[...] = x
    channels = np.repeat(last(x), 2, 1)[:, ::2]
    return [x, last(x), wide, channels, x[..., ::-1].copy()[..., ::-1]]


# kernel, strides, dilations, before, sizes of the input
WINDOWS = {
    "1": ([1], [1], [1], [0], [13]),
    "3": ([3], [1], [1], [1], [29]),
    "8 / 3": ([8], [3], [1], [5], [70]),
    "256 / 64": ([256], [64], [1], [0], [500]),
    "3, dilated": ([3], [2], [4], [3], [41]),
    "1x1": ([1, 1], [1, 1], [1, 1], [0, 0], [5, 7]),
    "1x1 / 2": ([1, 1], [2, 2], [1, 1], [0, 0], [5, 8]),
    "3x3": ([3, 3], [1, 1], [1, 1], [1, 1], [7, 11]),
    "3x3, long rows": ([3, 3], [1, 1], [1, 1], [1, 1], [5, 300]),
    "3x3, many rows": ([3, 3], [1, 1], [1, 1], [1, 0], [200, 3]),
    "3x3 / 2": ([3, 3], [2, 2], [1, 1], [0, 1], [9, 12]),
    "2x5, dilated": ([2, 5], [1, 2], [3, 2], [2, 4], [9, 14]),
    "5x1": ([5, 1], [1, 1], [1, 1], [4, 0], [8, 6]),
    "1x4": ([1, 4], [1, 3], [1, 1], [0, 2], [3, 20]),
    "nothing but pads": ([2, 2], [1, 1], [1, 1], [3, 3], [0, 2]),
    "2x3x2": ([2, 3, 2], [1, 2, 1], [1, 1, 2], [1, 0, 1], [4, 6, 5]),
}
# in, out, groups
CHANNELS = {
    "dense": (5, 7, 1),
    "wide": (33, 70, 1),
    "one": (1, 16, 1),
    "two groups": (12, 38, 2),
    "few outputs": (40, 2, 1),
    "few outputs of groups": (80, 6, 2),
    "depthwise": (19, 19, 19),
    "multiplied": (6, 18, 6),
    "small groups": (24, 12, 6),
}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("window", WINDOWS)
def test_forms(instruction_set, window, channels):
    kernel, strides, dilations, before, shape = WINDOWS[window]
    inside, outside, groups = CHANNELS[channels]
    rng = np.random.default_rng(len(window) * len(channels))
    for dtype in (np.float32, np.float64):
        w = rng.uniform(-1, 1, (outside, inside // groups, *kernel)).astype(dtype)
        b = rng.uniform(-1, 1, outside).astype(dtype)
        x = rng.uniform(-1, 1, (2, inside, *shape)).astype(dtype)
        after = [p // 2 for p in before]
        sizes = [
            (n + p + q - (k - 1) * d - 1) // s + 1
            for n, p, q, k, d, s in zip(
                shape, before, after, kernel, dilations, strides, strict=True
            )
        ]
        layer = Convolution(w, b, strides, dilations, groups)
        exact = convolution(x, w, b, strides, dilations, groups, before, sizes)
        got = layer(x, sizes, before, threads=1)
        scale = max(np.abs(exact).max(), 1)
        assert got.shape == exact.shape
        np.testing.assert_allclose(got, exact, rtol=0, atol=TOLERANCE[dtype] * scale)
        for same in layouts(x):
            assert np.array_equal(layer(same, sizes, before, threads=1), got)
        assert np.array_equal(layer.weight(), w)
        assert np.array_equal(layer.bias(), b)
        without = Convolution(w, None, strides, dilations, groups)
        exact -= b.reshape(-1, *(1,) * len(kernel))
        np.testing.assert_allclose(
            without(x, sizes, before), exact, rtol=0, atol=TOLERANCE[dtype] * scale
        )


TRANSPOSED = {
    "2 / 2": ([2], [2], [1], [0], [9]),
    "3 / 2": ([3], [2], [1], [1], [9]),
    "2 / 3": ([2], [3], [1], [0], [6]),
    "3 / 2, dilated": ([3], [2], [2], [1], [7]),
    "4, dilated": ([4], [1], [3], [2], [20]),
    "1x3 / 1x2": ([1, 3], [1, 2], [1, 1], [0, 1], [4, 8]),
    "3x4 / 2x3": ([3, 4], [2, 3], [1, 1], [1, 2], [5, 6]),
    "2x2x3 / 1x2x2": ([2, 2, 3], [1, 2, 2], [1, 1, 1], [0, 1, 1], [3, 4, 5]),
}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("window", TRANSPOSED)
def test_transposed(instruction_set, window, channels):
    kernel, strides, dilations, before, shape = TRANSPOSED[window]
    inside, outside, groups = CHANNELS[channels]
    rng = np.random.default_rng(len(window) * len(channels))
    for dtype, more in itertools.product((np.float32, np.float64), (0, 1)):
        w = rng.uniform(-1, 1, (inside, outside // groups, *kernel)).astype(dtype)
        b = rng.uniform(-1, 1, outside).astype(dtype)
        x = rng.uniform(-1, 1, (2, inside, *shape)).astype(dtype)
        sizes = [
            (n - 1) * s + (k - 1) * d + 1 - 2 * p + more
            for n, p, k, d, s in zip(shape, before, kernel, dilations, strides, strict=True)
        ]
        layer = Convolution(w, b, strides, dilations, groups, transposed=True)
        exact = transposed(x, w, b, strides, dilations, groups, before, sizes)
        got = layer(x, sizes, before, threads=1)
        scale = max(np.abs(exact).max(), 1)
        np.testing.assert_allclose(got, exact, rtol=0, atol=TOLERANCE[dtype] * scale)
        for same in layouts(x):
            assert np.array_equal(layer(same, sizes, before), got)
        assert np.array_equal(layer.weight(), w)


@pytest.mark.parametrize("channels", [(16, 16), (17, 33), (48, 80)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 12), (40, 33), (3, 600)])
def test_winograd(instruction_set, shape, channels):
    rng = np.random.default_rng(shape[0])
    inside, outside = channels
    w = rng.uniform(-1, 1, (outside, inside, 3, 3)).astype(np.float32)
    b = rng.uniform(-1, 1, outside).astype(np.float32)
    x = rng.uniform(-1, 1, (2, inside, *shape)).astype(np.float32)
    layer = Convolution(w, b, [1, 1], [1, 1], winograd=True)
    assert layer.form == "winograd"
    for before, after in (((1, 1), (1, 1)), ((2, 0), (0, 2)), ((0, 0), (0, 0))):
        sizes = [n + p + q - 2 for n, p, q in zip(shape, before, after, strict=True)]
        if min(sizes) < 1:
            continue
        exact = convolution(x, w, b, [1, 1], [1, 1], 1, before, sizes)
        got = layer(x, sizes, before, threads=1)
        np.testing.assert_allclose(got, exact, rtol=0, atol=3e-6 * np.abs(exact).max())
        for same in layouts(x):
            assert np.array_equal(layer(same, sizes, before, threads=1), got)
        for threads in (2, 3):
            assert np.array_equal(layer(x, sizes, before, threads=threads), got)
        clipped = layer(x, sizes, before, low=-1, high=2)
        assert np.array_equal(clipped, np.clip(got, -1, 2))
    with pytest.raises(ValueError, match="given back"):
        layer.weight()


@pytest.mark.parametrize("dilations", [(2, 1), (1, 3), (3, 2), (4, 4)])
@pytest.mark.parametrize("shape", [(5, 9), (8, 13), (45, 70)])
def test_winograd_dilated(instruction_set, shape, dilations):
    rng = np.random.default_rng(shape[0])
    w = rng.uniform(-1, 1, (18, 17, 3, 3)).astype(np.float32)
    x = rng.uniform(-1, 1, (2, 17, *shape)).astype(np.float32)
    layer = Convolution(w, None, [1, 1], dilations, winograd=True)
    assert layer.form == "winograd"
    for before in ([4, 4], [1, 0]):
        sizes = [n + 2 * p - 2 * d for n, p, d in zip(shape, before, dilations, strict=True)]
        if min(sizes) < 1:
            continue
        exact = convolution(x, w, None, [1, 1], dilations, 1, before, sizes)
        got = layer(x, sizes, before)
        np.testing.assert_allclose(got, exact, rtol=0, atol=3e-6 * np.abs(exact).max())
        for same in layouts(x):
            assert np.array_equal(layer(same, sizes, before, threads=3), got)


STEPS = [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2), (2, 3)]  # strides, dilations


@pytest.mark.parametrize("channels", [16, 20, 128])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (7, 7), (1, 9), (3, 1), (4, 6)])
def test_depthwise_windows_share_what_they_read(instruction_set, kernel, steps, channels):
    """Rows of windows side by side, of every length, have the bits of each window by itself."""
    stride, dilation = steps
    spans = [(k - 1) * dilation + 1 for k in kernel]
    rng = np.random.default_rng([*kernel, *steps, channels])
    w = rng.uniform(-1, 1, (channels, 1, *kernel)).astype(np.float32)
    b = rng.uniform(-1, 1, channels).astype(np.float32)
    before = [span // 2 for span in spans]
    layer = Convolution(w, b, [stride] * 2, [dilation] * 2, channels)
    assert layer.form == "taps"
    for width in (1, 6, 23, 40):
        x = rng.uniform(-1, 1, (2, channels, 6, width)).astype(np.float32)
        sizes = [
            (n + 2 * p - k) // stride + 1
            for n, p, k in zip(x.shape[2:], before, spans, strict=True)
        ]
        if min(sizes) < 1:
            continue
        exact = convolution(x, w, b, [stride] * 2, [dilation] * 2, channels, before, sizes)
        got = layer(x, sizes, before, threads=1)
        np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6 * max(np.abs(exact).max(), 1))
        for same in layouts(x):
            assert np.array_equal(layer(same, sizes, before, threads=3), got)
        padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in before)])
        for row, column in itertools.product(range(sizes[0]), range(sizes[1])):
            y, i = row * stride, column * stride
            window = padded[:, :, y : y + spans[0], i : i + spans[1]]
            alone = layer(window, [1, 1], [0, 0])
            assert np.array_equal(alone[:, :, 0, 0], got[:, :, row, column])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("outputs", [3, 4, 10, 24, 40])
def test_pictures_with_channels_first(instruction_set, channels, outputs):
    """What takes channels in turns, and outputs that fill no whole vectors: every width has the
    bits of the same picture with channels last."""
    rng = np.random.default_rng([channels, outputs])
    for dtype in (np.float32, np.float64):
        w = rng.uniform(-1, 1, (outputs, channels, 3, 3)).astype(dtype)
        b = rng.uniform(-1, 1, outputs).astype(dtype)
        layer = Convolution(w, b, [1, 1], [1, 1])
        for width in (1, 2, 5, 16, 31, 67):
            x = rng.uniform(-1, 1, (2, channels, 5, width)).astype(dtype)
            sizes, before = [5, width], [1, 1]
            exact = convolution(x, w, b, [1, 1], [1, 1], 1, before, sizes)
            got = layer(x, sizes, before, threads=1)
            np.testing.assert_allclose(got, exact, rtol=0, atol=5 * TOLERANCE[dtype])
            for same in layouts(x):
                assert np.array_equal(layer(same, sizes, before, threads=3), got)


def test_forms_are_chosen():
    """By what fills the vectors of any instruction set."""
    for shape, groups, form in (
        ((64, 32, 3, 3), 1, "windows"),
        ((1, 64, 1, 3), 1, "dots"),
        ((2, 64, 5), 2, "dots"),
        ((64, 1, 3), 64, "taps"),
        ((64, 1, 3), 32, "taps"),
    ):
        w = np.zeros(shape, np.float32)
        ones = [1] * (w.ndim - 2)
        assert Convolution(w, None, ones, ones, groups).form == form, shape


def test_few_outputs_leave_no_lanes_idle(instruction_set):
    """AVX-512 takes groups of up to eight by vectors of half the width."""
    ones = [1, 1]
    for shape, groups in (((8, 16, 3, 3), 1), ((16, 32, 5, 1), 2)):
        w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        layer = Convolution(w, None, ones, ones, groups)
        assert (layer.form, layer.nbytes) == ("windows", w.nbytes)
        assert np.array_equal(layer.weight(), w)


def test_winograd_is_as_exact_as_one_chain():
    """Root mean square of the error, with as many channels as speech models have."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((64, 128, 3, 3)).astype(np.float32)
    x = np.maximum(rng.standard_normal((1, 128, 12, 12)), 0).astype(np.float32)
    exact = convolution(x, w, None, [1, 1], [1, 1], 1, [1, 1], [12, 12])
    errors = {}
    for winograd in (False, True):
        got = Convolution(w, None, [1, 1], [1, 1], winograd=winograd)(x, [12, 12], [1, 1])
        errors[winograd] = np.sqrt(np.mean((got - exact) ** 2))
    chain = np.zeros((64, 12, 12), np.float32)  # one term after the other
    padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1)))
    for i, j, c in itertools.product(range(3), range(3), range(128)):
        chain += w[:, c, i, j, None, None] * padded[c, i : i + 12, j : j + 12]
    assert errors[True] < np.sqrt(np.mean((chain - exact[0]) ** 2))
    assert errors[False] < errors[True]


@pytest.mark.parametrize("channels", CHANNELS)
def test_epilogues(instruction_set, channels):
    inside, outside, groups = CHANNELS[channels]
    rng = np.random.default_rng(5)
    w = rng.uniform(-1, 1, (outside, inside // groups, 3, 3)).astype(np.float32)
    x = rng.uniform(-1, 1, (2, inside, 9, 10)).astype(np.float32)
    x[0, 0, 4, 4] = np.nan
    layer = Convolution(w, None, [1, 1], [1, 1], groups)
    plain = layer(x, [7, 8], [0, 0])
    slopes = rng.uniform(-1, 1, outside).astype(np.float32)
    each = slopes[:, None, None]
    for options, expected in (
        ({"low": 0}, np.maximum(plain, 0)),
        ({"high": 0.25}, np.minimum(plain, np.float32(0.25))),
        ({"low": -0.5, "high": 0.5}, np.clip(plain, -0.5, 0.5)),
        ({"low": 1, "high": -1}, np.clip(plain, 1, -1)),
        ({"slope": 0.25}, np.where(plain < 0, plain * np.float32(0.25), plain)),
        ({"slope": slopes}, np.where(plain < 0, plain * each, plain)),
    ):
        np.testing.assert_array_equal(layer(x, [7, 8], [0, 0], **options), expected)


@pytest.mark.parametrize("kind", ["windows", "taps", "groups", "transposed"])
def test_threads_change_no_bit(kind):
    rng = np.random.default_rng(0)
    shape, groups = {
        "windows": ((40, 20, 3, 3), 1),
        "taps": ((120, 1, 3, 3), 120),
        "groups": ((64, 16, 3, 3), 2),
        "transposed": ((20, 40, 3, 3), 1),
    }[kind]
    w = rng.uniform(-1, 1, shape).astype(np.float32)
    layer = Convolution(w, None, [2, 2], [1, 1], groups, transposed=kind == "transposed")
    x = rng.uniform(-1, 1, (2, layer.in_channels, 61, 83)).astype(np.float32)
    sizes = [121, 165] if kind == "transposed" else [31, 42]
    alone = layer(x, sizes, [1, 1], threads=1)
    for threads in (2, 3, 5):
        assert np.array_equal(layer(x, sizes, [1, 1], threads=threads), alone)


def test_long_sums_are_made_in_parts(instruction_set):
    w = np.random.default_rng(3).uniform(0.5, 1, (8, 64, 128)).astype(np.float32)
    exact = w.sum(axis=(1, 2), dtype=np.float64)
    chain = np.abs(np.cumsum(w.reshape(8, -1), axis=1, dtype=np.float32)[:, -1] - exact).max()
    for weights, groups in ((w, 1), (w.reshape(8, 1, -1), 8)):
        ones = np.ones((1, weights.shape[1] * groups, weights.shape[2]), np.float32)
        got = Convolution(weights, None, [1], [1], groups)(ones, [1], [0])
        assert np.abs(got[0, :, 0] - exact).max() < chain / 3


def test_empty_batches_and_wrong_arguments():
    w = np.zeros((4, 3, 3), np.float32)
    layer = Convolution(w, None, [1], [1])
    assert layer(np.zeros((0, 3, 9), np.float32), [7], [0]).shape == (0, 4, 7)
    assert layer.nbytes == 9 * min(lanes(np.float32), 8) * 4  # the padding of few outputs too
    for call, text in (
        (lambda: Convolution(w[0], None, [], []), "spatial axes"),
        (lambda: Convolution(w.astype(np.int32), None, [1], [1]), "int32"),
        (lambda: Convolution(w, np.zeros(3, np.float32), [1], [1]), "bias"),
        (lambda: Convolution(w, None, [1], [1], 3), "groups"),
        (lambda: Convolution(w, None, [1], [1 << 30]), "too large"),
        (lambda: layer(np.zeros((1, 3, 9)), [7], [0]), "float64"),
        (lambda: layer(np.zeros((1, 2, 9), np.float32), [7], [0]), "3 channels"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


# kernel, strides, dilations, before, after, sizes of the input; the first and the number of taps
# that meet something
SMALL_INPUTS = {
    "3x3, one row": ([3, 3], [1, 1], [1, 1], [1, 1], [1, 1], [1, 41], [1, 0], [1, 3]),
    "3x3, one column": ([3, 3], [1, 1], [1, 1], [1, 1], [1, 1], [23, 1], [0, 1], [3, 1]),
    "3x3, one pixel": ([3, 3], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1]),
    "3x3, a row below": ([3, 3], [1, 1], [1, 1], [2, 1], [0, 1], [1, 17], [2, 0], [1, 3]),
    "3x3, two outputs": ([3, 3], [1, 1], [1, 1], [2, 1], [1, 0], [1, 17], [1, 0], [2, 3]),
    "3x3 / 2": ([3, 3], [2, 2], [1, 1], [1, 1], [1, 1], [1, 30], [1, 0], [1, 3]),
    "3x3, dilated": ([3, 3], [1, 1], [2, 1], [2, 1], [2, 1], [2, 19], [1, 0], [1, 3]),
    "5x5, two rows": ([5, 5], [1, 1], [1, 1], [2, 2], [2, 2], [2, 33], [1, 0], [3, 5]),
    "5x3 / 3x1, dilated": ([5, 3], [3, 1], [2, 3], [4, 3], [4, 3], [2, 11], [2, 0], [1, 3]),
    "7": ([7], [1], [1], [3], [3], [2], [2], [3]),
    "5 / 2, behind pads": ([5], [2], [1], [4], [0], [1], [4], [1]),
    "3x3x3": ([3] * 3, [1] * 3, [1] * 3, [1] * 3, [1] * 3, [1, 2, 9], [1, 0, 0], [1, 3, 3]),
}


@pytest.mark.parametrize("channels", [*CHANNELS, "winograd"])
@pytest.mark.parametrize("window", SMALL_INPUTS)
def test_taps_that_only_meet_padding_are_left_out(instruction_set, window, channels):
    kernel, strides, dilations, before, after, shape, first, count = SMALL_INPUTS[window]
    inside, outside, groups = CHANNELS.get(channels, (17, 33, 1))
    part = tuple(slice(f, f + n) for f, n in zip(first, count, strict=True))
    moved = [p - f * d for p, f, d in zip(before, first, dilations, strict=True)]
    rng = np.random.default_rng([len(window), inside])
    for dtype in (np.float32, np.float64):
        w = rng.uniform(-1, 1, (outside, inside // groups, *kernel)).astype(dtype)
        b = rng.uniform(-1, 1, outside).astype(dtype)
        met = np.ascontiguousarray(w[(slice(None), slice(None), *part)])
        options = (b, strides, dilations, groups, False, channels == "winograd")
        layer, whole = Convolution(w, *options, True), Convolution(w, *options)
        small = Convolution(met, b, strides, dilations, groups)
        if layer.form == "winograd" and 2 in count:
            continue  # whole tiles of Winograd's are quicker
        for more in (0, 9):
            x = rng.uniform(-1, 1, (2, inside, *[n + more for n in shape])).astype(dtype)
            sizes = [
                (n + p + q - (k - 1) * d - 1) // s + 1
                for n, p, q, k, d, s in zip(
                    x.shape[2:], before, after, kernel, dilations, strides, strict=True
                )
            ]
            got = layer(x, sizes, before, threads=1)
            assert layer.nbytes == whole.nbytes + small.nbytes  # made once, at the first
            if more:
                assert np.array_equal(got, whole(x, sizes, before))
                continue
            exact = convolution(x, w, b, strides, dilations, groups, before, sizes)
            scale = max(np.abs(exact).max(), 1)
            np.testing.assert_allclose(got, exact, rtol=0, atol=TOLERANCE[dtype] * scale)
            for threads, same in itertools.product((1, 2, 3), layouts(x)):
                assert np.array_equal(layer(same, sizes, before, threads=threads), got)
            if layer.form != "winograd":  # whose weights are not kept bit for bit
                assert np.array_equal(small(x, sizes, moved), got)
                assert np.array_equal(layer.weight(), w)


def test_where_no_taps_are_left_out():
    """Little is saved, an axis has many taps, or there are no inputs or outputs."""
    rng = np.random.default_rng(5)
    for kernel, before, shape, sizes in (
        ([3, 3], [1, 1], [2, 9], [2, 9]),
        ([4, 1], [1, 0], [3, 9], [1, 9]),
        ([9, 1], [4, 0], [1, 9], [1, 9]),
        ([3, 3], [1, 1], [0, 9], [0, 9]),
        ([2, 2], [2, 2], [0, 0], [3, 3]),
    ):
        w = rng.uniform(-1, 1, (5, 4, *kernel)).astype(np.float32)
        x = rng.uniform(-1, 1, (2, 4, *shape)).astype(np.float32)
        layer = Convolution(w, None, [1, 1], [1, 1], leaves_out=True)
        whole = Convolution(w, None, [1, 1], [1, 1])
        assert np.array_equal(layer(x, sizes, before), whole(x, sizes, before))
        assert layer.nbytes == whole.nbytes
        assert layer(x[:0], sizes, before).shape == (0, 5, *sizes)


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 7, 9, 12, 17, 20, 31])
def test_rows_that_are_no_whole_vectors(instruction_set, columns):
    """Alone, side by side, in groups with others between them, and shared by threads."""
    rng = np.random.default_rng(columns)
    for groups, stride in ((1, 1), (2, 1), (1, 2)):
        w = rng.uniform(-1, 1, (groups * columns, 9, 2, 2)).astype(np.float32)
        x = rng.uniform(-1, 1, (2, groups * 9, 40, 37)).astype(np.float32)
        steps = [stride, stride]
        sizes = [(n - 2) // stride + 1 for n in x.shape[2:]]
        layer = Convolution(w, None, steps, [1, 1], groups)
        exact = convolution(x, w, None, steps, [1, 1], groups, [0, 0], sizes)
        got = layer(x, sizes, [0, 0], threads=1)
        np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6 * np.abs(exact).max())
        for threads in (2, 3):
            assert np.array_equal(layer(last(x), sizes, [0, 0], threads=threads), got)
        clipped = layer(x, sizes, [0, 0], low=-0.5, high=0.5)
        assert np.array_equal(clipped, np.clip(got, -0.5, 0.5))


@pytest.mark.parametrize("inside", [40, 3000])
def test_copies_of_channels_in_pieces(instruction_set, inside):
    """Depthwise with two outputs a channel: a row longer than the pixels that are turned at a time,
    and a pixel of more bytes than those."""
    rng = np.random.default_rng(inside)
    w = rng.uniform(-1, 1, (2 * inside, 1, 1, 3)).astype(np.float32)
    x = rng.uniform(-1, 1, (1, inside, 2, 121 if inside == 40 else 5)).astype(np.float32)
    layer = Convolution(w, None, [1, 1], [1, 1], inside)
    assert layer.form == "taps"
    sizes = [2, x.shape[3]]
    got = layer(x, sizes, [0, 1], threads=1)
    exact = convolution(x, w, None, [1, 1], [1, 1], inside, [0, 1], sizes)
    np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6)
    for same in layouts(x):
        assert np.array_equal(layer(same, sizes, [0, 1]), got)


def test_short_runs_are_taken_apart():
    """Where all of them are short, in parts of as many terms as before; long ones stay whole."""
    places = [(y, x) for y in range(3) for x in range(3)]
    whole, parts = runs_of(places, 2, True, 256)
    assert [run[-2:] for run in whole] == [(0, 6)] * 3
    assert parts == [0, 3]
    apart, parts = runs_of(places, 2, True, 10, apart=True)
    assert [run[:-1] for run in apart] == [(y, 0, c) for y in range(3) for c in range(6)]
    assert all(run[-1] == 1 for run in apart)
    assert parts == [0, 10, 18]
    assert runs_of(places, 3, True, 256, apart=True) == runs_of(places, 3, True, 256)


def test_what_follows_few_columns_costs_little(instruction_set):
    """A group's column lies between other groups': bounds took the square of a block's rows."""
    w = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)
    x = np.zeros((1, 6, 64, 64), np.float32)
    layer = Convolution(w, None, [1, 1], [1, 1], 2)

    def seconds(low):
        begin = time.thread_time()
        for _ in range(4):
            layer(x, [62, 62], [0, 0], low, threads=1)
        return time.thread_time() - begin

    assert min(seconds(0.0) for _ in range(7)) < 5 * min(seconds(None) for _ in range(7))
