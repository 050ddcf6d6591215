"""The forms in which a batch of sequences comes, and goes back: padded, packed, a list, masked.

A strategy asks for the form that it runs on and hands its output back in that form; the batch
turns it into the form in which the caller gave the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from vledge._ext.packing import running_out, total
from vledge.array_like import array_of
from vledge.packing import (
    PackedSequence,
    by_length,
    is_packed,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
    unpad_sequence,
    validated,
)
from vledge.packing.sequence import Output, Sequences

__all__ = [
    "Batch",
    "ListBatch",
    "MaskedBatch",
    "PackedBatch",
    "PaddedBatch",
    "batch_of",
    "lengths_of_packed",
]


class Batch(Protocol):
    """Sequences in one form, and the ways from it and back to it."""

    form: str  #: list, padded, packed or masked
    lengths: np.ndarray  #: int64 [B], in the caller's order

    @property
    def most_steps(self) -> int:
        """Steps in all, or more: what is quickly told."""

    def padded(self) -> tuple[np.ndarray, bool]:
        """``[T, B, *]`` and False, or ``[B, T, *]`` and True (batch first)."""

    def packed(self) -> PackedSequence:
        """Packed; sorted indices as they come."""

    def sequences(self) -> list[np.ndarray]:
        """``[L, *]`` each, in the caller's order."""

    def from_padded(self, output: np.ndarray) -> Output:
        """The output of :meth:`padded`, zero past each length, in the caller's form."""

    def from_packed(self, output: PackedSequence) -> Output:
        """The output of :meth:`packed` in the caller's form."""

    def from_sequences(self, outputs: list[np.ndarray]) -> Output:
        """The outputs of :meth:`sequences` in the caller's form."""

    def select(self, rows: np.ndarray) -> Batch:
        """Some of the sequences."""

    def expand(
        self, rows: np.ndarray, output: Output | None, width: int, dtype: np.dtype
    ) -> Output:
        """The output of :meth:`select`'s batch, None without rows, with the others' empty ones."""


class _RectangleBatch:
    """What padded arrays with lengths and with a mask share: ``data``, ``batch_first``."""

    data: np.ndarray
    batch_first: bool

    @property
    def steps(self) -> int:
        """T."""
        return self.data.shape[1 if self.batch_first else 0]

    @property
    def most_steps(self) -> int:
        return self.data.shape[0] * self.data.shape[1]

    def _rows(self, array: np.ndarray) -> np.ndarray:
        """A view ``[B, T, *]``."""
        return array if self.batch_first else array.swapaxes(0, 1)

    def _zeros(self, width: int, dtype: np.dtype) -> np.ndarray:
        return np.zeros((*self.data.shape[:2], width), dtype)

    def expand(
        self, rows: np.ndarray, output: Output | None, width: int, dtype: np.dtype
    ) -> np.ndarray:
        whole = self._zeros(width, dtype)
        if output is not None:
            assert isinstance(output, np.ndarray)  # a batch's own form comes back
            self._rows(whole)[rows] = self._rows(output)
        return whole


class PaddedBatch(_RectangleBatch):
    """An array with one row of steps for each sequence, and their lengths."""

    form = "padded"

    def __init__(self, data: np.ndarray, lengths: np.ndarray, batch_first: bool) -> None:
        self.data, self.lengths, self.batch_first = data, lengths, batch_first

    def valid(self) -> np.ndarray:
        """bool [B, T]: where data are."""
        return np.arange(self.steps) < self.lengths[:, None]

    def padded(self) -> tuple[np.ndarray, bool]:
        return self.data, self.batch_first

    def packed(self) -> PackedSequence:
        return pack_padded_sequence(self.data, self.lengths, self.batch_first, enforce_sorted=False)

    def sequences(self) -> list[np.ndarray]:
        ends = self.lengths.tolist()
        return [row[:end] for row, end in zip(self._rows(self.data), ends, strict=True)]

    def from_padded(self, output: np.ndarray) -> np.ndarray:
        return output

    def from_packed(self, output: PackedSequence) -> np.ndarray:
        return pad_packed_sequence(output, self.batch_first, total_length=self.steps)[0]

    def from_sequences(self, outputs: list[np.ndarray]) -> np.ndarray:
        padded = self._zeros(outputs[0].shape[1], outputs[0].dtype)
        for row, output in zip(self._rows(padded), outputs, strict=True):
            row[: len(output)] = output
        return padded

    def select(self, rows: np.ndarray) -> PaddedBatch:
        data = self.data[rows] if self.batch_first else self.data[:, rows]
        return PaddedBatch(data, self.lengths[rows], self.batch_first)


