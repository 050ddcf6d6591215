"""Arrow columns as sequences: the values where they lie in Arrow's memory, and rows that are bad.

A column holds a sequence a row: a list of numbers where a step is one number, or a list of lists
where it has features, of any of Arrow's kinds of lists. Numbers of the model's own type are read in
place; others are converted as NumPy does, and what does not survive that makes a row bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vledge.scoring.packages import arrow
from vledge.scoring.tables.bad_rows import Reason
from vledge.scoring.tables.ragged import Ragged, rows_with

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Wanted",
    "check_names",
    "check_type",
    "one_array",
    "read_columns",
    "read_numbers",
    "step_nbytes",
]


@dataclass(frozen=True)
class Wanted:
    """The sequences that a model's input takes."""

    name: str  #: of the input
    dtype: np.dtype
    features: int | None  #: of a step; None where the model leaves it open
    bare: bool = False  #: the input has no axis for features: a step is one number

    def __str__(self) -> str:
        if self.bare or self.features == 1:
            each = "one number a step: list<float>"
        elif self.features is None:
            each = "steps of features: list<fixed_size_list<float>> or list<list<float>>"
        else:
            each = (
                f"{self.features} features a step: list<fixed_size_list<float>"
                f"[{self.features}]>, list<list<float>>, or {self.features} columns of one each"
            )
        return f"{each}, numbers that {self.dtype} holds"


class _Spans(NamedTuple):
    """A column of lists: which items of ``child`` each one has."""

    starts: np.ndarray
    lengths: np.ndarray
    null: np.ndarray | None  #: bool, of the lists
    child: pa.Array


def check_names(schema: pa.Schema, names: Sequence[str]) -> None:
    """ValueError for one of these names that several columns have."""
    for name in names:
        count = len(schema.get_all_field_indices(name))
        if count > 1:
            raise ValueError(f"there are {count} columns {name!r}: give each a name of its own")


def check_type(column: str, kind: pa.DataType, wanted: Wanted, features: int | None) -> None:
    """ValueError, naming column, type and what was expected, for a type that cannot fit.

    ``features`` is how many of them the column has to hold: fewer than the model's where several
    columns stand side by side.
    """
    inner = _item(_stored(kind))
    if inner is not None:
        single = wanted.bare or features in (None, 1)
        if single and _is_number(inner, wanted):
            return
        width = _list_size(inner)
        number = _item(inner)
        if (
            number is not None
            and _is_number(number, wanted)
            and not (wanted.bare and width not in (1, None))
            and not (None not in (width, features) and width != features)
        ):
            return
    raise ValueError(
        f"column {column!r} is {kind}, which is nothing for the input {wanted.name!r}: "
        f"expected {wanted}"
    )


