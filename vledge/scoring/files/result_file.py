"""The Parquet file that a fragment becomes: written beside, and renamed when it is whole."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from vledge.machine.atomic_file import writing
from vledge.scoring.packages import arrow, parquet

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ResultFile"]


class ResultFile:
    """Open from the beginning to `commit` or `abandon`.

    What a killed writer leaves is swept once for all files of a run, by `Manifests.sweep`.
    """

    def __init__(self, path: str, schema: pa.Schema) -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._stack = ExitStack()
        file = self._stack.enter_context(writing(path, sweeps=False))
        try:
            # A dictionary of floating-point numbers is work for nothing.
            self._writer = parquet().ParquetWriter(file, schema, use_dictionary=_words(schema))
        except BaseException as error:
            self._drop(error)
            raise

    def write(self, table: pa.Table) -> None:
        """One more row group."""
        if table.num_rows:
            self._writer.write_table(table, row_group_size=table.num_rows)

    def commit(self) -> None:
        """The file is whole: it takes its name."""
        try:
            self._writer.close()
        except BaseException as error:
            self._drop(error)
            raise
        self._stack.close()

    def abandon(self) -> None:
        """Nothing is left of it."""
        with suppress(Exception):
            self._writer.close()
        self._drop(InterruptedError())

    def _drop(self, error: BaseException) -> None:
        # closing may fail as writing did: the scratch file is removed all the same
        with suppress(Exception):
            self._stack.__exit__(type(error), error, error.__traceback__)


def _words(schema: pa.Schema) -> list[str]:
    """The columns whose values come again and again, as texts and whole numbers do."""
    types = arrow().types
    return [
        field.name
        for field in schema
        if not types.is_nested(field.type) and not types.is_floating(field.type)
    ]
