"""Packed sequences: torch.nn.utils.rnn's functions on NumPy arrays.

Results are torch's bit for bit. Sequences of equal length keep their order, which is what torch
does for up to 16 sequences and, without its vectorised sort, for any number; beyond that torch
leaves the order of equal lengths open and it differs between CPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vledge._ext.packing import gather, scatter

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackingError(ValueError, RuntimeError):
    """A wrong argument: torch raises RuntimeError for most of them, Python code expects ValueError."""


class _Fields(NamedTuple):
    data: np.ndarray
    batch_sizes: np.ndarray
    sorted_indices: np.ndarray | None
    unsorted_indices: np.ndarray | None


class PackedSequence(_Fields):
    """Sequences of different lengths without padding, all their steps in one array.

    Fields
    ------
    data : ndarray [sum of lengths, *], time-major: step 0 of all sequences, then step 1, ...
    batch_sizes : ndarray of int64 [longest length], sequences still alive at each step
    sorted_indices : ndarray of int64 [B] or None; place in the batch of the r-th longest sequence
    unsorted_indices : ndarray of int64 [B] or None; the inverse permutation

    Build one with :func:`pack_padded_sequence` or :func:`pack_sequence`. One of the index arrays is
    enough; the other is derived. Source: torch.nn.utils.rnn.PackedSequence.

    >>> pack_sequence([np.array([1, 2, 3]), np.array([4])]).data
    array([1, 4, 2, 3])
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Any,
        batch_sizes: Any = None,
        sorted_indices: Any = None,
        unsorted_indices: Any = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            if not isinstance(data, (tuple, list)) or len(data) != 2:
                raise PackingError("PackedSequence needs batch_sizes, or a pair (data, batch_sizes)")
            data, batch_sizes = data
        if sorted_indices is None and unsorted_indices is not None:
            sorted_indices = invert_permutation(unsorted_indices)
        if unsorted_indices is None and sorted_indices is not None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def validated(sequence: Any) -> PackedSequence:
    """The sequence with its fields as arrays of the right types, if they fit together.

    Raises
    ------
    TypeError
        It is no PackedSequence.
    ValueError
        batch_sizes is not positive and non-increasing, does not add up to the rows of data, or the
        indices are no permutation of the batch.
    """
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"expected a PackedSequence, got {type(sequence).__name__}")
    data = np.asarray(sequence.data)
    sizes = _int64(sequence.batch_sizes, "batch_sizes")
    if data.ndim == 0 or sizes.ndim != 1 or not len(sizes):
        raise PackingError("a PackedSequence has rows of data and batch_sizes for each step")
    if sizes[-1] < 1 or np.any(sizes[1:] > sizes[:-1]):
        raise PackingError("batch_sizes must be positive and must not increase")
    # Python's integers: hostile sizes must not wrap around on their way to the right sum
    if sum(sizes.tolist()) != len(data):
        raise PackingError(
            f"batch_sizes add up to {sum(sizes.tolist())} steps but data has {len(data)} rows"
        )
    indices = []
    for name in ("sorted_indices", "unsorted_indices"):
        given = getattr(sequence, name)
        if given is not None:
            given = _int64(given, name)
            if given.shape != (sizes[0],) or not np.array_equal(
                np.sort(given), np.arange(sizes[0])
            ):
                raise PackingError(f"{name} is not a permutation of the {sizes[0]} sequences")
        indices.append(given)
    if indices[0] is not None and not np.array_equal(indices[1], invert_permutation(indices[0])):
        raise PackingError("unsorted_indices is not the inverse of sorted_indices")
    return PackedSequence(data, sizes, *indices)


