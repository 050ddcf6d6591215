"""Handlers of single operations on any type against the Python operators."""

import numpy as np
import pytest

from tests.program.test_chain import HOW, broadcast
from vledge._ext.program import run_handler, type_code
from vledge.graph import registry

INTEGERS = [np.dtype(t) for t in ("i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1")]
REALS = [np.dtype(t) for t in ("f4", "f8")]
BOOL = [np.dtype(bool)]

# handler: operator, attributes, dtypes, inputs
HANDLERS = {
    "add": ("Add", {}, INTEGERS + REALS, 2),
    "subtract": ("Sub", {}, INTEGERS + REALS, 2),
    "multiply": ("Mul", {}, INTEGERS + REALS, 2),
    "divide": ("Div", {}, INTEGERS + REALS, 2),
    "maximum": ("Max", {}, INTEGERS + REALS, 2),
    "minimum": ("Min", {}, INTEGERS + REALS, 2),
    "modulo": ("Mod", {}, INTEGERS + REALS, 2),
    "remainder": ("Mod", {"fmod": 1}, INTEGERS + REALS, 2),
    "negative": ("Neg", {}, INTEGERS[:4] + REALS, 1),
    "absolute": ("Abs", {}, INTEGERS + REALS, 1),
    "sign": ("Sign", {}, INTEGERS + REALS, 1),
    "sqrt": ("Sqrt", {}, REALS, 1),
    "reciprocal": ("Reciprocal", {}, REALS, 1),
    "floor": ("Floor", {}, REALS, 1),
    "ceil": ("Ceil", {}, REALS, 1),
    "round": ("Round", {}, REALS, 1),
    "bitwise_and": ("BitwiseAnd", {}, INTEGERS, 2),
    "bitwise_or": ("BitwiseOr", {}, INTEGERS, 2),
    "bitwise_xor": ("BitwiseXor", {}, INTEGERS, 2),
    "bitwise_not": ("BitwiseNot", {}, INTEGERS, 1),
    "less": ("Less", {}, INTEGERS + REALS, 2),
    "less_equal": ("LessOrEqual", {}, INTEGERS + REALS, 2),
    "greater": ("Greater", {}, INTEGERS + REALS, 2),
    "greater_equal": ("GreaterOrEqual", {}, INTEGERS + REALS, 2),
    "equal": ("Equal", {}, INTEGERS + REALS + BOOL, 2),
    "logical_and": ("And", {}, BOOL, 2),
    "logical_or": ("Or", {}, BOOL, 2),
    "logical_xor": ("Xor", {}, BOOL, 2),
    "logical_not": ("Not", {}, BOOL, 1),
    "is_nan": ("IsNaN", {}, REALS, 1),
    "is_inf": ("IsInf", {}, REALS, 1),
}


def operator(name, *arrays, opset=20, **attributes):
    entry = registry.find(name, "", opset)
    with np.errstate(all="ignore"):
        if entry.is_factory:
            return np.asarray(entry.function(None, **attributes)(*arrays))
        return np.asarray(entry.function(*arrays, **attributes))


def values(shape, dtype, rng):
    if dtype.kind == "f":
        a = rng.normal(size=shape) * 3
        a = np.where(rng.random(shape) < 0.3, np.rint(a), a)
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-3, 4e9])
        return np.where(rng.random(shape) < 0.1, rng.choice(special, shape), a).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    a = rng.integers(max(info.min, -5), 6, shape, dtype=np.int64)
    edges = np.array([info.min, info.max, -1 if info.min < 0 else 1], object)
    return np.where(rng.random(shape) < 0.15, rng.choice(edges, shape), a).astype(dtype)


def laid(shape, dtype, rng):
    """As tests.program.test_chain.laid, of any type."""
    how = HOW[rng.integers(5)]
    order = rng.permutation(len(shape)) if how == "permuted" else np.arange(len(shape))
    gaps = [1 + (how == "sliced" and int(rng.integers(2))) for _ in shape]
    a = values([shape[k] * gaps[k] for k in order], dtype, rng).transpose(np.argsort(order))
    a = a[tuple(slice(None, None, g) for g in gaps)]
    if how == "backwards":
        a = a[tuple(slice(None, None, -1) for _ in shape)]
    if how == "repeated" and a.size:
        a = np.broadcast_to(a[(slice(1),) * a.ndim], a.shape)
    return np.asarray(a)


def shapes(rng):
    rank = int(rng.integers(6))
    shape = [int(rng.choice([1, 2, 3, 7, 40])) for _ in range(rank)]
    if rank and rng.random() < 0.05:
        shape[rng.integers(rank)] = 0
    return shape


@pytest.mark.parametrize("handler", HANDLERS)
def test_against_the_operator(handler):
    name, attributes, dtypes, count = HANDLERS[handler]
    rng = np.random.default_rng(len(handler))
    for dtype in dtypes:
        for _ in range(40):
            shape = shapes(rng)
            arrays = [laid(broadcast(shape, rng), dtype, rng) for _ in range(count)]
            expected = operator(name, *arrays, **attributes)
            (got,) = run_handler(handler, arrays)
            assert got.dtype == expected.dtype
            assert got.shape == expected.shape
            np.testing.assert_array_equal(got, expected, f"{dtype} {arrays}")


