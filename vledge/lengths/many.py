"""``run_many``: a model over as many sequences as an iterator brings, a few in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vledge.lengths.strategies.bucketed import buckets
from vledge.lengths.strategies.lanes import (
    DEFAULT_LANES,
    LANES,
    Finished,
    checked_sequence,
    run_lanes,
)
from vledge.packing import PackedSequence, pack_sequence, unpack_sequence
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State, side_by_side, take

__all__ = ["run_many"]

#: ``model(packed)``, or ``model(packed, hx)``; what it gives is looked at, not trusted.
ManyModel: TypeAlias = Callable[..., object]
Stateful: TypeAlias = Callable[[PackedSequence, State | None], tuple[PackedSequence, State]]

# Buckets' worth of sequences that are looked at together to find those of similar length.
LOOK_AHEAD = 8


def run_many(
    model: ManyModel,
    sequences: Iterable[ArrayLike],
    *,
    lanes: int = DEFAULT_LANES,
    strategy: str | None = None,
    initial_state: Callable[[int, np.ndarray], State | None] | None = None,
    ordered: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Finished]:
    """Run a model over many sequences and give each one's results when it has ended.

    Parameters
    ----------
    model : recurrent layer, Stack, Module or other callable
        A callable runs ``model(packed)`` on a PackedSequence, or ``model(packed, hx)`` where lanes
        or ``initial_state`` want it to, and gives an output, or a tuple of output and state. An
        output is a PackedSequence, or an array with a row for each sequence.
    sequences : iterable of ndarray [L, features]
        Of any number, read as rows become free; each has at least one step.
    lanes : int
        Rows: sequences that run at a time.
    strategy : "lanes" or "bucketed"
        "lanes" keeps the rows full, carrying a state from round to round: for layers of one
        direction, and for models that are called ``model(packed, hx)`` and give a PackedSequence
        and a state. "bucketed" reads eight times as many sequences ahead and runs those of similar
        length together, whole: for any model. None: lanes for a recurrent layer of one direction,
        bucketed for all else.
    initial_state : callable, optional
        ``initial_state(place, sequence)`` gives one sequence's state ``[num_layers * D, 1, width]``
        (two of them for an LSTM), or None for zeros.
    ordered : bool
        Results in the order of the sequences; those that end early wait. False: as they end.
    progress : callable, optional
        ``progress(done)`` when a sequence has ended, with the number of those that have.

    Returns
    -------
    iterator of Finished (place, output, state)
        ``place`` counts the sequences from 0; ``state`` is None if the model gives none.

    Raises
    ------
    ValueError
        ``lanes`` below 1, an unknown strategy, a bidirectional layer in lanes, an empty sequence or
        one with other features or another dtype than those before it.
    TypeError
        The model gives something else than it must.
    """
    shape = getattr(model, "shape", None)
    layer = shape if isinstance(shape, LayerShape) else None
    if isinstance(model, Stack):
        model = model.run
    if strategy is None:
        strategy = "lanes" if layer is not None and not layer.bidirectional else "bucketed"
    if lanes < 1:
        raise ValueError(f"lanes must be at least 1, got {lanes}")
    if strategy == "lanes":
        if layer is not None:
            LANES.refuse_backwards(layer)
        results = run_lanes(_stateful(model), sequences, lanes, initial_state)
    elif strategy == "bucketed":
        results = _run_buckets(model, sequences, lanes, initial_state)
    else:
        raise ValueError(f'strategy is {strategy!r}, expected "lanes" or "bucketed"')
    if progress is not None:
        results = _reported(results, progress)
    return _in_order(results) if ordered else results


def _run_buckets(
    model: ManyModel,
    sequences: Iterable[ArrayLike],
    rows: int,
    initial_state: Callable[[int, np.ndarray], State | None] | None,
) -> Iterator[Finished]:
    """Whole sequences, those of similar length out of the next few together."""
    source = enumerate(sequences)
    kind: tuple[int, np.dtype] | None = None
    while True:
        read: list[tuple[int, np.ndarray]] = []
        for place, sequence in islice(source, rows * LOOK_AHEAD):
            array, kind = checked_sequence(place, sequence, kind)
            read.append((place, array))
        if not read:
            return
        lengths = np.array([len(array) for _, array in read], np.int64)
        for bucket in buckets(lengths, rows, None, 1):
            arrivals = [read[i] for i in bucket]
            packed = pack_sequence([array for _, array in arrivals])
            if initial_state is None:
                result = model(packed)
            else:
                states = [initial_state(*one) for one in arrivals]
                result = model(packed, side_by_side(states, [1] * len(states)))
            yield from _apart([place for place, _ in arrivals], result)


def _apart(places: list[int], result: object) -> Iterator[Finished]:
    """Each sequence's part of what a model gave for a batch."""
    output, state = result, None
    if isinstance(result, tuple) and not isinstance(result, PackedSequence):
        if len(result) != 2:
            raise TypeError(f"the model gave {len(result)} results, expected an output or two")
        output, state = result
    rows = unpack_sequence(output) if isinstance(output, PackedSequence) else output
    if not isinstance(rows, (list, np.ndarray)) or len(rows) != len(places):
        raise TypeError(
            f"the model gave {_what_it_is(output)} for {len(places)} sequences, expected a "
            "PackedSequence or an array with a row for each"
        )
    for r, place in enumerate(places):
        yield Finished(place, rows[r], take(state, slice(r, r + 1)))


def _stateful(model: ManyModel) -> Stateful:
    """The model, if what it gives is what lanes need."""

    def call(packed: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        result = model(packed, hx)
        if (
            isinstance(result, tuple)
            and len(result) == 2
            and isinstance(result[0], PackedSequence)
            and len(result[0].data) == len(packed.data)
        ):
            return result
        raise TypeError(
            f"lanes need a model that gives (PackedSequence, state), not {_what_it_is(result)}; "
            'strategy="bucketed" runs any'
        )

    return call


def _what_it_is(result: object) -> str:
    if isinstance(result, np.ndarray):
        return f"an array {list(result.shape)}"
    return f"a {type(result).__name__}"


def _reported(results: Iterator[Finished], progress: Callable[[int], None]) -> Iterator[Finished]:
    for done, result in enumerate(results, 1):
        progress(done)
        yield result


def _in_order(results: Iterator[Finished]) -> Iterator[Finished]:
    waiting: dict[int, Finished] = {}
    place = 0
    for result in results:
        waiting[result.place] = result
        while place in waiting:
            yield waiting.pop(place)
            place += 1