def invert_permutation(permutation: Any) -> np.ndarray | None:
    """``output[permutation[i]] = i``; None for None. Source: torch.nn.utils.rnn."""
    if permutation is None:
        return None
    permutation = np.asarray(permutation)
    output = np.empty_like(permutation)
    output[permutation] = np.arange(len(permutation))
    return output


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch.

    Parameters
    ----------
    input : ndarray [T, B, *], or [B, T, *] with batch_first; any dtype
    lengths : integers [B], each from 1 to T
    enforce_sorted : bool
        Require lengths to fall, and keep no indices; otherwise sort, and remember the order.

    Raises
    ------
    ValueError, RuntimeError
        (One class that is both.) Lengths that are wrong in number, order or size, or an input
        without time and batch axes.

    Source: torch.nn.utils.rnn.pack_padded_sequence. torch lets a length exceed T and reads past the
    end; here it is an error.

    >>> packed = pack_padded_sequence(np.array([[1, 2, 0], [3, 4, 5]]), [2, 3], True, False)
    >>> packed.data, packed.batch_sizes, packed.sorted_indices
    (array([3, 1, 4, 2, 5]), array([2, 2, 1]), array([1, 0]))
    """
    input = np.asarray(input)
    if input.ndim < 2:
        raise PackingError(
            f"input must have time and batch axes, [T, B, *] or [B, T, *] with batch_first; "
            f"got {input.ndim} axes"
        )
    lengths = _lengths(lengths)
    time_axis = 1 if batch_first else 0
    steps, sequences = input.shape[time_axis], input.shape[1 - time_axis]
    if input.size == 0:
        raise PackingError("Cannot pack empty tensors.")
    if len(lengths) != sequences:
        raise PackingError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} "
            f"(batch_size={sequences})"
        )
    order = None
    if enforce_sorted:
        if np.any(lengths[1:] > lengths[:-1]):
            raise PackingError(
                "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
                "You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence "
                "to sidestep this requirement."
            )
    else:
        order = np.argsort(-lengths, kind="stable")
    _check_lengths(lengths, steps)
    falling = lengths if order is None else lengths[order]
    sizes = _batch_sizes(falling)
    data = np.empty((int(lengths.sum()), *input.shape[2:]), input.dtype)
    gather(_rows_contiguous(input), data, sizes, order, batch_first)
    return PackedSequence(data, sizes, order, None)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Unpack to a padded batch.

    Returns
    -------
    padded : ndarray [T, B, *], or [B, T, *] with batch_first; T is the longest length, or
        ``total_length`` if that is given (at least the longest, else ValueError)
    lengths : ndarray of int64 [B], in the batch's original order

    Source: torch.nn.utils.rnn.pad_packed_sequence.
    """
    data, sizes, order, unsorted = validated(sequence)
    steps, sequences = len(sizes), int(sizes[0])
    if total_length is not None:
        if total_length < steps:
            raise PackingError(
                "Expected total_length to be at least the length of the longest sequence in input, "
                f"but got total_length={total_length} and max sequence length being {steps}"
            )
        steps = int(total_length)
    shape = (sequences, steps) if batch_first else (steps, sequences)
    padded = _padded((*shape, *data.shape[1:]), padding_value, data.dtype)
    scatter(np.ascontiguousarray(data), padded, sizes, order, batch_first)
    lengths = _lengths_of(sizes)
    return padded, lengths if unsorted is None else lengths[unsorted]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack arrays ``[length, *]``. Source: torch.nn.utils.rnn.pack_sequence."""
    arrays = [np.asarray(s) for s in sequences]
    lengths = [len(a) if a.ndim else 0 for a in arrays]
    return pack_padded_sequence(pad_sequence(arrays), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[np.ndarray]:
    """The arrays ``[length, *]`` of each sequence, in the original order.

    Source: torch.nn.utils.rnn.unpack_sequence.
    """
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def pad_sequence(
    sequences: Sequence[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> np.ndarray:
    """Stack arrays ``[length, *]`` into ``[T, B, *]``, or ``[B, T, *]`` with batch_first.

    The dtype is the first sequence's. Source: torch.nn.utils.rnn.pad_sequence.
    """
    if padding_side not in ("left", "right"):
        raise PackingError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    arrays = [np.asarray(s) for s in sequences]
    if not arrays:
        raise PackingError("received an empty list of sequences")
    trailing = arrays[0].shape[1:]
    for i, array in enumerate(arrays):
        if array.ndim == 0:
            raise PackingError(f"sequences[{i}] has no time axis, expected [length, *]")
        if array.shape[1:] != trailing:
            raise PackingError(
                f"sequences[{i}] has shape {array.shape}, expected [length, "
                f"{', '.join(map(str, trailing))}] as the first sequence"
            )
    steps = max(len(a) for a in arrays)
    shape = (len(arrays), steps) if batch_first else (steps, len(arrays))
    padded = _padded((*shape, *trailing), padding_value, arrays[0].dtype)
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    for row, array in zip(by_sequence, arrays, strict=True):
        if padding_side == "right":
            row[: len(array)] = array
        else:
            row[steps - len(array) :] = array
    return padded


def unpad_sequence(
    padded_sequences: Any, lengths: Any, batch_first: bool = False
) -> list[np.ndarray]:
    """The first ``lengths[i]`` steps of each sequence of a padded batch.

    Source: torch.nn.utils.rnn.unpad_sequence.
    """
    padded = np.asarray(padded_sequences)
    if padded.ndim < 2:
        raise PackingError(f"padded_sequences must have two axes at least, got {padded.ndim}")
    if not batch_first:
        padded = padded.swapaxes(0, 1)
    lengths = _lengths(lengths)
    if len(lengths) != len(padded):
        raise PackingError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} "
            f"(batch_size={len(padded)})"
        )
    if lengths.size and (lengths.min() < 0 or lengths.max() > padded.shape[1]):
        _check_lengths(np.maximum(lengths, 1), padded.shape[1])
        raise PackingError("lengths must not be negative")
    return [row[:length].copy() for row, length in zip(padded, lengths.tolist(), strict=True)]


def _lengths(lengths: Any) -> np.ndarray:
    array = np.asarray(lengths)
    if array.ndim != 1:
        raise PackingError(
            f"'lengths' argument should be a 1D CPU int64 tensor, but got {array.ndim}D"
        )
    return _int64(array, "lengths") if array.size else array.astype(np.int64)


def _check_lengths(lengths: np.ndarray, steps: int) -> None:
    if lengths.min() < 1:
        at = int(lengths.argmin())
        raise PackingError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            f"that is <= 0: lengths[{at}] is {lengths[at]}"
        )
    if lengths.max() > steps:
        at = int(lengths.argmax())
        raise PackingError(
            f"lengths[{at}] is {lengths[at]} but the input has only {steps} time steps"
        )


def _int64(array: Any, name: str) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "iu":
        raise PackingError(f"{name} must be integers, got dtype {array.dtype}")
    return np.ascontiguousarray(array, np.int64)


def _batch_sizes(falling: np.ndarray) -> np.ndarray:
    """Live sequences at each step, from lengths that do not increase."""
    steps = np.arange(falling[0])
    return len(falling) - np.searchsorted(falling[::-1], steps, side="right")


def _lengths_of(sizes: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_batch_sizes`."""
    return len(sizes) - np.searchsorted(sizes[::-1], np.arange(sizes[0]), side="right")


def _padded(shape: tuple[int, ...], padding_value: Any, dtype: np.dtype) -> np.ndarray:
    """An array of nothing but padding, whose value is converted to the dtype as torch does."""
    if not padding_value:
        return np.zeros(shape, dtype)
    return np.full(shape, np.asarray(padding_value).astype(dtype), dtype)


def _rows_contiguous(array: np.ndarray) -> np.ndarray:
    """The array, copied only where the bytes of one row [*] do not stand together."""
    row = array[0, 0]
    return array if row.flags.c_contiguous else np.ascontiguousarray(array)
