"""Every door of compiled code, tried with every kind of array that it does not expect.

A door either refuses an array or gives what it gives for a clean copy of it: never a crash, never
numbers read from the wrong bytes. What is not numbers of the dtype expected is always refused.
"""

import contextlib
import pickle

import numpy as np
import pytest

from vledge._ext import isa, packing, weights
from vledge._ext.convolution import Convolution
from vledge._ext.product import Product
from vledge._ext.recurrent import plain_lengths, run, run_list, run_padded
from vledge._ext.stack import Stepper
from vledge._ext.streaming import StreamingStack
from vledge._ext.weights import Direction

REFUSALS = (ValueError, TypeError, MemoryError, OverflowError, IndexError, BufferError)
RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def integers(*values):
    return np.array(values, np.int64)


MANY = 2 ** (np.dtype(np.intp).itemsize * 8 - 16)  # more than any memory holds
I, H, P, B = 5, 70, 6, 3  # noqa: E741 - the sizes' names of the field; 70 units are several panels
W = {
    "weight_ih": numbers(4 * H, I),
    "weight_hh": numbers(4 * H, P),
    "bias_ih": numbers(4 * H),
    "bias_hh": numbers(4 * H),
    "weight_hr": numbers(P, H),
}
LSTM = [Direction("lstm", **W)]
GRU = [Direction("gru", numbers(3 * H, I), numbers(3 * H, H), numbers(3 * H), numbers(3 * H))]
SIZES, ORDER = integers(3, 2, 2), integers(2, 0, 1)
PACKED, PADDED = numbers(7, I), numbers(4, B, I)
H_0, C_0 = numbers(1, B, P), numbers(1, B, H)
WEIGHT = numbers(70, I)
KERNEL, SIGNAL = numbers(6, 4, 3), numbers(2, 4, 7)
FALLING = integers(1, 2, 0)  # of the lengths of these:
SEQUENCES = [numbers(n, I) for n in (2, 3, 3)]


LISTED = FALLING, integers(3, 3, 2)


def listed(batch_sizes=LISTED[1], order=LISTED[0], h_0=None, c_0=None):
    return run_list(LSTM, SEQUENCES, batch_sizes, order, h_0, c_0)


def unpacked(direction):
    return [getattr(direction, name)() for name in W]


def gathered(packed=None, sequences=SEQUENCES, sizes=SIZES, order=FALLING, starts=None):
    packed = np.empty((8, I), np.float32) if packed is None else packed
    packing.gather(packed, sequences, integers(3, 3, 2) if sizes is SIZES else sizes, order, starts)
    return packed


def scattered(packed, sequences, sizes=SIZES, order=None, starts=None, padding=None):
    packing.scatter(packed, sequences, sizes, order, starts, padding)
    return sequences


def rectangle():
    return np.zeros((B, 4, I), np.float32)


def stack(cell=GRU):
    return StreamingStack(cell, B)


def given(**changes):
    return unpacked(Direction("lstm", **{**W, **changes}))


def slid(convolution, x):
    return convolution(x, [5], [0])


