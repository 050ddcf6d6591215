"""Products of a few rows with a matrix known only at the run: multiplied as it lies."""

import numpy as np
import pytest

from vledge._ext.program import run_handler


def product(a, b, threads=1):
    (result,) = run_handler("matmul", [a, b], threads=threads)
    return result


def matrix(rng, depth, columns, layout):
    if layout == "transposed":
        return rng.uniform(-1, 1, (columns, depth)).astype(np.float32).T
    if layout == "part":
        return rng.uniform(-1, 1, (depth, columns + 3)).astype(np.float32)[:, 2 : 2 + columns]
    return rng.uniform(-1, 1, (depth, columns)).astype(np.float32)


@pytest.mark.parametrize("layout", ["rows", "part", "transposed"])
@pytest.mark.parametrize("columns", [1, 3, 4, 16, 31, 64, 130, 257])
def test_few_rows(instruction_set, columns, layout):
    rng = np.random.default_rng(columns)
    for depth in (0, 1, 5, 16, 127, 129, 400):
        b = matrix(rng, depth, columns, layout)
        x = rng.uniform(-1, 1, (6, depth)).astype(np.float32)
        exact = x.astype(np.float64) @ b
        for rows in (1, 2, 3, 4, 5, 6):
            got = product(x[:rows], b)
            np.testing.assert_allclose(got, exact[:rows], rtol=0, atol=2e-6 * max(depth, 1) ** 0.5)
            if layout != "transposed":  # the same bits as of many rows, which pack the matrix
                np.testing.assert_array_equal(got, product(x, b)[:rows])
            np.testing.assert_array_equal(got, product(x[:rows], b, threads=3))


@pytest.mark.parametrize("layout", ["rows", "transposed"])
def test_long_sums_are_made_in_parts(instruction_set, layout):
    """Terms of one sign, where a chain errs most."""
    rng = np.random.default_rng(3)
    b = rng.uniform(0.5, 1, (8192, 16)).astype(np.float32)
    exact = b.sum(axis=0, dtype=np.float64)
    chain = np.abs(np.cumsum(b, axis=0, dtype=np.float32)[-1] - exact).max()
    b = b if layout == "rows" else np.asfortranarray(b)
    got = product(np.ones((1, 8192), np.float32), b)
    assert np.abs(got - exact).max() < chain / 3


def test_batches_and_threads(instruction_set):
    rng = np.random.default_rng(4)
    for a_shape, b_shape in [
        ((3, 1, 20), (3, 20, 33)),
        ((7, 1, 20), (20, 33)),
        ((2, 3, 1, 20), (3, 20, 33)),
        ((5, 2, 20), (1, 20, 33)),
        ((20,), (4, 20, 33)),
        ((2, 1, 20), (20,)),
    ]:
        a, b = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in (a_shape, b_shape))
        layouts = [b] if b.ndim == 1 else [b, b.swapaxes(-1, -2).copy().swapaxes(-1, -2)]
        for right in layouts:
            got = product(a, right)
            np.testing.assert_allclose(got, a.astype(np.float64) @ b, rtol=0, atol=1e-5)
            assert got.shape == (a @ b).shape


def test_infinities_and_nan_stay_in_their_places(instruction_set):
    b = np.ones((20, 37), np.float32)
    b[3, 5], b[4, 36] = np.inf, np.nan
    for right in (b, np.asfortranarray(b)):
        got = product(np.ones((1, 20), np.float32), right)[0]
        assert np.isposinf(got[5])
        assert np.isnan(got[36])
        assert np.isfinite(np.delete(got, [5, 36])).all()
