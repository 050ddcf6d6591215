"""`Stream`: a model that is fed frame by frame, for one live input or for many side by side."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of
from vledge.budget import Limits
from vledge.errors import FormatError, reading
from vledge.shown import Weights, listed
from vledge.streaming.machine import Fed, FrameMachine, Machine, Made, Outs, RowNumbers, State

__all__ = ["Stream"]

_KIND = "vledge stream state"
_MOST_DIGITS = 18  # of a number of rows


class Stream:
    """A running model; made by ``model.stream(batch=1)`` of a layer, a Module or a session.

    Its streams are the rows of the batch. Each has a state of its own, so that streams may begin
    (`join`), end (`leave`) and start over (`reset`) at any time without a trace in the others. A
    stream belongs to one thread at a time; several streams of one model share its weights.

    >>> stream = lstm.stream(batch=1)  # doctest: +SKIP
    >>> y = stream.step(x)  # x [1, input_size] -> y [1, hidden_size]  # doctest: +SKIP
    """

    _machine: Machine

    def __init__(self, machine: FrameMachine) -> None:
        if not hasattr(machine, "push"):  # a layer, a Module, a path
            raise TypeError(
                f"a Stream is made by a model's own method, model.stream(batch=1), not of "
                f"{type(machine).__name__}"
            )
        self._use(machine)

    def _use(self, machine: Any) -> None:
        self._machine = machine
        self._step, self._push = machine.step, machine.push

    def __repr__(self) -> str:
        frames = (f"{n} {dtype} {list(shape)}" for n, (shape, dtype) in self.frames.items())
        states = (f"{name} {list(array.shape)}" for name, array in self.state.items())
        return (
            f"{type(self).__name__}(batch {self.batch}, takes {listed(frames) or 'frames'}, keeps "
            f"{listed(states)})"
        )

    @property
    def batch(self) -> int:
        """How many streams run side by side."""
        return self._machine.rows

    @property
    def frames(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """The shape and dtype of what `step` takes, by the input's name (a layer's is "x").

        Empty for Modules, of whose input only ``forward`` knows.
        """
        return self._machine.frames

    def step(self, x: Fed, out: Outs = None) -> Made:
        """Feed one frame of every stream and return the output for it.

        Parameters
        ----------
        x : ndarray [batch, features], of the model's dtype
            As the model takes it, without its time axis; for a session with several inputs a dict
            of such arrays.
        out : like the result, optional
            Where to write it; may be x, or share memory with it, which is then copied first. A
            recurrent layer allocates nothing otherwise.

        Raises ValueError for arrays of another shape or dtype; the state is then as it was.
        """
        return self._step(x, out)

    def push(self, chunk: Fed, out: Outs = None) -> Made:
        """Feed several frames: an array as the model takes it whole, its time axis included.

        The outputs are those of as many calls of `step`; a chunk of no frames gives none.
        """
        return self._push(chunk, out)

    # ---- state

    @property
    def state(self) -> State:
        """The state by name, copies: plain arrays, to be kept, changed and set again.

        A recurrent layer has ``h [num_layers, batch, width]`` and, for an LSTM, ``c``.
        """
        return Weights(self._machine.get_state())

    @state.setter
    def state(self, state: Mapping[str, ArrayLike]) -> None:
        self._machine.set_state(self._checked_state(state))

    def _checked_state(self, state: Mapping[str, ArrayLike]) -> State:
        mine = self._machine.get_state()
        if not isinstance(state, Mapping):
            raise TypeError(f"the state is a {type(state).__name__}, expected arrays by name")
        if state.keys() != mine.keys():
            raise ValueError(f"the state has {sorted(mine)}, got {sorted(state)}")
        checked = {}
        for name, array in mine.items():
            given = array_of(state[name], f"state {name!r}", stack=True)
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"state {name!r} is {given.dtype} {list(given.shape)}, expected "
                    f"{array.dtype} {list(array.shape)}"
                )
            checked[name] = given
        return checked

    def reset(self, rows: RowNumbers | None = None) -> None:
        """Take streams back to the start: all, or those whose row numbers are given."""
        initial = self._machine.initial_state()
        picked = range(self.batch) if rows is None else self._rows(rows)
        if len(set(picked)) < self.batch:
            state = self._machine.get_state()
            for name, axis in self._machine.row_axes.items():
                moved = state[name].swapaxes(0, axis)
                moved[picked] = initial[name].swapaxes(0, axis)[picked]
            initial = state
        self._machine.set_state(initial)

    def join(self, count: int = 1) -> list[int]:
        """Add streams at their initial state; their row numbers, which are the last ones."""
        if count < 0:
            raise ValueError(f"count must be 0 or more, got {count}")
        before = self.batch
        self._change(before + count, list(range(before)))
        return list(range(before, before + count))

    def leave(self, rows: RowNumbers) -> None:
        """End streams by their row numbers; the rows behind them move up and keep their order."""
        gone = set(self._rows(rows))
        stay = [row for row in range(self.batch) if row not in gone]
        self._change(len(stay), stay)

    def _change(self, rows: int, kept: list[int]) -> None:
        """Go on with another number of rows, of which the first are those kept."""
        old = self._machine.get_state()
        machine = self._machine.with_rows(rows)
        state = machine.initial_state()
        for name, axis in machine.row_axes.items():
            state[name].swapaxes(0, axis)[: len(kept)] = old[name].swapaxes(0, axis)[kept]
        machine.set_state(state)
        self._use(machine)

    def _rows(self, rows: RowNumbers) -> list[int]:
        numbers: Iterable[SupportsIndex] = rows if isinstance(rows, Iterable) else [rows]
        checked = [operator.index(row) for row in numbers]
        for row in checked:
            if not 0 <= row < self.batch:
                raise ValueError(f"there is no row {row}: the stream has {self.batch}")
        return checked

    # ---- copies

    def __copy__(self) -> Stream:
        """Another stream of the model, whose weights both read, at a copy of the state."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._use(self._machine.with_rows(self.batch))
        other.state = self.state
        return other

    def __deepcopy__(self, memo: object) -> Stream:
        return self.__copy__()

    def __reduce__(self) -> str:
        raise TypeError(
            f"a {type(self).__name__} is not pickled, for its model is others', too: pickle "
            "stream.state, or save(path) it, and go on with a stream of the model where that is"
        )

    # ---- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file, which is there whole, old or new, at all times."""
        from vledge.formats import safetensors_file

        metadata = {"kind": _KIND, "batch": str(self.batch)}
        safetensors_file.write(path, self.state, metadata)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Any,
        *,
        limits: Limits | None = None,
        **options: object,
    ) -> Stream:
        """A stream of the model that goes on where the saved one stood.

        ``options`` are those that ``model.stream`` was given, besides the batch; ``limits`` are
        what the file may cost.

        Raises FormatError if the file holds no stream's state, ValueError if another model's.
        """
        from vledge.formats import safetensors_file
        from vledge.formats.source import open_source

        with reading(os.fspath(path)):
            state, _, metadata = safetensors_file.read_all(open_source(path, limits))
            rows = metadata.get("batch", "")
            if metadata.get("kind") != _KIND or not (rows.isascii() and rows.isdigit()):
                raise FormatError("holds no state of a stream")
            if len(rows) > _MOST_DIGITS:
                raise FormatError(f"holds no state of a stream: {len(rows):,} digits of rows")
        if not hasattr(model, "stream"):
            raise TypeError(
                f"model is {model!r}, expected what the state is of: a layer, a Module or "
                "InferenceSession(path)"
            )
        stream: Stream = model.stream(batch=1, **options)
        try:
            stream._take_over(state, int(rows))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} is of another model: {error}") from None
        return stream

    def _take_over(self, state: Mapping[str, ArrayLike], rows: int) -> None:
        """Become a stream of so many rows with this state, if the state is of so many."""
        axes, mine = self._machine.row_axes, self._machine.get_state()
        for name, array in mine.items():
            shape = list(array.shape)
            if name in axes:
                shape[axes[name]] = rows
            given = np.shape(state[name]) if name in state else None
            if given is not None and list(given) != shape:
                raise ValueError(f"state {name!r} is {list(given)}, expected {shape}")
        if rows != self.batch and state.keys() >= mine.keys():
            self._use(self._machine.with_rows(rows))
        self.state = state
