"""Packed sequences: ``torch.nn.utils.rnn``'s class and functions on NumPy arrays.

Arguments are checked here, once; the rows are moved by ``vledge._ext.packing``. The layers that run
on packed sequences are in ``vledge.nn``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from vledge._ext.packing import (
    are_batch_sizes,
    are_inverse,
    gather,
    running_out,
    scatter,
    sort_descending,
)
from vledge.array_like import array_of, native
from vledge.shown import MOST_LINES

__all__ = [
    "PackedSequence",
    "PackingError",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
    "validated",
]

_INT64_MAX = 2**63 - 1
_NUMBERS = "biufc"  # kinds of dtypes whose elements can be moved as bytes


class PackingError(ValueError, RuntimeError):
    """Arguments that do not make a packed sequence: a ValueError, and torch's RuntimeError too."""


class _Fields(NamedTuple):
    data: np.ndarray
    batch_sizes: np.ndarray
    sorted_indices: np.ndarray | None
    unsorted_indices: np.ndarray | None


class PackedSequence(_Fields):
    """Sequences of different lengths, interleaved step by step, without padding.

    Parameters
    ----------
    data : ndarray [sum(lengths), *]
        Step 0 of every sequence, longest sequence first, then step 1 of those that are still
        running, and so on. Any numeric dtype.
    batch_sizes : ndarray of int64 [max(lengths)]
        How many sequences are running at each step; never increases.
    sorted_indices, unsorted_indices : ndarray of int64 [B], or None
        The order from longest to shortest, and the way back (worked out if not given). None: the
        sequences were in that order already.

    Instead of ``data, batch_sizes`` one pair of them is accepted, as in torch. The fields are
    taken as they are; the functions that use a PackedSequence check it with :func:`validated`.

    Source: ``torch.nn.utils.rnn.PackedSequence``.

    >>> pack_sequence([np.array([1, 2, 3]), np.array([4, 5])])
    PackedSequence(data=array([1, 4, 2, 5, 3]), batch_sizes=array([2, 2, 1]), \
sorted_indices=None, unsorted_indices=None)
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
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise PackingError(
                    "PackedSequence needs batch_sizes, or data as a pair (data, batch_sizes)"
                )
            data, batch_sizes = data
        if sorted_indices is not None:
            sorted_indices = _integers(sorted_indices, "sorted_indices")
        if unsorted_indices is not None:
            unsorted_indices = _integers(unsorted_indices, "unsorted_indices")
        elif sorted_indices is not None:
            unsorted_indices = _inverse(sorted_indices, "sorted_indices")
        return super().__new__(
            cls,
            _numeric(data, "data"),
            _integers(batch_sizes, "batch_sizes"),
            sorted_indices,
            unsorted_indices,
        )

    def __repr__(self) -> str:
        whole = super().__repr__()
        if whole.count("\n") < MOST_LINES:
            return whole
        return (
            f"PackedSequence({self.data.dtype} {list(self.data.shape)}, "
            f"{int(self.batch_sizes[0])} sequences, longest {len(self.batch_sizes)})"
        )

    # A tuple's == would ask for the truth of an array, and its hash for an array's
    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


def is_packed(sequence: Any) -> bool:
    """Whether it is a PackedSequence: ours, or torch's, which has the same fields."""
    return isinstance(sequence, tuple) and getattr(sequence, "_fields", ()) == _Fields._fields


