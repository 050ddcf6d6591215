"""Out of the packed layout: into a padded batch, and into arrays of different lengths."""

from __future__ import annotations

import operator

import numpy as np

from vledge._ext.packing import scatter
from vledge.array_like import native, possible_shape
from vledge.packing.arguments import PackingError, padding_of
from vledge.packing.sequence import PackedSequence, lengths_of, validated

__all__ = ["pad_packed_sequence", "unpack_sequence"]


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: complex = 0.0,
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

    >>> from vledge.packing import pack_sequence
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
    padding = padding_of(padding_value, data, wrap=True)
    batch = int(batch_sizes[0])
    shape = (batch, steps) if batch_first else (steps, batch)
    padded = np.empty(
        possible_shape("the padded batch", (*shape, *data.shape[1:]), data.dtype), data.dtype
    )
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    row = np.full(data.shape[1:], padding, data.dtype)
    scatter(
        data,
        by_sequence,
        np.ascontiguousarray(batch_sizes),
        _contiguous(sequence.sorted_indices),
        padding=row,
    )
    return padded, lengths_of(sequence)


def unpack_sequence(packed_sequences: PackedSequence) -> list[np.ndarray]:
    """The sequences of a packed batch, ``[L, *]`` each, in the order in which they were given.

    Raises
    ------
    PackingError
        The fields do not fit together.

    Source: ``torch.nn.utils.rnn.unpack_sequence``; no padded batch is made on the way.

    >>> from vledge.packing import pack_sequence
    >>> unpack_sequence(pack_sequence([np.array([1]), np.array([2, 3])], enforce_sorted=False))
    [array([1]), array([2, 3])]
    """
    packed_sequences = validated(packed_sequences)
    data = np.ascontiguousarray(native(packed_sequences.data))
    shape = data.shape[1:]
    arrays = [np.empty((n, *shape), data.dtype) for n in lengths_of(packed_sequences).tolist()]
    batch_sizes = np.ascontiguousarray(packed_sequences.batch_sizes)
    scatter(data, arrays, batch_sizes, _contiguous(packed_sequences.sorted_indices))
    return arrays


def _contiguous(indices: np.ndarray | None) -> np.ndarray | None:
    return None if indices is None else np.ascontiguousarray(indices)
