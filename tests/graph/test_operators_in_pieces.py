"""Many matrices and many rows are treated in calls of bounded length."""

import math

import numpy as np
import pytest

from vledge.graph.operators import matrix, selection


@pytest.mark.parametrize("shape", [(300, 700), (150_000,), (2, 70_000)])
def test_many_small_matrices(shape, monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(*shape, 2, 3)).astype(np.float32)
    b = rng.normal(size=(*shape[-1:], 3, 2)).astype(np.float32)
    counts = []
    real = np.matmul

    def counted(a, b, out):
        counts.append(math.prod(out.shape[:-2]))
        return real(a, b, out=out)

    monkeypatch.setattr(np, "matmul", counted)
    got = matrix.matmul(a, b)
    assert max(counts) <= 1 << 16
    assert sum(counts) == math.prod(shape)
    np.testing.assert_array_equal(got, real(a, b))


@pytest.mark.parametrize("largest", [False, True])
def test_top_k_of_many_rows(largest):
    """In slices of rows, as one sort of all of them would."""
    x = np.random.default_rng(1).integers(0, 50, (3000, 200)).astype(np.float32)
    values, order = selection.top_k(x, np.array(7), largest=int(largest))
    wanted = np.argsort(-x if largest else x, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(order, wanted)
    np.testing.assert_array_equal(values, np.take_along_axis(x, wanted, 1))