def validated(sequence: Any) -> PackedSequence:
    """The PackedSequence, if its fields fit together: the one door for all who use one.

    torch's is made one of ours.

    Raises
    ------
    TypeError
        It is no PackedSequence, or a field is no array.
    PackingError
        A field has the wrong dtype or number of dimensions; ``batch_sizes`` is empty, increases,
        holds a value below 1 or does not sum up to ``len(data)``; an index array is not a
        permutation, not the inverse of the other one, or given without it.
    """
    if not is_packed(sequence):
        raise TypeError(f"expected a PackedSequence, got {type(sequence).__name__}")
    if not isinstance(sequence, PackedSequence):
        sequence = PackedSequence(*sequence)
    data, batch_sizes, sorted_indices, unsorted_indices = sequence
    for name, field in zip(sequence._fields, sequence, strict=True):
        if not isinstance(field, np.ndarray) and not (field is None and name.endswith("indices")):
            raise TypeError(f"PackedSequence.{name} is no ndarray but {type(field).__name__}")
        if name != "data" and field is not None and (field.dtype != np.int64 or field.ndim != 1):
            raise PackingError(
                f"PackedSequence.{name} must be 1-D int64, got {field.ndim}-D {field.dtype}"
            )
    if data.dtype.kind not in _NUMBERS:
        raise PackingError(f"PackedSequence.data must hold numbers, got dtype {data.dtype}")
    if data.ndim < 1:
        raise PackingError("PackedSequence.data has no dimensions, expected [sum(lengths), *]")
    if not len(batch_sizes):
        raise PackingError("batch_sizes can not be empty")
    if not are_batch_sizes(batch_sizes, len(data)):
        raise PackingError(_misfit(batch_sizes, len(data)))
    if (sorted_indices is None) != (unsorted_indices is None):
        missing = "sorted_indices" if sorted_indices is None else "unsorted_indices"
        raise PackingError(f"{missing} is None but its counterpart is not: give both or neither")
    if sorted_indices is not None and unsorted_indices is not None:
        batch = int(batch_sizes[0])
        for name, indices in (
            ("sorted_indices", sorted_indices),
            ("unsorted_indices", unsorted_indices),
        ):
            if len(indices) != batch:
                raise PackingError(
                    f"{name} has {len(indices)} elements, but batch_sizes[0] is {batch}"
                )
        if not are_inverse(sorted_indices, unsorted_indices):
            _inverse(sorted_indices, "sorted_indices")
            raise PackingError("unsorted_indices is not the inverse of sorted_indices")
    packed: PackedSequence = sequence
    return packed


def invert_permutation(permutation: Any) -> np.ndarray | None:
    """The inverse of a permutation, or None for None.

    Parameters
    ----------
    permutation : int64 [B] or None
        Each of 0 ... B-1 once.

    Returns
    -------
    ndarray of int64 [B], or None

    Source: ``torch.nn.utils.rnn.invert_permutation``, which does not notice repeated indices;
    here they are an error.

    >>> invert_permutation(np.array([2, 0, 1]))
    array([1, 2, 0])
    """
    return None if permutation is None else _inverse(_integers(permutation, "permutation"))


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch.

    Parameters
    ----------
    input : ndarray [T, B, *], or [B, T, *] with ``batch_first``
        Any numeric dtype, any strides.
    lengths : integers [B]
        From 1 to T. Fractions are cut off, as in torch.
    batch_first : bool
    enforce_sorted : bool
        Require the lengths in decreasing order; False sorts the sequences.

    Returns
    -------
    PackedSequence
        Equal lengths are in the order that ``torch.sort`` leaves them in.

    Raises
    ------
    PackingError
        A ValueError and a RuntimeError: wrong dimensions, nothing to pack, a length below 1 or
        above T, not one length per sequence, or not sorted. torch 2.13 raises no error for a
        length above T or, with ``enforce_sorted=False``, for too few lengths: it returns a
        PackedSequence that does not hold the sequences.

    Source: ``torch.nn.utils.rnn.pack_padded_sequence``.

    >>> batch = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> packed = pack_padded_sequence(batch, [2, 1, 3], batch_first=True, enforce_sorted=False)
    >>> packed.data, packed.batch_sizes, packed.sorted_indices
    (array([4, 1, 3, 5, 2, 6]), array([3, 2, 1]), array([2, 0, 1]))
    """
    input = _numeric(input, "input")
    layout = "[B, T, *]" if batch_first else "[T, B, *]"
    if input.ndim < 2:
        raise PackingError(f"input has {input.ndim} dimension(s), expected {layout}")
    batch, steps = input.shape[:2] if batch_first else input.shape[1::-1]
    lengths = _lengths(lengths)
    if not input.size:
        raise PackingError(f"Cannot pack empty tensors: input {layout} has shape {input.shape}")
    if len(lengths) != batch:
        raise PackingError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} "
            f"(batch_size={batch})"
        )
    too_long = np.flatnonzero(lengths > steps)
    if len(too_long):
        b = int(too_long[0])
        raise PackingError(
            f"lengths[{b}] is {lengths[b]} but the input has only {steps} time steps"
        )
    if not input[0, 0].flags.c_contiguous:
        input = np.ascontiguousarray(input)
    return _pack(input if batch_first else input.swapaxes(0, 1), lengths, enforce_sorted)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: Any = 0.0,
    total_length: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The padded batch of a packed one, in the order in which its sequences were given.

    Parameters
    ----------
    sequence : PackedSequence
    batch_first : bool
    padding_value : number
        What stands behind the end of a sequence; converted to the dtype of the data.
    total_length : int, optional
        T of the result, at least the longest length, which it is if not given.

    Returns
    -------
    padded : ndarray [T, B, *], or [B, T, *] with ``batch_first``
    lengths : ndarray of int64 [B]

    Raises
    ------
    PackingError
        A ValueError and a RuntimeError: the fields do not fit together, ``total_length`` is too
        small, or the data's dtype cannot hold ``padding_value``.

    Source: ``torch.nn.utils.rnn.pad_packed_sequence``.

    >>> packed = pack_sequence([np.array([1]), np.array([2, 3])], enforce_sorted=False)
    >>> pad_packed_sequence(packed, batch_first=True, padding_value=-1)
    (array([[ 1, -1],
           [ 2,  3]]), array([1, 2]))
    """
    sequence = validated(sequence)
    batch_sizes = sequence.batch_sizes
    steps = len(batch_sizes)
    if total_length is not None:
        total_length = operator.index(total_length)
        if total_length < steps:
            raise PackingError(
                "Expected total_length to be at least the length of the longest sequence in input, "
                f"but got total_length={total_length} and max sequence length being {steps}"
            )
        steps = total_length
    data = np.ascontiguousarray(native(sequence.data))
    padding = _padding(padding_value, data, wrap=True)
    batch = int(batch_sizes[0])
    shape = (batch, steps) if batch_first else (steps, batch)
    padded = np.empty((*shape, *data.shape[1:]), data.dtype)
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    row = np.full(data.shape[1:], padding, data.dtype)
    scatter(
        data,
        by_sequence,
        np.ascontiguousarray(batch_sizes),
        _contiguous(sequence.sorted_indices),
        padding=row,
    )
    return padded, _lengths_of(sequence)


