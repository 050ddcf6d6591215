"""Long tables: a row is one step of a sequence, which an id names and a time orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from vledge.scoring.packages import arrow
from vledge.scoring.tables.bad_rows import Reason
from vledge.scoring.tables.columns import Wanted, read_numbers
from vledge.scoring.tables.ragged import Ragged, rows_with

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LongTable", "SeenIds", "Sequences"]


@dataclass(frozen=True)
class Sequences:
    """The sequences of a long table."""

    ragged: Ragged
    firsts: np.ndarray  #: the row in which each one begins
    order: np.ndarray | None  #: the row of each step, where time puts them in another order
    rows: int

    def rows_of_steps(self, good: np.ndarray) -> np.ndarray:
        """The row of each step of some sequences, bool [B], one sequence behind the other."""
        steps = np.flatnonzero(np.repeat(good, self.ragged.lengths))
        return steps if self.order is None else self.order[steps]


@dataclass(frozen=True)
class LongTable:
    """Which columns say whose step a row is, and when."""

    id: str
    time: str | None = None

    def sequences(self, table: pa.Table, columns: Sequence[str], wanted: Wanted) -> Sequences:
        """The sequences: rows of one id that stand together, in the order of time.

        Raises ValueError for columns that do not fit, for an id or time that is null, and where an
        id comes again after another one.
        """
        firsts = self.firsts(table)
        rows = table.num_rows
        lengths = np.diff(np.append(firsts, rows)).astype(np.int64)
        order = self._order(table, lengths)
        numbers, holes = zip(
            *(read_numbers(name, table.column(name), wanted) for name in columns), strict=True
        )
        values = np.stack(numbers, axis=1)
        if wanted.bare:
            values = values[:, 0]
        hole = np.any(np.stack(holes), axis=0)
        if order is not None:
            values, hole = values[order], hole[order]
        ragged = Ragged(values, firsts, lengths, np.zeros(len(firsts), np.uint8))
        ragged = ragged.refused(rows_with(hole, firsts, lengths), Reason.HOLE)
        if wanted.dtype.kind == "f":
            steps = ~np.isfinite(values if wanted.bare else values.sum(axis=1, dtype=np.float64))
            ragged = ragged.refused(rows_with(steps, firsts, lengths), Reason.NOT_FINITE)
        return Sequences(ragged, firsts, order, rows)

    def firsts(self, table: pa.Table) -> np.ndarray:
        """The rows at which an id begins, int64."""
        compute = _compute()
        ids = _whole(table, self.id)
        if not len(ids):
            return np.zeros(0, np.int64)
        try:
            changes = compute.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
        except arrow().ArrowNotImplementedError:
            raise ValueError(
                f"column {self.id!r} is {ids.type}, which cannot be compared: expected numbers, "
                "texts or times"
            ) from None
        return np.concatenate(
            ([0], np.flatnonzero(changes.to_numpy(zero_copy_only=False)) + 1)
        ).astype(np.int64)

    def goes_on(self, table: pa.Table, following: pa.Table) -> bool:
        """Whether the last sequence of a table goes on in the one that follows."""
        ends = [table.slice(table.num_rows - 1), following.slice(0, 1)]
        return len(self.firsts(arrow().concat_tables(ends))) == 1

    def _order(self, table: pa.Table, lengths: np.ndarray) -> np.ndarray | None:
        if self.time is None:
            return None
        times = _whole(table, self.time)
        if not len(times):
            return None
        if hasattr(times, "dictionary_decode"):
            times = times.dictionary_decode()
        try:
            ranks = _compute().rank(times, sort_keys="ascending", tiebreaker="dense").to_numpy()
        except arrow().ArrowNotImplementedError:
            raise ValueError(
                f"column {self.time!r} is {times.type}, which has no order: expected numbers, "
                "texts or times"
            ) from None
        sequence = np.repeat(np.arange(len(lengths)), lengths)
        if ((np.diff(ranks.astype(np.int64)) >= 0) | (np.diff(sequence) > 0)).all():
            return None
        return np.lexsort((ranks, sequence))


class SeenIds:
    """The ids of a file so far, 8 bytes each: one that comes again would be torn in two."""

    def __init__(self, column: str) -> None:
        self.column = column
        self._seen = np.zeros(0, np.int64)

    def add(self, ids: pa.ChunkedArray, rows: np.ndarray, first: int) -> None:
        """The ids of sequences that begin at these rows, counted from ``first``; ValueError where
        one was there before."""
        types = arrow()
        if types.types.is_temporal(ids.type):  # Python has no nanoseconds
            ids = ids.cast(types.string())
        values = ids.to_pylist()
        hashes = np.fromiter(map(hash, values), np.int64, len(values))
        again = np.isin(hashes, self._seen)
        ordered, index = np.unique(hashes, return_index=True)
        again[np.setdiff1d(np.arange(len(hashes)), index)] = True
        if again.any():
            at = int(np.argmax(again))
            raise ValueError(
                f"row {first + int(rows[at])}: {self.column} {values[at]!r} comes again after "
                f"other ids: rows of one sequence must stand together (ORDER BY {self.column})"
            )
        self._seen = np.concatenate((self._seen, ordered))


def _whole(table: pa.Table, name: str) -> pa.Array:
    """A column without nulls, in one piece."""
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name!r} has {column.null_count} null(s), expected none")
    combined = column.combine_chunks()
    return combined if not hasattr(combined, "chunks") else arrow().concat_arrays(combined.chunks)


def _compute() -> ModuleType:
    arrow()
    from pyarrow import compute

    return compute
