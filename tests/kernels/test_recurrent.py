"""The time loops and tiles against the float64 definition, on every path that the CPU can run."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from vledge._ext import isa
from vledge._ext.recurrent import run, run_padded
from vledge._ext.stack import Stepper
from vledge._ext.weights import FUNCTIONS, Direction

CELLS = list(reference.GATES)
PARAMETERS = {
    "affine": (0.7, 0.1),
    "leaky_relu": (0.05, 0.0),
    "thresholded_relu": (0.2, 0.0),
    "scaled_tanh": (1.7, 0.6),
    "hard_sigmoid": (1 / 6, 0.5),
    "elu": (1.3, 0.9),
    "clip": (-0.3, 0.4),
}
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}


def case(
    kind,
    input_size,
    hidden_size,
    lengths,
    dtype,
    proj_size=0,
    reverses=(False,),
    seed=0,
    activations=None,
):
    """(directions, data, batch_sizes, h_0, c_0, expected (output, h_n, c_n))"""
    rng = np.random.default_rng(seed)
    lengths = sorted(lengths, reverse=True)
    batch_sizes = reference.batch_sizes_of(lengths)
    width = proj_size or hidden_size
    shape = (len(reverses), len(lengths))
    data = rng.standard_normal((int(batch_sizes.sum()), input_size)).astype(dtype)
    h_0 = rng.uniform(-1, 1, (*shape, width)).astype(dtype)
    c_0 = rng.uniform(-1, 1, (*shape, hidden_size)).astype(dtype)
    directions, expected = [], []
    for d, reverse in enumerate(reverses):
        params = reference.random_params(rng, kind, input_size, hidden_size, proj_size)
        params = {name: a.astype(dtype) for name, a in params.items()}
        directions.append(Direction(kind, **params, reverse=reverse, activations=activations))
        states = h_0[d], c_0[d]
        expected.append(
            reference.run(kind, params, data, batch_sizes, *states, reverse, activations)
        )
    outputs, h_n, c_n = zip(*expected, strict=True)
    expected = np.concatenate(outputs, axis=1), np.stack(h_n), np.stack(c_n)
    return directions, data, batch_sizes, h_0, c_0 if kind == "lstm" else None, expected


def assert_close(result, expected, dtype, times=1):
    for got, want in zip(result, expected, strict=True):
        if got is not None:
            assert got.dtype == dtype
            # relu's states are not bounded: sums round in proportion to the largest of them
            size = max(1.0, np.abs(want).max(initial=0.0))
            np.testing.assert_allclose(got, want, rtol=0, atol=times * TOLERANCE[dtype] * size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden_size", [1, 3, 7, 17, 64, 100])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_sizes_and_directions(instruction_set, kind, hidden_size, dtype):
    for input_size, reverses in ((1, (False,)), (5, (True,)), (33, (False, True))):
        for lengths in ([1], [6], [5, 2], [4, 4, 4, 4, 4], [9, 8, 8, 3, 3, 3, 1, 1]):
            *arguments, expected = case(
                kind, input_size, hidden_size, lengths, dtype, reverses=reverses
            )
            assert_close(run(*arguments), expected, dtype)


@pytest.mark.parametrize("kind", [kind for kind in CELLS if reference.GATES[kind] > 1])
def test_units_that_do_not_fill_a_vector(instruction_set, kind):
    """Their gates stand side by side in one to four vectors, by themselves, in a pair with a whole
    panel, and after pairs or single panels; a row's bits do not depend on it."""
    lanes = isa.lanes(np.float32)
    for panels in range(4):
        for units in range(1, lanes):
            *arguments, expected = case(
                kind, 4, panels * lanes + units, [3, 3, 2], np.float32, seed=units
            )
            together = run(*arguments, threads=1)
            assert_close(together, expected, np.float32)
            directions, data, _, h_0, c_0 = arguments
            rows = [0, 3, 6]  # of the first sequence
            alone = run(
                directions,
                np.ascontiguousarray(data[rows]),
                np.ones(3, np.int64),
                np.ascontiguousarray(h_0[:, :1]),
                None if c_0 is None else np.ascontiguousarray(c_0[:, :1]),
                threads=1,
            )
            assert np.array_equal(alone[0], together[0][rows])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_reset_before", "rnn"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(instruction_set, name, kind, dtype):
    """Each in every place, beside others; by rows, by pairs of panels, narrow ones, projected."""
    alpha, beta = PARAMETERS.get(name, (0.0, 0.0))
    own, others = (name, alpha, beta), (("hard_sigmoid", 0.2, 0.5), ("softsign", 0.0, 0.0))
    places = {"lstm": 3, "rnn": 1}.get(kind, 2)
    for place in range(places):
        asked = [others[0], *[others[1]] * (places - 1)]
        asked[place] = own
        for hidden_size, lengths, reverses, proj_size in (
            (5, [3], (False,), 0),
            (33, [4, 4, 2, 1], (False, True), 0),
            (19, [3, 3, 3, 3, 3, 2], (True,), 7 if kind == "lstm" else 0),
        ):
            *arguments, expected = case(
                kind,
                4,
                hidden_size,
                lengths,
                dtype,
                proj_size,
                reverses,
                activations=tuple(asked),
            )
            # gates that are not bounded multiply what was rounded, step by step
            assert_close(run(*arguments), expected, dtype, 10 if name == "exponential" else 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_range_of_an_activation(instruction_set, name, dtype):
    """By one unit without weights of the state: small, large, infinite, NaN."""
    alpha, beta = PARAMETERS.get(name, (0.0, 0.0))
    one, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    direction = Direction("rnn", one, zero, activations=((name, alpha, beta),))
    tiny = np.finfo(dtype).tiny
    magnitudes = np.array([0, tiny * 4, 1e-9, 1e-4, 0.3, 1, 2.5, 3.1, 20, 80], dtype)
    infinities = [] if name in ("silu", "gelu") else [np.inf, -np.inf]  # 0 x infinity is theirs
    x = np.concatenate([magnitudes, -magnitudes, np.array([*infinities, np.nan], dtype)])
    output, _, _ = run([direction], x[:, None], np.array([len(x)], np.int64))
    with np.errstate(all="ignore"):
        wanted = reference.FUNCTIONS[name](x.astype(np.float64), alpha, beta)
    np.testing.assert_allclose(
        output[:-1, 0], wanted[:-1], rtol=TOLERANCE[dtype] * 4, atol=TOLERANCE[dtype]
    )
    assert np.isnan(output[-1, 0])


def test_activations_that_a_cell_has_not():
    w_ih, w_hh = np.zeros((8, 3), np.float32), np.zeros((8, 2), np.float32)
    tanh = ("tanh", 0.0, 0.0)
    with pytest.raises(ValueError, match="cell 'lstm' has 3 activations"):
        Direction("lstm", w_ih, w_hh, activations=(tanh,))
    with pytest.raises(ValueError, match="activation 'sine' is not one of sigmoid"):
        Direction("lstm", w_ih, w_hh, activations=(tanh, tanh, ("sine", 0, 0)))
    with pytest.raises(ValueError, match="cell 'rnn' has 1 activations, got None"):
        Direction("rnn", w_ih[:2], w_hh[:2])
    with pytest.raises(ValueError, match="cell 'rnn_relu' has 0 activations"):
        Direction("rnn_relu", w_ih[:2], w_hh[:2], activations=(tanh,))


@pytest.mark.parametrize("kind", CELLS)
def test_every_tile_height(instruction_set, kind):
    for rows in range(1, 2 * isa.tile_rows() + 6):
        *arguments, expected = case(kind, 9, 20, [3] * rows, np.float32, seed=rows)
        assert_close(run(*arguments), expected, np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("hidden_size", "proj_size"), [(4, 1), (17, 5), (40, 33), (64, 16)])
def test_projection(instruction_set, hidden_size, proj_size, dtype):
    for reverses in ((False,), (False, True)):
        *arguments, expected = case(
            "lstm", 6, hidden_size, [7, 7, 4, 1], dtype, proj_size, reverses=reverses
        )
        assert_close(run(*arguments), expected, dtype)


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru_reset_before"])
def test_one_row_with_weights_larger_than_a_cache(instruction_set, kind):
    """Past VL_NEAR_BYTES they are fetched ahead; every other call begins with the last panel."""
    hidden_size = 368 if kind != "lstm" else 272  # the smallest product: two of three gates
    *arguments, expected = case(kind, 300, hidden_size, [2], np.float32)
    first = run(*arguments, threads=1)
    assert_close(first, expected, np.float32)
    for got, want in zip(run(*arguments, threads=1), first, strict=True):
        assert got is want is None or np.array_equal(got, want)


@pytest.mark.parametrize("kind", CELLS)
def test_zero_initial_state_is_the_default(kind):
    directions, data, batch_sizes, h_0, c_0, _ = case(kind, 3, 5, [4, 2], np.float32)
    zeros = run(directions, data, batch_sizes, 0 * h_0, None if c_0 is None else 0 * c_0)
    for got, want in zip(run(directions, data, batch_sizes), zeros, strict=True):
        assert got is want is None or np.array_equal(got, want)


@pytest.mark.parametrize("kind", CELLS)
def test_results_do_not_depend_on_threads(instruction_set, limits, kind):
    lengths = [60, 31, 30, 12, 12, 9, 5, 5, 2, 1, 1]
    *arguments, expected = case(kind, 7, 24, lengths, np.float32, reverses=(False, True))
    single = run(*arguments, threads=1)
    assert_close(single, expected, np.float32)
    limits(team_members=1)  # slices, however little there is to do
    for threads in (2, 3, 4, 7, 64, 1000):
        for got, want in zip(run(*arguments, threads=threads), single, strict=True):
            assert got is want is None or np.array_equal(got, want)


@pytest.mark.parametrize(("kind", "proj_size"), [*((kind, 0) for kind in CELLS), ("lstm", 30)])
@pytest.mark.parametrize("lengths", [[1], [50], [50, 31, 31, 4, 1]])
@pytest.mark.parametrize("most_waiting", [10**6, -1])
def test_shared_steps(instruction_set, limits, kind, proj_size, lengths, most_waiting):
    """A step, one long sequence, one and some shorter: teams of threads share the hidden blocks of
    slices and meet at each step, until they turn out to have no cores (most_waiting=-1: at once);
    one of each goes on alone."""
    reverses = (False, True)
    *arguments, expected = case(kind, 7, 100, lengths, np.float32, proj_size, reverses=reverses)
    single = run(*arguments, threads=1)
    limits(chunk_bytes=4096, most_waiting=most_waiting, fair_trial_nanoseconds=0)
    for threads, team in ((3, 3), (5, 5), (6, 3), (6, 2), (7, 2), (64, 4)):
        limits(team_members=team)
        shared = run(*arguments, threads=threads)
        assert_close(shared, expected, np.float32)
        for got, want in zip(shared, single, strict=True):
            assert got is want is None or np.array_equal(got, want)


@pytest.mark.parametrize("kind", ["lstm", "indrnn_relu"])
@pytest.mark.parametrize("chunk_bytes", [1, 5000, 10**9])
def test_results_do_not_depend_on_chunks(limits, chunk_bytes, kind):
    *arguments, _ = case(kind, 7, 24, [30, 9, 9, 2], np.float32, reverses=(False, True))
    before = run(*arguments)
    limits(chunk_bytes=chunk_bytes)
    for got, want in zip(run(*arguments), before, strict=True):
        assert got is want is None or np.array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["indrnn_tanh", "indrnn_relu"])
