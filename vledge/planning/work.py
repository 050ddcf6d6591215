"""What each strategy does with sequences of given lengths: runs, conversions, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from vledge.lengths.bucketed import DEFAULT_ROWS, buckets
from vledge.lengths.lanes import DEFAULT_LANES, IDLE_SHARE, MOST_STEPS
from vledge.planning.shapes import LayerShape

__all__ = ["FORMS", "OPTIONS", "Case", "Work", "work"]

#: The forms in which a batch comes and goes back.
FORMS: Final = ("list", "padded", "packed", "masked")

#: The options that a plan looks at, from the fastest to the one that needs the least memory.
OPTIONS: Final[dict[str, tuple[dict[str, int], ...]]] = {
    "padded": ({},),
    "packed": ({},),
    "masked": ({},),
    "bucketed": tuple({"rows": n} for n in (DEFAULT_ROWS, 32, 16, 8, 4, 2, 1)),
    "lanes": tuple({"lanes": n} for n in (DEFAULT_LANES, 32, 16, 8, 4, 2, 1)),
    "streaming": tuple({"window": n} for n in (256, 64, 16, 4)),
}

# Bytes of a chunk's projected input and of the state that the kernel holds besides.
SCRATCH = 512 * 1024


@dataclass(frozen=True)
class Case:
    """Sequences, none of them empty, in the form in which they come."""

    lengths: np.ndarray  #: int64, falling
    form: str
    steps: int  #: T of a padded array; the longest length in the other forms

    @property
    def total(self) -> int:
        """Steps that are real."""
        return int(self.lengths.sum())

    @property
    def rectangle(self) -> int:
        """Steps of the padded batch, the padding included."""
        return self.steps * len(self.lengths)


@dataclass
class Work:
    """What one strategy does with one layer."""

    runs: list[np.ndarray] = field(default_factory=list)  #: the lengths of each call, falling
    moves: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    peak: int = 0  #: bytes at the most beyond the input, the output included

    def move(self, name: str, sequences: int, rows: int, nbytes: int, calls: int = 1) -> None:
        """Add a conversion."""
        self.moves.append((name, calls, sequences, rows, nbytes))


def work(strategy: str, case: Case, shape: LayerShape, options: dict[str, Any]) -> Work:
    """What the strategy does with the case."""
    done = _WORK[strategy](case, shape, **options)
    done.peak += SCRATCH
    return done


def _step_nbytes(shape: LayerShape) -> tuple[int, int, int]:
    """Of one step of one sequence: what goes in, what comes out, what the stack holds at the most
    beside what goes in."""
    into, out = shape.input_size * shape.itemsize, shape.output_size * shape.itemsize
    return into, out, out * min(shape.num_layers, 2)


def _padded(case: Case, shape: LayerShape) -> Work:
    into, out, held = _step_nbytes(shape)
    n, total, cells = len(case.lengths), case.total, case.rectangle
    done = Work([case.lengths])
    if case.form == "padded":
        done.move("clear", n, cells - total, (cells - total) * out)
        done.peak = cells * held
        return done
    cells = int(case.lengths[0]) * n
    done.move(f"{case.form}.padded", n, cells, cells * into)
    done.move("clear", n, cells - total, (cells - total) * out)
    done.move(f"{case.form}.from_padded", n, total, total * out)
    done.peak = max(cells * (into + held), cells * (into + out) + _back_nbytes(case, shape))
    return done


def _back_nbytes(case: Case, shape: LayerShape) -> int:
    """What a padded output takes on its way to the form, besides itself."""
    out = shape.output_size * shape.itemsize
    if case.form == "packed":  # sorted, then packed
        return int(case.lengths[0]) * len(case.lengths) * out + case.total * out
    if case.form == "masked":  # the valid steps, then where they belong
        return (case.rectangle + case.total) * out
    return case.total * out


def _packed(case: Case, shape: LayerShape, via: str | None = None) -> Work:
    into, out, held = _step_nbytes(shape)
    n, total = len(case.lengths), case.total
    form = via or case.form
    done = Work([case.lengths])
    if form == "packed":
        done.peak = total * held
        return done
    done.move(f"{form}.packed", n, total, total * into)
    back = total if form == "list" else case.rectangle
    done.move(f"{form}.from_packed", n, back, back * out)
    done.peak = max(total * (into + held), (total + back) * out)
    if form == "masked":  # where each packed row is from: three integers for it and the mask's sort
        done.peak += case.total * 32 + case.rectangle * 8
    return done


def _masked(case: Case, shape: LayerShape) -> Work:
    return _packed(case, shape, "masked")


def _by_sequences(case: Case, shape: LayerShape, done: Work, most: int) -> Work:
    """Adds the way to a list of sequences and back; ``most`` is what the strategy needs between the
    two, its list of outputs included."""
    into, out, _ = _step_nbytes(shape)
    n, total = len(case.lengths), case.total
    done.peak = most
    if case.form != "list":
        copied = 0 if case.form == "padded" else total * into
        done.move(f"{case.form}.sequences", n, total, total * into)
        back = total if case.form == "packed" else case.rectangle
        done.move(f"{case.form}.from_sequences", n, back, back * out)
        # a packed batch is packed again from its sequences in order; a masked one from all in a row
        twice = total * out if case.form == "masked" else 0
        done.peak = copied + max(most, total * out + twice + back * out)
    return done


def _bucketed(case: Case, shape: LayerShape, rows: int) -> Work:
    into, out, held = _step_nbytes(shape)
    done = Work()
    most = finished = before = 0
    for place in buckets(case.lengths, rows, None, 1):
        lengths = case.lengths[place]
        steps = int(lengths.sum())
        done.runs.append(lengths)
        done.move("list.packed", len(lengths), steps, steps * into)
        done.move("list.from_packed", len(lengths), steps, steps * out)
        # the last bucket's output is there until this one's is
        most = max(
            most, finished + before + steps * (into + held), finished + steps * (into + 2 * out)
        )
        finished += steps * out
        before = steps * out
    return _by_sequences(case, shape, done, most)


def _lanes(case: Case, shape: LayerShape, lanes: int) -> Work:
    into, out, held = _step_nbytes(shape)
    done = Work()
    most = 0
    for steps in rounds(case.lengths, lanes):
        done.runs.append(steps)
        most = max(most, int(steps.sum()))
    n, total = len(case.lengths), case.total
    done.move("lanes", n, total, total * (into + out), calls=len(done.runs))
    state = shape.hidden_size * shape.itemsize * shape.num_layers * (1 + (shape.cell == "lstm"))
    # every sequence has a state of its own until they are put side by side
    return _by_sequences(case, shape, done, total * out + most * (into + held) + 2 * n * state)


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
        together = min(int(np.partition(remaining, idle)[idle]), MOST_STEPS)
        done.append(np.sort(np.minimum(remaining, together))[::-1])
        remaining = remaining[remaining > together] - together
    return done


def _streaming(case: Case, shape: LayerShape, window: int) -> Work:
    into, out, held = _step_nbytes(shape)
    n, total = len(case.lengths), case.total
    done = Work()
    cells = case.rectangle
    if case.form != "padded":
        cells = int(case.lengths[0]) * n
        done.move(f"{case.form}.padded", n, cells, cells * into)
        done.move(f"{case.form}.from_padded", n, total, total * out)
    starts = range(0, int(case.lengths[0]), window)
    for start in starts:
        left = np.clip(case.lengths - start, 0, window)
        done.runs.append(left[left > 0])
    walked = min(len(starts) * window, case.steps) * n
    done.move("window", n * len(starts), walked, walked * out, calls=len(starts))
    # a window of a batch that has its sequences first is copied
    into_copy = 0 if case.form in ("list", "packed") else into
    sizes = [min(window, case.steps - start) * n for start in starts]
    done.peak = max(sizes[0] * (into_copy + held), sizes[0] * out + cells * out)
    for before, size in pairwise(sizes):  # the last output is there until this one's is
        done.peak = max(done.peak, cells * out + before * out + size * (into_copy + held))
    if case.form != "padded":
        done.peak = cells * into + max(
            done.peak, (cells + sizes[-1]) * out + _back_nbytes(case, shape)
        )
    return done


def _rectangle(case: Case, shape: LayerShape) -> Work:
    """Padding where nobody tells the lengths: every row runs to the longest one's end."""
    equal = np.full(len(case.lengths), case.steps)
    whole = Case(equal, case.form if case.form == "list" else "padded", case.steps)
    return _padded(whole, shape)


_WORK: Final[dict[str, Callable[..., Work]]] = {
    "padded": _padded,
    "packed": _packed,
    "masked": _masked,
    "bucketed": _bucketed,
    "lanes": _lanes,
    "streaming": _streaming,
    "rectangle": _rectangle,
}
