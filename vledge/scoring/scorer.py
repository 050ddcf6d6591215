"""`Scorer`: a table with a column of sequences in, the same rows with a model's outputs out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.machine.threads import get_num_threads
from vledge.model.definition import Model
from vledge.nn.recurrent import RecurrentBase
from vledge.scoring.models.asked import Names, input_of, outputs_of, runner_of
from vledge.scoring.models.side_by_side import each_batch
from vledge.scoring.packages import arrow
from vledge.scoring.tables.bad_rows import BadRows, Reason, checked_policy
from vledge.scoring.tables.columns import check_names, check_type, read_columns, step_nbytes
from vledge.scoring.tables.long_table import LongTable
from vledge.scoring.tables.outputs import Results, column_type
from vledge.scoring.tables.ragged import Ragged
from vledge.scoring.tables.rows import rows_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DEFAULT_MEMORY", "Scorer"]


#: Bytes for what is read, run and written at a time.
DEFAULT_MEMORY: Final = 512_000_000
#: Windows that are somewhere between reading and writing at a time, and one to spare.
WINDOWS: Final = 6
#: What a window costs, for each thread, if memory has room: as large as pays. The benchmark's four
#: layers run within 5 % as quickly as on 100 MB at a time, the first window is soon read and the
#: last one soon written.
PAYING_NBYTES: Final = 16_000_000
#: Windows that wait between two threads: reading and writing may pause so long.
AHEAD: Final = 3
#: Of a window's memory: what the batches that run at a time may take, beside it.
BATCH_SHARE: Final = 4
#: Bytes that a row costs whatever is in it: offsets, places, Python's part.
ROW_NBYTES: Final = 64


class Scorer:
    """Maps a `pyarrow.Table` to a `pyarrow.Table`: a model over a column of sequences.

    Parameters
    ----------
    model : str, PathLike, recurrent layer of `vledge.nn`, or Model
        A file with a recurrent layer (weights of torch, safetensors, Keras) or with a whole ONNX
        model, or by ``vledge convert``.
    input : str, sequence of str or dict, optional
        The column that holds a sequence a row: a list of numbers, or of lists of features. Several
        columns are features, side by side. A dict has the name of the model's input for a key,
        which a model of several inputs wants. Not needed where the table has one column that fits.
    outputs : str, sequence of str or dict, optional
        What is wanted, by name; a dict has names of columns for keys. Of a layer: "last" (the
        default), the last layer's output at each sequence's end, both directions side by side;
        "output", all steps; "h_n" and "c_n". Of a whole model: its own outputs, the first by
        default, and "logits:last", the last step of one that has steps.
    layer : str, optional
        The recurrent layer, where a file has several. Of a graph, that layer by itself is run.
    id, time : str, optional
        Columns of a long table: a row is a step of the sequence ``id``, in the order of ``time``
        (the rows' own without). Rows of one id stand together.
    fixed : dict, optional
        Numbers for a model's other inputs, the same for all sequences.
    time_first : bool
        The model's input is [time, batch, features], where its axes' names do not tell.
    on_bad : "error", "null" or "skip"
        A row that is null or empty, or has NaN, infinity, a null or a step of other features in it:
        ValueError, null outputs, or left out.
    memory : int
        Bytes that are in use at a time beyond the table and the result, about.
    threads : int, optional
        Default: :func:`vledge.get_num_threads`. Bits do not depend on it.

    Raises
    ------
    FormatError, UnsupportedError, MissingDependencyError
        The model cannot be read or run, or pyarrow is missing.
    ValueError
        Names that the model does not have, or that do not go together.

    A Scorer is pickled with its model, not with its path, so that it works in another process or on
    another machine.

    >>> score = Scorer("model.safetensors", "frames")  # doctest: +SKIP
    >>> score(table).column_names  # doctest: +SKIP
    ['patient', 'frames', 'last']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | RecurrentBase | Model,
        input: Names | Mapping[str, Names] | None = None,
        outputs: Names | Mapping[str, str] | None = None,
        *,
        layer: str | None = None,
        id: str | None = None,
        time: str | None = None,
        fixed: Mapping[str, float] | None = None,
        time_first: bool = False,
        on_bad: str = "error",
        memory: int = DEFAULT_MEMORY,
        threads: int | None = None,
    ) -> None:
        arrow()
        name, self.columns = input_of(input)
        self.runner = runner_of(model, name, layer, fixed, time_first)
        self.outputs = outputs_of(outputs, self.runner)
        self.on_bad = checked_policy(on_bad)
        for label, value in (("memory", memory), ("threads", threads)):
            if value is not None and value < 1:
                raise ValueError(f"{label} must be at least 1, got {value}")
        self.memory, self.threads = memory, threads
        if time is not None and id is None:
            raise ValueError("time= orders the steps of a long table: give id=, whose steps, too")
        self.long = None if id is None else LongTable(id, time)
        if self.long is not None:
            self._check_long()

    def _check_long(self) -> None:
        kinds = {output.per for output in self.outputs.values()}
        if "own steps" in kinds or len(kinds) > 1:
            raise ValueError(
                "of a long table come either rows a sequence or rows a step, and outputs "
                + ", ".join(f"{o.name!r} is per {o.per}" for o in self.outputs.values())
            )

    def __repr__(self) -> str:
        columns = "?" if self.columns is None else ", ".join(self.columns)
        return f"Scorer({columns} -> {', '.join(self.outputs)}; {self.runner.wanted})"

    def __call__(self, table: pa.Table) -> pa.Table:
        """The table with a column for each output behind its own.

        A long table becomes one row for each id and the outputs, where these are per sequence.
        Raises ValueError, which names the column, its type and what was expected, where the table
        does not fit, and for bad rows as ``on_bad`` says.
        """
        pa = arrow()
        if isinstance(table, pa.RecordBatch):
            table = pa.Table.from_batches([table])
        self.check(table.schema)
        bad = BadRows()
        if self.long is not None or not table.num_rows:
            return self.window(table, 0, bad)
        count = -(-table.num_rows * self.row_cost(table) // (self.window_nbytes))
        rows = -(-table.num_rows // max(1, int(count)))
        done = [
            self.window(table.slice(first, rows), first, bad)
            for first in range(0, table.num_rows, rows)
        ]
        return pa.concat_tables(done)

    def with_threads(self, threads: int) -> Scorer:
        """Another one that shares the model."""
        other = copy(self)
        other.threads = threads
        return other

    def description(self) -> dict[str, object]:
        """All that a result depends on, as JSON has it: the model's digest and the options."""
        long = self.long
        return {
            "model": self.runner.digest(),
            "input": self.columns,
            "outputs": {column: output.name for column, output in self.outputs.items()},
            "id": None if long is None else long.id,
            "time": None if long is None else long.time,
            "on_bad": self.on_bad,
        }

    # ---- what goes in and comes out

    def input_columns(self, schema: pa.Schema) -> list[str]:
        """The columns that hold the sequences: those that were named, or the one that fits."""
        wanted = self.runner.wanted
        if self.columns is not None:
            for name in [*self.columns, *self.key_columns]:
                if name not in schema.names:
                    raise ValueError(
                        f"there is no column {name!r}, which the input {wanted.name!r} should be "
                        f"read from; there are {schema.names}"
                    )
            return self.columns
        fitting = []
        for field in schema:
            try:
                check_type(field.name, field.type, wanted, wanted.features)
            except ValueError:
                continue
            fitting.append(field.name)
        if len(fitting) != 1 or self.long is not None:
            raise ValueError(
                f"which column is the input {wanted.name!r} read from? There are "
                + ", ".join(f"{field.name!r} ({field.type})" for field in schema)
                + f'; input="column", or --input column, names it. Expected {wanted}'
            )
        return fitting

    @property
    def key_columns(self) -> list[str]:
        """The columns that say whose step a row is, and when."""
        long = self.long
        return [] if long is None else [n for n in (long.id, long.time) if n is not None]

    def check(self, schema: pa.Schema) -> None:
        """ValueError, naming column, type and what was expected, for a table that does not fit."""
        columns = self.input_columns(schema)
        check_names(schema, [*columns, *self.key_columns])
        wanted = self.runner.wanted
        if wanted.features not in (None, len(columns)) and (len(columns) > 1 or self.long):
            raise ValueError(
                f"{len(columns)} column(s) {columns} are given for the input {wanted.name!r}: "
                f"expected {wanted}"
            )
        if self.long is None:
            each = wanted.features if len(columns) == 1 else 1
            for name in columns:
                check_type(name, schema.field(name).type, wanted, each)
        for name in self.outputs:
            if name in schema.names:
                raise ValueError(
                    f"there is a column {name!r} already: outputs={{'another name': "
                    f"{self.outputs[name].name!r}}}, or --output-column "
                    f'"another name={self.outputs[name].name}", gives the output another one'
                )

    def schema(self, schema: pa.Schema, kept: Sequence[str] | None = None) -> pa.Schema:
        """Of the result, for a table of this schema; ``kept`` as :meth:`window` has it."""
        self.check(schema)
        pa = arrow()
        listed, whole = self.long is None, schema
        if kept is not None:
            schema = pa.schema([schema.field(name) for name in kept], schema.metadata)
        if self.long is not None and self._per_row():
            schema = pa.schema([whole.field(self.long.id)])
        for name, output in self.outputs.items():
            schema = schema.append(pa.field(name, column_type(output, listed)))
        return schema

    def _per_row(self) -> bool:
        return all(output.per == "row" for output in self.outputs.values())

    # ---- windows

    @property
    def window_nbytes(self) -> int:
        """Of what a window may cost."""
        return max(1, self.memory // WINDOWS)

    @property
    def paying_nbytes(self) -> int:
        """Of what a window costs that is no larger than pays."""
        threads = self.threads or get_num_threads()
        return min(self.window_nbytes, PAYING_NBYTES * threads)

    @property
    def waiting_nbytes(self) -> int:
        """Of windows that wait for the next thread."""
        return min(self.window_nbytes, AHEAD * self.paying_nbytes)

    def step_cost(self, schema: pa.Schema) -> int:
        """Bytes that a step costs: as it is read, as the model takes it, and what it gives."""
        wanted = self.runner.wanted
        stored = max(step_nbytes(schema.field(n).type) for n in self.input_columns(schema))
        given = sum(o.nbytes for o in self.outputs.values() if o.per != "row")
        return (stored + wanted.dtype.itemsize) * (wanted.features or 1) + given

    def row_cost(self, table: pa.Table) -> float:
        """Bytes that a row costs on the average."""
        rows = max(table.num_rows, 1)
        columns = [table.column(name) for name in self.input_columns(table.schema)]
        numbers = sum(column.nbytes / step_nbytes(column.type) for column in columns)
        return self.cost(table.schema, table.nbytes / rows, numbers / rows)

    def cost(self, schema: pa.Schema, nbytes: float, numbers: float) -> float:
        """Bytes that a row costs: ``nbytes`` of columns, so many numbers of the input as the model
        takes them, and what comes out."""
        steps = 0.0 if self.long is not None else numbers / (self.runner.wanted.features or 1)
        given = sum(o.nbytes for o in self.outputs.values() if o.per == "row")
        return nbytes + steps * self.step_cost(schema) + given + ROW_NBYTES

    def window(
        self,
        table: pa.Table,
        first: int,
        bad: BadRows,
        stopped: Callable[[], bool] = lambda: False,
        kept: Sequence[str] | None = None,
    ) -> pa.Table:
        """The result for a few rows, the first of which is row ``first`` of its file.

        Bad rows are added to ``bad``. ``kept`` are the columns that stay, all by default. What has
        been ``stopped()`` gives something of no use.
        """
        columns = self.input_columns(table.schema)
        if self.long is not None:
            return self._long_window(table, columns, first, bad, stopped, kept)
        wanted = self.runner.wanted
        ragged = read_columns([(name, table.column(name)) for name in columns], wanted)
        ragged = self._judged(ragged, first, bad)
        results = self._results(ragged, stopped)
        if kept is not None:
            table = table.select(kept)
        for name, result in results.items():
            table = table.append_column(name, result.column())
        return rows_of(table, ragged.good) if self._skips(ragged) else table

    def _long_window(
        self,
        table: pa.Table,
        columns: Sequence[str],
        first: int,
        bad: BadRows,
        stopped: Callable[[], bool],
        kept: Sequence[str] | None,
    ) -> pa.Table:
        assert self.long is not None
        pa = arrow()
        wanted = self.runner.wanted
        sequences = self.long.sequences(table, columns, wanted)
        ragged = self._judged(sequences.ragged, first, bad, sequences.firsts)
        results = self._results(ragged, stopped)
        good = ragged.reasons == Reason.GOOD
        if self._per_row():
            ids = rows_of(table.select([self.long.id]), sequences.firsts)
            for name, result in results.items():
                ids = ids.append_column(name, result.column())
            return rows_of(ids, ragged.good) if self._skips(ragged) else ids
        rows = sequences.rows_of_steps(good)
        where = np.full(sequences.rows, -1, np.int64)
        where[rows] = np.arange(len(rows))
        places = pa.array(where, mask=where < 0)
        if kept is not None:
            table = table.select(kept)
        for name, result in results.items():
            table = table.append_column(name, result.step_column().take(places))
        return rows_of(table, np.flatnonzero(where >= 0)) if self._skips(ragged) else table

    def _judged(
        self, ragged: Ragged, first: int, bad: BadRows, rows: np.ndarray | None = None
    ) -> Ragged:
        """With every bad row marked and noted; ValueError if there is one that may not be."""
        if self.runner.steps is not None:
            ragged = ragged.refused(ragged.lengths != self.runner.steps, Reason.STEPS)
        before = bad.total
        bad.add(ragged.reasons, first, rows)
        if self.on_bad == "error" and bad.total > before:
            raise ValueError(
                f'{bad}: bad rows have null outputs with on_bad="null" and are left out with '
                'on_bad="skip"'
            )
        return ragged

    def _skips(self, ragged: Ragged) -> bool:
        return self.on_bad == "skip" and bool(ragged.reasons.any())

    def _results(self, ragged: Ragged, stopped: Callable[[], bool]) -> dict[str, Results]:
        good = ragged.good
        lengths = np.zeros(len(ragged), np.int64)
        lengths[good] = ragged.lengths[good]
        results = {name: Results(output, lengths) for name, output in self.outputs.items()}
        by_source = {result.output.name: result for result in results.values()}
        threads = self.threads or get_num_threads()
        memory = max(1, self.window_nbytes // (BATCH_SHARE * threads))
        batches = list(self.runner.batches(ragged, good, memory, by_source)) if len(good) else []
        run = partial(self.runner.run, ragged, results=by_source)
        each_batch(run, batches, threads, stopped)
        return results