# name of the door and of its argument -> (call with one array, an array that it takes)
READ = {
    **{f"Direction {n}": (lambda a, n=n: given(**{n: a}), W[n]) for n in W},
    "Direction indrnn": (
        lambda a: Direction("indrnn_tanh", numbers(8, I) * 0, a).weight_hh(),
        numbers(8),
    ),
    "pack": (lambda a: weights.pack(a, 1, 8, 4), WEIGHT),
    "Product weight": (lambda a: Product(a).weight(), WEIGHT),
    "Product bias": (lambda a: Product(WEIGHT, a).bias(), numbers(70)),
    "Product x": (Product(WEIGHT, numbers(70)), numbers(3, 4, I)),
    "Convolution weight": (lambda a: Convolution(a, None, [1], [1]).weight(), KERNEL),
    "Convolution bias": (lambda a: slid(Convolution(KERNEL, a, [1], [1]), SIGNAL), numbers(6)),
    "Convolution x": (lambda a: slid(Convolution(KERNEL, None, [1], [1]), a), SIGNAL),
    "Convolution x, by channel": (
        lambda a: slid(Convolution(KERNEL[:4, :1], None, [1], [1], groups=4), a),
        SIGNAL,
    ),
    "isa exp": (lambda a: isa.apply("exp", a), numbers(9, 17)),
    "isa tanh": (lambda a: isa.apply("tanh", a), numbers(9, 17)),
    "isa sigmoid": (lambda a: isa.apply("sigmoid", a), numbers(9, 17)),
    "run data": (lambda a: run(LSTM, a, SIZES), PACKED),
    "run batch_sizes": (lambda a: run(LSTM, PACKED, a), SIZES),
    "run h_0": (lambda a: run(LSTM, PACKED, SIZES, a), H_0),
    "run c_0": (lambda a: run(LSTM, PACKED, SIZES, None, a), C_0),
    "run_padded data": (lambda a: run_padded(LSTM, a, SIZES, ORDER), PADDED),
    "run_padded batch first": (
        lambda a: run_padded(GRU, a, SIZES, ORDER, None, None, True),
        numbers(B, 4, I),
    ),
    "run_padded batch_sizes": (lambda a: run_padded(LSTM, PADDED, a, ORDER), SIZES),
    "run_padded order": (lambda a: run_padded(LSTM, PADDED, SIZES, a), ORDER),
    "run_padded h_0": (lambda a: run_padded(LSTM, PADDED, SIZES, ORDER, a), H_0),
    "run_padded c_0": (lambda a: run_padded(LSTM, PADDED, SIZES, ORDER, None, a), C_0),
    "run_padded to packed": (
        lambda a: run_padded(LSTM, a, SIZES, ORDER, pack=True),
        PADDED,
    ),
    "run_padded packed data": (lambda a: run_padded(LSTM, a, SIZES, ORDER, unpack=4), PACKED),
    "run_list sequence": (
        lambda a: run_list(LSTM, [a, *SEQUENCES[1:]], LISTED[1], LISTED[0])[0][0],
        SEQUENCES[0],
    ),
    "run_list batch_sizes": (lambda a: listed(batch_sizes=a), LISTED[1]),
    "run_list order": (lambda a: listed(order=a), LISTED[0]),
    "run_list h_0": (lambda a: listed(h_0=a), H_0),
    "run_list c_0": (lambda a: listed(c_0=a), C_0),
    "Stepper x": (lambda a: Stepper(LSTM).step(a, None), numbers(B, I)),
    "Stepper h": (lambda a: Stepper(LSTM).step(PADDED[0], a), H_0),
    "Stepper c": (lambda a: Stepper(LSTM).step(PADDED[0], None, a), C_0),
    "stream step": (lambda a: stack().step(a), numbers(B, I)),
    "stream push": (lambda a: stack(LSTM).push(a), PADDED),
    "gather list": (lambda a: gathered(sequences=[a, *SEQUENCES[1:]]), SEQUENCES[0]),
    "gather array": (
        lambda a: gathered(np.empty((7, I), np.float32), a, SIZES[:], None),
        numbers(B, 4, I),
    ),
    "gather batch_sizes": (lambda a: gathered(sizes=a), integers(3, 3, 2)),
    "gather order": (lambda a: gathered(order=a), integers(1, 2, 0)),
    "gather starts": (
        lambda a: gathered(np.empty((4, I), np.float32), sizes=integers(3, 1), starts=a),
        integers(0, 1, 1),
    ),
    "scatter packed": (lambda a: scattered(a, rectangle()), PACKED),
    "scatter batch_sizes": (lambda a: scattered(PACKED, rectangle(), a), SIZES),
    "scatter order": (lambda a: scattered(PACKED, rectangle(), order=a), ORDER),
    "scatter padding": (lambda a: scattered(PACKED, rectangle(), padding=a), numbers(I)),
    "sort_descending": (packing.sort_descending, integers(3, 1, 2, 2)),
    "are_batch_sizes": (lambda a: packing.are_batch_sizes(a, 7), SIZES),
    "are_inverse permutation": (lambda a: packing.are_inverse(a, integers(1, 2, 0)), ORDER),
    "are_inverse inverse": (lambda a: packing.are_inverse(ORDER, a), integers(1, 2, 0)),
    "total": (packing.total, integers(3, 1, 2, 2)),
    "running_out": (lambda a: packing.running_out(a, 3), integers(3, 2, 1)),
}


def through_product(out):
    Product(WEIGHT)(PADDED, out=out)
    return out


