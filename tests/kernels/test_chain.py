"""Element-wise chains against NumPy: micro-operations over all exponents, arrays lying anyhow."""

import numpy as np
import pytest

from tests.kernels.test_vector_math import every_exponent
from vledge._ext import isa

MICROS = isa.micros()


def micro(name, to, *sources):
    a, b, c = (*sources, 0, 0, 0)[:3]
    number, count = MICROS[name]
    assert len(sources) == count
    return number | to << 8 | a << 16 | b << 24 | c << 32


def run(program, constants, operands, results, scratch=0):
    isa.chain(
        np.array(program, np.int64), np.array(constants, np.float32), operands, results, scratch
    )


def applied(name, *arrays, result=np.float32):
    """One micro-operation over arrays of one axis."""
    out = np.empty((1, len(arrays[0])), result)
    sources = range(len(arrays))
    run([micro(name, len(arrays), *sources)], [], [a[None] for a in arrays], [out])
    return out[0]


def _with_errors_ignored(function):
    def run(*arrays):
        with np.errstate(all="ignore"):
            return function(*(a.astype(np.float64) for a in arrays))

    return run


def _erf(x):
    from math import erf

    return np.array([erf(v) for v in x])


def _gelu(x):
    return x / 2 * (1 + _erf(x * np.sqrt(0.5)))


def _gelu_by_tanh(x):
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# name: definition in double precision, ulp; 0.5 is correctly rounded
FUNCTIONS = {
    "copy": (lambda x: x, 0),
    "negative": (np.negative, 0),
    "abs": (np.abs, 0),
    "sign": (np.sign, 0),
    "floor": (np.floor, 0),
    "ceil": (np.ceil, 0),
    "round": (np.rint, 0),
    "square": (np.square, 0.5),
    "sqrt": (np.sqrt, 0.5),
    "reciprocal": (np.reciprocal, 0.5),
    "exp": (np.exp, 2),
    "expm1": (np.expm1, 3),
    "log": (np.log, 1.5),
    "sin": (np.sin, 2.5),
    "cos": (np.cos, 2.5),
    "tanh": (np.tanh, 4),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 4),
    "erf": (_erf, 3),
    "softplus": (lambda x: np.logaddexp(x, 0), 4),
    "tan": (np.tan, 5),
    "asin": (np.arcsin, 3),
    "acos": (np.arccos, 3),
    "atan": (np.arctan, 2),
    "sinh": (np.sinh, 4),
    "cosh": (np.cosh, 4),
    "asinh": (np.arcsinh, 3.5),
    "acosh": (np.arccosh, 3.5),
    "atanh": (np.arctanh, 3.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_ulp(instruction_set, name, record_property):
    x = every_exponent()
    definition, bound = FUNCTIONS[name]
    exact = _with_errors_ignored(definition)(x)
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    got = applied(name, x)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    with np.errstate(over="ignore"):
        spacing = np.maximum(np.spacing(np.abs(rounded[finite])), np.float32(2**-149))
    error = np.abs(got[finite] - exact[finite]) / spacing
    if instruction_set == "neon":  # the vector unit of 32-bit Arm has no subnormals
        error[(np.abs(exact[finite]) < 2.0**-126) & (got[finite] == 0)] = 0
    worst = error.argmax()
    record_property("worst", f"{name} {error[worst]:.3f} ulp at {x[finite][worst]!r}")
    print(f"{instruction_set} {name}: {error[worst]:.3f} ulp at {x[finite][worst]!r}")
    assert error[worst] <= bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(instruction_set, name):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5], np.float32)
    expected = _with_errors_ignored(FUNCTIONS[name][0])(x).astype(np.float32)
    got = applied(name, x)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "gelu_by_tanh", "silu", "hard_swish"])
def test_products_with_x(instruction_set, name):
    """Their error is that of the factor: relative to x, not to the product."""
    definition = {
        "gelu": _gelu,
        "gelu_by_tanh": _gelu_by_tanh,
        "silu": lambda x: x / (1 + np.exp(-x)),
        "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    }[name]
    x = np.concatenate([np.linspace(-20, 20, 40_001), [1e-30, -1e-30]]).astype(np.float32)
    exact = _with_errors_ignored(definition)(x)
    assert np.all(np.abs(applied(name, x) - exact) <= 4e-7 * np.abs(x))
    assert np.isnan(applied(name, np.array([np.nan], np.float32)))[0]


def _pairs(count=20_000):
    rng = np.random.default_rng(1)
    special = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 2.5], np.float32)
    x, y = (g.reshape(-1) for g in np.meshgrid(special, special))
    a, b = (rng.normal(size=count).astype(np.float32) for _ in range(2))
    return np.concatenate([x, a]), np.concatenate([y, b])


BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "leaky": lambda x, y: np.where(x < 0, x * y, x),
}


@pytest.mark.parametrize("name", BINARY)
def test_two_sources_bit_by_bit(instruction_set, name):
    x, y = _pairs()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(applied(name, x, y), BINARY[name](x, y))


def test_bounds(instruction_set):
    x, y = _pairs()
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    np.testing.assert_array_equal(applied("at_least", x, y), np.maximum(x, y))
    np.testing.assert_array_equal(applied("at_most", x, y), np.minimum(x, y))
    high = np.maximum(y, np.float32(0.5))
    np.testing.assert_array_equal(applied("clip", x, y, high), np.minimum(np.maximum(x, y), high))


def test_power_and_elu(instruction_set):
    x, y = _pairs()
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
        np.testing.assert_allclose(applied("power", x, y), exact.astype(np.float32), rtol=2e-7)
        elu = np.where(x < 0, np.expm1(x.astype(np.float64)) * y, x).astype(np.float32)
        np.testing.assert_allclose(applied("elu", x, y), elu, rtol=6e-7)


def test_powers_over_the_range(instruction_set):
    """Bases of all sizes, exponents for which the result is a number that float32 has."""
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(-80, 80, 200_000)).astype(np.float32)
    top = np.minimum(80 / np.abs(np.log(x.astype(np.float64))), 1e6)
    y = (rng.uniform(-1, 1, len(x)) * top).astype(np.float32)
    x[:50], y[:50] = 2, np.arange(-25, 25)
    exact = np.power(x.astype(np.float64), y.astype(np.float64))
    error = np.abs(applied("power", x, y) - exact) / np.spacing(exact.astype(np.float32))
    print(f"{instruction_set} power: {error.max():.3f} ulp")
    assert error.max() <= 0.6
    x = np.array([0, -0.0, 0, -2, -2, -2, np.inf, np.inf, 2, 0.5, 1e30, 1e-30, 1e-42], np.float32)
    y = np.array([2, 3, -1, 3, 2, 0.5, 2, -2, np.inf, np.inf, 3, 3, 0.5], np.float32)
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(applied("power", x, y), expected, rtol=2e-7)


def test_sums_of_products(instruction_set):
    x, y = _pairs()
    z = np.roll(x, 7)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(applied("multiply_add", x, y, z), x * y + z)
        exact = x.astype(np.float64) * y + z
        np.testing.assert_allclose(
            applied("fused_multiply_add", x, y, z), exact.astype(np.float32), rtol=2e-7, atol=2e-7
        )
        np.testing.assert_array_equal(
            applied("hard_sigmoid", x, y, z),
            np.minimum(np.maximum(x * y + z, np.float32(0)), np.float32(1)),
        )


@pytest.mark.parametrize(
    ("name", "definition"),
    [("less", np.less), ("less_equal", np.less_equal), ("equal", np.equal)],
)
def test_comparisons(instruction_set, name, definition):
    x, y = _pairs()
    y[::5] = x[::5]
    np.testing.assert_array_equal(applied(name, x, y, result=np.bool_), definition(x, y))


def test_masks(instruction_set):
    x, y = _pairs()
    p, q = x > 0, y > 0
    for name, definition in [
        ("both", np.logical_and),
        ("either", np.logical_or),
        ("differ", np.logical_xor),
    ]:
        got = applied(name, p, q, result=np.bool_)
        np.testing.assert_array_equal(got, definition(p, q))
    np.testing.assert_array_equal(applied("not", p, result=np.bool_), ~p)
    np.testing.assert_array_equal(applied("is_nan", x, result=np.bool_), np.isnan(x))
    np.testing.assert_array_equal(applied("where", p, x, y), np.where(p, x, y))
    # any byte but 0 is true
    odd = (p * np.uint8(6)).view(np.bool_)
    np.testing.assert_array_equal(applied("where", odd, x, y), np.where(p, x, y))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_bytes(instruction_set, dtype):
    """Every number of the type goes in and comes out, whatever the tail; NaN comes out as 0."""
    ends = np.iinfo(dtype)
    numbers = np.arange(ends.min, ends.max + 1)
    for width in (1, 3, 33, 256, 1000):
        x = np.resize(numbers, width).astype(dtype)
        np.testing.assert_array_equal(applied("copy", x), x.astype(np.float32))
        reals = x.astype(np.float32)
        np.testing.assert_array_equal(applied("copy", reals, result=dtype), x)
        np.testing.assert_array_equal(applied("copy", x[::-1], result=dtype), x[::-1])
        np.testing.assert_array_equal(applied("add", x, reals), reals + reals)
        reals[-1] = np.nan
        assert applied("copy", reals, result=dtype)[-1] == 0


