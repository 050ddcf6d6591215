"""The lanes strategy: a fixed number of rows that are kept full.

When a sequence ends, the next one starts in its row with its own initial state. The rows run
together until one in four of them has ended, but for twelve steps at least; the free rows are then
refilled, all at once: Python's work for each round is what short sequences wait for. Only busy rows
are computed. Memory depends on the number of rows and not on the number of sequences, and the
sequences may come from an iterator that nobody knows the end of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vledge._ext.packing import gather, running_out, scatter, sort_descending
from vledge.array_like import array_of, native
from vledge.lengths.batch import Batch
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead, Work, by_sequences, step_nbytes
from vledge.packing import PackedSequence
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import Rows, State, mapped, put, side_by_side, take

__all__ = ["DEFAULT_LANES", "LANES", "Finished", "checked_sequence", "rounds", "run_lanes"]

Model = Callable[[PackedSequence, State | None], tuple[PackedSequence, State]]

DEFAULT_LANES = 64
# Steps that the rows run together at least, as a round takes Python as long as a few steps take the
# kernel, and at most: that bounds the memory of a round.
FEWEST_STEPS = 12
MOST_STEPS = 256
# The share of the rows that may be idle before they are refilled.
IDLE_SHARE = 4

_NOTHING: Final = np.empty((0, 0), np.float32)  # stands where a row has no sequence yet


class Round(NamedTuple):
    """The sequences that have ended in one round of the rows."""

    places: list[int]  #: in the order in which the sequences came
    outputs: list[np.ndarray]  #: [L, features]
    state: State  #: their final states, side by side


class Finished(NamedTuple):
    """One sequence's results."""

    place: int  #: in the order in which the sequences came
    output: Any  #: ndarray [L, features], or what the model gives for a sequence
    state: State | None  #: its final state, as ``hx`` for one sequence


def lanes(
    stack: Stack, batch: Batch, hx: State | None, *, lanes: int | None = None
) -> tuple[Output, State]:
    """Run all sequences in ``lanes`` rows (64), in the order in which they are given."""
    sequences = batch.sequences()
    outputs: dict[int, np.ndarray] = {}
    final = stack.zero_state(len(sequences))
    initial = None if hx is None else lambda places, _: take(hx, places)
    for places, ended, state in run_rounds(stack.run, sequences, lanes, initial):
        for place, output in zip(places, ended, strict=True):
            outputs[place] = output
        put(final, places, state)
    return batch.from_sequences([outputs[place] for place in range(len(sequences))]), final


class _Rows:
    """The rows: which sequence is in each, how far it has got, and its state."""

    def __init__(self, count: int) -> None:
        self.free = list(range(count))
        self.started: list[int] = []  # since the last run: no output yet
        self.places = [0] * count
        self.inputs = [_NOTHING] * count
        self.outputs = [_NOTHING] * count
        self.remaining = np.zeros(count, np.int64)
        self.done = np.zeros(count, np.int64)
        self.kind: tuple[tuple[int, ...], np.dtype] | None = None  # of the model's output rows
        self.state: State | None = None  # None: all zeros, nobody knows yet of what shape

    def start(self, places: list[int], sequences: list[np.ndarray], state: State | None) -> None:
        """Let sequences start in free rows, from a state or, where that is None, from zeros."""
        rows = self.started = [self.free.pop() for _ in places]
        for row, place, sequence in zip(rows, places, sequences, strict=True):
            self.places[row], self.inputs[row], self.outputs[row] = place, sequence, _NOTHING
        self.remaining[rows] = [len(sequence) for sequence in sequences]
        self.done[rows] = 0
        if state is not None:
            self._write(rows, state)
        elif self.state is not None:
            put(self.state, rows, mapped(np.zeros_like, take(self.state, rows)))

    def _write(self, rows: Rows, state: State) -> State:
        if self.state is None:
            count = len(self.places)
            self.state = mapped(lambda a: np.zeros((a.shape[0], count, a.shape[2]), a.dtype), state)
        put(self.state, rows, state)
        return self.state

    def run(self, model: Model, most: int) -> Round:
        """Run all rows for the next steps, at most so many, and give what has ended by then."""
        steps = np.minimum(self.remaining, most)
        live = sort_descending(steps)[: np.count_nonzero(steps)]
        batch_sizes = running_out(steps[live], int(steps[live[0]]))
        example = self.inputs[live[0]]
        data = np.empty((int(steps.sum()), example.shape[1]), example.dtype)
        gather(data, self.inputs, batch_sizes, live, self.done)
        self.remaining -= steps

        packed = PackedSequence(data, batch_sizes)
        output, state = model(packed, None if self.state is None else take(self.state, live))
        whole = self._write(live, state)

        data = np.ascontiguousarray(native(output.data))
        kind = (data.shape[1:], data.dtype)
        if self.kind not in (None, kind):
            raise TypeError(f"the model gave rows {self.kind} before, and now {kind}")
        self.kind = kind
        for row in self.started:
            self.outputs[row] = np.empty((len(self.inputs[row]), *data.shape[1:]), data.dtype)
        scatter(data, self.outputs, batch_sizes, live, self.done)
        self.done += steps

        ended = live[self.remaining[live] == 0].tolist()
        self.free += ended
        self.started = []
        return Round(
            [self.places[row] for row in ended],
            [self.outputs[row] for row in ended],
            take(whole, ended),
        )


