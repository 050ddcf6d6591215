"""Padded batches of arrays of different lengths, and back, without a packed one between."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vledge.array_like import ArrayLike
from vledge.packing.arguments import PackingError, alike, numeric, padding_of, whole_lengths

__all__ = ["pad_sequence", "unpad_sequence"]


def pad_sequence(
    sequences: Iterable[ArrayLike],
    batch_first: bool = False,
    padding_value: complex = 0.0,
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
    arrays = alike(sequences)
    if padding_side not in ("left", "right"):
        raise PackingError(
            f"Expected padding_side to be one of left or right, but got {padding_side}."
        )
    steps = max(len(a) for a in arrays)
    shape = (len(arrays), steps) if batch_first else (steps, len(arrays))
    padded = np.empty((*shape, *arrays[0].shape[1:]), arrays[0].dtype)
    padding = padding_of(padding_value, arrays[0], wrap=False)
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    for row, array in zip(by_sequence, arrays, strict=True):
        if padding_side == "right":
            row[: len(array)], row[len(array) :] = array, padding
        else:
            start = steps - len(array)
            row[:start], row[start:] = padding, array
    return padded


def unpad_sequence(
    padded_sequences: ArrayLike, lengths: ArrayLike, batch_first: bool = False
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
    padded = numeric(padded_sequences, "padded_sequences")
    if padded.ndim < 2:
        layout = "[B, T, *]" if batch_first else "[T, B, *]"
        raise PackingError(f"padded_sequences has {padded.ndim} dimension(s), expected {layout}")
    by_sequence = padded if batch_first else padded.swapaxes(0, 1)
    ends = np.clip(whole_lengths(lengths), 0, by_sequence.shape[1])
    if len(ends) != len(by_sequence):
        raise PackingError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(ends)} "
            f"(batch_size={len(by_sequence)})"
        )
    return [row[:end].copy() for row, end in zip(by_sequence, ends.tolist(), strict=True)]