def test_independent_units_over_ragged_chunks(instruction_set, limits, kind, dtype):
    """Every tile of the state (one to four vectors, whole and cut off), with rows that end or
    begin within a chunk of steps."""
    lengths = [40, 40, 39, 38, 38, 38, 38, 21, 20, 20, 20, 20, 20, 7, 1, 1]
    lanes = isa.lanes(dtype)
    for vectors in range(1, 7):
        for hidden_size in (vectors * lanes, vectors * lanes - 1):
            for chunk_bytes in (8 * hidden_size * 40, 10**9):
                limits(chunk_bytes=chunk_bytes)
                *arguments, expected = case(
                    kind, 2, hidden_size, lengths, dtype, reverses=(False, True)
                )
                assert_close(run(*arguments, threads=1), expected, dtype)


@pytest.mark.parametrize(("threads", "mapped_bytes"), [(1, 10**9), (2, 0), (2, 10**9)])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_padded_agrees_with_packed(limits, kind, batch_first, threads, mapped_bytes):
    limits(mapped_bytes=mapped_bytes)
    lengths = [6, 5, 5, 2, 0]
    order = np.array([3, 0, 4, 1, 2], np.int64)
    directions, data, batch_sizes, h_0, c_0, _ = case(
        kind, 4, 9, lengths[:4], np.float32, reverses=(False, True)
    )
    pad = lambda s: None if s is None else np.concatenate([s, s[:, :1]], axis=1)  # noqa: E731
    h_0, c_0 = pad(h_0), pad(c_0)
    packed, h_n, c_n = run(directions, data, batch_sizes, h_0, c_0)
    steps = 8
    padded = np.full((steps, 5, 4), np.nan, np.float32)
    expected = np.zeros((steps, 5, packed.shape[1]), np.float32)
    starts = np.concatenate([[0], np.cumsum(batch_sizes)])
    for t, live in enumerate(batch_sizes):
        padded[t, order[:live]] = data[starts[t] : starts[t + 1]]
        expected[t, order[:live]] = packed[starts[t] : starts[t + 1]]
    if batch_first:
        padded, expected = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (padded, expected))
    dirty = [np.full(expected.size, np.nan, np.float32) for _ in range(9)]
    del dirty  # what malloc gives next
    in_batch = np.argsort(order)  # the states are in the batch's order, not by length
    h_p, c_p = (None if s is None else np.ascontiguousarray(s[:, in_batch]) for s in (h_0, c_0))
    output, h_p, c_p = run_padded(
        directions, padded, batch_sizes, order, h_p, c_p, batch_first, threads
    )
    assert np.array_equal(output, expected)
    assert np.array_equal(h_p[:, order], h_n)
    assert c_p is c_n is None or np.array_equal(c_p[:, order], c_n)
    assert np.array_equal(h_p[:, 2], h_0[:, 4])  # length 0: the initial state


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", CELLS)
def test_steps_agree_with_the_whole(instruction_set, kind, dtype):
    rng = np.random.default_rng(1)
    layers = [
        Direction(
            kind,
            **{n: a.astype(dtype) for n, a in reference.random_params(rng, kind, size, 18).items()},
        )
        for size in (5, 18, 18)
    ]
    x = rng.standard_normal((9, 2, 5)).astype(dtype)
    data, sizes = x.reshape(18, 5), np.full(9, 2, np.int64)
    for layer in layers:
        data, _, _ = run([layer], data, sizes)
    stepper, h, c = Stepper(layers), None, None
    for t in range(9):
        y, h, c = stepper.step(x[t], h, c)
        np.testing.assert_allclose(y, data[2 * t : 2 * t + 2], rtol=0, atol=TOLERANCE[dtype])
        assert np.array_equal(h[-1], y)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(CELLS),
    input_size=st.integers(1, 20),
    hidden_size=st.integers(1, 40),
    lengths=st.lists(st.integers(1, 25), min_size=1, max_size=12),
    reverse=st.booleans(),
    threads=st.integers(1, 4),
)
def test_random_shapes(kind, input_size, hidden_size, lengths, reverse, threads):
    *arguments, expected = case(
        kind, input_size, hidden_size, lengths, np.float32, reverses=(reverse,)
    )
    assert_close(run(*arguments, threads=threads), expected, np.float32)


