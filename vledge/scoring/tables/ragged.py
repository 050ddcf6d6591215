"""Sequences as Arrow keeps them: one array of steps, and where in it each sequence lies."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vledge._ext.packing import gather, running_out, scatter
from vledge.packing import PackedSequence
from vledge.scoring.tables.bad_rows import Reason

__all__ = ["Ragged", "rows_with", "write_packed"]


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths, a row each.

    What a bad row's start and length say is nothing: `reasons` is looked at first.
    """

    values: np.ndarray  #: [steps, features], or [steps] where a step is one number
    starts: np.ndarray  #: int64 [B]: the step of ``values`` that is a sequence's first
    lengths: np.ndarray  #: int64 [B]
    reasons: np.ndarray  #: uint8 [B]: a `Reason`, 0 for rows that can be run

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def good(self) -> np.ndarray:
        """The rows that can be run, int64."""
        return np.flatnonzero(self.reasons == Reason.GOOD)

    def refused(self, rows: np.ndarray, reason: Reason) -> Ragged:
        """With a reason for rows, bool [B], that have none yet."""
        reasons = np.where(rows & (self.reasons == Reason.GOOD), np.uint8(reason), self.reasons)
        return replace(self, reasons=reasons.astype(np.uint8))

    def packed(self, places: np.ndarray) -> PackedSequence:
        """Some of the rows, the longest first: packed in their order."""
        lengths = self.lengths[places]
        batch_sizes = running_out(lengths, int(lengths[0]))
        data = np.empty((int(lengths.sum()), *self.values.shape[1:]), self.values.dtype)
        gather(data, _each_row(self.values, len(self)), batch_sizes, places, self.starts)
        return PackedSequence(data, batch_sizes)

    def padded(self, places: np.ndarray, steps: int, time_first: bool) -> np.ndarray:
        """Some of the rows as ``[B, steps, *]``, or ``[steps, B, *]``, zeros past each end."""
        batch = np.zeros((len(places), steps, *self.values.shape[1:]), self.values.dtype)
        for row, place in zip(batch, places.tolist(), strict=True):
            start, length = int(self.starts[place]), int(self.lengths[place])
            row[:length] = self.values[start : start + length]
        return np.ascontiguousarray(batch.swapaxes(0, 1)) if time_first else batch


def write_packed(
    packed: PackedSequence, places: np.ndarray, target: np.ndarray, starts: np.ndarray
) -> None:
    """Write packed rows, in the order of ``places``, to where each sequence starts."""
    data = np.ascontiguousarray(packed.data)
    scatter(data, _each_row(target, len(starts)), packed.batch_sizes, places, starts)


def rows_with(steps: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """bool [B]: the sequences of which one of the ``steps``, a mask, is set."""
    before = np.concatenate(([0], np.cumsum(steps, dtype=np.int64)))
    return before[starts + lengths] > before[starts]


def _each_row(values: np.ndarray, rows: int) -> np.ndarray:
    """``[B, N, *]``: for each row the same memory, in which it has a start of its own."""
    return np.lib.stride_tricks.as_strided(
        values, (rows, *values.shape), (0, *values.strides), writeable=values.flags.writeable
    )
