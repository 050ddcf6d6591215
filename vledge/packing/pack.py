"""Into the packed layout: of a padded batch, and of arrays of different lengths."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vledge._ext.packing import gather, running_out, sort_descending
from vledge.array_like import ArrayLike
from vledge.packing.arguments import PackingError, alike, numeric, whole_lengths
from vledge.packing.sequence import PackedSequence

__all__ = ["by_length", "pack_padded_sequence", "pack_sequence"]


def pack_padded_sequence(
    input: ArrayLike, lengths: ArrayLike, batch_first: bool = False, enforce_sorted: bool = True
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
    input = numeric(input, "input")
    layout = "[B, T, *]" if batch_first else "[T, B, *]"
    if input.ndim < 2:
        raise PackingError(f"input has {input.ndim} dimension(s), expected {layout}")
    batch, steps = input.shape[:2] if batch_first else input.shape[1::-1]
    lengths = whole_lengths(lengths)
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


def pack_sequence(sequences: Iterable[ArrayLike], enforce_sorted: bool = True) -> PackedSequence:
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
    arrays = alike(sequences)
    lengths = np.array([len(a) for a in arrays], np.int64)
    shape = arrays[0].shape[1:]
    if 0 in shape:
        raise PackingError(f"Cannot pack empty tensors: sequences[0] has shape {arrays[0].shape}")
    return _pack([np.ascontiguousarray(a) for a in arrays], lengths, enforce_sorted)


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
    refuse_empty(lengths)
    batch_sizes = running_out(lengths, int(lengths[0]))
    if isinstance(sequences, np.ndarray):
        shape, dtype = sequences.shape[2:], sequences.dtype
    else:
        shape, dtype = sequences[0].shape[1:], sequences[0].dtype
    # the sum of checked lengths: each is at most the T of an array that exists
    data = np.empty((sum(lengths.tolist()), *shape), dtype)
    gather(data, sequences, batch_sizes, order)
    return PackedSequence(data, batch_sizes, order)


def refuse_empty(lengths: np.ndarray) -> None:
    """Raise PackingError, in torch's words, where a sequence has no steps."""
    least = lengths.min()
    if least <= 0:
        raise PackingError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            f"that is <= 0: {least}"
        )


def by_length(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the kernels want of int64 lengths: ``(order, batch_sizes)``, places from the longest on,
    and how many are there at each step."""
    order = sort_descending(lengths)
    falling = lengths[order]
    return order, running_out(falling, int(falling[0]) if len(falling) else 0)