def test_saturated_gates_and_nan(instruction_set):
    """Huge pre-activations saturate, NaN stays NaN in its own row and nowhere else."""
    rng = np.random.default_rng(0)
    for kind in CELLS:
        params = {n: a * 1e4 for n, a in reference.random_params(rng, kind, 3, 20).items()}
        params = {n: a.astype(np.float32) for n, a in params.items()}
        data = rng.standard_normal((12, 3)).astype(np.float32)
        data[0, 1] = np.nan
        sizes = np.array([3, 3, 3, 3], np.int64)
        output, h_n, _ = run([Direction(kind, **params)], data, sizes)
        assert np.isnan(h_n[0, 0]).any()
        assert not np.isnan(output[[1, 2]]).any()
        if not kind.endswith("relu"):
            assert np.nanmax(np.abs(output)) <= 1 + 1e-6


@pytest.mark.parametrize("kind", CELLS)
def test_gates_at_the_ends_of_the_range(instruction_set, kind):
    """Sums up to infinity in every gate, in all combinations: gates open and shut, and no NaN."""
    gates = reference.GATES[kind]
    ends = np.array([-np.inf, -3e38, -1e30, -1e7, -127, -89, -1e-30, 0, 2, 88, 1e7, 3e38, np.inf])
    # all of them would make a large weight_hh
    ends = ends[{4: [0, 2, 7, 9, 12], 3: [0, 1, 3, 5, 7, 8, 10, 12]}.get(gates, slice(None))]
    sums = np.stack(np.meshgrid(*[ends] * gates)).reshape(gates, -1).astype(np.float32)
    if kind.endswith("relu"):
        sums = sums[:, np.isfinite(sums).all(axis=0)]
    hidden_size = sums.shape[1]
    params = {
        "weight_ih": np.zeros((gates * hidden_size, 1), np.float32),
        "weight_hh": np.zeros((gates * hidden_size, hidden_size), np.float32),
        "bias_ih": sums.reshape(-1),
        "bias_hh": np.zeros(gates * hidden_size, np.float32),
    }
    if kind.startswith("indrnn"):
        params["weight_hh"] = np.zeros(hidden_size, np.float32)
    h_0 = np.linspace(-1, 1, hidden_size, dtype=np.float32)[None, None]
    c_0 = 3 * h_0 if kind == "lstm" else None
    data, sizes = np.zeros((1, 1), np.float32), np.ones(1, np.int64)
    result = run([Direction(kind, **params)], data, sizes, h_0, c_0)
    expected = reference.run(kind, params, data, sizes, h_0[0], h_0[0] if c_0 is None else c_0[0])
    output, h_n, c_n = result
    assert_close((output, h_n[0], None if c_n is None else c_n[0]), expected, np.float32)