def run_lanes(
    model: Model,
    sequences: Iterable[ArrayLike],
    lanes: int | None = None,
    initial_state: Callable[[int, np.ndarray], State | None] | None = None,
) -> Iterator[Finished]:
    """Results as the sequences end, by :func:`run_rounds`.

    ``initial_state(index, sequence)`` gives the state of one sequence, None for zeros.
    """

    def together(places: list[int], arrays: list[np.ndarray]) -> State | None:
        assert initial_state is not None
        states = [initial_state(place, a) for place, a in zip(places, arrays, strict=True)]
        return side_by_side(states, [1] * len(states))

    initial = None if initial_state is None else together
    for places, outputs, state in run_rounds(model, sequences, lanes, initial):
        while outputs:  # an output that nobody keeps makes room before the next round
            last = len(outputs) - 1
            own = take(state, slice(last, last + 1))
            yield Finished(places[last], outputs.pop(), own)


def run_rounds(
    model: Model,
    sequences: Iterable[ArrayLike],
    lanes: int | None = None,
    initial_state: Callable[[list[int], list[np.ndarray]], State | None] | None = None,
) -> Iterator[Round]:
    """What has ended in each round; sequences are asked for when a row is free.

    ``model(packed, hx)`` gives the packed output and the state, one direction only.
    ``initial_state(places, sequences)`` gives the state of some sequences, None for zeros.
    """
    lanes = DEFAULT_LANES if lanes is None else lanes
    if lanes < 1:
        raise ValueError(f"lanes must be at least 1, got {lanes}")
    source = enumerate(sequences)
    rows = _Rows(lanes)
    kind: tuple[int, np.dtype] | None = None
    more = True
    while True:
        places: list[int] = []
        arrays: list[np.ndarray] = []
        for place, sequence in islice(source, len(rows.free) if more else 0):
            array, kind = checked_sequence(place, sequence, kind)
            places.append(place)
            arrays.append(array)
        if places:
            rows.start(places, arrays, initial_state(places, arrays) if initial_state else None)
        more = more and not rows.free
        busy = rows.remaining[rows.remaining > 0]
        if not len(busy):
            return
        idle = (len(busy) - 1) // IDLE_SHARE if more else len(busy) - 1
        together = max(int(np.partition(busy, idle)[idle]), FEWEST_STEPS)
        yield rows.run(model, min(together, MOST_STEPS))


def checked_sequence(
    index: int, sequence: ArrayLike, expected: tuple[int, np.dtype] | None
) -> tuple[np.ndarray, tuple[int, np.dtype]]:
    """The sequence as a contiguous array ``[L, features]``, alike to those before."""
    array = np.ascontiguousarray(array_of(sequence, f"sequence {index}", stack=True))
    if array.dtype.kind not in "biufc":
        raise ValueError(f"sequence {index} has dtype {array.dtype}, expected numbers")
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"sequence {index} has shape {list(array.shape)}, expected two axes, "
            "[steps, features], with at least one of each"
        )
    kind = (array.shape[1], array.dtype)
    if expected is not None and kind != expected:
        raise ValueError(
            f"sequence {index} has {kind[0]} features of {kind[1]}, those before it "
            f"{expected[0]} of {expected[1]}"
        )
    return array, kind


def _work(case: Case, shape: LayerShape, lanes: int) -> Work:
    into, out, held = step_nbytes(shape)
    runs = rounds(case.lengths, lanes)
    most = max(int(run.sum()) for run in runs)
    # every sequence has a state of its own until they are put side by side
    states = len(shape.kind.states)
    state = shape.hidden_size * shape.itemsize * shape.num_layers * states
    held_to_the_end = case.total * out + 2 * len(case.lengths) * state
    return Work(runs, by_sequences(case, shape, held_to_the_end + most * (into + held)))


def rounds(lengths: np.ndarray, lanes: int) -> list[np.ndarray]:
    """The steps that each busy row takes in each round, falling.

    The order of sequences is the caller's and hardly matters: what is given here is shuffled, with
    a seed, so that long and short ones mix as they mostly do.
    """
    waiting = np.random.default_rng(0).permutation(lengths)
    remaining = np.zeros(0, np.int64)
    done = []
    start = 0
    while start < len(waiting) or len(remaining):
        free = lanes - len(remaining)
        remaining = np.concatenate((remaining, waiting[start : start + free]))
        more = start + free <= len(waiting)
        start = min(start + free, len(waiting))
        idle = (len(remaining) - 1) // IDLE_SHARE if more else len(remaining) - 1
        together = max(int(np.partition(remaining, idle)[idle]), FEWEST_STEPS)
        together = min(together, MOST_STEPS)
        done.append(np.sort(np.minimum(remaining, together))[::-1])
        remaining = remaining[remaining > together] - together
    return done


def _reason(case: Case, done: Work) -> str:
    rows = max(len(run) for run in done.runs)
    count = "1 round" if len(done.runs) == 1 else f"{len(done.runs)} rounds"
    return f"{rows} rows kept full in {count}"


LANES: Final = Strategy(
    "lanes",
    lanes,
    _work,
    _reason,
    overheads={
        "list": Overhead(5.53e-05, 1.72e-06, 0.0, 0.0, 5.61e-12),
        "padded": Overhead(6.58e-05, 1.96e-06, 0.0, 1.04e-10, 0.0),
        "packed": Overhead(8.23e-05, 2.43e-06, 0.0, 2.66e-11, 1.54e-12),
        "masked": Overhead(9.2e-05, 3.73e-06, 0.0, 9.88e-11, 5.07e-11),
    },
    options=tuple({"lanes": n} for n in (DEFAULT_LANES, 32, 16, 8, 4, 2, 1)),
    small={"lanes": 2},
    forward_only=True,
)
