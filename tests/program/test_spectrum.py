"""DFT and STFT: lengths with every kind of factor, layouts, types, against NumPy in double."""

import signal
import time
from itertools import pairwise

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.program.test_expressions import both_ways
from vledge._ext.program import run_handler

# powers of two, four, three and five, primes, odd and even products, and 1
LENGTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 20, 25, 32, 35, 49, 60, 64, 74, 97, 120]
LENGTHS += [128, 160, 251, 256, 400, 441, 480, 512, 960, 1009, 1024]
TYPES = {np.float32: 3e-7, np.float64: 1e-15}


def close(got, expected, dtype):
    """Within an error relative to the norm of each spectrum, as each adds up a whole signal."""
    assert got.dtype == dtype
    assert got.shape == expected.shape
    bound = TYPES[dtype] * np.log2(expected.shape[1] + 2) * (np.linalg.norm(expected, axis=1) + 1)
    assert np.all(np.abs(got - expected) <= bound[:, None])


def pairs(z):
    return np.stack((z.real, z.imag), -1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_lengths(instruction_set, n, dtype):
    """As many signals as lanes, one more, and one alone, whose bits do not depend on the others."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(19, n, 2)).astype(dtype)
    z = x.astype(np.float64) @ np.array([1, 1j])
    for inverse, onesided, given, exact in [
        (0, 0, x, pairs(np.fft.fft(z))),
        (1, 0, x, pairs(np.fft.ifft(z))),
        (0, 1, x[..., :1], pairs(np.fft.rfft(z.real))),
        (0, 0, x[..., :1], pairs(np.fft.fft(z.real))),
        (1, 1, x, np.fft.irfft(z, n)[..., None]),
    ]:
        length = np.array(n) if inverse and onesided else None
        inputs = [given, length]
        (got,) = run_handler("dft", inputs, [1, inverse, onesided, 0])
        flat = got.reshape(19, -1), exact.reshape(19, -1)
        close(*flat, dtype)
        (alone,) = run_handler("dft", [given[7:8], length], [1, inverse, onesided, 0])
        np.testing.assert_array_equal(alone[0], got[7])
        (shared,) = run_handler("dft", inputs, [1, inverse, onesided, 0], threads=2)
        np.testing.assert_array_equal(shared, got)


@pytest.mark.parametrize("seed", range(40))
def test_dft_both_ways(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    shape = [int(n) for n in rng.integers(1, 7, rng.integers(1, 4))]
    axis = int(rng.integers(len(shape)))
    shape[axis] = int(rng.integers(2, 40))
    onesided, inverse = (int(n) for n in rng.integers(0, 2, 2))
    parts = 1 if onesided and not inverse else int(rng.integers(1, 3))
    dtype = [np.float32, np.float64][seed % 2]
    feed = {"x": rng.normal(size=[*shape, parts]).astype(dtype)}
    if seed % 3 == 0:
        feed["x"] = np.asfortranarray(feed["x"])
    constants, names = {}, ["x", "", ""]
    if rng.integers(2):
        names[1] = "n"
        (constants if rng.integers(2) else feed)["n"] = np.array(int(rng.integers(2, 50)))
    attributes = {"inverse": inverse, "onesided": onesided}
    opset = 20 if seed % 4 else 17
    if opset == 20:
        names[2] = "axis"
        turned = axis - len(shape) - 1 if rng.integers(2) else axis
        (constants if rng.integers(2) else feed)["axis"] = np.array(turned)
    else:
        attributes["axis"] = axis
        names = names[:2]
    model = model_bytes([node("DFT", names, ["y"], **attributes)], feed, ["y"], constants, opset)
    (got,), (expected,), declined, _ = both_ways(model, feed, monkeypatch)
    assert declined == 0
    assert got.dtype == expected.dtype
    tolerance = 4e-6 if dtype == np.float32 else 1e-14
    scale = np.abs(expected).max() + 1
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("seed", range(30))
def test_stft_both_ways(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    dtype = [np.float32, np.float64][seed % 2]
    length = int(rng.choice([1, 8, 15, 64, 100, 257]))
    onesided = int(rng.integers(2))
    shape = [int(rng.integers(1, 4)), int(rng.integers(length, 900))]
    if not onesided:
        shape.append(int(rng.integers(1, 3)))
    elif rng.integers(2):
        shape.append(1)
    feed = {"x": rng.normal(size=shape).astype(dtype)}
    constants, names = {"step": np.array(int(rng.integers(1, 70)))}, ["x", "step", "", ""]
    with_window = bool(rng.integers(2))
    if with_window:
        names[2] = "w"
        (constants if rng.integers(2) else feed)["w"] = rng.uniform(size=length).astype(dtype)
    if not with_window or rng.integers(2):
        names[3] = "n"
        (constants if rng.integers(2) else feed)["n"] = np.array(length)
    model = model_bytes([node("STFT", names, ["y"], onesided=onesided)], feed, ["y"], constants, 17)
    (got,), (expected,), declined, _ = both_ways(model, feed, monkeypatch)
    assert declined == 0
    tolerance = 4e-6 if dtype == np.float32 else 1e-14
    scale = np.abs(expected).max() + 1
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


def test_what_is_left_to_the_reference():
    x = np.ones((1, 2 * 1013, 1), np.float32)
    assert run_handler("dft", [x, None], [1, 0, 0, 0]) is None  # a large prime factor
    x = np.ones((1, 8, 2), np.float32)
    assert run_handler("dft", [x, None], [1, 0, 1, 0]) is None  # onesided, but complex
    assert run_handler("dft", [x, None], [2, 0, 0, 0]) is None
    assert run_handler("dft", [x.astype(np.float16), None], [1, 0, 0, 0]) is None
    assert run_handler("dft", [x, np.array(0)], [1, 0, 0, 0]) is None
    step = np.array(2)
    signal = np.ones((1, 8), np.float32)
    assert run_handler("stft", [signal, step, None, np.array(9)], [1, 0]) is None
    assert run_handler("stft", [signal, np.array(0), None, np.array(4)], [1, 0]) is None
    assert run_handler("stft", [signal, step, np.ones(5, np.float32), np.array(4)], [1, 0]) is None
    assert run_handler("stft", [signal, step, np.ones(4), np.array(4)], [1, 0]) is None


def test_mistakes_have_their_messages():
    feed = {"x": np.ones((1, 8), np.float32)}
    nodes = [node("STFT", ["x", "step", "", "n"], ["y"])]
    constants = {"step": np.array(4), "n": np.array(9)}
    session = vledge.InferenceSession(model_bytes(nodes, feed, ["y"], constants, 17))
    with pytest.raises(ValueError, match=r"frame_length 9, expected .* frames of 1 to 8 samples"):
        session.run(None, feed)


def test_one_long_signal_hears_signals():
    """Between the passes over it, and in what comes before and after them."""
    x = np.ones((1, 1 << 21, 1), np.float32)
    model = model_bytes([node("DFT", ["x"], ["y"], axis=1)], {"x": x}, ["y"], {}, 17)
    session = vledge.InferenceSession(model)
    heard = [time.thread_time()]
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(time.thread_time()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        session.run(None, {"x": x})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    heard.append(time.thread_time())
    longest = max(later - earlier for earlier, later in pairwise(heard))
    assert longest < 0.6 * (heard[-1] - heard[0])  # nothing was heard before the handler ended
