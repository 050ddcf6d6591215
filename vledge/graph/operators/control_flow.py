"""If, Loop and Scan: their graphs come as functions, and are run as often as the values say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from vledge._ext.room import count_trip
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator
from vledge.model.definition import Graph
from vledge.model.element_types import DTYPES

_Body = Callable[..., list[np.ndarray]]
_AT_ONCE: Final = 256  # elements that become one array


@operator("If", since=1)
def if_(condition: np.ndarray, *, then_branch: _Body, else_branch: _Body) -> list[np.ndarray]:
    return then_branch() if condition else else_branch()


@operator("Loop", since=1)
def loop(
    trip_count: np.ndarray | None,
    condition: np.ndarray | None,
    *initial: np.ndarray,
    body: _Body,
    context: Context,
) -> list[np.ndarray]:
    """Without a condition to begin with, the body's own is ignored, as the specification has it.

    Without a trip count either, it is what ends the loop.
    """
    trips = itertools.count() if trip_count is None else range(int(trip_count.item()))
    heeded = condition is not None or trip_count is None
    going = np.array(True if condition is None else bool(condition))
    states = list(initial)
    elements = _collectors(context, 1 + len(states))
    for trip in trips:
        if heeded and not going:
            break
        count_trip()
        going, *results = body(np.array(trip, np.int64), going, *states)
        states = results[: len(states)]
        for column, element in zip(elements, results[len(states) :], strict=True):
            column.append(element)
    return states + _stacked(context, 1 + len(states), elements)


@operator("Scan", since=9)
def scan(
    *inputs: np.ndarray,
    body: _Body,
    num_scan_inputs: int,
    scan_input_axes: list[int] | None = None,
    scan_input_directions: list[int] | None = None,
    scan_output_axes: list[int] | None = None,
    scan_output_directions: list[int] | None = None,
    context: Context,
) -> list[np.ndarray]:
    count = len(inputs) - num_scan_inputs
    states = list(inputs[:count])
    sequences = [
        np.moveaxis(x, axis, 0)[:: -1 if backwards else 1]
        for x, axis, backwards in zip(
            inputs[count:],
            scan_input_axes or [0] * num_scan_inputs,
            scan_input_directions or [0] * num_scan_inputs,
            strict=True,
        )
    ]
    elements = _collectors(context, count)
    for parts in zip(*sequences, strict=True):
        count_trip()
        results = body(*states, *(np.asarray(part) for part in parts))
        states = results[:count]
        for column, element in zip(elements, results[count:], strict=True):
            column.append(element)
    stacks = _stacked(context, count, elements)
    axes = scan_output_axes or [0] * len(stacks)
    turned = scan_output_directions or [0] * len(stacks)
    return states + [
        np.moveaxis(stack[::-1] if backwards else stack, 0, axis)
        for stack, axis, backwards in zip(stacks, axes, turned, strict=True)
    ]


@operator("Scan", since=8, until=8)
def scan_of_batches(
    sequence_lens: np.ndarray | None,
    *inputs: np.ndarray,
    body: _Body,
    num_scan_inputs: int,
    directions: list[int] | None = None,
    context: Context,
) -> list[np.ndarray]:
    """Inputs have a batch axis before the axis that is scanned; outputs are zero past a length."""
    count = len(inputs) - num_scan_inputs
    steps = inputs[count].shape[1]
    lengths = (
        [steps] * len(inputs[0])
        if sequence_lens is None
        else integers(sequence_lens, "sequence_lens")
    )
    made = []
    for sample, length in enumerate(lengths):
        own = [x[sample] for x in inputs[:count]] + [x[sample, :length] for x in inputs[count:]]
        results = scan(
            *own,
            body=body,
            num_scan_inputs=num_scan_inputs,
            scan_input_directions=directions,
            context=context,
        )
        for index, array in enumerate(results[count:], count):
            whole = np.zeros((steps, *array.shape[1:]), array.dtype)
            whole[:length] = array
            results[index] = whole
        made.append(results)
    return [np.stack(arrays) for arrays in zip(*made, strict=True)]


class _Column:
    """What one output of a body makes, turn by turn, as one array: of a million small arrays the
    objects would take far more memory than their numbers do."""

    def __init__(self) -> None:
        self._whole: list[np.ndarray] = []
        self._last: list[np.ndarray] = []

    def append(self, element: np.ndarray) -> None:
        self._last.append(element)
        if len(self._last) == _AT_ONCE:
            self._whole.append(np.stack(self._last))
            self._last.clear()

    def stacked(self) -> np.ndarray | None:
        """[turns, ...], or None where there was none."""
        if self._last:
            self._whole.append(np.stack(self._last))
            self._last.clear()
        if len(self._whole) > 1:
            self._whole = [np.concatenate(self._whole)]
        return self._whole[0] if self._whole else None


def _collectors(context: Context, first: int) -> list[_Column]:
    """One for each output of the body from ``first`` on, which makes an element at a time."""
    return [_Column() for _ in _body(context).outputs[first:]]


def _body(context: Context) -> Graph:
    graph = context.node.attributes["body"]
    assert isinstance(graph, Graph)
    return graph


def _stacked(context: Context, first: int, columns: Sequence[_Column]) -> list[np.ndarray]:
    """Each column along a new first axis; one that stayed empty is as the body declares its
    elements."""
    stacks = []
    for info, column in zip(_body(context).outputs[first:], columns, strict=True):
        whole = column.stacked()
        if whole is None:
            shape = [size if isinstance(size, int) else 0 for size in info.shape or ()]
            whole = np.zeros((0, *shape), DTYPES.get(info.type, np.float32))
        stacks.append(whole)
    return stacks
