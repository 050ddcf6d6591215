"""Additions left out of a graph, of another value or of a bias; and one weight that is wrong."""

import numpy as np
import pytest

from tests.graph.models import node
from tests.validation.diagnosis.test_missing_normalization import found, models
from vledge.validation.diagnosis.weights import differences
from vledge.validation.reference.prints import Print, profile
from vledge.validation.reference.samples import places, sampled

SKIP = [node("Add", ["x1", "x0"], ["n"])]
BIAS = [node("Add", ["x1", "gamma"], ["n"])]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("nodes", "suspect", "before", "behind"),
    [
        (SKIP, "missing sum", "the sum of x1 with x0", "the sum with x0"),
        (BIAS, "missing bias", "a bias along axis 2 of x1", "a bias along axis 2"),
    ],
    ids=["sum", "bias"],
)
def test_it_is_named(tmp_path, nodes, suspect, before, behind, last):
    good, bad = models(nodes, last)
    (finding,) = found(tmp_path, good, bad).findings
    assert finding.suspect == suspect
    wanted = f"{behind} behind" if last else f"{before} before"
    assert finding.text == f"{wanted} it is missing"
    assert finding.kind == ("Tanh" if last else "MatMul")


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_one_wrong_number_between_the_samples(dtype):
    """Only the sums of a large tensor tell of it: no factor and no offset explains it."""
    right = (np.random.default_rng(0).normal(size=(64, 48)) * 9).astype(dtype)
    wrong, most = right.copy(), 64
    at = next(i for i in range(right.size) if i not in places(right.size, most))
    wrong.reshape(-1)[at] += 5
    profiles = {axis: profile(right, axis) for axis in (0, 1)}
    known = Print(0, dtype, sampled(right, most), profiles)
    (blemish,) = differences({"w": wrong}, {"w": known}).values()
    assert blemish.kind == "stale weights"
    assert blemish.text == (
        f"w holds other numbers than the reference's (index {at // 48} of axis 0; "
        "their sum is off by +5)"
    )