def pack_sequence(sequences: Iterable[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack arrays of different lengths.

    Parameters
    ----------
    sequences : iterable of ndarray [L, *]
        At least one, each with L > 0 and the same ``*``. The first one's dtype is the result's.
    enforce_sorted : bool
        Require the lengths in decreasing order; False sorts the sequences.

    Raises
    ------
    PackingError
        As :func:`pack_padded_sequence` and :func:`pad_sequence`.

    Source: ``torch.nn.utils.rnn.pack_sequence``; no padded batch is made on the way.
    """
    arrays = _alike(sequences)
    lengths = np.array([len(a) for a in arrays], np.int64)
    shape = arrays[0].shape[1:]
    if 0 in shape:
        raise PackingError(f"Cannot pack empty tensors: sequences[0] has shape {arrays[0].shape}")
    return _pack([np.ascontiguousarray(a) for a in arrays], lengths, enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[np.ndarray]:
    """The sequences of a packed batch, ``[L, *]`` each, in the order in which they were given.

    Raises
    ------
    PackingError
        The fields do not fit together.

    Source: ``torch.nn.utils.rnn.unpack_sequence``; no padded batch is made on the way.

    >>> unpack_sequence(pack_sequence([np.array([1]), np.array([2, 3])], enforce_sorted=False))
    [array([1]), array([2, 3])]
    """
    packed_sequences = validated(packed_sequences)
    data = np.ascontiguousarray(native(packed_sequences.data))
    shape = data.shape[1:]
    arrays = [np.empty((n, *shape), data.dtype) for n in _lengths_of(packed_sequences).tolist()]
    batch_sizes = np.ascontiguousarray(packed_sequences.batch_sizes)
    scatter(data, arrays, batch_sizes, _contiguous(packed_sequences.sorted_indices))
    return arrays


def pad_sequence(
    sequences: Iterable[Any],
    batch_first: bool = False,
    padding_value: Any = 0.0,
    padding_side: str = "right",
) -> np.ndarray:
    """A padded batch of arrays of different lengths.

    Parameters
    ----------
    sequences : iterable of ndarray [L, *]
        At least one, each with the same ``*``. The first one's dtype is the result's.
    batch_first : bool
    padding_value : number
    padding_side : {"right", "left"}

    Returns
    -------
    ndarray [T, B, *], or [B, T, *] with ``batch_first``
        T is the greatest L.

    Raises
    ------
    PackingError
        A ValueError and a RuntimeError: no sequences, shapes that differ in more than the length,
        an unknown side, or a ``padding_value`` that the dtype cannot hold.

    Source: ``torch.nn.utils.rnn.pad_sequence``; torch broadcasts a trailing 1 in the second
    and later sequences, here every shape must be the same.

    >>> pad_sequence([np.array([1, 2]), np.array([3])], batch_first=True)
    array([[1, 2],
           [3, 0]])
    """
    arrays = _alike(sequences)
    if padding_side not in ("left", "right"):
        raise PackingError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    steps = max(len(a) for a in arrays)
    shape = (len(arrays), steps) if batch_first else (steps, len(arrays))
    padded = np.empty((*shape, *arrays[0].shape[1:]), arrays[0].dtype)
    padding = _padding(padding_value, arrays[0], wrap=False)
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    for row, array in zip(by_sequence, arrays, strict=True):
        if padding_side == "right":
            row[: len(array)], row[len(array) :] = array, padding
        else:
            start = steps - len(array)
            row[:start], row[start:] = padding, array
    return padded


def unpad_sequence(
    padded_sequences: Any, lengths: Any, batch_first: bool = False
) -> list[np.ndarray]:
    """The sequences of a padded batch, each a copy ``[L, *]``.

    Parameters
    ----------
    padded_sequences : ndarray [T, B, *], or [B, T, *] with ``batch_first``
    lengths : integers [B]
        One above T gives T steps and one below 0 none, as in torch.

    Raises
    ------
    PackingError
        Fewer than two dimensions, or not one length per sequence.

    Source: ``torch.nn.utils.rnn.unpad_sequence``, which also transposes its argument in place;
    here the argument stays as it is.
    """
    padded = _numeric(padded_sequences, "padded_sequences")
    if padded.ndim < 2:
        layout = "[B, T, *]" if batch_first else "[T, B, *]"
        raise PackingError(f"padded_sequences has {padded.ndim} dimension(s), expected {layout}")
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    ends = np.clip(_lengths(lengths), 0, by_sequence.shape[1])
    if len(ends) != len(by_sequence):
        raise PackingError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(ends)} "
            f"(batch_size={len(by_sequence)})"
        )
    return [row[:end].copy() for row, end in zip(by_sequence, ends.tolist(), strict=True)]


def by_length(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the kernels want of int64 lengths: ``(order, batch_sizes)``, places from the longest on,
    and how many are there at each step."""
    order = sort_descending(lengths)
    falling = lengths[order]
    return order, running_out(falling, int(falling[0]) if len(falling) else 0)


def _pack(
    sequences: np.ndarray | list[np.ndarray], lengths: np.ndarray, enforce_sorted: bool
) -> PackedSequence:
    """Pack ``[B, T, *]`` with contiguous rows, or a list of C-contiguous ``[L, *]``."""
    order = None
    if not enforce_sorted:
        order = sort_descending(lengths)
        lengths = lengths[order]
    elif (lengths[1:] > lengths[:-1]).any():
        raise PackingError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
            "sidestep this requirement."
        )
    if lengths[-1] <= 0:
        raise PackingError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            f"that is <= 0: {lengths[-1]}"
        )
    batch_sizes = running_out(lengths, int(lengths[0]))
    if isinstance(sequences, np.ndarray):
        shape, dtype = sequences.shape[2:], sequences.dtype
    else:
        shape, dtype = sequences[0].shape[1:], sequences[0].dtype
    # the sum of checked lengths: each is at most the T of an array that exists
    data = np.empty((sum(lengths.tolist()), *shape), dtype)
    gather(data, sequences, batch_sizes, order)
    return PackedSequence(data, batch_sizes, order)


