"""The chain's handler against NumPy, whose broadcasting it has."""

import numpy as np
import pytest

from tests.kernels.test_chain import micro
from vledge._ext.program import run_handler


def chain(
    operands,
    constants,
    results,
    scratch,
    micros,
    inputs,
    sets=None,
    elements=0,
    channels=0,
    axes=0,
    **keywords,
):
    sets = sets or [-1] * results
    ints = [operands, len(constants), results, scratch, len(micros)]
    ints += [elements, channels, axes, *sets, *micros]
    return run_handler("chain", inputs, ints, constants, results, **keywords)


def laid(shape, rng, how, dtype=np.float32):
    """An array of this shape, some axes of it of one, that lies as `how` says."""
    order = rng.permutation(len(shape)) if how == "permuted" else np.arange(len(shape))
    gaps = [1 + (how == "sliced" and rng.integers(2)) for _ in shape]
    full = [shape[a] * gaps[a] for a in order]
    values = rng.normal(size=full)
    values = values > 0 if dtype == np.bool_ else values.astype(dtype)
    a = values.transpose(np.argsort(order))[tuple(slice(None, None, int(g)) for g in gaps)]
    if how == "backwards":
        a = a[tuple(slice(None, None, -1) for _ in shape)]
    if how == "repeated" and a.ndim:
        axis = rng.integers(a.ndim)
        a = np.broadcast_to(np.take(a, [0], axis) if a.shape[axis] else a, a.shape)
    assert a.shape == tuple(shape)
    return np.asarray(a)


def broadcast(shape, rng):
    """A shape that broadcasts into this one."""
    kept = list(shape[rng.integers(len(shape) + 1) :]) if rng.integers(2) else list(shape)
    return [1 if rng.integers(3) == 0 else size for size in kept]


HOW = ("flat", "permuted", "sliced", "backwards", "repeated")


@pytest.mark.parametrize("seed", range(150))
def test_broadcasting(instruction_set, seed):
    rng = np.random.default_rng(seed)
    rank = rng.integers(9)
    shape = [int(rng.choice([1, 2, 3, 5, 17])) for _ in range(rank)]
    if rank and seed % 30 == 7:
        shape[rng.integers(rank)] = 0
    if rank and rank < 4:
        shape[rng.integers(rank)] = int(rng.integers(100, 2000))
    x, y = (laid(broadcast(shape, rng), rng, HOW[rng.integers(5)]) for _ in range(2))
    p = laid(broadcast(shape, rng), rng, HOW[rng.integers(5)], np.bool_)
    # x y p | 2 | out less | scratch
    micros = [
        micro("multiply", 6, 0, 3),
        micro("less", 5, 6, 1),
        micro("add", 6, 6, 1),
        micro("where", 4, 2, 6, 1),
    ]
    expected = np.where(p, x * np.float32(2) + y, y)
    less = np.broadcast_to(x * np.float32(2) < y, expected.shape)
    for threads in (1, 2):
        got = chain(
            3, [2], 2, 1, micros, [x, y, p], elements=1 << 2 * 2 | 1 << 2 * 4, threads=threads
        )
        assert [a.dtype for a in got] == [np.float32, np.bool_]
        assert got[0].shape == got[1].shape == expected.shape
        np.testing.assert_array_equal(got[0], expected)
        np.testing.assert_array_equal(got[1], less)


def test_the_largest_operand_gives_the_order():
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 5)).astype(np.float32).transpose(0, 3, 1, 2)
    bias = np.arange(5, dtype=np.float32)[:, None, None]
    (y,) = chain(2, [], 1, 0, [micro("add", 2, 0, 1)], [x, bias])
    assert y.strides == x.strides
    (y,) = chain(2, [], 1, 0, [micro("add", 2, 1, 0)], [np.broadcast_to(bias, (2, 5, 9, 7)), x])
    assert y.strides == x.strides
    np.testing.assert_array_equal(y, x + bias)


def test_the_same_bits_on_several_threads(instruction_set):
    rng = np.random.default_rng(0)
    for shape in [(400_000,), (3, 150_000), (1000, 300), (7, 5, 11, 1111)]:
        x = rng.normal(size=shape).astype(np.float32)
        micros = [micro("tanh", 3, 0), micro("gelu", 3, 3), micro("power", 2, 3, 1)]
        one = chain(1, [3], 1, 1, micros, [x])[0]
        for threads in (2, 3):
            np.testing.assert_array_equal(chain(1, [3], 1, 1, micros, [x], threads=threads)[0], one)


def test_declines():
    x = np.ones((3, 4), np.float32)
    add = [micro("add", 2, 0, 1)]
    for other in (
        np.ones((3, 5), np.float32),  # does not broadcast
        np.ones(4),
        np.ones(4, np.int64),
        np.ones(4, np.bool_),
        None,
        np.frombuffer(bytes(17), np.uint8)[1:].view(np.float32),  # not aligned
        np.zeros(4, [("a", "<f4"), ("b", "u1")])["a"],  # nor its strides
    ):
        assert chain(2, [], 1, 0, add, [x, other]) is None
    assert chain(2, [], 1, 0, add, [x, x[0]]) is not None


def test_results_of_some_operands():
    """One that is smaller than the others is declined: its shape would be wrong."""
    micros = [micro("exp", 2, 0), micro("add", 3, 2, 1)]
    x = np.ones((3, 4), np.float32)
    small = np.ones((4,), np.float32)
    assert chain(2, [], 2, 0, micros, [x, small], sets=[0b01, 0b11]) is not None
    assert chain(2, [], 2, 0, micros, [x, x], sets=[0b01, 0b11]) is not None
    for a in (small, small[None], np.ones((3, 1), np.float32)):
        assert chain(2, [], 2, 0, micros, [a, x], sets=[0b01, 0b11]) is None
    one = np.ones((1, 4), np.float32)
    assert chain(2, [], 2, 0, micros, [one, small], sets=[0b01, 0b11]) is not None
    assert chain(2, [], 2, 0, micros, [small, one], sets=[0b01, 0b11]) is None  # a lower rank


def test_vectors_along_axis_1():
    rng = np.random.default_rng(0)
    v = rng.normal(size=3).astype(np.float32)
    add = [micro("add", 2, 0, 1)]
    for shape in [(2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 1, 2)]:
        x = rng.normal(size=shape).astype(np.float32)
        (y,) = chain(2, [], 1, 0, add, [x, v], channels=0b10)
        np.testing.assert_array_equal(y, x + v.reshape(3, *[1] * (len(shape) - 2)))
    for a, w in [(v, v), (np.ones((2, 4), np.float32), v), (x, x)]:
        assert chain(2, [], 1, 0, add, [a, w], channels=0b10) is None


def test_axes_at_least():
    x = np.ones((2, 3), np.float32)
    (y,) = chain(1, [], 1, 0, [micro("copy", 1, 0)], [x], axes=4)
    assert y.shape == (1, 1, 2, 3)
    assert chain(1, [], 1, 0, [micro("copy", 1, 0)], [x], axes=9) is None
