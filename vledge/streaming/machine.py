"""What a `Stream` drives: something that takes frames and keeps state, whatever it is made of."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

__all__ = ["Machine", "State"]

State = dict[str, np.ndarray]


class Machine(Protocol):
    """A number of streams side by side, one a row. Arguments of the states have been checked."""

    rows: int
    row_axes: dict[str, int]  #: of each array of the state, the axis on which the streams lie

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and dtype of a frame by the input's name; empty where only the user knows."""

    def step(self, x: Any, out: Any = None) -> Any:
        """One frame of every stream."""

    def push(self, chunk: Any, out: Any = None) -> Any:
        """Several frames of every stream."""

    def get_state(self) -> State:
        """Copies of the state."""

    def set_state(self, state: State) -> None:
        """Replace the whole state."""

    def initial_state(self) -> State:
        """What a stream begins with."""

    def with_rows(self, rows: int) -> Machine:
        """The same model for another number of streams, at its initial state."""
