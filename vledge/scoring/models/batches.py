"""Which sequences run together: those of similar length, as many as the planner's costs say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from vledge._ext.packing import sort_descending
from vledge.lengths.strategies.bucketed import buckets, real_step_nbytes
from vledge.lengths.strategies.packed import packed_work
from vledge.lengths.strategies.work import Case
from vledge.planning.defaults import DEFAULT
from vledge.recurrent.shape import LayerShape

__all__ = ["PackedBatches", "equal_batches", "padded_batches", "rows_at_a_time"]

#: Of a packed batch; what is best lies within, for all layers that have been measured.
ROWS: Final = (64, 128, 256, 512, 1024)
#: Batches that are priced for each choice: choosing takes about a millisecond.
PRICED: Final = 8
#: Seconds that a batch costs here beside the layer's run: its places, and results put into theirs.
BATCH_SECONDS: Final = 25e-6
#: Of a padded batch: sequences that are so much shorter than its longest run in another.
PADDED_ROWS: Final = 64
MOST_PADDING: Final = 0.1


def rows_at_a_time(lengths: np.ndarray, shape: LayerShape) -> int:
    """Rows of a packed batch of similar lengths, by the planner's costs of each choice.

    By its built-in ones, on one thread, and not those of this machine: what is chosen is the same
    on all machines that share an archive. A window is sorted as a whole, so no row waits for
    another, and lanes, which keep rows full where the lengths ahead are unknown, have nothing to
    gain.
    """
    falling = np.sort(lengths)[::-1].astype(np.int64)

    def price(rows: int) -> float:
        """Seconds a step, of a few batches from the longest to the shortest sequences."""
        firsts = np.arange(0, len(falling), rows)
        seconds = steps = 0.0
        for first in firsts[:: -(-len(firsts) // PRICED)]:
            run = np.ascontiguousarray(falling[first : first + rows])
            case = Case(run, "packed", int(run[0]))
            seconds += DEFAULT.seconds("packed", case, shape, packed_work(case, shape), 1)
            seconds += BATCH_SECONDS
            steps += case.total
        return seconds / steps

    return min(ROWS, key=price)


class PackedBatches:
    """Batches for a stack of layers; what is chosen for a window holds for others like it."""

    def __init__(self, shapes: tuple[LayerShape, ...]) -> None:
        self._largest = max(shapes, key=lambda shape: shape.multiply_adds)
        self._nbytes = max(map(real_step_nbytes, shapes))
        self._chosen: dict[tuple[int, ...], int] = {}

    def __call__(self, lengths: np.ndarray, rows: np.ndarray, memory: int) -> Iterator[np.ndarray]:
        """The places of each batch, out of ``rows``; the longest first, within ``memory`` bytes."""
        own = lengths[rows]
        # alike: of as many rows, as long on the average and at most, within a factor of two
        sizes = len(own), int(own.mean()), int(own.max())
        key = tuple(size.bit_length() for size in sizes)
        together = self._chosen.get(key)
        if together is None:
            together = self._chosen[key] = rows_at_a_time(own, self._largest)
        for bucket in buckets(own, together, max(memory, self._nbytes), self._nbytes):
            yield rows[bucket]


def padded_batches(
    lengths: np.ndarray, rows: np.ndarray, step_nbytes: int, memory: int, most: int = PADDED_ROWS
) -> Iterator[np.ndarray]:
    """Batches of which little is padding, however the lengths lie, within ``memory`` bytes."""
    order = rows[sort_descending(lengths[rows])]
    falling = lengths[order]
    first = 0
    while first < len(order):
        longest = int(falling[first])
        fit = max(1, min(most, memory // (longest * step_nbytes)))
        shortest = longest * (1 - MOST_PADDING)
        alike = int(np.searchsorted(-falling, -shortest, "right")) - first
        last = first + max(1, min(fit, alike))
        yield order[first:last]
        first = last


def equal_batches(
    lengths: np.ndarray, rows: np.ndarray, step_nbytes: int, memory: int, most: int = PADDED_ROWS
) -> Iterator[np.ndarray]:
    """Batches of one length each, for models in whose results padding would show."""
    order = rows[sort_descending(lengths[rows])]
    falling = lengths[order]
    for group in np.split(order, np.flatnonzero(np.diff(falling)) + 1):
        fit = max(1, min(most, memory // (int(lengths[group[0]]) * step_nbytes)))
        for first in range(0, len(group), fit):
            yield group[first : first + fit]
