"""What a model gives for sequences: where it is put as it comes, and the column it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.packing import PackedSequence
from vledge.scoring.packages import arrow
from vledge.scoring.tables.ragged import write_packed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Output", "Results", "column_type"]

#: Once a sequence, once a step of it, or in steps of its own (where a model halves them, say).
PER: Final = ("row", "step", "own steps")


@dataclass(frozen=True)
class Output:
    """One of a model's outputs."""

    name: str
    per: str  #: one of `PER`
    shape: tuple[int, ...]  #: of what there is for a row or a step; () is a number
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Of a row or step."""
        size = self.dtype.itemsize
        for axis in self.shape:
            size *= axis
        return size


def column_type(output: Output, listed: bool = True) -> pa.DataType:
    """The Arrow type of its column: numbers, in fixed-size lists, and in a list where it is of
    steps, unless steps are rows of their own."""
    pa = arrow()
    kind = pa.from_numpy_dtype(output.dtype)
    for size in reversed(output.shape):
        kind = pa.list_(kind, size)
    return pa.list_(kind) if listed and output.per != "row" else kind


class Results:
    """An output's values for all rows of a window, in the order of the rows."""

    def __init__(self, output: Output, lengths: np.ndarray) -> None:
        """``lengths`` int64 [B] has 0 for rows that are not run."""
        self.output = output
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self._parts: list[np.ndarray | None] = []
        count = len(lengths)
        if output.per == "own steps":
            self._parts = [None] * count
            return
        rows = count if output.per == "row" else int(lengths.sum())
        self.values = np.empty((rows, *output.shape), output.dtype)
        if output.per == "row":
            self.values[lengths == 0] = 0

    def put_rows(self, places: np.ndarray, values: np.ndarray) -> None:
        """Those of some rows, ``[B, *]``."""
        if values.size:
            whole = np.ascontiguousarray(values, self.values.dtype)
            _records(self.values)[places] = _records(whole)

    def put_packed(self, places: np.ndarray, packed: PackedSequence) -> None:
        """The steps of some rows, packed in the order of ``places``."""
        data = packed.data.reshape(-1, *self.output.shape)
        write_packed(packed._replace(data=data), places, self.values, self.starts)

    def put_padded(self, places: np.ndarray, values: np.ndarray) -> None:
        """The steps of some rows, ``[B, T, *]``; own steps whole, others up to their lengths."""
        shaped = values.reshape(*values.shape[:2], *self.output.shape)
        for place, one in zip(places.tolist(), shaped, strict=True):
            if self.output.per == "own steps":
                self._parts[place] = np.array(one)
            else:
                start, length = int(self.starts[place]), int(self.lengths[place])
                self.values[start : start + length] = one[:length]

    def column(self) -> pa.Array:
        """As a column; null for rows that have not been run."""
        pa = arrow()
        values, lengths = self._whole()
        present = self.lengths > 0
        kind = column_type(self.output)
        if self.output.per == "row":
            return _fixed(kind, values, present)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        if offsets[-1] > np.iinfo(np.int32).max:
            raise OverflowError(
                f"output {self.output.name!r}: {offsets[-1]:,} steps are more than a "
                "list column holds"
            )
        steps = _fixed(column_type(self.output, listed=False), values, None)
        buffers = [_bits(present), pa.py_buffer(offsets.astype(np.int32))]
        return pa.Array.from_buffers(kind, len(lengths), buffers, children=[steps])

    def step_column(self) -> pa.Array:
        """One value for each step of the rows that have been run, one behind the other."""
        return _fixed(column_type(self.output, listed=False), self.values, None)

    def _whole(self) -> tuple[np.ndarray, np.ndarray]:
        if self.output.per != "own steps":
            return self.values, self.lengths
        nothing = np.empty((0, *self.output.shape), self.output.dtype)
        parts: Sequence[np.ndarray] = [nothing if part is None else part for part in self._parts]
        lengths = np.array([len(part) for part in parts], np.int64)
        return np.concatenate([nothing, *parts]), lengths


def _records(rows: np.ndarray) -> np.ndarray:
    """Each row of a contiguous ``[N, *]`` as one element, which moves as a whole."""
    nbytes = rows.nbytes // max(len(rows), 1)
    return rows.reshape(-1).view(f"V{nbytes}")


def _fixed(kind: pa.DataType, values: np.ndarray, present: np.ndarray | None) -> pa.Array:
    """Values ``[N, *]`` as an array of this type, in the same memory."""
    pa = arrow()
    validity = None if present is None else _bits(present)
    if values.ndim == 1:
        buffers = [validity, pa.py_buffer(np.ascontiguousarray(values))]
        return pa.Array.from_buffers(kind, len(values), buffers)
    child = _fixed(kind.value_type, values.reshape(-1, *values.shape[2:]), None)
    return pa.Array.from_buffers(kind, len(values), [validity], children=[child])


def _bits(present: np.ndarray) -> pa.Buffer | None:
    if present.all():
        return None
    return arrow().py_buffer(np.packbits(present, bitorder="little"))
