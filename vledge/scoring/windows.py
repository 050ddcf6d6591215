"""A file as windows: a few rows at a time, as many as a budget of memory lets, whatever its size.

Parquet's own chunks may be as large as the file; its reader is asked for few enough rows, which
their number of values tells before they are read.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.errors import FormatError, cut, placed, reading
from vledge.scoring.files.fragments import ARROW, NPZ, Fragment
from vledge.scoring.packages import arrow, parquet
from vledge.scoring.scorer import Scorer
from vledge.scoring.tables.columns import Wanted, check_names
from vledge.scoring.tables.long_table import SeenIds
from vledge.scoring.tables.rows import rows_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.lib.npyio import NpzFile
    from pyarrow.parquet import ColumnChunkMetaData, ParquetFile

__all__ = ["NPZ_COLUMN", "Source", "opened"]

#: The column of an .npz file's arrays, and that of their names.
NPZ_COLUMN: Final = "sequence"
NPZ_NAMES: Final = "name"
#: Of what a window should cost: what it may, and what it has to unless the file ends.
MORE: Final = 1.25
ENOUGH: Final = 0.5
BUFFER_NBYTES: Final = 1 << 18  # of a column: these stay in the second-level cache
MOST_ROWS: Final = 1 << 20
ARROW_MAGIC: Final = b"ARROW1"  # of a file; a stream begins with the length of its schema


class Source:
    """An open file: its schema, how many rows it has, and its windows."""

    def __init__(
        self, name: str, schema: pa.Schema, rows: int | None, batches: Iterator[pa.RecordBatch]
    ) -> None:
        self.name, self.schema, self.rows, self._batches = name, schema, rows, batches

    def windows(self, scorer: Scorer) -> Iterator[pa.Table]:
        """Tables of whole sequences, in order."""
        tables = arrow().Table
        budget = scorer.paying_nbytes
        most = min(MORE * budget, scorer.window_nbytes)
        waiting: list[pa.RecordBatch] = []
        cost = 0.0
        for batch in self._read():
            if not batch.num_rows:
                continue
            own = batch.num_rows * scorer.row_cost(tables.from_batches([batch]))
            if waiting and cost + own > most:
                yield tables.from_batches(waiting)
                waiting, cost = [], 0.0
            if own > most:
                rows = max(1, int(batch.num_rows // -(-own // budget)))
                for first in range(0, batch.num_rows, rows):
                    yield tables.from_batches([batch.slice(first, rows)])
                continue
            waiting.append(batch)
            cost += own
            if cost >= ENOUGH * budget:  # the next batch takes its time to be read
                yield tables.from_batches(waiting)
                waiting, cost = [], 0.0
        if waiting:
            yield tables.from_batches(waiting)

    def _read(self) -> Iterator[pa.RecordBatch]:
        """What the file gives, or a FormatError that says which file it is."""
        while True:
            with _reading(self.name):
                batch = next(self._batches, None)
            if batch is None:
                return
            yield batch

    def whole_sequences(self, scorer: Scorer) -> Iterator[pa.Table]:
        """Of a long table: what belongs to the last id of a window goes into the next one."""
        long = scorer.long
        assert long is not None
        seen = SeenIds(long.id)
        rest: list[pa.Table] = []  # a sequence of many windows is put together once
        first = 0

        def checked(table: pa.Table) -> pa.Table:
            nonlocal first
            places = long.firsts(table)
            seen.add(rows_of(table.select([long.id]), places).column(0), places, first)
            first += table.num_rows
            return table

        for table in self.windows(scorer):
            end = int(long.firsts(table)[-1])
            ends = bool(rest) and not long.goes_on(rest[-1], table)
            if end or ends:
                yield checked(arrow().concat_tables([*rest, table.slice(0, end)]))
                rest = []
            rest.append(table.slice(end))
        if rest:
            yield checked(arrow().concat_tables(rest))


@contextmanager
def opened(fragment: Fragment, scorer: Scorer, kept: list[str] | None) -> Iterator[Source]:
    """The file, of which only what is scored and ``kept`` is read; all columns by default.

    FormatError for a damaged file, ValueError for one whose schema does not fit.
    """
    name = fragment.source
    if fragment.ending in NPZ:
        with _reading(name):
            archive = np.load(name, allow_pickle=False)
            source = _of_npz(name, archive, scorer)
        with archive:
            _chosen(name, source.schema, scorer, None)
            yield source
    elif fragment.ending in ARROW:
        with _reading(name):
            mapped = arrow().memory_map(name)
            own, batches = _arrow_batches(mapped)
        with mapped:
            names, schema = _chosen(name, own, scorer, kept)
            yield Source(name, schema, None, (batch.select(names) for batch in batches))
    else:
        with _reading(name):
            # pre-buffering would read a whole row group at a time, however large
            file = parquet().ParquetFile(name, buffer_size=BUFFER_NBYTES, pre_buffer=False)
            own = file.schema_arrow
        with file:
            names, schema = _chosen(name, own, scorer, kept)
            batches = _parquet_batches(file, names, scorer)
            yield Source(name, schema, file.metadata.num_rows, batches)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """As `reading`; pyarrow says by an OSError without a number that a file is damaged."""
    try:
        with reading(name):
            yield
    except OSError as error:
        # "invalid argument" is a place in the file that there is not
        if error.errno not in (None, errno.EINVAL):
            raise
        raise FormatError(f"{name}: the file is damaged: {cut(str(error), 300)}") from error


def _chosen(
    where: str, schema: pa.Schema, scorer: Scorer, kept: list[str] | None
) -> tuple[list[str], pa.Schema]:
    """The columns to be read; ValueError, with the file's name, where the schema does not fit."""
    try:
        names = _names(schema, scorer, kept)
    except UnicodeError as error:
        raise FormatError(f"{where}: the file is damaged: a column's name is {error}") from error
    except ValueError as error:
        raise placed(error, where) from None
    return names, arrow().schema([schema.field(name) for name in names], schema.metadata)


