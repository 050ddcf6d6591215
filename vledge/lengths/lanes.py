"""The lanes strategy: a fixed number of rows that are kept full.

When a sequence ends, the next one starts in its row with its own initial state. The rows run
together until one in eight of them has ended; those are then refilled. So a row is idle for a few
steps at most, memory depends on the number of rows and not on the number of sequences, and the
sequences may come from an iterator that nobody knows the end of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from vledge._ext.packing import gather, running_out, scatter, sort_descending
from vledge.lengths.batch import Batch
from vledge.lengths.states import side_by_side, take
from vledge.nn.recurrent import RecurrentBase
from vledge.packing import PackedSequence

__all__ = ["Finished", "checked_sequence", "lanes", "refuse_backwards", "run_lanes"]

DEFAULT_LANES = 32
# Steps that the rows run together at most: bounds the memory of a round.
MOST_STEPS = 256
# The share of the rows that may be idle before they are refilled.
IDLE_SHARE = 8


class Finished(NamedTuple):
    """One sequence's results."""

    place: int  #: in the order in which the sequences came
    output: Any  #: ndarray [L, features], or what the model gives for a sequence
    state: Any  #: its final state, as ``hx`` for one sequence


def lanes(
    layer: RecurrentBase, batch: Batch, hx: Any, *, lanes: int | None = None
) -> tuple[Any, Any]:
    """Run all sequences in ``lanes`` rows (32), in the order in which they are given."""
    refuse_backwards(layer, "lanes")
    sequences = batch.sequences()
    initial = None if hx is None else lambda index, _: take(hx, slice(index, index + 1))
    outputs: list[Any] = [None] * len(sequences)
    states: list[Any] = [None] * len(sequences)
    for place, output, state in run_lanes(layer.forward, sequences, lanes, initial):
        outputs[place], states[place] = output, state
    return batch.from_sequences(outputs), side_by_side(states, [1] * len(states))


def refuse_backwards(layer: RecurrentBase, strategy: str) -> None:
    """Raise ValueError for a layer that needs whole sequences."""
    if layer.bidirectional:
        raise ValueError(
            f'strategy="{strategy}" begins before it has seen a sequence\'s end and cannot run the '
            "backward direction of a bidirectional layer: use packed, padded or bucketed"
        )


class _Rows:
    """The sequences in flight, one a row, and where in memory each of them has got to."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.inputs: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        self.remaining = np.zeros(0, np.int64)
        self.source = np.zeros(0, np.int64)
        self.target = np.zeros(0, np.int64)
        self.state: Any = None

    def add(self, arrivals: list[tuple[int, np.ndarray]], states: list[Any]) -> None:
        """Let sequences start, from states or, where those are None, from zeros."""
        self.state = side_by_side([self.state, *states], [len(self.indices)] + [1] * len(states))
        self.indices += [index for index, _ in arrivals]
        arrays = [array for _, array in arrivals]
        self.inputs += arrays
        ends = [len(array) for array in arrays]
        self.remaining = np.concatenate((self.remaining, np.array(ends, np.int64)))
        addresses = [array.ctypes.data for array in arrays]
        self.source = np.concatenate((self.source, np.array(addresses, np.int64)))

    def take_steps(self, most: int) -> tuple[np.ndarray, PackedSequence]:
        """The next steps of each row, at most so many: how many each has, and their packed data."""
        steps = np.minimum(self.remaining, most)
        order = sort_descending(steps)
        batch_sizes = running_out(steps[order], int(steps.max()))
        like = self.inputs[0]
        data = np.empty((int(batch_sizes.sum()), like.shape[1]), like.dtype)
        row_nbytes = data.strides[0]
        gather(data.ctypes.data, self.source[order], row_nbytes, batch_sizes, row_nbytes)
        self.source += steps * row_nbytes
        self.remaining -= steps
        return steps, PackedSequence(data, batch_sizes, order)

    def put(self, steps: np.ndarray, output: PackedSequence) -> None:
        """Write a round's output behind what the rows have already."""
        data = np.ascontiguousarray(output.data)
        begun = [
            np.empty((len(array), data.shape[1]), data.dtype)
            for array in self.inputs[len(self.outputs) :]
        ]
        self.outputs += begun
        addresses = [array.ctypes.data for array in begun]
        self.target = np.concatenate((self.target, np.array(addresses, np.int64)))
        row_nbytes = data.strides[0]
        targets, sizes = self.target[output.sorted_indices], output.batch_sizes
        scatter(data.ctypes.data, targets, row_nbytes, sizes, row_nbytes, len(sizes), 0)
        self.target += steps * row_nbytes

    def pop_finished(self) -> list[Finished]:
        """Take out the sequences that have ended."""
        if self.remaining.all():
            return []
        ended, going = np.flatnonzero(self.remaining == 0), np.flatnonzero(self.remaining)
        finished = [
            Finished(self.indices[r], self.outputs[r], take(self.state, slice(r, r + 1)))
            for r in ended
        ]
        self.indices = [self.indices[r] for r in going]
        self.inputs = [self.inputs[r] for r in going]
        self.outputs = [self.outputs[r] for r in going]
        self.remaining, self.source = self.remaining[going], self.source[going]
        self.target, self.state = self.target[going], take(self.state, going)
        return finished


def run_lanes(
    model: Callable[[PackedSequence, Any], tuple[PackedSequence, Any]],
    sequences: Iterable[Any],
    lanes: int | None = None,
    initial_state: Callable[[int, np.ndarray], Any] | None = None,
) -> Iterator[Finished]:
    """Results as the sequences end; sequences are asked for when a row is free.

    ``model(packed, hx)`` gives the packed output and the state, one direction only.
    ``initial_state(index, sequence)`` gives the state of one sequence, None for zeros.
    """
    lanes = DEFAULT_LANES if lanes is None else lanes
    if lanes < 1:
        raise ValueError(f"lanes must be at least 1, got {lanes}")
    source = enumerate(sequences)
    rows = _Rows()
    width: tuple[int, np.dtype] | None = None
    more = True
    while True:
        arrivals = []
        if more:
            free = lanes - len(rows.indices)
            for index, sequence in islice(source, free):
                array, width = checked_sequence(index, sequence, width)
                arrivals.append((index, array))
            more = len(arrivals) == free
        if arrivals:
            states = [initial_state(*one) if initial_state else None for one in arrivals]
            rows.add(arrivals, states)
        if not rows.indices:
            return
        idle = (len(rows.indices) - 1) // IDLE_SHARE if more else len(rows.indices) - 1
        together = int(np.partition(rows.remaining, idle)[idle])
        steps, packed = rows.take_steps(min(together, MOST_STEPS))
        output, rows.state = model(packed, rows.state)
        rows.put(steps, output)
        yield from rows.pop_finished()


def checked_sequence(
    index: int, sequence: Any, expected: tuple[int, np.dtype] | None
) -> tuple[np.ndarray, tuple[int, np.dtype]]:
    """The sequence as a contiguous array ``[L, features]``, alike to those before."""
    array = np.ascontiguousarray(sequence)
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"sequence {index} has shape {list(array.shape)}, expected [L, features], neither 0"
        )
    found = (array.shape[1], array.dtype)
    if expected is not None and found != expected:
        raise ValueError(
            f"sequence {index} has {found[0]} features of {found[1]}, those before it "
            f"{expected[0]} of {expected[1]}"
        )
    return array, found