def _contiguous(indices: np.ndarray | None) -> np.ndarray | None:
    return None if indices is None else np.ascontiguousarray(indices)


def _lengths_of(sequence: PackedSequence) -> np.ndarray:
    """int64 [B], in the order in which the sequences were given."""
    batch_sizes = sequence.batch_sizes
    lengths = running_out(batch_sizes, int(batch_sizes[0]))
    return lengths if sequence.unsorted_indices is None else lengths[sequence.unsorted_indices]


def _misfit(batch_sizes: np.ndarray, rows: int) -> str:
    """Why these are no batch sizes of so many rows."""
    sizes = batch_sizes.tolist()
    for t, size in enumerate(sizes):
        if size < 1:
            return f"batch_sizes[{t}] is {size}, expected at least 1"
        if t and size > sizes[t - 1]:
            return (
                f"batch_sizes must not increase, but batch_sizes[{t}] is {size} "
                f"after {sizes[t - 1]}"
            )
    return f"batch_sizes sum up to {sum(sizes)}, but data has {rows} rows"


def _inverse(permutation: np.ndarray, name: str = "permutation") -> np.ndarray:
    if permutation.ndim != 1:
        raise PackingError(f"{name} must be 1-D, got {permutation.ndim}-D")
    count = len(permutation)
    outside = (permutation < 0) | (permutation >= count)
    if outside.any():
        i = int(np.argmax(outside))
        raise PackingError(f"{name}[{i}] is {permutation[i]}, expected 0 to {count - 1}")
    inverse = np.full(count, -1, np.int64)
    inverse[permutation] = np.arange(count)
    if count and inverse.min() < 0:
        raise PackingError(f"{name} is not a permutation: {int(np.argmin(inverse))} is missing")
    return inverse


