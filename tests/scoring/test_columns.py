"""Columns of every kind as sequences: in place where types agree, and rows that are bad marked."""

import numpy as np
import pytest

from tests.scoring.archives import pa, sequences
from vledge.scoring.tables.bad_rows import Reason
from vledge.scoring.tables.columns import Wanted, read_columns

THREE = Wanted("x", np.dtype(np.float32), 3)
ONE = Wanted("x", np.dtype(np.float32), 1)
TOKENS = Wanted("ids", np.dtype(np.int32), None, bare=True)

LISTS = {
    "list": lambda item: pa.list_(item),
    "large_list": lambda item: pa.large_list(item),
}
INNER = {
    "fixed": lambda item: pa.list_(item, 3),
    "list": lambda item: pa.list_(item),
    "large": lambda item: pa.large_list(item),
}
VIEWS = {
    "list_view": lambda item: pa.list_view(item),
    "large_list_view": lambda item: pa.large_list_view(item),
}
NUMBERS = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint64"]


def rows_of(ragged):
    return [
        ragged.values[start : start + length]
        for start, length in zip(ragged.starts, ragged.lengths, strict=True)
    ]


def read(array, wanted, name="frames"):
    return read_columns([(name, pa.chunked_array([array]))], wanted)


@pytest.mark.parametrize("outer", LISTS)
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("number", NUMBERS)
def test_lists_of_features(outer, inner, number):
    arrays = [np.abs(np.rint(a)) for a in sequences(20)]
    kind = LISTS[outer](INNER[inner](getattr(pa, number)()))
    dtype = np.dtype(number)
    column = pa.array([a.astype(dtype).tolist() for a in arrays], kind)
    for start, stop in ((0, 20), (3, 11), (20, 20)):
        found = read(column.slice(start, stop - start), THREE)
        assert found.values.dtype == np.float32
        assert not found.reasons.any()
        for got, want in zip(rows_of(found), arrays[start:stop], strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("outer", [*LISTS, *VIEWS])
@pytest.mark.parametrize("inner", [*INNER, *VIEWS])
def test_views_of_lists_are_sequences(outer, inner):
    if not hasattr(pa, "list_view"):
        pytest.skip("this pyarrow has no views of lists")
    arrays = sequences(20)
    kind = {**LISTS, **VIEWS}[outer]({**INNER, **VIEWS}[inner](pa.float32()))
    column = pa.array([None, *(a.tolist() for a in arrays), []], kind)
    for start, stop in ((0, 22), (3, 11), (22, 22)):
        found = read(column.slice(start, stop - start), THREE)
        want = [np.zeros((0, 3), np.float32), *arrays, np.zeros((0, 3), np.float32)][start:stop]
        assert found.reasons.tolist() == [
            0 if len(w) else r
            for w, r in zip(
                want, ([Reason.NULL] + [0] * 20 + [Reason.EMPTY])[start:stop], strict=True
            )
        ]
        for got, one in zip(rows_of(found), want, strict=True):
            np.testing.assert_array_equal(got, one)


def test_views_may_lie_in_any_order_and_over_each_other():
    if not hasattr(pa, "list_view"):
        pytest.skip("this pyarrow has no views of lists")
    values = np.arange(30, dtype=np.float32).reshape(10, 3)
    steps = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 3)
    starts, lengths = [7, 0, 2, 4], [3, 5, 1, 4]
    column = pa.ListViewArray.from_arrays(
        pa.array(starts, pa.int32()), pa.array(lengths, pa.int32()), steps
    )
    for got, start, length in zip(rows_of(read(column, THREE)), starts, lengths, strict=True):
        np.testing.assert_array_equal(got, values[start : start + length])


@pytest.mark.parametrize("number", NUMBERS)
def test_lists_of_numbers(number):
    arrays = [np.abs(np.rint(a[:, 0])).astype(number) for a in sequences(20)]
    found = read(pa.array([a.tolist() for a in arrays], pa.list_(getattr(pa, number)())), ONE)
    for got, want in zip(rows_of(found), arrays, strict=True):
        np.testing.assert_array_equal(got, want[:, np.newaxis])


def test_fixed_size_lists_of_steps():
    values = np.arange(24, dtype=np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values), 6)
    np.testing.assert_array_equal(rows_of(read(flat.slice(1), ONE))[0][:, 0], values[6:12])
    nested = pa.FixedSizeListArray.from_arrays(
        pa.FixedSizeListArray.from_arrays(pa.array(values), 3), 4
    )
    np.testing.assert_array_equal(
        rows_of(read(nested.slice(1), THREE))[0], values[12:].reshape(4, 3)
    )


