"""DynamicQuantizeLSTM in the native program, on every instruction set, beside Python's."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node

# Between the two ways tanh differs in its last bits, and a number of h that is as far from one byte
# as from the next may fall on either side: the gates then differ by one step of h's scale, 1 / 255
# at most, times one weight.
ONE_STEP = 2e-3


def lstm(
    rng, sequences, features, hidden, directions, weight_type=np.int8, by_column=False, **also
):
    """(nodes, weights, inputs)"""
    ends = np.iinfo(weight_type)
    count, columns = directions, 4 * hidden
    scale_shape = (count, columns) if by_column else (count,)
    zero = 0 if weight_type == np.int8 else 128
    weights = {
        "W": rng.integers(
            ends.min, ends.max, (count, features, columns), weight_type, endpoint=True
        ),
        "R": rng.integers(ends.min, ends.max, (count, hidden, columns), weight_type, endpoint=True),
        "B": rng.uniform(-1, 1, (count, 2 * columns)).astype(np.float32),
        "W_scale": rng.uniform(0.5, 1, scale_shape).astype(np.float32) / (128 * features**0.5),
        "W_zero": np.full(scale_shape, zero, weight_type),
        "R_scale": rng.uniform(0.5, 1, scale_shape).astype(np.float32) / (128 * hidden**0.5),
        "R_zero": np.full(scale_shape, zero, weight_type),
    }
    names = ["X", "W", "R", "B", "lengths", "h_0", "c_0", ""]
    names += ["W_scale", "W_zero", "R_scale", "R_zero"]
    direction = also.pop("direction", "bidirectional" if count == 2 else "forward")
    attributes = {"hidden_size": hidden, "direction": direction, **also}
    return names, weights, attributes


def run_both(feed, names, weights, attributes, outputs=("Y", "Y_h", "Y_c"), threads=1):
    names = [name if name in feed or name in weights else "" for name in names]
    made = node("DynamicQuantizeLSTM", names, list(outputs), domain="com.microsoft", **attributes)
    wanted = [name for name in outputs if name]
    model = model_bytes([made], feed, wanted, weights, domains=["com.microsoft"])
    session = vledge.InferenceSession(model)
    arrays = [feed[name] for name in session._plan.inputs]
    native = session._plan.native
    declined = np.zeros(1, np.int32)
    before = vledge.get_num_threads()
    vledge.set_num_threads(threads)
    try:
        results = native.program.run(arrays, (np.zeros(1, np.int64), declined))
    finally:
        vledge.set_num_threads(before)
    with np.errstate(all="ignore"):
        expected = session._plan.run(*arrays)
    assert native.handlers == ["quantised_recurrent"]
    assert not declined.any()
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ONE_STEP)
    return results


def some(rng, *shape):
    return rng.uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("hidden", [1, 5, 16, 37])
@pytest.mark.parametrize("directions", [1, 2])
def test_sizes(integers, hidden, directions):
    rng = np.random.default_rng(hidden)
    for steps, sequences, features in [(1, 1, 1), (7, 3, 9), (60, 1, 16), (5, 40, 3)]:
        for by_column in (False, True):
            made = lstm(rng, sequences, features, hidden, directions, by_column=by_column)
            run_both({"X": some(rng, steps, sequences, features)}, *made)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("empty_state", [False, True])
def test_lengths_states_and_layouts(integers, layout, empty_state):
    rng = np.random.default_rng(1)
    steps, sequences, features, hidden = 9, 5, 6, 21
    for direction, count in [("forward", 1), ("reverse", 1), ("bidirectional", 2)]:
        made = lstm(
            rng, sequences, features, hidden, count, np.uint8, direction=direction, layout=layout
        )
        feed = {
            "X": some(rng, steps, sequences, features),
            "lengths": np.array([4, 9, 0 if empty_state else 1, 7, 7], np.int32),
            "h_0": some(rng, count, sequences, hidden),
            "c_0": some(rng, count, sequences, hidden),
        }
        if layout:
            for name in ("X", "h_0", "c_0"):
                feed[name] = feed[name].swapaxes(0, 1)
        run_both(feed, *made)
        del feed["lengths"]
        run_both(feed, *made)
        run_both(feed, *made, outputs=("", "", "Y_c"))


def test_the_same_bits_on_two_threads(integers):
    rng = np.random.default_rng(2)
    made = lstm(rng, 2, 8, 24, 2)
    feed = {"X": some(rng, 30, 2, 8)}
    for one, two in zip(run_both(feed, *made), run_both(feed, *made, threads=2), strict=True):
        np.testing.assert_array_equal(one, two)


def test_memory_of_the_input(integers):
    """Features with gaps, and batch-first in memory."""
    rng = np.random.default_rng(3)
    made = lstm(rng, 4, 6, 10, 2)
    whole = some(rng, 4, 7, 12)
    gaps = {"X": whole.transpose(1, 0, 2)[:, :, ::2]}
    (y, *_) = run_both(gaps, *made)
    expected = run_both({"X": np.ascontiguousarray(gaps["X"])}, *made)
    np.testing.assert_array_equal(y, expected[0])
    near = whole.transpose(1, 0, 2)[:, :, :6]
    (y, *_) = run_both({"X": near}, *made)
    expected = run_both({"X": np.ascontiguousarray(near)}, *made)
    np.testing.assert_array_equal(y, expected[0])


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_goes_through(integers, number):
    """A range that is no number is one of the whole batch: all of Y is NaN from there on."""
    rng = np.random.default_rng(4)
    made = lstm(rng, 2, 6, 10, 1)
    x = some(rng, 5, 2, 6)
    x[2, 1, 3] = number
    y, *_ = run_both({"X": x}, *made)
    assert np.isnan(y).all()


def test_what_the_cell_does_not_run_stays_in_python():
    rng = np.random.default_rng(5)
    for attributes in (
        {"clip": 0.5},
        {"input_forget": 1},
        {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
    ):
        names, weights, given = lstm(rng, 1, 4, 6, 1, **attributes)
        names = [name if name in weights or name == "X" else "" for name in names]
        made = node("DynamicQuantizeLSTM", names, ["Y"], domain="com.microsoft", **given)
        feed = {"X": some(rng, 3, 1, 4)}
        model = model_bytes([made], feed, ["Y"], weights, domains=["com.microsoft"])
        assert vledge.InferenceSession(model)._plan.native.handlers == [None]
