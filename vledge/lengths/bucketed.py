"""The bucketed strategy: sequences of similar length together, in batches under a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vledge._ext.packing import sort_descending
from vledge.lengths.batch import Batch
from vledge.lengths.states import arrays_of, put, take
from vledge.nn.recurrent import RecurrentBase
from vledge.packing import pack_sequence, unpack_sequence

__all__ = ["bucketed", "buckets", "step_nbytes"]

DEFAULT_ROWS = 64


def bucketed(
    layer: RecurrentBase,
    batch: Batch,
    hx: Any,
    *,
    rows: int | None = None,
    memory_limit: int | None = None,
) -> tuple[Any, Any]:
    """Run one packed batch a bucket; both directions.

    Parameters
    ----------
    rows : int, optional
        Sequences in a bucket, at most; 64 where neither limit is given.
    memory_limit : int, optional
        Bytes of a bucket's packed inputs and outputs, at most; a sequence that needs more by
        itself has a bucket of its own.
    """
    sequences = batch.sequences()
    outputs: list[Any] = [None] * len(sequences)
    final = layer.zero_state(len(sequences))
    for bucket in buckets(batch.lengths, rows, memory_limit, step_nbytes(layer)):
        part = pack_sequence([sequences[i] for i in bucket], enforce_sorted=True)
        output, state = layer.forward(part, take(hx, bucket))
        for i, one in zip(bucket, unpack_sequence(output), strict=True):
            outputs[i] = one
        put(final, bucket, state)
    return batch.from_sequences(outputs), final


def buckets(
    lengths: np.ndarray, rows: int | None, memory_limit: int | None, nbytes: int
) -> Iterator[np.ndarray]:
    """The places of each bucket's sequences, longest first, buckets from long to short."""
    for name, value in (("rows", rows), ("memory_limit", memory_limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if rows is None:
        rows = DEFAULT_ROWS if memory_limit is None else len(lengths)
    order = sort_descending(lengths)
    steps = np.concatenate(([0], np.cumsum(lengths[order])))
    first = 0
    while first < len(order):
        last = min(first + rows, len(order))
        if memory_limit is not None:
            most = steps[first] + memory_limit // nbytes
            last = min(last, int(np.searchsorted(steps, most, "right")) - 1)
        last = max(last, first + 1)
        yield order[first:last]
        first = last


def step_nbytes(layer: RecurrentBase) -> int:
    """Bytes that one step of one sequence takes while the layer runs it packed: what goes into a
    layer of the stack and what comes out."""
    state = arrays_of(layer.zero_state(0))[0]
    out = state.shape[2] * (2 if layer.bidirectional else 1)
    widest = layer.input_size + out if layer.num_layers == 1 else out + max(layer.input_size, out)
    return widest * state.itemsize
