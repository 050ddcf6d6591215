"""exp, tanh and sigmoid over all float32 exponents and signs, in units in the last place."""

import sys

import numpy as np
import pytest

from tests.reference import sigmoid
from vledge._ext import isa

DEFINITIONS = {"exp": np.exp, "tanh": np.tanh, "sigmoid": sigmoid}
# Largest error in ulp. Below the smallest normal result an ulp is the subnormals' spacing, but the
# vector unit of 32-bit Arm has none of them: there results below 2^-126 are zeros.
BOUNDS = {"exp": 2, "tanh": 4, "sigmoid": 4}


def every_exponent():
    """All 256 exponents and both signs, with 2,048 mantissas each."""
    rng = np.random.default_rng(0)
    mantissas = np.concatenate([[0, 1, 2**23 - 1], rng.integers(0, 2**23, 2045)])
    heads = np.arange(512, dtype=np.uint32) << 23
    bits = (heads[:, None] | mantissas[None].astype(np.uint32)).reshape(-1)
    values = bits.view(np.float32)
    return values[np.isfinite(values)]


@pytest.mark.parametrize("function", DEFINITIONS)
def test_error_in_ulp(instruction_set, function, record_property):
    x = every_exponent()
    with np.errstate(over="ignore"):
        exact = DEFINITIONS[function](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    got = isa.apply(function, x)
    finite = np.isfinite(rounded)
    assert np.array_equal(got[~finite], rounded[~finite])
    spacing = np.maximum(np.spacing(np.abs(rounded[finite])), np.float32(2**-149))
    error = np.abs(got[finite] - exact[finite]) / spacing
    if instruction_set == "neon" and sys.maxsize < 2**32:
        error[(np.abs(exact[finite]) < 2.0**-126) & (got[finite] == 0)] = 0
    worst = error.argmax()
    record_property("worst", f"{function} {error[worst]:.3f} ulp at {x[finite][worst]!r}")
    print(f"{instruction_set} {function}: {error[worst]:.3f} ulp at {x[finite][worst]!r}")
    assert error[worst] <= BOUNDS[function]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "at_minus_infinity", "at_infinity"),
    [("exp", 0, np.inf), ("tanh", -1, 1), ("sigmoid", 0, 1)],
)
def test_special_values(instruction_set, function, at_minus_infinity, at_infinity, dtype):
    # a lane of NaN must not disturb its neighbours, and a tail is as good as a full vector
    for length in (1, 3, 16, 37):
        x = np.zeros(length, dtype)
        x[:3] = [np.nan, np.inf, -np.inf][:length]
        got = isa.apply(function, x)
        expected = [np.nan, at_infinity, at_minus_infinity][:length]
        np.testing.assert_array_equal(got[:3], expected)
        zero = {"exp": 1, "tanh": 0, "sigmoid": 0.5}[function]
        np.testing.assert_array_equal(got[3:], zero)


@pytest.mark.parametrize("function", DEFINITIONS)
def test_float64(instruction_set, function):
    x = np.linspace(-40, 40, 10_001)
    exact = DEFINITIONS[function](x)
    np.testing.assert_allclose(isa.apply(function, x), exact, rtol=1e-14)


def test_unknown_function_and_dtype():
    with pytest.raises(ValueError, match="no vector function 'erf'"):
        isa.apply("erf", np.zeros(1))
    with pytest.raises(ValueError, match="int64"):
        isa.apply("exp", np.zeros(1, np.int64))


def test_unknown_instruction_set():
    with pytest.raises(ValueError, match="'sse9' cannot run here"):
        isa.select("sse9")
