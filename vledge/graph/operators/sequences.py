"""Sequences of tensors, and optional values: what scripted loops and ``chunk`` become in ONNX.

Positions count from the end where they are negative; one out of bounds is an error of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge._ext.room import count_trip
from vledge.graph.operators.generation import element_dtype
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.graph.values import TensorSequence
from vledge.model.definition import Graph, Opaque
from vledge.model.element_types import DTYPES

_Body = Callable[..., list[np.ndarray]]
_Value = np.ndarray | TensorSequence
#: Bytes that a view takes itself; an array that owns what it shows counts as so many more.
LEAST_VIEW: Final = 128


def _sequence(value: _Value) -> TensorSequence:
    if not isinstance(value, TensorSequence):
        raise ValueError("a tensor is given where a sequence is expected")
    return value


def _place(position: np.ndarray, count: int, *, end: bool = False) -> int:
    """A position from 0 up; ``end`` allows that behind the last element."""
    place = int(position.item())
    if not -count <= place < count + end:
        raise ValueError(f"position is {place}, the sequence has {count} tensors")
    return place + count if place < 0 else place


@prepared_operator("SequenceEmpty", since=11)
def sequence_empty(context: Context, *, dtype: int = 1) -> Callable[[], TensorSequence]:
    empty = TensorSequence((), element_dtype(dtype, "dtype"))
    return lambda: empty


@operator("SequenceConstruct", since=11)
def sequence_construct(first: np.ndarray, *others: np.ndarray) -> TensorSequence:
    return _of((first, *others), first.dtype)


def _of(arrays: tuple[np.ndarray, ...], dtype: np.dtype) -> TensorSequence:
    for array in arrays:
        if not isinstance(array, np.ndarray):
            raise ValueError("a sequence is given where a tensor is expected")
        if array.dtype != dtype:
            raise ValueError(f"a {array.dtype} tensor cannot be in a sequence of {dtype}")
    return TensorSequence(arrays, dtype)


@operator("SequenceInsert", since=11)
def sequence_insert(
    sequence: _Value, tensor: np.ndarray, position: np.ndarray | None = None
) -> TensorSequence:
    given = _sequence(sequence)
    count = len(given.arrays)
    place = count if position is None else _place(position, count, end=True)
    _of((tensor,), given.dtype)
    return TensorSequence((*given.arrays[:place], tensor, *given.arrays[place:]), given.dtype)


@operator("SequenceErase", since=11)
def sequence_erase(sequence: _Value, position: np.ndarray | None = None) -> TensorSequence:
    given = _sequence(sequence)
    last = np.array(-1) if position is None else position
    place = _place(last, len(given.arrays))
    return TensorSequence((*given.arrays[:place], *given.arrays[place + 1 :]), given.dtype)


@operator("SequenceAt", since=11)
def sequence_at(sequence: _Value, position: np.ndarray) -> np.ndarray:
    arrays = _sequence(sequence).arrays
    return arrays[_place(position, len(arrays))]


@operator("SequenceLength", since=11)
def sequence_length(sequence: _Value) -> np.ndarray:
    return np.array(len(_sequence(sequence).arrays), np.int64)


@operator("SplitToSequence", since=11)
def split_to_sequence(
    x: np.ndarray, split: np.ndarray | None = None, *, axis: int = 0, keepdims: int = 1
) -> TensorSequence:
    """A scalar ``split`` is the size of every part but the last, which may be smaller.

    The specification has ``keepdims`` ignored where there is a ``split``. But torch's exporter
    writes ``unbind`` as a scalar split of 1 with keepdims=0, and onnxruntime takes the axis away.
    """
    along = axis + x.ndim if axis < 0 else axis
    if not 0 <= along < x.ndim:
        raise ValueError(f"axis is {axis}, the input has {x.ndim} axes")
    total = x.shape[along]
    before = (slice(None),) * along
    if not keepdims and (split is None or (split.shape == () and split == 1)):
        return TensorSequence(tuple(_part(x[before + (i,)]) for i in range(total)), x.dtype)
    if split is not None and split.ndim:
        sizes = integers(split, "split")
        if min(sizes, default=0) < 0 or sum(sizes) != total:
            raise ValueError(
                f"split is {sizes}, {sum(sizes)} in sum, but the axis has {total} elements"
            )
    else:
        chunk = 1 if split is None else int(split.item())
        if chunk < 1:
            raise ValueError(f"split is {chunk}, expected 1 or more")
        sizes = [min(chunk, total - start) for start in range(0, total, chunk)]
    parts, start = [], 0
    for size in sizes:
        parts.append(_part(x[before + (slice(start, start + size),)]))
        start += size
    return TensorSequence(tuple(parts), x.dtype)


def _part(view: np.ndarray) -> np.ndarray:
    """A copy, where the view as an object is larger than its numbers: a run's room counts arrays
    that own what they show, and a sequence may be of a million numbers."""
    return np.array(view) if view.nbytes < LEAST_VIEW else view


@operator("ConcatFromSequence", since=11)
def concat_from_sequence(sequence: _Value, *, axis: int, new_axis: int = 0) -> np.ndarray:
    arrays = _sequence(sequence).arrays
    if not arrays:
        raise ValueError("the sequence is empty: there is nothing to join")
    return np.stack(arrays, axis) if new_axis else np.concatenate(arrays, axis)


@operator("SequenceMap", since=17)
def sequence_map(
    sequence: _Value,
    *others: _Value,
    body: _Body,
    context: Context,
) -> tuple[TensorSequence, ...]:
    """The body's results for each tensor of the sequence; others that are sequences go along."""
    first = _sequence(sequence)
    count = len(first.arrays)
    columns = []
    for other in others:
        column = (other,) * count
        if isinstance(other, TensorSequence):
            column = other.arrays
            if len(column) != count:
                raise ValueError(
                    f"sequences have {count} and {len(column)} tensors, expected as many in each"
                )
        columns.append(column)
    made = []
    for parts in zip(first.arrays, *columns, strict=True):
        count_trip()
        made.append(body(*parts))
    graph = context.node.attributes["body"]
    assert isinstance(graph, Graph)
    return tuple(
        _of(arrays, arrays[0].dtype if arrays else DTYPES.get(info.type, first.dtype))
        for info, arrays in zip(
            graph.outputs,
            zip(*made, strict=True) if made else ((),) * len(graph.outputs),
            strict=True,
        )
    )


# ---- Optional values


@operator("Optional", since=15)
def optional(value: _Value | None = None, *, type: Opaque | None = None) -> _Value | None:
    """With no input it is absent; ``type`` says of which type, which no operator here asks."""
    return value


@operator("OptionalHasElement", since=15)
def optional_has_element(value: _Value | None = None) -> np.ndarray:
    return np.array(value is not None)


@operator("OptionalGetElement", since=15)
def optional_get_element(value: _Value | None) -> _Value:
    if value is None:
        raise ValueError("the optional value is absent")
    return value
