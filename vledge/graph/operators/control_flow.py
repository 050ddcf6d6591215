"""If, Loop and Scan: their graphs come as functions, and are run as often as the values say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from vledge._ext.room import count_trip
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator
from vledge.model.definition import Graph
from vledge.model.element_types import DTYPES

_Body = Callable[..., list[np.ndarray]]


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
    return states + _stacked(context, 1 + len(states), elements, [0] * len(elements))


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
        results = body(*states, *(np.asarray(part) for part in parts))
        states = results[:count]
        for column, element in zip(elements, results[count:], strict=True):
            column.append(element)
    backwards_ = scan_output_directions or [0] * len(elements)
    for column, backwards in zip(elements, backwards_, strict=True):
        if backwards:
            column.reverse()
    return states + _stacked(context, count, elements, scan_output_axes or [0] * len(elements))


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


def _collectors(context: Context, first: int) -> list[list[np.ndarray]]:
    """A list for each output of the body from ``first`` on, which makes an element at a time."""
    return [[] for _ in _body(context).outputs[first:]]


def _body(context: Context) -> Graph:
    graph = context.node.attributes["body"]
    assert isinstance(graph, Graph)
    return graph


def _stacked(
    context: Context, first: int, columns: Sequence[list[np.ndarray]], axes: Sequence[int]
) -> list[np.ndarray]:
    """Each column along a new axis; one that stayed empty is as the body declares its elements."""
    stacks = []
    for info, column, axis in zip(_body(context).outputs[first:], columns, axes, strict=True):
        if column:
            stacks.append(np.stack(column, axis))
            continue
        shape = [size if isinstance(size, int) else 0 for size in info.shape or ()]
        shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 0)
        stacks.append(np.zeros(shape, DTYPES.get(info.type, np.float32)))
    return stacks