# doors that write into an array of the caller's, who looks at it afterwards
WRITTEN = {
    "Product out": (through_product, np.zeros((4, B, 70), np.float32)),
    "stream step out": (lambda a: stack().step(PADDED[0], out=a), np.zeros((B, H), np.float32)),
    "stream push out": (
        lambda a: stack(LSTM).push(PADDED, out=a),
        np.zeros((4, B, P), np.float32),
    ),
    "gather packed": (gathered, np.zeros((8, I), np.float32)),
    "scatter list": (
        lambda a: scattered(np.ones((7, I), np.float32), [a, np.zeros((3, I), "f4")] + [a], SIZES),
        np.zeros((3, I), np.float32),
    ),
    "scatter array": (
        lambda a: scattered(np.ones((7, I), np.float32), a, padding=numbers(I) * 0 + 2),
        rectangle(),
    ),
}


def moved(array):
    """The same numbers at an address that is no multiple of anything."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    copy = memory[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def in_record(array):
    """The same numbers, a field of records of an odd size: strides that are no whole elements."""
    record = np.zeros(array.shape, np.dtype([("pad", "u1"), ("value", array.dtype)]))
    record["value"] = array
    return record["value"]


def doubled(array):
    """Every second one of twice as many along the last axis."""
    return np.repeat(array, 2, -1)[..., ::2]


SAME = {  # the same numbers, lying otherwise
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder("S")),
    "big-endian, moved": lambda a: moved(a.astype(a.dtype.newbyteorder("S"))),
    "misaligned": moved,
    "a record's field": in_record,
    "strided": doubled,
    "Fortran order": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "a subclass": lambda a: a.copy().view(type("Sub", (np.ndarray,), {})),
    "longlong": lambda a: a.astype(np.longlong) if a.dtype == np.int64 else a.copy(),
}
# forms that every door takes but those that move bytes, which look at no number
TAKEN = ("big-endian", "big-endian, moved", "misaligned", "read-only", "a subclass", "longlong")
SHAPES = {  # other numbers of axes and other sizes, of the right dtype
    "one axis more": lambda a: a[None].copy(),
    "one axis more behind": lambda a: a[..., None].copy(),
    "flat": lambda a: a.ravel(),
    "a scalar": lambda a: a.ravel()[0],
    "no axes": lambda a: np.array(a.ravel()[0]),
    "nothing": lambda a: a[:0],
    "nothing behind": lambda a: a[..., :0],
    "one less": lambda a: a[:-1].copy(),
    "one less behind": lambda a: a[..., :-1].copy(),
    "one more": lambda a: np.concatenate([a, a[:1]]),
    "one more behind": lambda a: np.concatenate([a, a[..., :1]], -1),
    "forty axes": lambda a: a.reshape((1,) * (40 - a.ndim) + a.shape),
    "no rows, many": lambda a: (
        np.zeros((MANY, *(0,) * (a.ndim - 1)), a.dtype) if a.ndim > 1 else a[:0]
    ),
    "one number everywhere": lambda a: (
        np.broadcast_to(a.ravel()[:1], (MANY, *a.shape[1:])) if a.ndim > 1 else a[:1]
    ),
    "largest": lambda a: np.full(a.shape, np.iinfo(a.dtype).max if a.dtype.kind == "i" else 3e38),
    "negative": lambda a: -a - 1,
}
WRONG = {  # no numbers of the dtype
    "objects": lambda a: a.astype(object),
    "objects, one None": lambda a: np.full(a.shape, None, object),
    "other precision": lambda a: a.astype("f8" if a.dtype.kind == "f" else "i4"),
    "other precision, swapped": lambda a: a.astype(">f8" if a.dtype.kind == "f" else ">i4"),
    "as integers": lambda a: a.view(f"u{a.itemsize}"),
    "complex": lambda a: a.astype(np.complex64),
    "bool": lambda a: a.astype(bool),
    "half": lambda a: a.astype(np.float16),
    "strings": lambda a: a.astype("S8"),
    "unicode": lambda a: a.astype("U8"),
    "void": lambda a: np.ascontiguousarray(a).view(f"V{a.itemsize}"),
    "times": lambda a: np.zeros(a.shape, "M8[s]"),
    "records": lambda a: np.zeros(a.shape, [("a", a.dtype)]),
    "a list": lambda a: a.tolist(),
    "a tuple": lambda a: tuple(a),
    "bytes": lambda a: a.tobytes(),
    "a number": lambda a: 1.0,
    "a string": lambda a: "array",
}


def plain(result):
    """What a door gave, to be compared."""
    if isinstance(result, (list, tuple)):
        return [plain(one) for one in result]
    return result if result is None or isinstance(result, bool) else np.array(result)


def assert_same(got, expected):
    if isinstance(expected, list):
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(got, expected)


def tried(call, array):
    """What a door gives, or the refusal."""
    try:
        with np.errstate(all="ignore"):
            return plain(call(array))
    except REFUSALS as refusal:
        return refusal


@pytest.mark.parametrize("form", SAME)
@pytest.mark.parametrize("door", READ)
def test_the_same_numbers_lying_otherwise(door, form):
    call, good = READ[door]
    expected = plain(call(good))
    given_ = SAME[form](good)
    np.testing.assert_array_equal(given_, good)
    got = tried(call, given_)
    if form in TAKEN and not door.startswith(("gather", "scatter")):
        assert not isinstance(got, Exception), got
    if not isinstance(got, Exception):
        assert_same(got, expected)


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("door", READ)
def test_other_shapes_and_sizes(door, form):
    call, good = READ[door]
    array = SHAPES[form](good)
    if isinstance(array, np.ndarray):
        array = array.astype(good.dtype, copy=False)
    got = tried(call, array)
    if not isinstance(got, Exception):
        assert array.nbytes < 2**20
        assert_same(got, plain(call(np.array(array, good.dtype, order="C"))))


@pytest.mark.parametrize("form", WRONG)
@pytest.mark.parametrize("door", READ)
def test_what_is_not_numbers_of_the_dtype_is_refused(door, form):
    call, good = READ[door]
    if isinstance(tried(call, WRONG[form](good)), Exception):
        return
    if (door, form) == ("gather array", "a tuple"):
        return  # of arrays: sequences as good as in a list
    # isa and the weights' doors are for both precisions
    assert form.startswith("other precision"), "read as numbers that it does not hold"
    assert door.startswith(("isa", "pack", "Product weight", "Convolution weight"))


@pytest.mark.parametrize("form", [*SAME, *SHAPES, *WRONG])
@pytest.mark.parametrize("door", WRITTEN)
def test_arrays_to_be_written_to(door, form):
    call, good = WRITTEN[door]
    expected = plain(call(good.copy()))
    make = {**SAME, **SHAPES, **WRONG}[form]
    array = make(good)
    before = array.copy() if isinstance(array, np.ndarray) and array.nbytes < 2**20 else None
    got = tried(call, array)
    if form in WRONG or form == "read-only":
        assert isinstance(got, Exception)
    if isinstance(got, Exception):
        if before is not None and before.dtype != object:
            assert array.tobytes() == before.tobytes(), "refused, and written to"
    elif form in SAME:
        assert_same(got, expected)
        assert_same(plain(array), expected[0] if isinstance(expected, list) else expected)


@pytest.mark.parametrize(
    "sizes",
    [
        [2**63 - 1, 5],
        [2**63 - 1, 2**63 - 1, 2],
        [2**62] * 4,
        [2**62] * 4 + [7],
        [2**63 - 1],
        [2**61 + 3],
        [2**32 + 7],
        [7, 0],
        [0],
        [-7],
        [3, 4],
        [3, 2, 2, 0],
        [2**62, -(2**62) + 7],
        [],
        [3, 2, 2, 1],
    ],
)
def test_batch_sizes_that_are_none(sizes):
    sizes = np.array(sizes, np.int64)
    for call in (
        lambda: run(LSTM, PACKED, sizes),
        lambda: run(GRU, np.zeros((7, I), np.float32), sizes),
        lambda: run_padded(LSTM, PADDED[:2], sizes),
        lambda: run_padded(LSTM, PACKED, sizes, unpack=2),
        lambda: listed(sizes),
        lambda: gathered(np.empty((7, I), np.float32), SEQUENCES, sizes),
        lambda: scattered(PACKED, rectangle()[:, :2], sizes),
    ):
        got = tried(lambda _, call=call: call(), None)
        assert isinstance(got, Exception) or not len(sizes)
    assert not packing.are_batch_sizes(sizes, 7)


def test_rows_without_features_are_no_way_round_the_sizes():
    """Arrays of any number of rows that take no memory."""
    nothing = [Direction("gru", numbers(3, 0), numbers(3, 1), None, None)]
    for rows in (2**60, 2**61 + 1, 2**62):
        sizes = np.array([rows], np.int64)
        for call in (
            lambda rows=rows, sizes=sizes: run(nothing, np.zeros((rows, 0), np.float32), sizes),
            lambda rows=rows, sizes=sizes: run_padded(
                nothing, np.zeros((1, rows, 0), np.float32), sizes
            ),
            lambda rows=rows: Stepper(nothing).step(np.zeros((rows, 0), np.float32), None),
            lambda rows=rows: StreamingStack(nothing, rows),
            lambda rows=rows: Product(numbers(2**31, 0))(np.zeros((rows, 0), np.float32)),
        ):
            assert isinstance(tried(lambda _, call=call: call(), None), Exception)


@pytest.mark.parametrize("order", [[0, 0, 1], [1, 2, 3], [-1, 0, 1], [2**62, 0, 1]])
def test_orders_that_are_no_permutation(order):
    with pytest.raises(ValueError, match="order"):
        run_padded(LSTM, PADDED, SIZES, integers(*order))
    with pytest.raises(ValueError, match=r"order|sequences\[0\] has 2 steps, not 3"):
        listed(order=integers(*order))


@pytest.mark.parametrize("steps", [-(2**62), -1, 0, 2, 2**62])
def test_packed_rows_for_a_rectangle_that_cannot_hold_them(steps):
    with pytest.raises(REFUSALS):
        run_padded(LSTM, PACKED, SIZES, ORDER, unpack=steps)


@pytest.mark.parametrize(
    "sequences",
    [SEQUENCES[:2], [*SEQUENCES, SEQUENCES[0]], SEQUENCES[::-1], [None, *SEQUENCES[1:]],
     [*SEQUENCES[:2], PADDED], [*SEQUENCES[:2], numbers(3, I + 1)], [], tuple(SEQUENCES)],
)  # fmt: skip
def test_lists_that_are_not_the_sequences(sequences):
    with pytest.raises((ValueError, TypeError)):
        run_list(LSTM, sequences, LISTED[1], LISTED[0])


@pytest.mark.parametrize("form", [*SAME, *SHAPES, *WRONG])
def test_lengths_are_told_of_what_is_read_as_it_lies_alone(form):
    array = {**SAME, **SHAPES, **WRONG}[form](SEQUENCES[0])
    told = plain_lengths([array, SEQUENCES[1]], np.dtype(np.float32), I)
    if told is None:
        assert form not in ("read-only", "a subclass", "one more")
    else:
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert (array.dtype, array.shape[1:]) == (np.float32, (I,))
        assert told.tolist() == [len(array), 3]


UNMADE = Direction.__new__(Direction)
OTHER = Direction("gru", numbers(3 * 8, H), numbers(3 * 8, 8))
DOUBLE = Direction("gru", *(a.astype(np.float64) for a in (numbers(3 * H, H), numbers(3 * H, H))))


@pytest.mark.parametrize(
    "directions",
    [[], [None], [UNMADE], ["gru"], [GRU[0], None], [GRU[0], UNMADE], [GRU[0], OTHER], None,
     [GRU[0], DOUBLE], [GRU[0], LSTM[0]], [GRU[0]] * 3, tuple(GRU), GRU[0]],
)  # fmt: skip
def test_lists_that_are_no_layer(directions):
    for call in (
        lambda: run(directions, PACKED, SIZES),
        lambda: run_padded(directions, PADDED, SIZES),
        lambda: run_list(directions, SEQUENCES, LISTED[1], LISTED[0]),
        lambda: Stepper(directions),
        lambda: StreamingStack(directions, 2),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()


def test_objects_without_weights():
    for kind in (Direction, Product, Convolution, Stepper):
        unmade = kind.__new__(kind)
        calls = [lambda u=unmade: u(PADDED), lambda u=unmade: u.step(PADDED[0], None)]
        names = ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh", "weight", "bias")
        calls += [lambda u=unmade, n=n: getattr(u, n)() for n in names]
        calls += [lambda u=unmade: u.isa, lambda u=unmade: u.nbytes, lambda u=unmade: repr(u)]
        calls += [lambda u=unmade: pickle.loads(pickle.dumps(u))]
        for call in calls:
            with contextlib.suppress(TypeError, ValueError, AttributeError):
                assert isinstance(call(), (str, int, type(None)))


def test_what_is_made_is_not_made_again():
    """A stack points into its directions' weights."""
    direction = Direction("gru", numbers(3 * H, I), numbers(3 * H, H))
    running = StreamingStack([direction], B)
    before = StreamingStack([direction], B).step(PADDED[0])
    with pytest.raises(TypeError, match="made once"):
        direction.__init__("gru", numbers(3, 1), numbers(3, 1))
    np.testing.assert_array_equal(running.step(PADDED[0]), before)
    with pytest.raises(TypeError, match="made once"):
        Product(WEIGHT).__init__(WEIGHT)
    with pytest.raises(TypeError, match="made once"):
        Convolution(KERNEL, None, [1], [1]).__init__(KERNEL, None, [1], [1])


