"""What each strategy does with sequences of given lengths: its runs and its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from vledge.lengths.bucketed import DEFAULT_ROWS, buckets
from vledge.lengths.lanes import DEFAULT_LANES, FEWEST_STEPS, IDLE_SHARE, MOST_STEPS
from vledge.lengths.strategies import FORWARD_ONLY
from vledge.planning.shapes import LayerShape

__all__ = ["FORMS", "OPTIONS", "Case", "Work", "every_step", "left_out", "rounds", "work"]

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


def every_step(case: Case) -> Case:
    """Padding where nobody tells the lengths: every row runs to the longest one's end."""
    lengths = np.full(len(case.lengths), case.steps, np.int64)
    return Case(lengths, "list" if case.form == "list" else "padded", case.steps)


def left_out(form: str, backwards: bool = False) -> dict[str, str]:
    """The strategies that cannot run a form or a layer, and why."""
    found = {}
    if form in ("list", "packed"):
        found["masked"] = "sequences without padding have no masked steps"
    if backwards:
        for name in FORWARD_ONLY:
            found[name] = "begins before a sequence's end is known: forward layers only"
    return found


@dataclass
class Work:
    """What one strategy does with one layer."""

    runs: list[np.ndarray]  #: the lengths in each call of the kernels, falling
    peak: int  #: bytes at the most beyond the input, the output included


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
    if case.form == "padded":
        return Work([case.lengths], case.rectangle * held)
    cells = int(case.lengths[0]) * len(case.lengths)
    peak = max(cells * (into + held), cells * (into + out) + _back_nbytes(case, shape))
    return Work([case.lengths], peak)


def _back_nbytes(case: Case, shape: LayerShape) -> int:
    """What a padded output takes on its way to the form, besides itself."""
    out = shape.output_size * shape.itemsize
    if case.form == "packed":  # sorted, then packed
        return int(case.lengths[0]) * len(case.lengths) * out + case.total * out
    if case.form == "masked":  # the valid steps, then where they belong
        return (case.rectangle + case.total) * out
    return case.total * out


def _packed(case: Case, shape: LayerShape) -> Work:
    into, out, held = _step_nbytes(shape)
    if case.form == "packed":
        return Work([case.lengths], case.total * held)
    back = case.total if case.form == "list" else case.rectangle
    peak = max(case.total * (into + held), (case.total + back) * out)
    return Work([case.lengths], peak + (_places_nbytes(case) if case.form == "masked" else 0))


def _masked(case: Case, shape: LayerShape) -> Work:
    done = _packed(case, shape)
    return done if case.form == "masked" else Work(done.runs, done.peak + _places_nbytes(case))


def _places_nbytes(case: Case) -> int:
    """Where each packed row of a mask is from: integers for each step, and the mask's sort."""
    return case.total * 32 + case.rectangle * 8


def _by_sequences(case: Case, shape: LayerShape, most: int) -> int:
    """The peak with the way to a list of sequences and back; ``most`` is what the strategy needs
    between the two, its list of outputs included."""
    if case.form == "list":
        return most
    into, out, _ = _step_nbytes(shape)
    copied = 0 if case.form == "padded" else case.total * into
    back = case.total if case.form == "packed" else case.rectangle
    # the outputs, and a masked batch's in one row besides
    lists = case.total * out * (2 if case.form == "masked" else 1)
    return copied + max(most, lists + back * out)


def _bucketed(case: Case, shape: LayerShape, rows: int) -> Work:
    into, out, held = _step_nbytes(shape)
    runs = [case.lengths[place] for place in buckets(case.lengths, rows, None, 1)]
    most = finished = before = 0
    for run in runs:
        steps = int(run.sum())
        # the last bucket's output is there until this one's is
        running = before + steps * (into + held)
        most = max(most, finished + max(running, steps * (into + 2 * out)))
        before = steps * out
        finished += before
    return Work(runs, _by_sequences(case, shape, most))


def _lanes(case: Case, shape: LayerShape, lanes: int) -> Work:
    into, out, held = _step_nbytes(shape)
    runs = rounds(case.lengths, lanes)
    most = max(int(run.sum()) for run in runs)
    # every sequence has a state of its own until they are put side by side
    state = shape.hidden_size * shape.itemsize * shape.num_layers * (1 + (shape.cell == "lstm"))
    held_to_the_end = case.total * out + 2 * len(case.lengths) * state
    return Work(runs, _by_sequences(case, shape, held_to_the_end + most * (into + held)))


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


def _streaming(case: Case, shape: LayerShape, window: int) -> Work:
    into, out, held = _step_nbytes(shape)
    n, longest = len(case.lengths), int(case.lengths[0])
    starts = range(0, longest, window)
    # the sequences that have ended stay in the batch: threads do not share one row's steps
    runs = [np.clip(case.lengths - start, 0, window) for start in starts]
    steps = case.steps if case.form == "padded" else longest
    whole = steps * n * out
    # a window of a batch that has its sequences first is copied
    into_copy = 0 if case.form in ("list", "packed") else into
    sizes = [min(window, steps - start) * n for start in starts]
    peak = max(sizes[0] * (into_copy + held), sizes[0] * out + whole)
    for before, size in pairwise(sizes):  # the last output is there until this one's is
        peak = max(peak, whole + before * out + size * (into_copy + held))
    if case.form != "padded":
        back = whole + sizes[-1] * out + _back_nbytes(case, shape)
        peak = steps * n * into + max(peak, back)
    return Work(runs, peak)


_WORK: Final[dict[str, Callable[..., Work]]] = {
    "padded": _padded,
    "packed": _packed,
    "masked": _masked,
    "bucketed": _bucketed,
    "lanes": _lanes,
    "streaming": _streaming,
}