def test_a_tensor_of_fixed_shape_is_its_storage():
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.arange(8, dtype=np.float32).reshape(2, 4)
    )
    np.testing.assert_array_equal(rows_of(read(tensors, ONE))[1][:, 0], [4, 5, 6, 7])


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.list_(pa.float32(), 3)), pa.list_(pa.list_(pa.float32()))]
)
def test_numbers_of_the_models_type_are_read_in_place(kind):
    column = pa.array([a.tolist() for a in sequences(9)], kind)
    for part in (column, column.slice(2, 5)):
        leaf = part.values.values
        memory = np.frombuffer(leaf.buffers()[1], np.float32)
        assert np.shares_memory(read(part, THREE).values, memory)


def test_other_numbers_are_converted_and_only_those_of_the_slice():
    column = pa.array([a.tolist() for a in sequences(100)], pa.list_(pa.list_(pa.float64(), 3)))
    part = column.slice(10, 2)
    found = read(part, THREE)
    assert len(found.values) == int(found.lengths.sum())


def test_features_in_several_columns():
    arrays = sequences(9)
    columns = [
        (
            name,
            pa.chunked_array(
                [pa.array([a[:, i].tolist() for a in arrays], pa.list_(pa.float32()))]
            ),
        )
        for i, name in enumerate("xyz")
    ]
    found = read_columns(columns, THREE)
    for got, want in zip(rows_of(found), arrays, strict=True):
        np.testing.assert_array_equal(got, want)


def test_columns_of_other_lengths_make_a_row_bad_and_leave_the_others():
    x = pa.chunked_array([pa.array([[1.0, 2.0], [3.0], None, [4.0]], pa.list_(pa.float32()))])
    y = pa.chunked_array([pa.array([[5.0, 6.0], [7.0, 8.0], [1.0], [9.0]], pa.list_(pa.float32()))])
    found = read_columns([("x", x), ("y", y)], Wanted("x", np.dtype(np.float32), 2))
    assert found.reasons.tolist() == [0, Reason.WIDTH, Reason.NULL, 0]
    np.testing.assert_array_equal(rows_of(found)[0], [[1, 5], [2, 6]])
    np.testing.assert_array_equal(rows_of(found)[3], [[4, 9]])


BAD = {
    "null": (None, Reason.NULL),
    "empty": ([], Reason.EMPTY),
    "a null step": ([[1, 2, 3], None], Reason.HOLE),
    "a null number": ([[1, None, 3]], Reason.HOLE),
    "NaN": ([[1, 2, 3], [1, 2, float("nan")]], Reason.NOT_FINITE),
    "infinity": ([[float("-inf"), 2, 3]], Reason.NOT_FINITE),
    "beyond float32": ([[1e300, 2, 3]], Reason.NOT_FINITE),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_marked_and_its_neighbours_are_not(name, inner):
    bad, reason = BAD[name]
    if inner != "fixed" and name == "a null step":
        reason = Reason.HOLE
    good = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    column = pa.array([good, bad, good, good[:1]], pa.list_(INNER[inner](pa.float64())))
    for part, at in ((column, 1), (column.slice(1), 0)):
        found = read(part, THREE)
        assert found.reasons.tolist() == [reason if i == at else 0 for i in range(len(part))]
        np.testing.assert_array_equal(rows_of(found)[-2], good)
        np.testing.assert_array_equal(rows_of(found)[-1], good[:1])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_step_of_another_width_makes_its_row_bad(width):
    good = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    column = pa.array([good, [*good, [1.0] * width], good], pa.list_(pa.list_(pa.float32())))
    found = read(column, THREE)
    assert found.reasons.tolist() == [0, Reason.WIDTH, 0]
    np.testing.assert_array_equal(rows_of(found)[2], good)


def test_integers_that_the_model_does_not_hold_make_a_row_bad():
    column = pa.array([[1, 2], [2**40], [-1]], pa.list_(pa.int64()))
    assert read(column, TOKENS).reasons.tolist() == [0, Reason.RANGE, 0]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.int64(), THREE),
        (pa.string(), THREE),
        (pa.list_(pa.string()), ONE),
        (pa.list_(pa.float32()), THREE),
        (pa.list_(pa.list_(pa.float32(), 4)), THREE),
        (pa.list_(pa.list_(pa.list_(pa.float32()))), THREE),
        (pa.list_(pa.float32()), TOKENS),
        (pa.list_(pa.decimal128(5, 2)), ONE),
        (pa.struct([("a", pa.float32())]), THREE),
    ],
    ids=str,
)
def test_a_type_that_does_not_fit_is_named_with_what_was_expected(kind, wanted):
    with pytest.raises(ValueError, match="expected") as caught:
        read(pa.array([], kind), wanted)
    said = str(caught.value)
    assert "'frames'" in said
    assert str(kind) in said
    assert repr(wanted.name) in said
