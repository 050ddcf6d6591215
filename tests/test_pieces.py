"""Long work in pieces gives what one call of NumPy would."""

import numpy as np
import pytest

from vledge import pieces
from vledge.graph.operators import determinant, long_transform, selection, sorting
from vledge.quantization.report import rounding_errors
from vledge.small_matrix import FORMS, rounded

LONG = 300_000
RNG = np.random.default_rng(0)
ROWS = {
    "all different": RNG.standard_normal(LONG).astype(np.float32),
    "many alike": RNG.integers(0, 5, LONG).astype(np.float64),
    "all alike": np.zeros(LONG, np.float32),
    "NaN among them": np.where(RNG.random(LONG) < 0.3, np.nan, RNG.standard_normal(LONG)),
    "NaN alone": np.full(LONG, np.nan),
    "infinities": np.where(RNG.random(LONG) < 0.5, np.inf, -np.inf),
    "both zeros": np.where(RNG.random(LONG) < 0.5, 0.0, -0.0),
    "whole numbers": RNG.integers(-(2**62), 2**62, LONG),
    "bytes": RNG.integers(0, 255, LONG).astype(np.uint8),
    "half": RNG.standard_normal(LONG).astype(np.float16),
    "backwards": np.arange(LONG)[::-1],
    "most at one place": RNG.random(LONG) ** 30,
    "one value and a few": np.where(np.arange(LONG) < LONG - 1000, 7.0, RNG.random(LONG)),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_long_row_is_sorted_as_by_numpy(name):
    row = ROWS[name]
    np.testing.assert_array_equal(sorting.stable_order(row), row.argsort(kind="stable"))


@pytest.mark.parametrize("name", ROWS)
def test_what_is_there_once(name):
    row = ROWS[name]
    for ours, theirs in zip(
        sorting.unique_of_row(row), np.unique(row, True, True, True), strict=True
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [8, 9, 11, 13, 16, 31, 64, 97, 100, 202, 844])
@pytest.mark.parametrize("kind", ["fft", "ifft", "rfft", "irfft"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_long_transform(n, kind, dtype, monkeypatch):
    """As if 8 were long and 16 elements a piece: of lengths with factors, and prime ones."""
    monkeypatch.setattr(long_transform, "_LONG", 8)
    monkeypatch.setattr(long_transform, "PIECE", 16)
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, n, 3)).astype(dtype)
    if kind != "rfft":
        x = x + 1j * rng.standard_normal(x.shape).astype(dtype)
    tolerance = 2e-5 if dtype == np.float32 else 1e-11
    for size in (None, n, n + 3, max(n - 4, 2)):
        wanted = getattr(np.fft, kind)(x.astype(np.result_type(x, np.float64)), size, 1)
        got = long_transform.transform(kind, x, size, 1)
        np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("n", [2, 3, 8, 9, 40, 333])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_determinant_of_a_large_matrix(n, dtype, monkeypatch):
    monkeypatch.setattr(determinant, "_LARGE", 2)
    a = np.random.default_rng(n).standard_normal((2, 2, n, n)) / np.sqrt(n) * 1.6
    a[1, 1] = a[1, 1, :1]  # singular
    a = a.astype(dtype)
    got, wanted = determinant.det(a), np.linalg.det(a)
    assert got.dtype == dtype
    assert got.shape == (2, 2)
    np.testing.assert_allclose(got, wanted, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-9)


def test_determinants_that_are_no_numbers(monkeypatch):
    monkeypatch.setattr(determinant, "_LARGE", 2)
    assert np.isnan(determinant.det(np.full((9, 9), np.nan)))
    assert determinant.det(np.diag([np.inf] * 4)) == np.inf
    assert determinant.det(np.zeros((9, 9))) == 0
    assert determinant.det(np.zeros((0, 9, 9))).shape == (0,)


@pytest.mark.parametrize(
    "array",
    [
        RNG.random((700, 800)).T,
        RNG.random(LONG).astype(">f4"),
        np.frombuffer(bytes(8 * LONG + 1), np.float64, LONG, 1),
        RNG.random((700, 800)).astype(np.float16),
        np.array(3.5),
    ],
    ids=["turned", "big-endian", "misaligned", "half", "one number"],
)
def test_converted(array):
    got = pieces.converted(array, np.float32)
    assert got.dtype == np.float32
    assert got.flags.carray
    np.testing.assert_array_equal(got, array.astype(np.float32))
    assert pieces.converted(got, np.float32) is got
    again = pieces.converted(array, array.dtype)
    assert again.flags.aligned
    assert again.flags.c_contiguous


@pytest.mark.parametrize("storage", FORMS)
def test_small_weights_that_are_many_become_an_array(storage):
    matrix = rounded(RNG.standard_normal((LONG // 100, 130)).astype(np.float32), storage)
    wanted = np.concatenate([np.asarray(matrix[row : row + 1]) for row in range(len(matrix))])
    np.testing.assert_array_equal(np.asarray(matrix), wanted)
    places = RNG.integers(0, len(matrix), (3, 800))
    np.testing.assert_array_equal(matrix.taken(places), wanted[places])


def test_errors_of_rounding():
    exact = RNG.standard_normal((LONG // 100, 130)).astype(np.float32)
    small = rounded(exact, "int8")
    apart = np.asarray(small) - exact.astype(np.float64)
    wanted = np.sqrt(np.mean(apart**2) / np.mean(exact.astype(np.float64) ** 2))
    for held in (small, np.asarray(small)):
        rms, largest = rounding_errors(exact, held)
        assert rms == pytest.approx(wanted)
        assert largest == np.abs(apart).max() / np.abs(exact).max()
    assert rounding_errors(np.zeros((2, 3)), np.zeros((2, 3))) == (0, 0)
    assert rounding_errors(np.zeros((0, 3)), np.zeros((0, 3))) == (0, 0)


@pytest.mark.parametrize("turned", [False, True])
def test_elements_chosen_from_many(turned, monkeypatch):
    monkeypatch.setattr(selection, "PIECE", 16)
    monkeypatch.setattr(pieces, "PIECE", 16)
    x = RNG.integers(-2, 3, (7, 6, 9)).astype(np.float32)
    x = x.T if turned else x
    np.testing.assert_array_equal(selection.non_zero(x), np.nonzero(x))
    for axis in (None, 0, 1, -1):
        for condition in (RNG.random(6) < 0.5, np.zeros(3, bool)):
            got = selection.compress(x, condition, axis=axis)
            np.testing.assert_array_equal(got, np.compress(condition, x, axis))
    with pytest.raises(IndexError):
        selection.compress(x, np.ones(10, bool), axis=1)
    for axis in (0, 2, -1):
        hot = selection.one_hot(x + 0.5, np.array(3), np.array(["off", "on"]), axis=axis)
        places = np.expand_dims(np.trunc(x + 0.5) % 3, axis)
        shape = [1] * 4
        shape[axis] = 3
        wanted = places == np.arange(3).reshape(shape)
        np.testing.assert_array_equal(hot == "on", wanted)