def _numeric(array: Any, name: str) -> np.ndarray:
    array = array_of(array, name)
    if array.dtype.kind not in _NUMBERS:
        raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    return array


def _integers(array: Any, name: str) -> np.ndarray:
    array = array_of(array, name)
    if array.size and array.dtype.kind not in "iu":
        raise PackingError(f"{name} must hold integers, got dtype {array.dtype}")
    if array.size and array.dtype.kind == "u" and int(array.max()) > _INT64_MAX:
        raise PackingError(f"{name} holds {int(array.max())}, which is no int64")
    return array.astype(np.int64, copy=False)


def _lengths(lengths: Any) -> np.ndarray:
    """int64 [B]; fractions are cut off."""
    lengths = array_of(lengths, "lengths")
    if lengths.ndim != 1:
        raise PackingError(
            f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.ndim}D "
            f"{lengths.dtype}"
        )
    if lengths.size and lengths.dtype.kind not in "biuf":
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    beyond = ~(np.abs(lengths.astype(np.float64)) < 2.0**63)
    if beyond.any():
        b = int(np.argmax(beyond))
        raise PackingError(f"lengths[{b}] is {lengths[b]}, which is no int64")
    return lengths.astype(np.int64)


def _alike(sequences: Iterable[Any]) -> list[np.ndarray]:
    """The sequences as arrays of the first one's dtype and trailing shape."""
    if not isinstance(sequences, Iterable):
        raise PackingError(
            f"Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    arrays = [_numeric(s, f"sequences[{i}]") for i, s in enumerate(sequences)]
    if not arrays:
        raise PackingError("received an empty list of sequences")
    for i, array in enumerate(arrays):
        if array.ndim < 1:
            raise PackingError(f"sequences[{i}] has no dimensions, expected [L, *]")
        if array.shape[1:] != arrays[0].shape[1:]:
            raise PackingError(
                f"sequences[{i}] has shape {array.shape}, which differs from sequences[0]'s "
                f"{arrays[0].shape} in more than the length"
            )
    dtype = arrays[0].dtype
    return [a if a.dtype == dtype else a.astype(dtype) for a in arrays]


def _padding(value: Any, like: np.ndarray, wrap: bool) -> np.ndarray:
    """The padding value as a 0-d array of the array's dtype."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (int, float, complex)):
        raise TypeError(f"padding_value must be a number, got {type(value).__name__}")
    padding = _converted(value, like.dtype, wrap)
    if padding is None:
        raise PackingError(f"padding_value {value!r} cannot be converted to {like.dtype}")
    return padding


def _converted(value: Any, dtype: np.dtype, wrap: bool) -> np.ndarray | None:
    """The value in a dtype by torch's rules for numbers, None if the dtype cannot hold it.

    A fraction is cut off for integers; with ``wrap`` a negative integer wraps around in an
    unsigned dtype.
    """
    if dtype.kind == "b":
        return np.array(bool(value))
    if isinstance(value, complex) and dtype.kind != "c":
        if value.imag:
            return None
        value = value.real
    if dtype.kind in "iu":
        if value != value or value in (np.inf, -np.inf):
            return None
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if dtype.kind == "u" and wrap and isinstance(value, int):
            low = -high
        if not low <= value <= high:
            return None
        return np.array(int(value) % 2**64, np.uint64).astype(dtype)
    limit = float(np.finfo(dtype).max)
    parts = (value.real, value.imag)
    if any(abs(part) > limit and abs(part) != np.inf for part in parts):
        return None
    return np.array(value, dtype)
