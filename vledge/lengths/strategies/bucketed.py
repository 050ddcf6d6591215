"""The bucketed strategy: sequences of similar length together, in batches under a budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from vledge._ext.packing import sort_descending
from vledge.lengths.batch import Batch
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead, Work, by_sequences, step_nbytes
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State, put, take

__all__ = ["BUCKETED", "buckets", "real_step_nbytes"]

DEFAULT_ROWS = 64


def bucketed(
    stack: Stack,
    batch: Batch,
    hx: State | None,
    *,
    rows: int | None = None,
    memory_limit: int | None = None,
) -> tuple[Output, State]:
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
    outputs: dict[int, np.ndarray] = {}
    final = stack.zero_state(len(sequences))
    nbytes = real_step_nbytes(stack.shape)
    for bucket in buckets(batch.lengths, rows, memory_limit, nbytes):
        part = [sequences[i] for i in bucket]
        ended, state = stack.run_list(part, batch.lengths[bucket], take(hx, bucket))
        outputs.update(zip(bucket.tolist(), ended, strict=True))
        put(final, bucket, state)
    return batch.from_sequences([outputs[i] for i in range(len(sequences))]), final


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


def real_step_nbytes(shape: LayerShape) -> int:
    """Bytes that one step of one sequence takes while the layer runs it packed: what goes into a
    layer of the stack and what comes out."""
    out, one = shape.output_size, shape.num_layers == 1
    widest = shape.input_size + out if one else out + max(shape.input_size, out)
    return widest * shape.itemsize


def _work(case: Case, shape: LayerShape, rows: int) -> Work:
    into, out, held = step_nbytes(shape)
    if case.form != "padded":  # a sequence is run where it lies
        into = 0
    runs = [case.lengths[place] for place in buckets(case.lengths, rows, None, 1)]
    most = finished = 0
    for run in runs:
        steps = int(run.sum())
        most = max(most, finished + steps * (into + held))
        finished += steps * out
    return Work(runs, by_sequences(case, shape, most))


def _reason(case: Case, done: Work) -> str:
    most = max(len(run) for run in done.runs)
    batches = "1 batch" if len(done.runs) == 1 else f"{len(done.runs)} batches"
    return f"{batches} of at most {most} sequences of like length"


BUCKETED: Final = Strategy(
    "bucketed",
    bucketed,
    _work,
    _reason,
    overheads={
        "list": Overhead(2.12e-05, 2.34e-07, 2.29e-09, 0.0, 1.3e-12),
        "padded": Overhead(3.5e-05, 1.14e-06, 6.89e-09, 5.09e-11, 0.0),
        "packed": Overhead(5.28e-05, 1.11e-06, 0.0, 0.0, 9.99e-12),
        "masked": Overhead(5.52e-05, 2.01e-06, 2.21e-08, 0.0, 6.04e-11),
    },
    options=tuple({"rows": n} for n in (DEFAULT_ROWS, 32, 16, 8, 4, 2, 1)),
    small={"rows": 2},
)
