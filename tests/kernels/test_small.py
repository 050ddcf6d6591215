"""Small weights on every path: sums bit for bit as defined, whatever the worst case; the cells by
their equations."""

import pickle

import numpy as np
import pytest

from tests import reference
from tests.kernels.small_definition import SmallWeights, product
from vledge._ext import isa
from vledge._ext.recurrent import run, run_padded
from vledge._ext.stack import Stepper
from vledge._ext.streaming import StreamingStack
from vledge._ext.weights import Direction
from vledge.machine import equations
from vledge.small_matrix import FORMS, SmallMatrix, rounded

STORAGES = list(FORMS)
AS_IT_IS = ("affine", 1.0, 0.0)
ONE = ("affine", 0.0, 1.0)


def fused(name):
    return name not in ("sse2", "generic")


def projected(small, x, bias=None):
    """The input's product alone: units that have no past and no activation."""
    size = len(small)
    unit = Direction(
        "rnn", small, np.zeros((size, size), np.float32), bias, activations=(AS_IT_IS,)
    )
    return run([unit], x, np.array([len(x)], np.int64), threads=1)[0]


def recurrent(small, h):
    """One gate's product with the state."""
    size = len(small)
    unit = Direction("rnn", np.zeros((size, 1), np.float32), small, activations=(AS_IT_IS,))
    x = np.zeros((len(h), 1), np.float32)
    return run([unit], x, np.array([len(h)], np.int64), h[None], threads=1)[0]


def random_case(rng, rows, outputs, depth, storage):
    small = rounded(rng.standard_normal((outputs, depth)).astype(np.float32), storage)
    return small, (rng.standard_normal((rows, depth)) * 3).astype(np.float32)


@pytest.mark.parametrize("storage", STORAGES)
def test_sums_of_every_depth(integers, storage):
    rng = np.random.default_rng(1)
    for depth in [*range(8), 31, 32, 33, 36, 63, 64, 65, 66, 95, 100, 129]:
        small, x = random_case(rng, 2, 19, depth, storage)
        bias = rng.standard_normal(19).astype(np.float32)
        expected, _ = product(x, small, bias, fused(integers[0]))
        assert np.array_equal(projected(small, x, bias), expected), depth


@pytest.mark.parametrize("storage", STORAGES)
def test_sums_of_every_height_and_width(integers, storage):
    rng = np.random.default_rng(2)
    lanes = isa.lanes(np.float32)
    for rows in [*range(1, 10), 31, 33, 66]:
        for outputs in [1, lanes - 1, 2 * lanes, 3 * lanes + 1, 4 * lanes, 9 * lanes + 2]:
            small, x = random_case(rng, rows, outputs, 40, storage)
            expected, _ = product(x, small, np.float32(0), fused(integers[0]))
            assert np.array_equal(projected(small, x), expected), (rows, outputs)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rows", [5, 34])
def test_sums_that_wait_while_other_rows_pass(integers, storage, rows):
    """Weights beyond VL_SMALL_NEAR: every tile leaves its sums for the next ones."""
    rng = np.random.default_rng(9)
    for depth in (231, 460, 900, 1801):
        small, x = random_case(rng, rows, 67, depth, storage)
        expected, _ = product(x, small, np.float32(0), fused(integers[0]))
        assert np.array_equal(projected(small, x), expected), depth


@pytest.mark.parametrize("storage", STORAGES)
def test_sums_of_the_state(integers, storage):
    rng = np.random.default_rng(3)
    for rows in (1, 2, 5, 33):
        for size in (1, 7, 32, 50, 67):
            small, h = random_case(rng, rows, size, size, storage)
            expected, _ = product(h, small, np.float32(0), fused(integers[0]))
            assert np.array_equal(recurrent(small, h), expected), (rows, size)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("rows", [1, 5])
def test_sums_of_a_gate_among_four(integers, storage, rows):
    """An LSTM whose gates are all open gives back what its g sums to."""
    rng = np.random.default_rng(4)
    for size in (3, 24, 41, 64):
        w_hh = rounded(rng.standard_normal((4 * size, size)).astype(np.float32), storage)
        h = rng.standard_normal((rows, size)).astype(np.float32)
        unit = Direction(
            "lstm",
            np.zeros((4 * size, 1), np.float32),
            w_hh,
            activations=(ONE, AS_IT_IS, AS_IT_IS),
        )
        x = np.zeros((rows, 1), np.float32)
        c_0 = np.zeros((1, rows, size), np.float32)
        output = run([unit], x, np.array([rows], np.int64), h[None], c_0, threads=1)[0]
        expected, _ = product(h, w_hh[2 * size : 3 * size], np.float32(0), fused(integers[0]))
        assert np.array_equal(output, expected)


