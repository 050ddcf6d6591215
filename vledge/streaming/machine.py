"""What a `Stream` drives: something that takes frames and keeps state, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vledge.errors import cut
from vledge.out_arrays import misfit

__all__ = [
    "Fed",
    "FrameMachine",
    "Machine",
    "Made",
    "Outs",
    "RowNumbers",
    "State",
    "WindowMachine",
    "checked_rows",
    "fitting",
]

State = dict[str, np.ndarray]
#: What callers feed: an array, or one for each input by its name.
Fed: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
#: Where results are to be written.
Outs: TypeAlias = np.ndarray | Mapping[str, np.ndarray] | None
#: A result: an array, one by each output's name, or what a Module's ``forward`` makes of frames.
Made: TypeAlias = Any
#: One row or several, by number.
RowNumbers: TypeAlias = SupportsIndex | Iterable[SupportsIndex]


MOST_ROWS: Final = 1 << 62


def checked_rows(batch: object) -> int:
    """How many streams a caller asks for: TypeError for what is no whole number, ValueError for one
    that no array has as many rows as."""
    if isinstance(batch, (bool, np.bool_)) or not isinstance(batch, (int, np.integer)):
        raise TypeError(f"batch is {cut(repr(batch))}, expected a whole number of streams")
    if not -MOST_ROWS < batch < MOST_ROWS:
        raise ValueError(f"batch is {cut(str(batch))}, more streams than an array can have rows")
    return int(batch)


class Machine(Protocol):
    """A number of streams side by side, one a row. Arguments of the states have been checked."""

    rows: int
    row_axes: dict[str, int]  #: of each array of the state, the axis on which the streams lie

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and dtype of a frame by the input's name; empty where only the user knows."""

    def get_state(self) -> State:
        """Copies of the state."""

    def set_state(self, state: State) -> None:
        """Replace the whole state."""

    def initial_state(self) -> State:
        """What a stream begins with."""

    def with_rows(self, rows: int) -> Machine:
        """The same model for another number of streams, at its initial state."""


class FrameMachine(Machine, Protocol):
    """One whose output for a frame needs no later frame."""

    def step(self, x: Fed, out: Outs = None) -> Made:
        """One frame of every stream."""

    def push(self, chunk: Fed, out: Outs = None) -> Made:
        """Several frames of every stream."""


class WindowMachine(Machine, Protocol):
    """One that looks ahead, as far as the frames that it is given go."""

    @property
    def time_axis(self) -> int:
        """Of the frames."""

    @property
    def output_axis(self) -> int:
        """The axis of the outputs that is time; known once a window has run."""

    def window(self, frames: np.ndarray, kept: int) -> np.ndarray:
        """Run all frames; the outputs of the first ``kept``, after which the state now stands."""


def fitting(out: object, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """``out``, if it can take a result of this shape and dtype; ValueError if not."""
    if problem := misfit({"out": (dtype, shape)}, {"out": out}):
        raise ValueError(problem)
    assert isinstance(out, np.ndarray)
    return out
