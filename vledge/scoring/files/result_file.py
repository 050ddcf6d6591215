"""The Parquet file that a fragment becomes: written beside, and renamed when it is whole."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from vledge.machine.atomic_file import writing
from vledge.scoring.packages import arrow, parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

__all__ = ["ResultFile", "check_storable"]

#: Of a row group, at least: whoever reads many small ones waits for each.
GROUP_NBYTES: Final = 1 << 20
#: Rows that are looked at for values that come again.
SAMPLE: Final = 4096


def check_storable(schema: pa.Schema) -> None:
    """ValueError, naming column and type, for what Parquet does not hold."""
    if _storable(schema):
        return
    field = next(field for field in schema if not _storable(arrow().schema([field])))
    raise ValueError(
        f"column {field.name!r} is {field.type}, which Parquet does not hold: kept columns, "
        "--keep, may leave it out of the result"
    )


def _storable(schema: pa.Schema) -> bool:
    pa = arrow()
    try:
        parquet().ParquetWriter(pa.BufferOutputStream(), schema).close()
    except pa.ArrowNotImplementedError:
        return False
    return True


class ResultFile:
    """Open from the beginning to `commit` or `abandon`.

    What a killed writer leaves is swept once for all files of a run, by `Manifests.sweep`.
    """

    def __init__(self, path: str, schema: pa.Schema) -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._nbytes = 0
        self._writer: ParquetWriter | None = None
        self._stack = ExitStack()
        self._file = self._stack.enter_context(writing(path, sweeps=False))

    def write(self, table: pa.Table) -> None:
        """More rows; they become a row group when there are enough of them."""
        self._waiting.append(table)
        self._nbytes += table.nbytes
        if self._nbytes >= GROUP_NBYTES:
            self._write_group()

    def _write_group(self) -> None:
        group = arrow().concat_tables([self._schema.empty_table(), *self._waiting])
        self._waiting, self._nbytes = [], 0
        if self._writer is None:
            self._writer = parquet().ParquetWriter(
                self._file, self._schema, use_dictionary=_repeating(group)
            )
        if group.num_rows:
            self._writer.write_table(group, row_group_size=group.num_rows)

    def commit(self) -> None:
        """The file is whole: it takes its name."""
        try:
            if self._waiting or self._writer is None:
                self._write_group()
            assert self._writer is not None
            self._writer.close()
        except BaseException as error:
            self._drop(error)
            raise
        self._stack.close()

    def abandon(self) -> None:
        """Nothing is left of it."""
        if self._writer is not None:
            with suppress(Exception):
                self._writer.close()
        self._drop(InterruptedError())

    def _drop(self, error: BaseException) -> None:
        # closing may fail as writing did: the scratch file is removed all the same
        with suppress(Exception):
            self._stack.__exit__(type(error), error, error.__traceback__)


def _repeating(table: pa.Table) -> list[str]:
    """The columns whose values come again, as classes and names do: for those a dictionary pays."""
    pa = arrow()
    names = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_nested(field.type) or pa.types.is_floating(field.type):
            continue
        sample = column.slice(0, SAMPLE)
        try:
            distinct = len(sample.unique())
        except pa.ArrowException:  # of a type whose values it cannot compare
            distinct = 0
        if 2 * distinct <= len(sample):
            names.append(field.name)
    return names