def _names(schema: pa.Schema, scorer: Scorer, kept: list[str] | None) -> list[str]:
    """The columns to be read, in the file's order."""
    scorer.check(schema)
    check_names(schema, schema.names if kept is None else kept)
    if kept is None:
        return list(schema.names)
    for name in kept:
        if name not in schema.names:
            raise ValueError(f"there is no column {name!r} to keep; there are {schema.names}")
    wanted = {*scorer.input_columns(schema), *scorer.key_columns, *kept}
    return [name for name in schema.names if name in wanted]


def _parquet_batches(
    file: ParquetFile, names: list[str], scorer: Scorer
) -> Iterator[pa.RecordBatch]:
    paths = [file.schema.column(i).path for i in range(len(file.schema))]
    inputs = _leaves(paths, scorer.input_columns(file.schema_arrow))
    columns = _leaves(paths, names)
    for number in range(file.metadata.num_row_groups):
        # pyarrow ends the process where it is asked about a column whose metadata are damaged; who
        # reads a row of it is told by an exception
        next(file.iter_batches(1, [number], names, use_threads=False), None)
        group = file.metadata.row_group(number)
        numbers = sum(group.column(i).num_values for i in inputs)
        rows = max(group.num_rows, 1)
        nbytes = sum(_nbytes(group.column(i)) for i in columns)
        cost = rows * scorer.cost(file.schema_arrow, nbytes / rows, numbers / rows)
        windows = max(1, round(cost / scorer.paying_nbytes), -(-rows // MOST_ROWS))
        yield from file.iter_batches(-(-rows // windows), [number], names, use_threads=False)


def _leaves(paths: list[str], names: list[str]) -> list[int]:
    """The places of those of Parquet's columns that are of these columns."""
    return [i for i, path in enumerate(paths) if any(f"{path}.".startswith(f"{n}.") for n in names)]


def _nbytes(column: ColumnChunkMetaData) -> int:
    """Of values in memory: repeated ones may be stored as one."""
    width = {"INT32": 4, "FLOAT": 4, "BOOLEAN": 1}.get(column.physical_type, 8)
    nbytes: int = max(column.total_uncompressed_size, column.num_values * width)
    return nbytes


def _arrow_batches(file: pa.MemoryMappedFile) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Of Arrow's file or stream format: the schema, and the batches, which lie in the file."""
    pa = arrow()
    magic = file.read(len(ARROW_MAGIC))
    file.seek(0)
    if magic != ARROW_MAGIC:
        stream = pa.ipc.open_stream(file)
        return stream.schema, map(_checked, stream)
    reader = pa.ipc.open_file(file)
    return reader.schema, (_checked(reader.get_batch(i)) for i in range(reader.num_record_batches))


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, whose offsets and texts are pyarrow's views of the file: it looks at them here."""
    batch.validate(full=True)
    return batch


def _of_npz(where: str, archive: NpzFile, scorer: Scorer) -> Source:
    types = arrow()
    wanted = scorer.runner.wanted
    step = types.from_numpy_dtype(wanted.dtype)
    if not wanted.bare:
        width = wanted.features
        if width is None:
            shape = archive[archive.files[0]].shape if archive.files else (0, 1)
            width = shape[1] if len(shape) == 2 else 1
        step = types.list_(step, width)
    schema = types.schema([(NPZ_NAMES, types.string()), (NPZ_COLUMN, types.large_list(step))])

    def batches() -> Iterator[pa.RecordBatch]:
        nbytes, waiting = 0, []
        for name in archive.files:
            array = _sequence(archive[name], name, wanted)
            waiting.append((name, array))
            nbytes += array.nbytes
            if 4 * nbytes >= scorer.paying_nbytes:
                yield _batch(waiting, schema)
                nbytes, waiting = 0, []
        if waiting:
            yield _batch(waiting, schema)

    return Source(where, schema, len(archive.files), batches())


def _sequence(array: np.ndarray, name: str, wanted: Wanted) -> np.ndarray:
    """An array of the archive as the model takes it; FormatError for one that does not fit."""
    if array.ndim == 1 and not wanted.bare and wanted.features == 1:
        array = array[:, np.newaxis]
    ndim = 1 if wanted.bare else 2
    kinds = "fiub" if wanted.dtype.kind == "f" else "iub"
    width = wanted.features
    fits = array.ndim == ndim and array.dtype.kind in kinds
    if not fits or (ndim == 2 and width not in (None, array.shape[1])):
        shape = ["steps"] if wanted.bare else ["steps", str(width or "features")]
        raise FormatError(
            f"the array {name!r} is {array.dtype} {list(array.shape)}, expected one sequence, "
            f"[{', '.join(shape)}], of numbers that {wanted.dtype} holds"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        converted = np.ascontiguousarray(array, wanted.dtype)
    if wanted.dtype.kind != "f" and not np.array_equal(converted, array):
        raise FormatError(f"the array {name!r} has numbers beyond those of {wanted.dtype}")
    return converted


def _batch(named: list[tuple[str, np.ndarray]], schema: pa.Schema) -> pa.RecordBatch:
    pa = arrow()
    arrays = [array for _, array in named]
    offsets = np.cumsum([0, *map(len, arrays)])
    flat = np.concatenate(arrays)
    item = schema.field(NPZ_COLUMN).type.value_type
    if flat.ndim == 2:
        child = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    else:
        child = pa.array(flat)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), child.cast(item))
    return pa.RecordBatch.from_arrays([pa.array([name for name, _ in named]), lists], schema=schema)