def step_nbytes(kind: pa.DataType) -> int:
    """Bytes that a number takes in Arrow's memory."""
    while (inner := _item(_stored(kind))) is not None:
        kind = inner
    return max(1, kind.bit_width // 8)


def read_columns(columns: Sequence[tuple[str, pa.ChunkedArray]], wanted: Wanted) -> Ragged:
    """A column's sequences, or several columns' with their features side by side.

    Raises ValueError for types that do not fit; rows that do not are marked.
    """
    if len(columns) == 1:
        name, column = columns[0]
        check_type(name, column.type, wanted, wanted.features)
        return read_column(one_array(column), wanted)
    single = Wanted(wanted.name, wanted.dtype, 1, bare=True)
    parts = []
    for name, column in columns:
        check_type(name, column.type, single, 1)
        parts.append(_compact(read_column(one_array(column), single)))
    first = parts[0]
    differ = np.zeros(len(first), bool)
    for part in parts[1:]:
        differ |= part.lengths != first.lengths
    values = [_kept(part, ~differ) for part in parts]
    lengths = np.where(differ, 0, first.lengths)
    joined = Ragged(
        np.stack(values, axis=1),
        np.cumsum(lengths) - lengths,
        lengths,
        np.max([part.reasons for part in parts], axis=0).astype(np.uint8),
    )
    return joined.refused(differ, Reason.WIDTH)


def read_column(array: pa.Array, wanted: Wanted) -> Ragged:
    """The sequences of one array, whose type fits."""
    spans = _spans(_storage(array))
    starts, lengths = spans.starts, spans.lengths
    reasons = np.zeros(len(starts), np.uint8)
    if spans.null is not None:
        reasons[spans.null] = Reason.NULL
        starts, lengths = np.where(spans.null, 0, starts), np.where(spans.null, 0, lengths)
    reasons[(lengths == 0) & (reasons == Reason.GOOD)] = Reason.EMPTY
    live = np.flatnonzero(lengths)
    low = int(starts[live].min()) if len(live) else 0
    high = int((starts + lengths)[live].max()) if len(live) else 0
    starts = np.where(lengths > 0, starts - low, 0)
    child = _storage(spans.child.slice(low, high - low))
    sequences = Ragged(np.empty(0), starts, lengths, reasons)
    if _item(child.type) is not None:
        return _with_features(child, sequences, wanted)
    values, holes = _numbers(child)
    if holes is not None:
        sequences = sequences.refused(rows_with(holes, starts, lengths), Reason.HOLE)
    if not wanted.bare:
        values = values[:, np.newaxis]
    return _converted(values, sequences, wanted)


def read_numbers(
    name: str, column: pa.ChunkedArray, wanted: Wanted
) -> tuple[np.ndarray, np.ndarray]:
    """A column of one number a row, in the model's type, and bool where it has none.

    Raises ValueError, naming column, type and what was expected, for any other column.
    """
    if not _is_number(_stored(column.type), wanted):
        raise ValueError(
            f"column {name!r} is {column.type}, which is nothing for the input {wanted.name!r}: "
            f"expected one number a row, which {wanted.dtype} holds"
        )
    values, holes = _numbers(_storage(one_array(column)))
    with np.errstate(over="ignore", invalid="ignore"):
        converted = values.astype(wanted.dtype, copy=False)
    none = np.zeros(len(values), bool) if holes is None else holes
    if wanted.dtype.kind != "f" and converted is not values:
        none = none | (converted != values)
    return converted, none


def _with_features(steps: pa.Array, sequences: Ragged, wanted: Wanted) -> Ragged:
    """The sequences whose steps are the lists ``steps``."""
    if steps.null_count:
        null = steps.is_null().to_numpy(zero_copy_only=False)
        marked = rows_with(null, sequences.starts, sequences.lengths)
        sequences = sequences.refused(marked, Reason.HOLE)
    width = _list_size(steps.type)
    if width is None:
        numbers, holes, sequences = _of_free_lists(steps, sequences, wanted)
    else:
        leaf = _storage(steps.values).slice(steps.offset * width, len(steps) * width)
        numbers, holes = _numbers_by_step(leaf, width)
    if holes is not None:
        good = sequences.good
        marked = np.zeros(len(sequences), bool)
        marked[good] = rows_with(
            np.asarray(holes.any(axis=1)), sequences.starts[good], sequences.lengths[good]
        )
        sequences = sequences.refused(marked, Reason.HOLE)
    return _converted(numbers[:, 0] if wanted.bare else numbers, sequences, wanted)


def _of_free_lists(
    steps: pa.Array, sequences: Ragged, wanted: Wanted
) -> tuple[np.ndarray, np.ndarray | None, Ragged]:
    """Numbers, and where there are none, [steps, features], of lists that may be of any size: in
    place where all have the model's, without those that have not."""
    spans = _spans(steps)
    width = wanted.features
    if width is None:
        width = int(spans.lengths[0]) if len(spans.lengths) else 1
    fits = np.asarray(spans.lengths == width)
    if not fits.all():
        starts, lengths = sequences.starts, sequences.lengths
        sequences = sequences.refused(rows_with(~fits, starts, lengths), Reason.WIDTH)
        place = np.concatenate(([0], np.cumsum(fits)))  # of the steps that are kept
        sequences = Ragged(sequences.values, place[starts], lengths, sequences.reasons)
    leaf = _storage(spans.child)
    firsts = spans.starts[fits]
    if len(firsts) and (np.diff(firsts) == width).all():
        return *_numbers_by_step(leaf.slice(int(firsts[0]), len(firsts) * width), width), sequences
    numbers, holes = _numbers(leaf)
    where = firsts[:, np.newaxis] + np.arange(width)
    return numbers[where], None if holes is None else holes[where], sequences


def _numbers_by_step(leaf: pa.Array, width: int) -> tuple[np.ndarray, np.ndarray | None]:
    """As `_numbers`, [steps, features]."""
    numbers, holes = _numbers(leaf)
    return numbers.reshape(-1, width), None if holes is None else holes.reshape(-1, width)


def _converted(values: np.ndarray, sequences: Ragged, wanted: Wanted) -> Ragged:
    """In the model's type, rows with what it cannot run marked."""
    given, reason = values, Reason.NOT_FINITE
    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype != wanted.dtype:
            values = values.astype(wanted.dtype)
        if wanted.dtype.kind == "f":
            # one sum tells of nearly all windows that there is nothing to look for; one that
            # overflows tells nothing
            bad = None if np.isfinite(values.sum()) else ~np.isfinite(values)
        else:
            bad, reason = (None if values is given else given != values), Reason.RANGE
    sequences = Ragged(values, sequences.starts, sequences.lengths, sequences.reasons)
    if bad is None or not bad.any():
        return sequences
    good = sequences.good
    marked = np.zeros(len(sequences), bool)
    steps = bad if bad.ndim == 1 else bad.any(axis=1)
    marked[good] = rows_with(steps, sequences.starts[good], sequences.lengths[good])
    return sequences.refused(marked, reason)


def _compact(sequences: Ragged) -> Ragged:
    """With nothing between the sequences."""
    ends = np.cumsum(sequences.lengths)
    starts = ends - sequences.lengths
    total = int(ends[-1]) if len(ends) else 0
    if total == len(sequences.values) and np.array_equal(starts, sequences.starts):
        return sequences
    where = np.repeat(sequences.starts - starts, sequences.lengths) + np.arange(total)
    return Ragged(sequences.values[where], starts, sequences.lengths, sequences.reasons)


def _kept(sequences: Ragged, rows: np.ndarray) -> np.ndarray:
    """The values of some rows, bool [B], of a compact one."""
    return sequences.values if rows.all() else sequences.values[np.repeat(rows, sequences.lengths)]


# ---- Arrow's types and buffers


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column in one piece: as it is where it has one chunk, else copied together."""
    if not hasattr(column, "chunks"):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined if not hasattr(combined, "chunks") else combined.chunk(0)


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type that an extension type is stored as."""
    while hasattr(kind, "storage_type"):
        kind = kind.storage_type
    return kind


def _storage(array: pa.Array) -> pa.Array:
    while hasattr(array.type, "storage_type"):
        array = array.storage
    return array


def _item(kind: pa.DataType) -> pa.DataType | None:
    """What a list type is a list of; None for any other type."""
    types = arrow().types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return _stored(kind.value_type) if lists or _is_view(kind) else None


def _is_view(kind: pa.DataType) -> bool:
    """Whether a list type has a place and a size for each list, in any order."""
    types = arrow().types
    if not hasattr(types, "is_list_view"):  # pyarrow before 16
        return False
    return bool(types.is_list_view(kind) or types.is_large_list_view(kind))


def _list_size(kind: pa.DataType) -> int | None:
    if arrow().types.is_fixed_size_list(kind):
        size: int = kind.list_size
        return size
    return None


def _is_number(kind: pa.DataType, wanted: Wanted) -> bool:
    types = arrow().types
    whole = types.is_integer(kind) or types.is_boolean(kind)
    return whole or (wanted.dtype.kind == "f" and types.is_floating(kind))


def _spans(lists: pa.Array) -> _Spans:
    count = len(lists)
    null = None
    if lists.null_count:
        null = lists.is_null().to_numpy(zero_copy_only=False)
    size = _list_size(lists.type)
    if size is not None:
        starts = (np.arange(count, dtype=np.int64) + lists.offset) * size
        return _Spans(starts, np.full(count, size, np.int64), null, lists.values)
    if not count:
        nothing = np.zeros(0, np.int64)
        return _Spans(nothing, nothing, null, lists.values)
    dtype = np.int64 if str(lists.type).startswith("large_") else np.int32
    buffers = lists.buffers()
    offsets = _integers(buffers[1], dtype, lists.offset, count + (not _is_view(lists.type)))
    if not _is_view(lists.type):
        return _Spans(offsets[:-1], np.diff(offsets), null, lists.values)
    lengths = _integers(buffers[2], dtype, lists.offset, count)
    return _Spans(offsets, lengths if null is None else lengths * ~null, null, lists.values)


def _integers(buffer: pa.Buffer, dtype: type, first: int, count: int) -> np.ndarray:
    return np.frombuffer(buffer, dtype)[first : first + count].astype(np.int64)


def _numbers(leaf: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """The numbers in place, whatever stands where there is none, and bool where that is."""
    holes = leaf.is_null().to_numpy(zero_copy_only=False) if leaf.null_count else None
    if arrow().types.is_boolean(leaf.type):
        whole = leaf.fill_null(False) if leaf.null_count else leaf
        return whole.to_numpy(zero_copy_only=False).astype(np.uint8), holes
    dtype = np.dtype(leaf.type.to_pandas_dtype())
    buffer = leaf.buffers()[1]
    if buffer is None or not len(leaf):
        return np.zeros(len(leaf), dtype), holes
    return np.frombuffer(buffer, dtype, len(leaf), leaf.offset * dtype.itemsize), holes