class MaskedBatch(_RectangleBatch):
    """A padded array and a mask ``[B, T]`` with holes anywhere: what it leaves out never runs."""

    form = "masked"

    def __init__(self, data: np.ndarray, mask: np.ndarray, batch_first: bool) -> None:
        self.data, self.mask, self.batch_first = data, mask, batch_first
        self.lengths = mask.sum(axis=1, dtype=np.int64)

    def valid(self) -> np.ndarray:
        """bool [B, T]: where data are."""
        return self.mask

    @property
    def begins(self) -> bool:
        """Whether each sequence's data begin at once and have no holes, as those of lengths do."""
        return np.array_equal(self.mask, np.arange(self.steps) < self.lengths[:, None])

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(order, batch_sizes, rows, steps): the place in the mask of each packed row."""
        order, batch_sizes = by_length(self.lengths)
        packed_steps = np.repeat(np.arange(len(batch_sizes)), batch_sizes.astype(np.intp))
        starts = np.cumsum(batch_sizes) - batch_sizes
        rows = order[np.arange(len(packed_steps)) - starts[packed_steps]]
        valid_first = np.argsort(~self.mask, axis=1, kind="stable")
        return order, batch_sizes, rows, valid_first[rows, packed_steps]

    def packed(self) -> PackedSequence:
        order, batch_sizes, rows, steps = self._places
        return PackedSequence(self._rows(self.data)[rows, steps], batch_sizes, order)

    def padded(self) -> tuple[np.ndarray, bool]:
        return pad_sequence(self.sequences(), batch_first=True), True

    def sequences(self) -> list[np.ndarray]:
        return [row[valid] for row, valid in zip(self._rows(self.data), self.mask, strict=True)]

    def from_packed(self, output: PackedSequence) -> np.ndarray:
        _, _, rows, steps = self._places
        scattered = self._zeros(output.data.shape[1], output.data.dtype)
        self._rows(scattered)[rows, steps] = output.data
        return scattered

    def from_padded(self, output: np.ndarray) -> np.ndarray:
        scattered = self._zeros(output.shape[2], output.dtype)
        front = np.arange(output.shape[1]) < self.lengths[:, None]
        self._rows(scattered)[self.mask] = output[front]
        return scattered

    def from_sequences(self, outputs: list[np.ndarray]) -> np.ndarray:
        scattered = self._zeros(outputs[0].shape[1], outputs[0].dtype)
        self._rows(scattered)[self.mask] = np.concatenate(outputs)
        return scattered

    def select(self, rows: np.ndarray) -> MaskedBatch:
        data = self.data[rows] if self.batch_first else self.data[:, rows]
        return MaskedBatch(data, self.mask[rows], self.batch_first)


class PackedBatch:
    """A PackedSequence; the output has its batch sizes and indices."""

    form = "packed"

    def __init__(self, data: PackedSequence) -> None:
        self.data, self.lengths = data, lengths_of_packed(data)

    @property
    def most_steps(self) -> int:
        return len(self.data.data)

    def padded(self) -> tuple[np.ndarray, bool]:
        return pad_packed_sequence(self.data)[0], False

    def packed(self) -> PackedSequence:
        return self.data

    def sequences(self) -> list[np.ndarray]:
        return unpack_sequence(self.data)

    def _again(self, output: PackedSequence) -> PackedSequence:
        return self.data._replace(data=output.data)

    def from_padded(self, output: np.ndarray) -> PackedSequence:
        order = self.data.sorted_indices
        lengths = self.lengths
        if order is not None:
            output, lengths = output[:, order], lengths[order]
        return self._again(pack_padded_sequence(output, lengths))

    def from_packed(self, output: PackedSequence) -> PackedSequence:
        return output

    def from_sequences(self, outputs: list[np.ndarray]) -> PackedSequence:
        order = self.data.sorted_indices
        return self._again(pack_sequence(outputs if order is None else [outputs[i] for i in order]))

    def select(self, rows: np.ndarray) -> Batch:
        raise AssertionError("a packed batch has no empty sequences to leave out")

    def expand(
        self, rows: np.ndarray, output: Output | None, width: int, dtype: np.dtype
    ) -> Output:
        raise AssertionError("a packed batch has no empty sequences to leave out")


class ListBatch:
    """A list of arrays ``[L, *]``."""

    form = "list"

    def __init__(self, data: list[np.ndarray], lengths: np.ndarray) -> None:
        self.data, self.lengths = data, lengths

    @property
    def most_steps(self) -> int:
        return total(self.lengths)

    def padded(self) -> tuple[np.ndarray, bool]:
        return pad_sequence(self.data), False

    def packed(self) -> PackedSequence:
        return pack_sequence(self.data, enforce_sorted=False)

    def sequences(self) -> list[np.ndarray]:
        return self.data

    def from_padded(self, output: np.ndarray) -> list[np.ndarray]:
        return unpad_sequence(output, self.lengths)

    def from_packed(self, output: PackedSequence) -> list[np.ndarray]:
        return unpack_sequence(output)

    def from_sequences(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return outputs

    def select(self, rows: np.ndarray) -> ListBatch:
        return ListBatch([self.data[i] for i in rows], self.lengths[rows])

    def expand(
        self, rows: np.ndarray, output: Output | None, width: int, dtype: np.dtype
    ) -> Output:
        whole = [np.zeros((0, width), dtype) for _ in self.data]
        for i, one in zip(rows, output or (), strict=True):
            whole[i] = one
        return whole


def batch_of(
    input: Sequences, lengths: ArrayLike | None, mask: ArrayLike | None, batch_first: bool
) -> Batch:
    """The batch in the form in which it is given.

    Raises
    ------
    ValueError
        A padded array without lengths or a mask, either of them with another form, both of them,
        or one that does not fit the array.
    """
    if isinstance(input, (PackedSequence, list, tuple)):
        refuse_lengths(lengths, mask)
        if is_packed(input):
            return PackedBatch(validated(input))
        if not input:
            raise ValueError("received an empty list of sequences")
        arrays = _alike(input)
        return ListBatch(arrays, np.array([len(s) for s in arrays], np.int64))
    data = array_of(input, "input")
    layout = "[B, T, features]" if batch_first else "[T, B, features]"
    if data.ndim != 3:
        raise ValueError(f"a strategy runs a batch {layout}, got {data.ndim} dimension(s)")
    sequences, steps = data.shape[:2] if batch_first else data.shape[1::-1]
    if mask is not None:
        if lengths is not None:
            raise ValueError("give lengths or a mask, not both")
        return MaskedBatch(data, _checked_mask(mask, sequences, steps), batch_first)
    if lengths is None:
        raise ValueError("a padded array needs lengths [B] or a mask [B, T]")
    return PaddedBatch(data, checked_lengths(lengths, sequences, steps), batch_first)


def refuse_lengths(lengths: ArrayLike | None, mask: ArrayLike | None) -> None:
    """Raise ValueError where either is given beside sequences that have lengths."""
    if lengths is not None or mask is not None:
        raise ValueError(
            "lengths and mask go with a padded array: a PackedSequence and a list of "
            "sequences have lengths of their own"
        )


def _alike(sequences: Sequence[ArrayLike]) -> list[np.ndarray]:
    """A list of sequences as arrays of one dtype."""
    arrays = [array_of(s, f"input[{i}]", stack=True) for i, s in enumerate(sequences)]
    for i, array in enumerate(arrays):
        if array.ndim < 1 or array.dtype != arrays[0].dtype:
            raise ValueError(
                f"input[{i}] is {array.dtype} {list(array.shape)}, expected a sequence of "
                f"{arrays[0].dtype} as input[0]"
            )
    return arrays


def checked_lengths(lengths: ArrayLike, sequences: int, steps: int) -> np.ndarray:
    """int64 [B], each from 0 to T."""
    lengths = array_of(lengths, "lengths")
    if lengths.shape != (sequences,) or lengths.dtype.kind not in "iu":
        raise ValueError(
            f"lengths must be {sequences} integers, one for each sequence, got shape "
            f"{list(lengths.shape)} of {lengths.dtype}"
        )
    if sequences and not 0 <= lengths.min() <= lengths.max() <= steps:
        b = int(np.argmax((lengths < 0) | (lengths > steps)))
        raise ValueError(f"lengths[{b}] is {lengths[b]} but the input has {steps} time steps")
    return np.ascontiguousarray(lengths, np.int64)


def _checked_mask(mask: ArrayLike, sequences: int, steps: int) -> np.ndarray:
    mask = array_of(mask, "mask", stack=True)
    if mask.dtype != np.bool_:
        raise ValueError(f"mask must be of bool, True where data are, got {mask.dtype}")
    if mask.shape != (sequences, steps):
        raise ValueError(
            f"mask must have the shape [batch, time] = [{sequences}, {steps}], whatever "
            f"batch_first is; got {list(mask.shape)}"
        )
    return mask


def lengths_of_packed(packed: PackedSequence) -> np.ndarray:
    """int64 [B], in the order in which the sequences were given."""
    lengths = running_out(packed.batch_sizes, int(packed.batch_sizes[0]))
    order = packed.unsorted_indices
    return lengths if order is None else lengths[order]