def test_packed_weights_come_back_bit_for_bit(instruction_set):
    rng = np.random.default_rng(0)
    for kind in CELLS:
        for hidden_size, proj_size in ((1, 0), (17, 0), (64, 0), (20, 7)):
            if proj_size and kind != "lstm":
                continue
            params = reference.random_params(rng, kind, 5, hidden_size, proj_size)
            params = {n: a.astype(np.float32) for n, a in params.items()}
            direction = Direction(kind, **params, reverse=True)
            copy = pickle.loads(pickle.dumps(direction))
            for one in (direction, copy):
                assert one.isa == instruction_set
                assert one.reverse
                for name, array in params.items():
                    assert np.array_equal(getattr(one, name)(), array)
            # held once: the weights padded to whole vectors once, twice the biases, nothing else
            lanes = isa.lanes(np.float32)
            units = hidden_size % lanes
            # gru_reset_before packs its candidate by itself
            parts = (2, 1) if kind == "gru_reset_before" else (reference.GATES[kind],)
            rows = sum(
                hidden_size // lanes * gates * lanes + -(-units * gates // lanes) * lanes
                for gates in parts
            )
            depth = sum(a.size // len(a) for n, a in params.items() if n.startswith("weight"))
            assert direction.nbytes <= 4 * rows * (depth + 4)


def test_unaligned_arrays_are_copied():
    """At such an address 32-bit Arm would stop the process."""
    rng = np.random.default_rng(0)
    params = {n: a.astype(np.float32) for n, a in reference.random_params(rng, "gru", 3, 4).items()}
    data, sizes = rng.standard_normal((6, 3)).astype(np.float32), np.full(3, 2, np.int64)
    moved = np.frombuffer(b"\0" + data.tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 3)
    directions = [Direction("gru", **params)]
    assert not moved.flags.aligned
    assert np.array_equal(run(directions, moved, sizes)[0], run(directions, data, sizes)[0])


@pytest.mark.skipif(sys.maxsize > 2**32, reason="sizes of 32 bits only")
def test_working_buffers_past_32_bits_are_refused():
    """Their bytes, 6 x 4 x 43,700 x 4,096, would wrap around to a few megabytes."""
    params = reference.random_params(np.random.default_rng(0), "lstm", 1, 4096, proj_size=1)
    direction = Direction("lstm", **{n: a.astype(np.float32) for n, a in params.items()})
    with pytest.raises(MemoryError, match="working buffers"):
        run([direction], np.zeros((43_700, 1), np.float32), np.array([43_700], np.int64), threads=1)