def worst(storage, outputs, depth):
    """The largest weights that the storage allows: rows with one sign, with both, by turns."""
    form = FORMS[storage]
    row = np.full(depth, form.largest)
    if form.pair is not None:
        row[1::2] = form.pair - form.largest
    if form.total is not None:  # a block that sums to the largest total, in a few or in all terms
        row = np.full(depth, form.total // form.block)
        row[:: form.block] += form.total % form.block
        few = np.zeros(depth, np.int64)
        few[0::32], few[1::32], few[2::32] = 32767, 32767, form.total - 2 * 32767
    values = np.stack([row * (-1) ** i for i in range(outputs)])
    values[2::3, ::2] *= -1
    if form.pair is not None:  # opposite neighbours may both be large
        values[2::3] = form.largest * (-1) ** np.arange(depth)
    if form.total is not None:
        values[3::4] = few
    blocks = -(-depth // form.block)
    scales = np.ones((outputs, blocks), np.float32)
    return SmallMatrix(values.astype(form.dtype), scales, storage)


@pytest.mark.parametrize("storage", STORAGES)
def test_the_worst_weights_and_inputs_neither_saturate_nor_overflow(integers, storage):
    depth = 2 * FORMS[storage].block
    small = worst(storage, 21, depth)
    signs = np.sign(small.values.astype(np.float32))
    x = np.concatenate([signs, -signs, np.ones((1, depth)), -np.ones((1, depth))])
    x = np.where(x == 0, 1, x).astype(np.float32) * np.float32(3)
    expected, sums = product(x, small, np.float32(0), fused(integers[0]))
    largest = {"int8": 32 * 127 * 32639, "int16": 65538 * 32767, "int8-fast": 64 * 127 * 127}
    assert np.abs(sums).max() == largest[storage]
    assert np.array_equal(projected(small, x), expected)


@pytest.mark.parametrize("storage", STORAGES)
def test_fuzzed_worst_cases(integers, storage):
    """Extreme integers in any order, as far as the storage allows them."""
    rng = np.random.default_rng(5)
    form = FORMS[storage]
    for _ in range(20):
        outputs, depth = rng.integers(1, 40), rng.integers(1, 140)
        values = rng.choice([-form.largest, form.largest, 0, 1], (outputs, depth))
        if form.pair is not None:
            both = np.abs(values[:, 0:-1:2] + values[:, 1::2]) > form.pair
            values[:, 1::2][both] = np.sign(values[:, 1::2][both]) * (form.pair - form.largest)
        if form.total is not None:
            values = np.sign(values) * rng.integers(0, form.total // form.block, values.shape)
        scales = rng.uniform(0, 1, (outputs, -(-depth // form.block))).astype(np.float32)
        small = SmallMatrix(values.astype(form.dtype), scales, storage)
        x = rng.choice([-7.5, 7.5, 7.4, 0], (rng.integers(1, 8), depth)).astype(np.float32)
        expected, _ = product(x, small, np.float32(0), fused(integers[0]))
        assert np.array_equal(projected(small, x), expected)


@pytest.mark.parametrize("storage", STORAGES)
def test_integer_sums_are_the_same_for_every_instruction_set(storage):
    """With sums that float32 holds and scales that are powers of two, results are, too."""
    rng = np.random.default_rng(6)
    form = FORMS[storage]
    values = rng.integers(-3, 4, (37, 130)).astype(form.dtype)
    small = SmallMatrix(values, np.full((37, -(-130 // form.block)), 0.5, np.float32), storage)
    x = rng.integers(-60, 61, (6, 130)).astype(np.float32)
    x[:, 7] = form.levels  # so that every row's scale is 1
    before = isa.selected()
    try:
        for name in isa.runnable():
            isa.select(name)
            for way in isa.integer_ways():
                isa.select_integers(way)
                assert np.array_equal(projected(small, x), 0.5 * (x @ values.T.astype(np.float32)))
    finally:
        isa.select_integers(None)
        isa.select(before)


@pytest.mark.parametrize("storage", STORAGES)
def test_rows_of_nothing_and_of_no_number(integers, storage):
    small = rounded(np.ones((5, 40), np.float32), storage)
    x = np.zeros((6, 40), np.float32)
    x[1, 3] = 1e-38
    x[2, 39] = np.nan
    x[3, 0] = np.inf
    x[4, 7] = -np.inf
    x[5] = 3e38
    got = projected(small, x)
    assert np.array_equal(got[:2], np.zeros((2, 5)))
    assert np.isnan(got[2:5]).all()
    assert np.isinf(got[5]).all()


def direction_case(kind, storage, input_size, hidden_size, proj_size=0, reverse=False, seed=0):
    rng = np.random.default_rng(seed)
    params = reference.random_params(rng, kind, input_size, hidden_size, proj_size)
    params = {name: a.astype(np.float32) for name, a in params.items()}
    return Direction(kind, **params, reverse=reverse, storage=storage)


def definition(direction, data, batch_sizes, h_0, c_0, reverse):
    """The equations in float64, inputs and states through integers."""
    size = 4 if direction.cell == "lstm" else 3 if direction.cell.startswith("gru") else 1
    rows = size * direction.hidden_size
    weights = {name: getattr(direction, name)() for name in ("bias_ih", "bias_hh")}
    weights = {n: np.zeros(rows) if a is None else a.astype(np.float64) for n, a in weights.items()}
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        stored = direction.stored(name)
        if stored is not None:
            small = isinstance(stored, SmallMatrix)
            weights[name] = SmallWeights(stored) if small else stored.astype(np.float64)
    offsets = np.concatenate([[0], np.cumsum(batch_sizes)])
    h, c = h_0.astype(np.float64), c_0.astype(np.float64)
    output = np.empty((offsets[-1], h.shape[1]))
    steps = range(len(batch_sizes))
    for t in reversed(steps) if reverse else steps:
        live = slice(0, int(batch_sizes[t]))
        x = data[offsets[t] : offsets[t + 1]]
        h[live], c[live] = equations.step(direction.cell, weights, x, h[live], c[live])
        output[offsets[t] : offsets[t + 1]] = h[live]
    return output, h, c


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", reference.GATES)
def test_cells(integers, kind, storage):
    """Where float32 and float64 round a state to neighbouring integers, they go apart by one."""
    rng = np.random.default_rng(0)
    levels = FORMS[storage].levels
    sizes = [(3, 1, 0), (33, 17, 0), (5, 40, 0), (8, 67, 0)]
    if kind == "lstm":
        sizes += [(6, 40, 33), (4, 21, 5)]
    for input_size, hidden_size, proj_size in sizes:
        for lengths, reverse in (([5], False), ([1], True), ([4, 4, 2, 1, 1], True)):
            one = direction_case(kind, storage, input_size, hidden_size, proj_size, reverse)
            batch_sizes = reference.batch_sizes_of(lengths)
            data = rng.standard_normal((batch_sizes.sum(), input_size)).astype(np.float32)
            h_0 = rng.uniform(-2, 2, (len(lengths), proj_size or hidden_size)).astype(np.float32)
            c_0 = rng.uniform(-1, 1, (len(lengths), hidden_size)).astype(np.float32)
            expected = definition(one, data, batch_sizes, h_0, c_0, reverse)
            states = h_0[None], c_0[None] if kind == "lstm" else None
            got = run([one], data, batch_sizes, *states)
            size = max(1.0, np.abs(expected[0]).max())
            tolerance = 1e-5 + size * len(batch_sizes) / levels / 2
            for result, want in zip(got, expected, strict=True):
                if result is not None:
                    result = result.reshape(want.shape)
                    assert np.abs(result - want).max() <= tolerance
                    assert np.sqrt(np.mean((result - want) ** 2)) <= 1e-6 + tolerance / 8


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", reference.GATES)
def test_a_row_has_the_same_bits_alone_in_a_stream_and_by_threads(integers, kind, storage, limits):
    limits(team_members=2)
    rng = np.random.default_rng(7)
    one = direction_case(kind, storage, 20, 139)
    data = rng.standard_normal((6, 7, 20)).astype(np.float32)
    sizes, lengths = np.full(6, 7, np.int64), np.array([6, 6, 6, 5, 3, 2, 1])
    whole = run_padded([one], data, sizes, None, threads=1)
    for threads in (2, 3):
        for got, want in zip(
            run_padded([one], data, sizes, None, threads=threads), whole, strict=True
        ):
            assert want is got is None or np.array_equal(got, want)
    alone = run([one], np.ascontiguousarray(data[:, 3]), np.ones(6, np.int64), threads=3)
    assert np.array_equal(alone[0], whole[0][:, 3])
    shrinking = run_padded([one], data, reference.batch_sizes_of(lengths), None, threads=1)[0]
    for row, length in enumerate(lengths):
        assert np.array_equal(shrinking[:length, row], whole[0][:length, row])
        assert not shrinking[length:, row].any()
    stream = StreamingStack([one], 7)
    assert np.array_equal(np.stack([stream.step(frame) for frame in data]), whole[0])
    stream = StreamingStack([one], 1)
    frames = [stream.step(np.ascontiguousarray(frame[3:4])) for frame in data]
    assert np.array_equal(np.concatenate(frames), whole[0][:, 3])
    y = Stepper([one]).step(data[0], None)[0]
    assert np.array_equal(y, whole[0][0])


@pytest.mark.parametrize("storage", STORAGES)
def test_one_row_through_many_groups_in_both_directions(integers, storage):
    """A row by itself takes groups together, a turned product from the last but one on."""
    rng = np.random.default_rng(10)
    size = 9 * isa.lanes(np.float32) + 3
    one = direction_case("lstm", storage, 20, size, proj_size=size)
    data = rng.standard_normal((5, 2, 20)).astype(np.float32)
    both = run_padded([one], data, np.full(5, 2, np.int64), None, threads=1)[0]
    alone = run([one], np.ascontiguousarray(data[:, 1]), np.ones(5, np.int64), threads=1)[0]
    assert np.array_equal(alone, both[:, 1])


@pytest.mark.parametrize("storage", STORAGES)
def test_empty_inputs_and_sequences(integers, storage):
    one = direction_case("gru", storage, 0, 9)
    h_0 = np.full((1, 3, 9), 0.5, np.float32)
    output, h_n, _ = run([one], np.empty((4, 0), np.float32), np.array([2, 1, 1], np.int64), h_0)
    assert output.shape == (4, 9)
    assert np.array_equal(h_n[:, 2], h_0[:, 2])
    assert np.array_equal(
        run([one], np.empty((0, 0), np.float32), np.array([], np.int64), h_0)[1], h_0
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", reference.GATES)
def test_integers_come_back_as_they_were(integers, kind, storage):
    one = direction_case(kind, storage, 13, 37, 11 if kind == "lstm" else 0)
    copy = pickle.loads(pickle.dumps(one))
    assert copy.storage == storage
    for name in ("weight_ih", "weight_hh", "weight_hr"):
        stored, again = one.stored(name), copy.stored(name)
        if isinstance(stored, SmallMatrix):
            assert np.array_equal(stored.values, again.values)
            assert np.array_equal(stored.scales, again.scales)
            assert np.array_equal(getattr(one, name)(), np.asarray(stored))
    floats = direction_case(kind, None, 13, 37, 11 if kind == "lstm" else 0)
    expected = rounded(floats.weight_ih(), storage)
    assert np.array_equal(one.stored("weight_ih").values, expected.values)
    half, bound = np.abs(one.weight_ih() - floats.weight_ih()), expected.scales.max() * 0.51
    assert half.max() <= bound


@pytest.mark.parametrize("storage", STORAGES)
def test_no_drift_over_thousands_of_steps(storage):
    """The last hundred of 10,000 steps are no worse than the first."""
    one = direction_case("lstm", storage, 4, 32)
    floats = Direction("lstm", one.weight_ih(), one.weight_hh(), one.bias_ih(), one.bias_hh())
    data = np.random.default_rng(8).standard_normal((10_000, 4)).astype(np.float32)
    sizes = np.ones(10_000, np.int64)
    error = run([one], data, sizes)[0] - run([floats], data, sizes)[0]
    first, last = (np.sqrt(np.mean(part**2)) for part in (error[:100], error[-100:]))
    assert last <= 1.3 * first


def test_what_small_weights_may_not_be():
    values, scales = np.zeros((4, 70), np.int8), np.zeros((4, 3), np.float32)
    SmallMatrix(values, scales, "int8")
    for change, message in (
        ((values, scales, "int4"), "storage 'int4' is not one of int8, int8-fast, int16"),
        ((values.astype(np.int16), scales, "int8"), "int8 are int8"),
        ((values, scales[:, :2], "int8"), r"have scales float32 \[4, 3\], got float32 \[4, 2\]"),
        ((values, scales - 1, "int8"), "negative or no finite"),
        ((values, scales * np.float32(np.nan), "int8"), "negative or no finite"),
        (
            (values + 65, scales[:, :2], "int8-fast"),
            "row 0 .* two neighbours sum to 130, at most 129",
        ),
        ((np.full((4, 70), 2049, np.int16), scales, "int16"), "sum to 65568, at most 65538"),
    ):
        with pytest.raises(ValueError, match=message):
            SmallMatrix(*change)
    with pytest.raises(ValueError, match="NaN or infinite"):
        rounded(np.full((2, 2), np.nan, np.float32), "int8")
    small = SmallMatrix(values[:, :1], scales[:, :1], "int8")
    with pytest.raises(ValueError, match="stored as int8 cannot be a layer of int16"):
        Direction("rnn_tanh", small, np.zeros((4, 4), np.float32), storage="int16")
    with pytest.raises(ValueError, match=r"no kernel of .* in float64 on .* int8"):
        Direction("rnn_tanh", np.zeros((4, 1)), np.zeros((4, 4)), storage="int8")