def test_a_list_changed_after_it_was_given():
    layers = list(GRU)
    stepper, running = Stepper(layers), StreamingStack(layers, B)
    layers[0] = None
    layers.clear()
    np.testing.assert_array_equal(stepper.step(PADDED[0], None)[0], running.step(PADDED[0]))


# ---- results that lie where the input lies

OFFSETS = [-7, -1, 0, 1, 5, 64]


def overlapping(shape_in, shape_out, offset):
    """An input full of numbers and an out, so many elements apart in one array."""
    size_in, size_out = np.prod(shape_in), np.prod(shape_out)
    memory = np.zeros(size_in + size_out + 128, np.float32)
    x = memory[64 : 64 + size_in].reshape(shape_in)
    out = memory[64 + offset : 64 + offset + size_out].reshape(shape_out)
    x[...] = np.random.default_rng(1).uniform(-1, 1, shape_in)
    return x, out


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("units", [3, 64, 130])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_before", "rnn_tanh", "indrnn_relu"])
def test_out_over_the_input(cell, units, offset):
    gates = weights.GATES[cell]
    w_hh = numbers(units) if cell.startswith("indrnn") else numbers(gates * units, units)
    layers = [Direction(cell, numbers(gates * units, units), w_hh * 0.1)] * 2
    rows, steps = 2, 5
    expected = StreamingStack(layers, rows)
    got = StreamingStack(layers, rows)
    for _ in range(2):
        x, out = overlapping((rows, units), (rows, units), offset)
        y = expected.step(x.copy())
        np.testing.assert_array_equal(got.step(x, out=out), y)
        x, out = overlapping((steps, rows, units), (steps, rows, units), offset)
        y = expected.push(x.copy())
        np.testing.assert_array_equal(got.push(x, out=out), y)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("rows", [1, 9, 100])