@pytest.mark.parametrize("handler", [h for h in HANDLERS if HANDLERS[h][3] == 2])
def test_declines(handler):
    dtype = HANDLERS[handler][2][0]
    a = np.ones((3, 4), dtype)
    others = [np.ones((3, 5), dtype), np.ones(4, np.float16), None]
    for other in others:
        assert run_handler(handler, [a, other]) is None
    assert run_handler(handler, [a, a]) is not None


@pytest.mark.parametrize("exponent", ["i8", "i4", "f4", "f8"])
@pytest.mark.parametrize("base", ["i8", "i4", "f4", "f8"])
def test_power(base, exponent):
    rng = np.random.default_rng(0)
    ran = 0
    for power in (0, 1, 2, 3, 0.5, -1, 7):
        x = values((3, 5), np.dtype(base), rng)
        y = np.array(power).astype(exponent)
        if power == 0.5:
            x = np.abs(x)  # of minus infinity and minus zero NumPy takes the root, C the power
        expected = _power(x, y)
        got = run_handler("power", [x, y])
        if got is None:
            continue
        ran += 1
        np.testing.assert_allclose(got[0], expected, rtol=1e-6 if base == "f4" else 1e-14)
        assert got[0].dtype == x.dtype
    assert ran >= (5 if base[0] == "f" or exponent[0] == "i" else 0)
    x = np.arange(1, 6).astype(base)
    got = run_handler("power", [x, x])
    np.testing.assert_allclose(got[0], x**x, rtol=1e-6)
    y = -x
    if base[0] == "i":
        assert run_handler("power", [x, y]) is None  # the operator's rounding
        assert run_handler("power", [x, y[:1]]) is None


def _power(x, y):
    from vledge.graph.operators.elementwise import power

    with np.errstate(all="ignore"):
        return power(x, y)


def test_where():
    rng = np.random.default_rng(3)
    for dtype in [*INTEGERS, *REALS, *BOOL, np.dtype(np.float16)]:
        for _ in range(40):
            shape = shapes(rng)
            p = laid(broadcast(shape, rng), np.dtype(bool), rng)
            x, y = (
                laid(broadcast(shape, rng), dtype, rng)
                if dtype != np.float16
                else laid(broadcast(shape, rng), np.dtype("f4"), rng).astype("f2")
                for _ in range(2)
            )
            (got,) = run_handler("where", [p, x, y])
            expected = operator("Where", p, x, y)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)
            assert got.shape == expected.shape
    assert run_handler("where", [p, x.astype("f8"), y.astype("f4")]) is None
    assert run_handler("where", [np.ones(2), x, x]) is None


ALL = [*INTEGERS, *REALS, *BOOL, np.dtype(np.float16)]


@pytest.mark.parametrize("source", ALL, ids=str)
@pytest.mark.parametrize("target", ALL, ids=str)
def test_cast(source, target):
    rng = np.random.default_rng(1)
    for _ in range(25):
        shape = shapes(rng)
        x = laid(shape, source if source.kind != "f" else np.dtype("f8"), rng)
        if source.kind == "f":
            if target.kind in "iu":  # what does not fit is left to the machine
                x = np.clip(np.nan_to_num(x), 0 if target.kind == "u" else -100, 100)
            with np.errstate(over="ignore"):
                x = np.asarray(x).astype(source)
        with np.errstate(all="ignore"):
            expected = x.astype(target)
        got = run_handler("cast", [x], [type_code(target)])
        if source == np.uint64 and target.kind == "f":
            assert got is None
            continue
        assert got[0].dtype == target
        np.testing.assert_array_equal(got[0], expected)


def test_halves():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    (wide,) = run_handler("cast", [every], [type_code(np.float32)])
    np.testing.assert_array_equal(wide, every.astype(np.float32))
    rng = np.random.default_rng(0)
    near = every[np.isfinite(every)].astype(np.float64)
    x = np.concatenate(
        [
            near,
            near * (1 + 2.0**-11),
            near * (1 - 2.0**-11),
            near * (1 + rng.normal(size=near.size) / 500),
            near + 2.0**-25,
            [65504, 65519.99, 65520, 1e300, np.inf, -np.inf, np.nan],
        ]
    )
    with np.errstate(over="ignore"):
        for wide in (x, x.astype(np.float32)):
            (half,) = run_handler("cast", [wide], [type_code(np.float16)])
            np.testing.assert_array_equal(half, wide.astype(np.float16))


def test_a_cast_keeps_the_order_of_the_axes():
    x = np.arange(60).reshape(3, 5, 4).transpose(0, 2, 1)
    (y,) = run_handler("cast", [x], [type_code(np.float32)])
    assert y.strides == (80, 4, 16)
    np.testing.assert_array_equal(x, y)
