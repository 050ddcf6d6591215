"""Packed sequences: the plain definition, torch bit for bit, and hostile arguments."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import vledge
from vledge import packing
from vledge._ext.packing import sort_descending
from vledge.packing import (
    PackedSequence,
    invert_permutation,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
)

DTYPES = [
    *(np.bool_, np.int8, np.uint8, np.int16, np.int32, np.int64),
    *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
]
LENGTHS = [[1], [3, 3, 3], [5, 4, 1], [1, 5, 2, 5, 2], [7, 1, 1, 1, 1, 1, 30]]
TRAILING = [(), (1,), (7,), (2, 3), (2, 1, 3)]


def plain_pack(sequences):
    """Rows of step 0, then of step 1, ... of sequences that stand longest first."""
    rows, batch_sizes = [], []
    for t in range(max(len(s) for s in sequences)):
        live = [s[t] for s in sequences if len(s) > t]
        rows += live
        batch_sizes.append(len(live))
    return np.array(rows), np.array(batch_sizes, np.int64)


def sequences_of(lengths, trailing=(3,), dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    values = [rng.uniform(-99, 99, (n, *trailing)) for n in lengths]
    if np.dtype(dtype).kind == "u":
        values = [np.abs(v) for v in values]
    if np.dtype(dtype).kind == "c":
        values = [v * (1 - 2j) for v in values]
    return [v > 0 if dtype is np.bool_ else v.astype(dtype) for v in values]


def padded_of(sequences, batch_first, extra=0):
    """A padded batch whose padding is not zero."""
    steps = max(len(s) for s in sequences) + extra
    padded = np.ones((len(sequences), steps, *sequences[0].shape[1:]), sequences[0].dtype)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded if batch_first else padded.swapaxes(0, 1).copy()


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()


# ---- against the definition


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("trailing", TRAILING)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_and_pad_are_the_definition(dtype, lengths, trailing, batch_first):
    sequences = sequences_of(lengths, trailing, dtype)
    order = np.argsort(-np.array(lengths), kind="stable").astype(np.int64)
    data, batch_sizes = plain_pack([sequences[i] for i in order])
    padded = padded_of(sequences, batch_first, extra=2)
    for packed in (
        pack_padded_sequence(padded, lengths, batch_first, enforce_sorted=False),
        pack_sequence(sequences, enforce_sorted=False),
    ):
        same(packed.data, data)
        same(packed.batch_sizes, batch_sizes)
        same(packed.sorted_indices, order)
        same(packed.unsorted_indices, np.argsort(order).astype(np.int64))
        again, got_lengths = pad_packed_sequence(packed, batch_first, 1, max(lengths) + 2)
        same(again, padded)
        same(got_lengths, np.array(lengths, np.int64))
        for got, sequence in zip(unpack_sequence(packed), sequences, strict=True):
            same(got, sequence)
    same(pad_sequence(sequences, batch_first, 1), padded_of(sequences, batch_first))
    for got, sequence in zip(unpad_sequence(padded, lengths, batch_first), sequences, strict=True):
        same(got, sequence)


def test_sorted_lengths_keep_no_indices():
    sequences = sequences_of([5, 3, 3, 1])
    for packed in (
        pack_sequence(sequences),
        pack_padded_sequence(padded_of(sequences, True), [5, 3, 3, 1], batch_first=True),
    ):
        assert packed.sorted_indices is None
        assert packed.unsorted_indices is None
        for got, sequence in zip(unpack_sequence(packed), sequences, strict=True):
            same(got, sequence)


def layouts(padded):
    """The same values in other memory layouts."""
    wide = np.zeros((*padded.shape[:-1], 2 * padded.shape[-1]), padded.dtype)
    wide[..., ::2] = padded
    frozen = padded.copy()
    frozen.flags.writeable = False
    return {
        "fortran": np.asfortranarray(padded),
        "reversed axes": padded[::-1, ::-1].copy()[::-1, ::-1],
        "strided rows": wide[..., ::2],
        "swapped axes": padded.swapaxes(0, 1).copy().swapaxes(0, 1),
        "read-only": frozen,
        "byte order": padded.astype(padded.dtype.newbyteorder()),
        "list": padded.tolist(),
    }


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("layout", layouts(np.zeros((1, 1, 1))))
def test_any_memory_layout(layout, batch_first):
    sequences = sequences_of([2, 6, 4], dtype=np.float64)
    padded = padded_of(sequences, batch_first)
    lengths = [2, 6, 4]
    expected = pack_padded_sequence(padded, lengths, batch_first, enforce_sorted=False)
    given = layouts(padded)[layout]
    got = pack_padded_sequence(given, lengths, batch_first, enforce_sorted=False)
    same(got.data, expected.data)
    data = layouts(expected.data)[layout]
    again = pad_packed_sequence(PackedSequence(data, *expected[1:]), batch_first)[0]
    same(again, pad_packed_sequence(expected, batch_first)[0])
    same(pack_sequence([layouts(s)[layout] for s in sequences], False).data, expected.data)
    for got, sequence in zip(unpad_sequence(given, lengths, batch_first), sequences, strict=True):
        same(got, sequence)


def test_one_row_with_an_odd_stride():
    data = np.arange(12.0).reshape(4, 3)[::3][:1]  # contiguous by its flags, its stride is not 24
    padded, _ = pad_packed_sequence(PackedSequence(data, [1]))
    same(padded, np.array([[[0.0, 1.0, 2.0]]]))


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=40),
    arrays.array_shapes(min_dims=0, max_dims=2, max_side=4),
    st.booleans(),
)
def test_round_trip(lengths, trailing, batch_first):
    sequences = sequences_of(lengths, trailing)
    packed = pack_padded_sequence(padded_of(sequences, batch_first), lengths, batch_first, False)
    data, batch_sizes = plain_pack([sequences[i] for i in packed.sorted_indices])
    same(packed.data, data)
    same(packed.batch_sizes, batch_sizes)
    padded, got = pad_packed_sequence(packed, batch_first, 1)
    same(padded, padded_of(sequences, batch_first))
    assert got.tolist() == lengths


def test_arguments_stay_as_they_are():
    padded = padded_of(sequences_of([2, 3]), False)
    before = padded.copy()
    packed = pack_padded_sequence(padded, [2, 3], enforce_sorted=False)
    unpad_sequence(padded, [2, 3])
    packed.data[:] = 7
    unpack_sequence(packed)[0][:] = 8
    same(padded, before)
    assert (packed.data == 7).all()


def test_packed_sequence_is_a_named_tuple():
    packed = pack_sequence(sequences_of([1, 2]), enforce_sorted=False)
    data, batch_sizes, *_ = packed
    assert packed._fields == ("data", "batch_sizes", "sorted_indices", "unsorted_indices")
    same(PackedSequence((data, batch_sizes)).batch_sizes, batch_sizes)
    copy = pickle.loads(pickle.dumps(packed))
    same(copy.data, data)
    assert copy != packed
    assert packed == packed
    assert hash(packed) == hash(packed)
    with pytest.raises(packing.PackingError, match="needs batch_sizes"):
        PackedSequence(data)


# ---- wrong arguments

PADDED = np.zeros((3, 4, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pack_padded_sequence(PADDED, [3, 2, 1, 0]), "greater than 0.*<= 0: 0"),
        (lambda: pack_padded_sequence(PADDED, [3, -2, 1, 1], False, False), "<= 0: -2"),
        (lambda: pack_padded_sequence(PADDED, [1, 2, 3, 1]), "sorted in decreasing order"),
        (lambda: pack_padded_sequence(PADDED, [3, 2]), r"but got 2 \(batch_size=4\)"),
        (lambda: pack_padded_sequence(PADDED, [3, 2], False, False), r"got 2 \(batch_size=4\)"),
        (lambda: pack_padded_sequence(PADDED, [5, 1, 1, 1]), r"lengths\[0\] is 5 .* only 3 time"),
        (lambda: pack_padded_sequence(PADDED, [1, 1, 5], True, False), r"lengths\[2\] is 5 .* 4"),
        (lambda: pack_padded_sequence(PADDED, 3), "1D"),
        (lambda: pack_padded_sequence(PADDED, [[3, 2, 1, 1]]), "1D"),
        (lambda: pack_padded_sequence(PADDED, [np.nan, 1, 1, 1]), "no int64"),
        (lambda: pack_padded_sequence(PADDED, [2.0**63, 1, 1, 1]), "no int64"),
        (lambda: pack_padded_sequence(np.float32(1), [1]), "0 dimension"),
        (lambda: pack_padded_sequence(np.zeros(3), [1]), "1 dimension"),
        (lambda: pack_padded_sequence(np.zeros((3, 0, 2)), []), "Cannot pack empty"),
        (lambda: pack_padded_sequence(np.zeros((3, 2, 0)), [3, 1]), "Cannot pack empty"),
        (lambda: pack_sequence([]), "empty list"),
        (lambda: pack_sequence([np.zeros(2), np.zeros(0)]), "<= 0"),
        (lambda: pack_sequence([np.zeros(1), np.zeros(2)]), "sorted in decreasing"),
        (lambda: pack_sequence([np.zeros((2, 0))]), "Cannot pack empty"),
        (lambda: pad_sequence(3), "Expected iterable"),
        (lambda: pad_sequence([np.float32(1)]), "no dimensions"),
        (lambda: pad_sequence([np.zeros((2, 3)), np.zeros((2, 4))]), r"sequences\[1\] has shape"),
        (lambda: pad_sequence([np.zeros(1)], padding_side="middle"), "left or right"),
        (lambda: unpad_sequence(np.zeros((3, 2)), [2]), r"got 1 \(batch_size=2\)"),
        (lambda: unpad_sequence(np.zeros(3), [2]), "1 dimension"),
        (lambda: invert_permutation([0, 0]), "1 is missing"),
        (lambda: invert_permutation([0, 2]), r"permutation\[1\] is 2"),
        (lambda: invert_permutation([-1, 0]), r"permutation\[0\] is -1"),
        (lambda: invert_permutation([[0]]), "1-D"),
        (lambda: invert_permutation([0.0]), "integers"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert isinstance(raised.value, RuntimeError)


@pytest.mark.parametrize("array", [["a"], [None], np.array(["2020-01-01"], "M8[D]")])
def test_arrays_of_no_numbers(array):
    with pytest.raises(TypeError, match="numbers"):
        pad_sequence([array])


ROWS = np.arange(5.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((ROWS, [2, 3]), r"batch_sizes\[1\] is 3 after 2"),
        ((ROWS, [3, 1]), "sum up to 4, but data has 5 rows"),
        ((ROWS, [0, 5]), r"batch_sizes\[0\] is 0"),
        ((ROWS, [2, 2]), "sum up to 4, but data has 5 rows"),
        ((ROWS, [5, 5]), "sum up to 10, but data has 5 rows"),
        ((ROWS, [-(2**63)] * 2), r"batch_sizes\[0\] is -"),
        ((ROWS, [6, -1]), r"batch_sizes\[1\] is -1"),
        ((ROWS, [5, 0]), r"batch_sizes\[1\] is 0"),
        ((ROWS, np.empty(0, np.int64)), "can not be empty"),
        ((ROWS, [[5]]), "1-D int64, got 2-D"),
        ((np.float32(1), [1]), "no dimensions"),
        ((ROWS, np.full(5, 2**62)), "data has 5 rows"),  # wraps around to 2**62 in int64
        ((ROWS, [2**63 - 1, 2**63 - 1, 7]), "data has 5 rows"),  # wraps around to 5
        ((ROWS, [3, 2], [0, 1]), "has 2 elements, but batch_sizes.0. is 3"),
        ((ROWS, [3, 2], [0, 1, 2], [0, 2, 1]), "not the inverse"),
        ((ROWS, [3, 2], [0, 1, 2], [0, 1]), "unsorted_indices has 2 elements"),
        ((ROWS, [3, 2], None, [0, 1, 2]), "sorted_indices is None"),
        ((ROWS, [3, 2], [0, 0, 2], [0, 0, 2]), "not a permutation"),
        ((ROWS, [3, 2], [1, 2, 0], [1, 2, 0]), "not the inverse"),
        ((ROWS, [3, 2], [0, 1, 2], [0, 1, 2**62]), "not the inverse"),
        ((ROWS, [3, 2], [0, 1, -1], [0, 1, 2]), r"sorted_indices\[2\] is -1"),
        ((ROWS, [3, 2], [0, 1, 2**40], [0, 1, 2]), r"sorted_indices\[2\] is 1099511627776"),
    ],
)
def test_hostile_packed_sequences(fields, message):
    packed = PackedSequence(*fields)
    for use in (pad_packed_sequence, unpack_sequence):
        with pytest.raises(packing.PackingError, match=message):
            use(packed)


def test_fields_replaced_afterwards_are_checked_too():
    packed = pack_sequence(sequences_of([1, 2]), enforce_sorted=False)
    with pytest.raises(TypeError, match="batch_sizes is no ndarray but list"):
        pad_packed_sequence(packed._replace(batch_sizes=[2, 1]))
    with pytest.raises(packing.PackingError, match="must be 1-D int64, got 1-D float64"):
        pad_packed_sequence(packed._replace(batch_sizes=np.array([2.0, 1.0])))
    with pytest.raises(TypeError, match="expected a PackedSequence, got tuple"):
        pad_packed_sequence(tuple(packed))
    with pytest.raises(packing.PackingError, match="not a permutation"):
        PackedSequence(packed.data, packed.batch_sizes, [1, 1])


def test_total_length():
    packed = pack_sequence(sequences_of([2, 3]), enforce_sorted=False)
    assert pad_packed_sequence(packed, True, 0, 5)[0].shape == (2, 5, 3)
    with pytest.raises(ValueError, match="total_length=2 and max sequence length being 3"):
        pad_packed_sequence(packed, total_length=2)
    with pytest.raises(TypeError, match="integer"):
        pad_packed_sequence(packed, total_length=4.0)


def test_rows_of_no_bytes_cost_no_steps():
    packed = PackedSequence(np.zeros((5, 0)), [3, 2])
    steps = 2**40 if sys.maxsize > 2**32 else 2**26
    padded, lengths = pad_packed_sequence(packed, total_length=steps)  # would loop for hours
    assert padded.shape == (steps, 3, 0)
    assert lengths.tolist() == [2, 2, 1]
    assert [s.shape for s in unpack_sequence(packed)] == [(2, 0), (2, 0), (1, 0)]


# ---- torch, live


@pytest.fixture(scope="module")
def rnn():
    return pytest.importorskip("torch.nn.utils.rnn")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def same_packed(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        if theirs is None:
            assert ours is None
        else:
            same(ours, theirs.numpy())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("trailing", [(), (3,), (2, 3)])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_bit_for_bit(torch, rnn, dtype, lengths, trailing, batch_first):
    sequences = sequences_of(lengths, trailing, dtype)
    tensors = [torch.from_numpy(s) for s in sequences]
    padded = padded_of(sequences, batch_first, extra=1)
    theirs = rnn.pack_padded_sequence(torch.from_numpy(padded), lengths, batch_first, False)
    ours = pack_padded_sequence(padded, lengths, batch_first, False)
    same_packed(ours, theirs)
    same_packed(pack_sequence(sequences, False), rnn.pack_sequence(tensors, False))
    for got, expected in zip(
        pad_packed_sequence(ours, batch_first, 1.5, 31),
        rnn.pad_packed_sequence(theirs, batch_first, 1.5, 31),
        strict=True,
    ):
        same(got, expected.numpy())
    for side in ("left", "right"):
        expected = rnn.pad_sequence(tensors, batch_first, 1.5, side)
        same(pad_sequence(sequences, batch_first, 1.5, side), expected.numpy())
    for got, expected in zip(unpack_sequence(ours), rnn.unpack_sequence(theirs), strict=True):
        same(got, expected.numpy())


@pytest.mark.parametrize("longest", [1, 2, 5, 30, 10_000])
@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 18, 31, 32, 33, 64, 100, 129, 1000, 20_000])
def test_order_of_equal_lengths_is_torchs(torch, batch, longest):
    rng = np.random.default_rng(batch)
    for lengths in rng.integers(1, longest + 1, (5, batch)):
        tensor = torch.from_numpy(lengths)
        expected = torch.sort(tensor, descending=True).indices.numpy()
        same(sort_descending(lengths), expected)


def test_order_where_the_quicksort_degenerates(torch):
    """Every median of three is the worst pivot here, so that heapsort takes over."""
    for half in (32, 50, 500, 3000):
        worst = np.empty(2 * half, np.int64)
        worst[0:half:2] = np.arange(1, half + 1, 2)
        worst[1:half:2] = half + np.arange(1, half + 1, 2)
        worst[half:] = 2 * np.arange(1, half + 1)
        for lengths in (worst, -worst, worst // 3, -(worst // 3)):
            expected = torch.sort(torch.from_numpy(lengths), descending=True).indices.numpy()
            same(sort_descending(lengths), expected)


VALUES = [
    0,
    2,
    -1,
    2.5,
    300,
    -300,
    1e40,
    -1e40,
    70000.0,
    9.3e18,
    np.nan,
    np.inf,
    True,
    1 + 2j,
    3 + 0j,
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_value_is_converted_as_torch_does(torch, rnn, dtype, value):
    pair = [np.ones(2, dtype), np.ones(1, dtype)]
    tensors = [torch.from_numpy(a) for a in pair]
    packed = rnn.pack_sequence(tensors)
    calls = [
        (
            lambda: rnn.pad_packed_sequence(packed, padding_value=value)[0],
            lambda: pad_packed_sequence(pack_sequence(pair), padding_value=value)[0],
        ),
    ]
    if not isinstance(value, complex):  # torch's pad_sequence takes a float
        calls.append(
            (
                lambda: rnn.pad_sequence(tensors, padding_value=value),
                lambda: pad_sequence(pair, padding_value=value),
            )
        )
    for theirs, ours in calls:
        try:
            expected = theirs()
        except RuntimeError:
            with pytest.raises(packing.PackingError, match="cannot be converted"):
                ours()
        else:
            same(ours(), expected.numpy())


@pytest.mark.parametrize("value", ["1", None, [1]])
def test_padding_value_that_is_no_number(value):
    with pytest.raises(TypeError, match="padding_value must be a number"):
        pad_sequence([np.zeros(2)], padding_value=value)


def test_torch_conversions(torch, rnn):
    mixed = [np.ones(2, np.int64), np.full(3, 1.7), np.array([True])]
    expected = rnn.pad_sequence([torch.from_numpy(a) for a in mixed])
    same(pad_sequence(mixed), expected.numpy())
    x = np.arange(12.0).reshape(3, 4)
    for lengths in (np.array([3.7, 2.9, 2.2, 1.0]), np.array([3, 2, 2, 1], np.uint8)):
        expected = rnn.pack_padded_sequence(torch.from_numpy(x), torch.from_numpy(lengths))
        same_packed(pack_padded_sequence(x, lengths), expected)
    for lengths in ([9, 0, -2, 3], [1, 2, 3, 0]):
        # torch transposes its argument in place
        expected = rnn.unpad_sequence(torch.from_numpy(x.copy()), torch.tensor(lengths))
        for got, tensor in zip(unpad_sequence(x, lengths), expected, strict=True):
            same(got, tensor.numpy())
    same_packed(
        pack_padded_sequence(torch.from_numpy(x), torch.tensor([3, 2, 2, 1])),
        rnn.pack_padded_sequence(torch.from_numpy(x), torch.tensor([3, 2, 2, 1])),
    )


def test_everything_is_exported():
    for name in packing.__all__:
        if name not in ("PackingError", "by_length", "is_packed", "validated"):
            assert getattr(vledge, name) is getattr(packing, name)
