"""Errors, where they are worst, tolerances, and what does not count."""

import numpy as np
import pytest

from vledge.validation import Case, Reference
from vledge.validation.recording.spread import spread
from vledge.validation.reference.compare import compare, tolerance_of


def reference(y, exact=None, lengths=None, axes=None):
    case = Case({}, {"y": y}, {} if exact is None else {"y": exact}, lengths)
    return Reference([case], {}, axes={"y": axes} if axes else {})


def compared(reference, result, given=None):
    return compare(reference, "y", [result], tolerance_of(reference, "y", given))


def test_the_tolerance_is_made_of_the_reference_s_own_error():
    exact = np.array([[1.0, 2.0]])
    single = exact.astype(np.float32) + np.float32(1e-3)
    tolerance = tolerance_of(reference(single, exact), "y")
    assert tolerance.own_error == pytest.approx(1e-3, rel=1e-3)
    assert tolerance.absolute == pytest.approx(8e-3, rel=2e-3)
    assert "8 x the reference's own float32 error 1.0e-03 + 16 ULP of 2" in tolerance.why


def test_a_tolerance_that_proves_little_is_loose():
    exact = np.array([[1.0, 2.0]])
    for error, loose in ((1e-3, False), (1e-2, True)):
        single = exact.astype(np.float32) + np.float32(error)
        assert tolerance_of(reference(single, exact), "y").loose is loose
    assert not tolerance_of(reference(single, exact), "y", 1.0).loose  # as was asked for
    assert not tolerance_of(reference(np.zeros(2, np.float32), np.zeros(2)), "y").loose


def test_without_float64_values_it_is_wider_and_says_so():
    tolerance = tolerance_of(reference(np.array([0, -3], np.float32)), "y")
    assert tolerance.absolute == pytest.approx(3e-4)
    assert "no float64 values" in tolerance.why
    assert tolerance.own_error is None


def test_a_tolerance_given_replaces_the_rule():
    assert tolerance_of(reference(np.ones(2, np.float32)), "y", 0.5).absolute == 0.5


def test_whole_numbers_must_be_the_same():
    found = reference(np.array([[1, 2]]))
    assert tolerance_of(found, "y").absolute == 0
    assert compared(found, np.array([[1, 2]])).passed
    assert not compared(found, np.array([[1, 3]])).passed


def test_the_worst_place_is_found():
    exact = np.zeros((4, 3, 2))
    exact[0] = 1
    result = exact.astype(np.float32)
    result[2, 1, 0] = 0.25
    found = compared(
        reference(exact.astype(np.float32), exact, axes={"time": 0, "batch": 1}), result
    )
    assert not found.passed
    assert found.absolute == 0.25
    assert found.worst == {"case": 0, "sequence": 1, "time": 2}
    assert found.over_time == [0, 0, 0.25, 0]
    assert found.ulp == 0.25 / np.spacing(np.float32(1))


def test_padding_does_not_count():
    lengths = np.array([1, 3])
    for order in ({"time": 0, "batch": 1}, {"time": 1, "batch": 0}):
        shape = (3, 2, 4) if order["time"] == 0 else (2, 3, 4)
        exact = np.ones(shape)
        found = reference(exact.astype(np.float32), exact, lengths, order)
        result = exact.astype(np.float32)
        place = (2, 0) if order["time"] == 0 else (0, 2)
        result[place] = 7  # past the end of the sequence of one step
        assert compared(found, result).passed
        place = (2, 1) if order["time"] == 0 else (1, 2)
        result[place] = 7
        assert not compared(found, result).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails(bad):
    exact = np.ones((1, 2))
    found = reference(exact.astype(np.float32), exact)
    result = exact.astype(np.float32)
    result[0, 1] = bad
    assert not compared(found, result).passed
    exact[0, 1] = bad
    found = reference(exact.astype(np.float32), exact)
    assert compared(found, result).passed  # as the reference has it
    result[0, 0] = 1.5
    assert not compared(found, result).passed  # the finite values count as ever


def test_an_overflow_of_the_reference_is_what_is_expected():
    exact = np.array([[1.0, 1e5]])
    half = np.array([[1.0, np.inf]], np.float16)
    found = reference(half, exact)
    assert compared(found, half).passed
    assert not compared(found, np.array([[1.0, 1e4]], np.float16)).passed


def test_another_shape_is_a_problem():
    found = compared(reference(np.ones((2, 3), np.float32)), np.ones((3, 2), np.float32))
    assert not found.passed
    assert found.problem == "shape [3, 2], expected [2, 3]"


def test_answers_of_a_classifier_are_counted():
    exact = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    result = exact.astype(np.float32)
    result[1] = [0.0, 1.0]
    found = compared(reference(exact.astype(np.float32), exact, axes={"batch": 0}), result)
    assert found.same_answer == (2, 3)


def test_answers_at_each_step_are_counted_without_padding():
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((4, 2, 3))  # [T, B, classes]
    result = exact.astype(np.float32)
    result[1, 0] = np.roll(result[1, 0], 1)
    result[3, 0] = np.roll(result[3, 0], 1)  # past the first sequence's length
    axes = {"time": 0, "batch": 1}
    tagger = reference(exact.astype(np.float32), exact, np.array([2, 4]), axes)
    assert compared(tagger, result).same_answer == (5, 6)
    state = reference(exact.astype(np.float32), exact, axes={"batch": 1})
    assert compared(state, result).same_answer is None


def test_an_amplified_error_counts_as_the_reference_s_own():
    """The recorded run is exact by accident; a run with moved inputs is off by a thousand ULP."""
    x = np.linspace(0.5, 0.9, 8, dtype=np.float32).reshape(4, 2)
    axes = {"time": 0, "batch": 1}
    made = reference(x, x.astype(np.float64), np.array([2, 4]), axes)
    made.cases[0].inputs["x"] = x
    assert tolerance_of(made, "y").own_error == 0

    def run(number, case):
        moved = 1000 * (case.inputs["x"] - x)
        moved[2:, 0] = 5  # past the first sequence's length
        return {"y": x + moved}

    made.spread = spread(made, run)
    assert made.spread["y"] == pytest.approx(1000 * 2**-24, rel=0.01)
    assert tolerance_of(made, "y").own_error == made.spread["y"]


def test_what_is_no_float32_number_is_not_moved():
    given = {"ids": np.array([3]), "zero": np.zeros(2, np.float32), "x": np.ones(2, np.float32)}
    made = reference(np.ones(1, np.float32), np.ones(1))
    made.cases[0].inputs = given
    seen = []
    spread(made, lambda number, case: seen.append(case.inputs) or {"y": np.ones(1, np.float32)})
    for inputs in seen:
        assert inputs["ids"] == 3
        assert not inputs["zero"].any()
        assert (inputs["x"] != 1).all()
        np.testing.assert_allclose(inputs["x"], 1, atol=2e-7)
