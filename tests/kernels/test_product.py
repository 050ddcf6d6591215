"""Products with packed weights against float64: every instruction set, tail and memory layout."""

import pickle

import numpy as np
import pytest

from vledge._ext.product import Product

TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}
DTYPES = [np.float32, np.float64]


def arrays(rng, dtype, *shapes):
    return [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]


def assert_close(got, exact, dtype):
    assert got.dtype == dtype
    size = max(1.0, np.abs(exact).max(initial=0.0))
    np.testing.assert_allclose(got, exact, rtol=0, atol=TOLERANCE[dtype] * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 3, 16, 17, 63, 64, 130])
def test_rows_columns_and_threads(instruction_set, columns, dtype):
    rng = np.random.default_rng(columns)
    for depth in (1, 7, 64):
        w, b, x = arrays(rng, dtype, (columns, depth), columns, (70, depth))
        product, without = Product(w, b), Product(w)
        exact = x.astype(np.float64) @ w.T.astype(np.float64) + b
        for rows in (0, 1, 2, 5, 6, 7, 13, 70):
            got = product(x[:rows], threads=1)
            assert_close(got, exact[:rows], dtype)
            assert_close(without(x[:rows]), exact[:rows] - b, dtype)
            assert np.array_equal(product(x[:rows], relu=True), np.maximum(got, 0))
        # each row alone gives the same bits as all of them together
        assert np.array_equal(np.stack([product(row) for row in x]), product(x))


def test_a_large_bias_costs_no_precision(instruction_set):
    """Added to the finished sum, it rounds once or twice, not every term to its own grain."""
    w, x = arrays(np.random.default_rng(2), np.float32, (64, 256), (7, 256))
    bias = np.full(64, 1000, np.float32)
    exact = x.astype(np.float64) @ w.T.astype(np.float64) + 1000
    for rows in (1, 7):
        got = Product(w, bias)(x[:rows])
        assert np.abs(got - exact[:rows]).max() < 1.5 * np.spacing(np.float32(1000))


def test_long_sums_are_made_in_parts(instruction_set):
    """Terms of one sign, where a chain errs most: below a third of a single chain's error."""
    w = np.random.default_rng(3).uniform(0.5, 1, (16, 8192)).astype(np.float32)
    exact = w.sum(axis=1, dtype=np.float64)
    chain = np.abs(np.cumsum(w, axis=1, dtype=np.float32)[:, -1] - exact).max()
    for rows in (1, 7):
        got = Product(w)(np.ones((rows, 8192), np.float32))
        assert np.abs(got - exact).max() < chain / 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_in_any_layout_of_memory(instruction_set, dtype):
    w, x = arrays(np.random.default_rng(4), dtype, (67, 9), (5, 9))
    unaligned = np.frombuffer(b"\0" + w.tobytes(), np.uint8)[1:].view(dtype).reshape(w.shape)
    expected = Product(w)(x)
    for same in (np.asfortranarray(w), np.repeat(w, 2, 1)[:, ::2], w[::-1].copy()[::-1], unaligned):
        product = Product(same)
        assert np.array_equal(product(x), expected)
        assert np.array_equal(product.weight(), w)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 500])
def test_threads_change_no_bit(rows, dtype):
    w, b, x = arrays(np.random.default_rng(0), dtype, (1030, 520), 1030, (rows, 520))
    product = Product(w, b)
    alone = product(x, threads=1)
    for threads in (2, 3, 5):
        assert np.array_equal(product(x, threads=threads), alone)


def test_memory_layouts(instruction_set):
    w, x = arrays(np.random.default_rng(1), np.float32, (17, 6), (5, 4, 6))
    product = Product(w)
    expected = product(x)
    assert np.array_equal(product(x.transpose(1, 0, 2)), expected.transpose(1, 0, 2))
    assert np.array_equal(product(x[::-1]), expected[::-1])
    assert np.array_equal(product(np.asfortranarray(x)), expected)
    assert np.array_equal(product(np.broadcast_to(x[0], (3, 4, 6))), expected[[0, 0, 0]])
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    assert np.array_equal(product(unaligned), expected)
    assert product(x[0, 0]).shape == (17,)
    windows = np.lib.stride_tricks.as_strided(x, (5, 3, 6), (96, 24, 4))  # rows that overlap
    assert np.array_equal(product(windows), expected[:, :3])


def test_columns_of_another_array():
    w, x = arrays(np.random.default_rng(2), np.float32, (3, 6), (5, 4, 6))
    whole = np.full((5, 4, 8), 7, np.float32)
    product = Product(w)
    returned = product(x, out=whole[..., 2:5])
    assert returned.base is whole
    assert np.array_equal(whole[..., 2:5], product(x))
    assert (whole[..., :2] == 7).all()
    assert (whole[..., 5:] == 7).all()
    for wrong in (whole[:, :, :4], whole[:, ::2, 2:5], whole[::-1, :, 2:5], whole.astype("f8")):
        with pytest.raises(ValueError, match="out "):
            product(x, out=wrong)


def test_relu_keeps_nan():
    product = Product(np.eye(2, dtype=np.float32))
    got = product(np.array([[np.nan, -1], [2, np.nan]], np.float32), relu=True)
    np.testing.assert_array_equal(got, [[np.nan, 0], [2, np.nan]] + 0 * got)


def test_weights_come_back_bit_for_bit(instruction_set):
    w, b = arrays(np.random.default_rng(3), np.float32, (19, 5), 19)
    for product in (Product(w, b), pickle.loads(pickle.dumps(Product(w, b)))):
        assert np.array_equal(product.weight(), w)
        assert np.array_equal(product.bias(), b)
    assert Product(w).bias() is None
    assert Product(w).nbytes >= w.nbytes


def test_wrong_arguments():
    w, x = arrays(np.random.default_rng(4), np.float32, (3, 6), (5, 6))
    for call, text in (
        (lambda: Product(w.astype(np.int32)), "int32"),
        (lambda: Product(w[0]), "weight must be"),
        (lambda: Product(w, np.zeros(4, np.float32)), "bias"),
        (lambda: Product(w)(x[:, :5]), r"expected \[..., 6\]"),
        (lambda: Product(w)(x.astype(np.float64)), "float64"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
