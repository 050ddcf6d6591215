"""What a strategy does with sequences of given lengths: its runs and its memory, for the planner.

Each strategy counts its own in its own file; here is what they count in, and with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

import numpy as np

from vledge.recurrent.shape import LayerShape

__all__ = [
    "FORMS",
    "Case",
    "Overhead",
    "StepBytes",
    "Work",
    "back_nbytes",
    "by_sequences",
    "every_step",
    "padding_share",
    "step_nbytes",
]

#: The forms in which a batch comes and goes back.
FORMS: Final = ("list", "padded", "packed", "masked")


@dataclass(frozen=True)
class Case:
    """Sequences, none of them empty, in the form in which they come."""

    lengths: np.ndarray  #: int64, falling
    form: str
    steps: int  #: T of a padded array; the longest length in the other forms

    @cached_property
    def total(self) -> int:
        """Steps that are real."""
        return int(np.add.reduce(self.lengths))

    @property
    def rectangle(self) -> int:
        """Steps of the padded batch, the padding included."""
        return self.steps * len(self.lengths)


@dataclass(frozen=True)
class Work:
    """What one strategy does with one layer."""

    runs: list[np.ndarray]  #: the lengths in each call of the kernels, falling
    peak: int  #: bytes at the most beyond the input and the kernel's own, the output included


@dataclass(frozen=True)
class Overhead:
    """What a strategy takes besides the kernels, in seconds: Python, copies, memory."""

    call: float  #: each call of the layer: a bucket, a round, a window
    sequence: float
    step: float  #: each real step of a sequence
    byte: float  #: each byte of real steps, in and out
    padding: float  #: each byte of padding, in and out

    def seconds(
        self, calls: int, sequences: int, steps: int, nbytes: float, padding: float
    ) -> float:
        """Of so many calls, sequences, steps, bytes and bytes of padding."""
        return (
            calls * self.call
            + sequences * self.sequence
            + steps * self.step
            + nbytes * self.byte
            + padding * self.padding
        )


class StepBytes(NamedTuple):
    """Of one step of one sequence."""

    into: int
    out: int
    held: int  #: what the stack holds at the most beside what goes in


@lru_cache(maxsize=64)
def step_nbytes(shape: LayerShape) -> StepBytes:
    """What a step of the layer takes."""
    into, out = shape.input_size * shape.itemsize, shape.output_size * shape.itemsize
    return StepBytes(into, out, out * min(shape.num_layers, 2))


def every_step(case: Case) -> Case:
    """Padding where nobody tells the lengths: every row runs to the longest one's end."""
    lengths = np.full(len(case.lengths), case.steps, np.int64)
    return Case(lengths, "list" if case.form == "list" else "padded", case.steps)


def padding_share(case: Case) -> str:
    """The share of the padded batch that is padding, to be read."""
    return f"{1 - case.total / case.rectangle:.0%}".replace("%", " %")


def back_nbytes(case: Case, shape: LayerShape) -> int:
    """What a padded output takes on its way to the form, besides itself."""
    out = shape.output_size * shape.itemsize
    if case.form == "packed":  # sorted, then packed
        return int(case.lengths[0]) * len(case.lengths) * out + case.total * out
    if case.form == "masked":  # the valid steps, then where they belong
        return (case.rectangle + case.total) * out
    return case.total * out


def by_sequences(case: Case, shape: LayerShape, most: int) -> int:
    """The peak with the way to a list of sequences and back; ``most`` is what the strategy needs
    between the two, its list of outputs included."""
    if case.form == "list":
        return most
    into, out, _ = step_nbytes(shape)
    copied = 0 if case.form == "padded" else case.total * into
    back = case.total if case.form == "packed" else case.rectangle
    # the outputs, and a masked batch's in one row besides
    lists = case.total * out * (2 if case.form == "masked" else 1)
    return copied + max(most, lists + back * out)