# ---- how arrays lie


def _laid(kind, rows, columns, rng, dtype=np.float32):
    """An array [rows, columns] that lies in memory as `kind` says."""

    def fresh(*shape):
        values = rng.normal(size=shape)
        return (values > 0) if dtype is np.bool_ else values.astype(dtype)

    shape = (rows, columns)
    return {
        "flat": lambda: fresh(rows, columns),
        "gaps": lambda: fresh(rows, columns + 3)[:, 1 : columns + 1],
        "every other": lambda: fresh(rows, 2 * columns)[:, ::2],
        "backwards": lambda: fresh(rows, columns)[::-1, ::-1],
        "transposed": lambda: fresh(columns, rows).T,
        "one row": lambda: np.broadcast_to(fresh(columns), shape),
        "one column": lambda: np.broadcast_to(fresh(rows, 1), shape),
        "one number": lambda: np.broadcast_to(fresh(1, 1), shape),
    }[kind]()


KINDS = (
    "flat", "gaps", "every other", "backwards", "transposed", "one row", "one column", "one number",
)  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("columns", [1, 3, 8, 16, 24, 100, 256, 511, 512, 513, 1030])
def test_layouts(instruction_set, rows, columns):
    rng = np.random.default_rng(rows * 2000 + columns)
    for number, kind in enumerate(KINDS):
        other = KINDS[(number * 3 + rows) % len(KINDS)]
        x = _laid(kind, rows, columns, rng)
        y = _laid(other, rows, columns, rng)
        where = _laid(KINDS[(number + columns) % len(KINDS)], rows, columns, rng, np.bool_)
        for target in ("flat", "gaps", "every other", "transposed"):
            out = _laid(target, rows, columns, rng)
            before = out.base.copy() if out.base is not None else None
            less = _laid(target, rows, columns, rng, np.bool_)
            # places: x y where | 2 | out less | scratch 6, 7
            run(
                [
                    micro("multiply", 6, 0, 3),
                    micro("exp", 7, 1),
                    micro("less", 5, 6, 7),
                    micro("add", 6, 6, 7),
                    micro("where", 4, 2, 6, 1),
                ],
                [2],
                [x, y, where],
                [out, less],
                scratch=2,
            )
            exp = applied("exp", np.ascontiguousarray(y).reshape(-1)).reshape(rows, columns)
            twice = x * np.float32(2)
            np.testing.assert_array_equal(out, np.where(where, twice + exp, y), kind)
            np.testing.assert_array_equal(less, twice < exp)
            if before is not None:  # what lies between belongs to somebody else
                out[...] = 0
                after = out.base.copy()
                out.base[...] = before
                out[...] = 0
                np.testing.assert_array_equal(after, out.base)


def test_nothing_to_do(instruction_set):
    for shape in [(0, 5), (5, 0)]:
        run([micro("copy", 1, 0)], [], [np.empty(shape, np.float32)], [np.empty(shape, np.float32)])


def test_results_of_what_is_the_same_everywhere(instruction_set):
    """A result is written whole even if its sources are single numbers."""
    out = np.zeros((3, 50), np.float32)
    run(
        [micro("add", 3, 1, 2), micro("copy", 2 + 1, 3)],
        [1, 2],
        [np.zeros((3, 50), np.float32)],
        [out],
    )
    np.testing.assert_array_equal(out, 3)
    run(
        [micro("add", 4, 1, 2), micro("copy", 3, 4)],
        [1, 2],
        [np.zeros((3, 50), np.float32)],
        [out],
        scratch=1,
    )
    np.testing.assert_array_equal(out, 3)