def test_product_over_its_input(rows, offset):
    product = Product(numbers(130, 130), numbers(130))
    x, out = overlapping((rows, 130), (rows, 130), offset)
    expected = product(x.copy())
    np.testing.assert_array_equal(product(x, out=out), expected)
    # columns of an array whose other columns are the input
    both = np.zeros((rows, 200), np.float32)
    both[:, :130] = x
    expected = product(both[:, :130].copy())
    np.testing.assert_array_equal(product(both[:, :130], out=both[:, 70:]), expected)


def test_rows_are_not_moved_within_one_memory():
    memory = np.zeros(16 * I, np.float32)
    packed, batch = memory[: 7 * I].reshape(7, I), memory[: 12 * I].reshape(3, 4, I)
    with pytest.raises(ValueError, match="share memory"):
        packing.scatter(packed, batch, SIZES)
    with pytest.raises(ValueError, match="share memory"):
        packing.gather(packed, [memory[6 * I : 9 * I].reshape(3, I)] * 3, SIZES, ORDER)
    with pytest.raises(ValueError, match="padding is a part"):
        packing.scatter(PACKED, batch, SIZES, ORDER, None, batch[0, 0])


def test_a_stream_of_a_session_has_its_time_axis():
    from tests.kernels.hostile import carried

    for axis in (-1, 2, 40):
        with pytest.raises(ValueError, match="is to be time"):
            carried([(0, 1)], [("x", 0, np.float32, (1, 3), axis)], [], [("y", 0, 0)])
