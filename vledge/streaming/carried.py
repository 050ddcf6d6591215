"""Runs of a model that each take over the states of the one before, natively or in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from vledge import out_arrays
from vledge._ext.program import CarriedProgram
from vledge.graph.plan import Plan, owned
from vledge.streaming.machine import Fed, Made, Outs

__all__ = ["Carried", "Frames", "carried", "misfit"]


class Frames(NamedTuple):
    """An input that holds frames; the shape is with the time axis, whose size is any."""

    name: str
    place: int  #: among the plan's inputs
    dtype: np.dtype
    shape: tuple[int, ...]
    time_axis: int


class Carried(Protocol):
    """What a stream of a session calls. An ``out`` that does not fit leaves the states alone."""

    def step(self, x: Fed, out: Outs = None) -> Made:
        """One frame as the caller gave it, without its time axis."""

    def run(self, arrays: list[np.ndarray], out: Outs = None, one_frame: bool = False) -> Made:
        """Frames with their time axes, then lengths unless they are of ``one_frame``."""

    def get_states(self) -> list[np.ndarray]:
        """Copies, in order."""

    def set_states(self, arrays: list[np.ndarray]) -> None:
        """Replace them by copies, in order."""


def carried(
    plan: Plan,
    states: Sequence[tuple[int, int]],
    frames: Sequence[Frames],
    lengths: Sequence[tuple[int, np.ndarray]],
    results: Sequence[tuple[str, int, int | None]],
    taken: Callable[[Fed], list[np.ndarray]],
) -> Carried:
    """The arguments are `CarriedProgram`'s."""
    if plan.native is None:
        return _Plain(plan, states, frames, lengths, results, taken)
    return CarriedProgram(
        plan.native.program,
        list(states),
        [tuple(each) for each in frames],
        list(lengths),
        list(results),
        taken,
        misfit,
        plan.blame,
    )


def misfit(wanted: Mapping[str, tuple[np.dtype, tuple[int, ...]]], out: Outs) -> str:
    """Why ``out`` cannot take results of these dtypes and shapes; "" if it can."""
    outs = out if isinstance(out, Mapping) else {next(iter(wanted)): out}
    named = {f"out for {name!r}": one for name, one in wanted.items()}
    return out_arrays.misfit(named, {f"out for {name!r}": array for name, array in outs.items()})


class _Plain:
    """The same by the plan's Python function: the states are arrays between the runs."""

    def __init__(
        self,
        plan: Plan,
        states: Sequence[tuple[int, int]],
        frames: Sequence[Frames],
        lengths: Sequence[tuple[int, np.ndarray]],
        results: Sequence[tuple[str, int, int | None]],
        taken: Callable[[Fed], list[np.ndarray]],
    ) -> None:
        self._state_places, self._results, self._taken = states, results, taken
        self._function = plan.function_with(frozenset(place for _, place in states))
        self._inputs = range(len(plan.inputs))
        self._places = [each.place for each in frames] + [place for place, _ in lengths]
        self._lengths = [array for _, array in lengths]
        self._states: list[np.ndarray] = []

    def step(self, x: Fed, out: Outs = None) -> Made:
        return self.run(self._taken(x), out, True)

    def run(self, arrays: list[np.ndarray], out: Outs = None, one_frame: bool = False) -> Made:
        if one_frame:
            arrays = [*arrays, *self._lengths]
        feed = dict(zip(self._places, arrays, strict=True))
        feed |= {
            place: state for (_, place), state in zip(self._state_places, self._states, strict=True)
        }
        with np.errstate(all="ignore"):
            made = owned(self._function(*(feed[place] for place in self._inputs)))
        results = {}
        for name, place, axis in self._results:
            array = made[place]
            results[name] = array.take(0, axis) if one_frame and axis is not None else array
        if out is not None:
            wanted = {name: (array.dtype, array.shape) for name, array in results.items()}
            problem = misfit(wanted, out)
            if problem:
                raise ValueError(problem)
        self._states = [made[place] for place, _ in self._state_places]
        if out is None:
            # what is a result may be a state, too
            results = {name: np.array(array) for name, array in results.items()}
            return results if len(results) > 1 else next(iter(results.values()))
        outs = out if isinstance(out, Mapping) else {next(iter(results)): out}
        for name, array in results.items():
            outs[name][...] = array
        return out

    def get_states(self) -> list[np.ndarray]:
        return [np.array(state) for state in self._states]

    def set_states(self, arrays: list[np.ndarray]) -> None:
        self._states = [np.array(array) for array in arrays]
