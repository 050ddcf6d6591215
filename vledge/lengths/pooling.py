"""What is wanted of an output over time: its last valid step, a mean, a maximum, a shorter one.

Each takes an output in any form that a layer gives it: padded with lengths, a PackedSequence or a
list of arrays. Packed ones are never padded on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of
from vledge.lengths.batch import Batch, PackedBatch, PaddedBatch, batch_of
from vledge.packing import is_packed, pack_sequence, unpack_sequence
from vledge.packing.sequence import Sequences

__all__ = ["last_output", "max_over_steps", "mean_over_steps", "truncate"]


def last_output(
    output: Sequences,
    lengths: ArrayLike | None = None,
    *,
    batch_first: bool = False,
    bidirectional: bool = False,
    forward_size: int | None = None,
) -> np.ndarray:
    """The output at each sequence's last own step.

    Parameters
    ----------
    output : ndarray [T, B, F], or [B, T, F] with ``batch_first``, with ``lengths`` [B]; or
             PackedSequence; or list of ndarray [L, F]
    lengths : integers [B], each from 1 to T
    batch_first : bool
    bidirectional : bool
        The second half of the features is a backward direction's, whose last step is step 0: that
        is taken for it. The result then is what the layer's h_n holds for its last layer, side by
        side.
    forward_size : int
        With ``bidirectional``, the features of the forward direction: half of them where it is not
        given. A layer's ``direction_sizes[0]``.

    Returns
    -------
    ndarray [B, F], in the caller's order

    Raises
    ------
    ValueError
        A sequence without steps, lengths that do not fit, or with ``bidirectional`` an odd F, or a
        ``forward_size`` that is more than F.

    >>> last_output(np.array([[[1.0], [2.0], [0.0]]]), [2], batch_first=True)
    array([[2.]])
    """
    batch = _batch(output, lengths, batch_first)
    last = _rows_at(batch, batch.lengths - 1)
    if not bidirectional:
        return last
    features = last.shape[1]
    if forward_size is None:
        if features % 2:
            raise ValueError(f"{features} features are not those of two directions of one width")
        forward_size = features // 2
    elif not 0 <= forward_size <= features:
        raise ValueError(f"forward_size is {forward_size}, but there are {features} features")
    first = _rows_at(batch, np.zeros_like(batch.lengths))
    last[:, forward_size:] = first[:, forward_size:]
    return last


def mean_over_steps(
    output: Sequences, lengths: ArrayLike | None = None, *, batch_first: bool = False
) -> np.ndarray:
    """The mean of each sequence's own steps ``[B, F]``; padding, whatever it holds, is left out.

    Arguments and errors as :func:`last_output`.
    """
    return _reduced(np.add, output, lengths, batch_first, mean=True)


def max_over_steps(
    output: Sequences, lengths: ArrayLike | None = None, *, batch_first: bool = False
) -> np.ndarray:
    """The maximum of each sequence's own steps ``[B, F]``; padding, whatever it holds, is left out.

    Arguments and errors as :func:`last_output`.
    """
    return _reduced(np.maximum, output, lengths, batch_first, mean=False)


def truncate(output: Sequences, lengths: ArrayLike, *, batch_first: bool = False) -> Any:
    """Sequences cut to lengths, in the form in which they come.

    Parameters
    ----------
    output : ndarray [T, B, *], or [B, T, *] with ``batch_first``; PackedSequence; list of arrays
    lengths : integers [B]
        In the caller's order; from 1, or from 0 in an array or a list, to each sequence's length.

    Returns
    -------
    as output : an array has as many steps as the longest length, and zeros past each; it is new

    Raises
    ------
    ValueError
        A length that is negative or more than the sequence has, or not one for each sequence.
    """
    if is_packed(output):
        cut = _cut(unpack_sequence(output), lengths)
        return pack_sequence(cut, enforce_sorted=False)
    if isinstance(output, (list, tuple)):
        sequences = [array_of(s, f"output[{i}]", stack=True) for i, s in enumerate(output)]
        return _cut(sequences, lengths)
    data = array_of(output, "output")
    rows = data if batch_first else data.swapaxes(0, 1)
    ends = _checked_ends(lengths, [rows.shape[1]] * len(rows))
    whole = np.zeros((len(rows), max(ends, default=0), *rows.shape[2:]), data.dtype)
    for target, row, end in zip(whole, rows, ends, strict=True):
        target[:end] = row[:end]
    return whole if batch_first else np.ascontiguousarray(whole.swapaxes(0, 1))


def _cut(sequences: list[np.ndarray], lengths: ArrayLike) -> list[np.ndarray]:
    ends = _checked_ends(lengths, [len(s) for s in sequences])
    return [s[:end] for s, end in zip(sequences, ends, strict=True)]


def _checked_ends(lengths: ArrayLike, most: list[int]) -> list[int]:
    ends = [int(length) for length in array_of(lengths, "lengths").tolist()]
    if len(ends) != len(most):
        raise ValueError(f"{len(ends)} lengths for {len(most)} sequences")
    for b, (end, steps) in enumerate(zip(ends, most, strict=True)):
        if not 0 <= end <= steps:
            raise ValueError(f"lengths[{b}] is {end} but sequence {b} has {steps} time steps")
    return ends


def _batch(output: Sequences, lengths: ArrayLike | None, batch_first: bool) -> Batch:
    batch = batch_of(output, lengths, None, batch_first)
    if not batch.lengths.all():
        raise ValueError(f"sequence {int(np.argmin(batch.lengths))} has no step to take")
    return batch


def _rows_at(batch: Batch, steps: np.ndarray) -> np.ndarray:
    """``[B, F]``: each sequence's features at a step of its own; a copy."""
    if isinstance(batch, PaddedBatch):
        rows = batch.data if batch.batch_first else batch.data.swapaxes(0, 1)
        return rows[np.arange(len(rows)), steps]
    if isinstance(batch, PackedBatch):
        packed = batch.packed()
        order = packed.unsorted_indices
        starts = np.cumsum(packed.batch_sizes) - packed.batch_sizes
        return packed.data[starts[steps] + (np.arange(len(steps)) if order is None else order)]
    return np.stack([s[t] for s, t in zip(batch.sequences(), steps.tolist(), strict=True)])


def _reduced(
    function: np.ufunc, output: Sequences, lengths: ArrayLike | None, batch_first: bool, mean: bool
) -> np.ndarray:
    """Each sequence's steps reduced, all sequences of a time step at once."""
    batch = _batch(output, lengths, batch_first)
    packed = batch.packed()
    result = packed.data[: int(packed.batch_sizes[0])].copy()
    first = len(result)
    for live in packed.batch_sizes[1:].tolist():
        function(result[:live], packed.data[first : first + live], out=result[:live])
        first += live
    if packed.unsorted_indices is not None:
        result = result[packed.unsorted_indices]
    return result / batch.lengths[:, None].astype(result.dtype) if mean else result
