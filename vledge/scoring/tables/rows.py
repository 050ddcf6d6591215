"""Some of a table's rows, of types that Arrow itself cannot take rows of, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vledge.scoring.packages import arrow
from vledge.scoring.tables.columns import one_array

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["rows_of"]


def rows_of(table: pa.Table, places: np.ndarray) -> pa.Table:
    """The rows at these places, int64, which rise."""
    pa = arrow()
    try:
        return table.take(pa.array(places))
    except pa.ArrowNotImplementedError:
        columns = [_of_column(one_array(column), places) for column in table.columns]
        return pa.table(columns, schema=table.schema)


def _of_column(column: pa.Array, places: np.ndarray) -> pa.Array:
    pa = arrow()
    views = {"string_view": "large_string", "binary_view": "large_binary"}
    plain = views.get(str(column.type))
    if plain is not None:
        return column.cast(plain).take(pa.array(places)).cast(column.type)
    try:
        return column.take(pa.array(places))
    except pa.ArrowNotImplementedError:  # as of lists of views
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        parts = [column.slice(int(run[0]), len(run)) for run in runs if len(run)]
        return pa.concat_arrays(parts) if parts else column.slice(0, 0)
