"""States of many sequences: checked, taken apart, put together.

A state is what a layer takes as ``hx``: one array ``[num_layers * D, B, width]``, or a tuple of two
for an LSTM, or a list of states for a layer made of layers. Sequences are always in the caller's
order, whatever sorts them inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, overload

import numpy as np

from vledge.array_like import ArrayLike, array_of, contiguous, wrong_dtype
from vledge.recurrent.shape import LayerShape

__all__ = [
    "AnyState",
    "GivenState",
    "Initial",
    "Rows",
    "State",
    "arrays_of",
    "checked",
    "joined",
    "like",
    "mapped",
    "put",
    "reordered",
    "side_by_side",
    "split",
    "take",
]

#: A layer's: one array, or an LSTM's two.
State: TypeAlias = np.ndarray | tuple[np.ndarray, ...]
#: What a layer begins with: None, for all of it or for one array of it, is zeros.
Initial: TypeAlias = np.ndarray | tuple[np.ndarray | None, ...] | None
#: What callers give for that; of a layer made of layers a list of these.
GivenState: TypeAlias = "ArrayLike | Sequence[GivenState] | None"
#: Of a layer, or of one made of layers: one for each of them.
AnyInitial: TypeAlias = "np.ndarray | tuple[AnyInitial, ...] | list[AnyInitial] | None"
AnyState: TypeAlias = "np.ndarray | tuple[AnyState, ...] | list[AnyState]"
#: Which of the sequences.
Rows: TypeAlias = int | slice | Sequence[int] | np.ndarray


@overload
def arrays_of(hx: State) -> tuple[np.ndarray, ...]: ...
@overload
def arrays_of(hx: GivenState) -> tuple[GivenState, ...]: ...
def arrays_of(hx: GivenState) -> tuple[GivenState, ...]:
    """The state's arrays, of which an LSTM has two."""
    return tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def like(hx: GivenState, arrays: Sequence[np.ndarray]) -> State:
    """Arrays in the form of another state."""
    return tuple(arrays) if isinstance(hx, (tuple, list)) else arrays[0]


@overload
def split(hx: State) -> tuple[np.ndarray, np.ndarray | None]: ...
@overload
def split(hx: Initial) -> tuple[np.ndarray | None, np.ndarray | None]: ...
def split(hx: Initial) -> tuple[np.ndarray | None, np.ndarray | None]:
    """h and c of a state; None where there is none, which stands for zeros."""
    if isinstance(hx, tuple):
        h, c = hx
        return h, c
    return hx, None


def joined(h: np.ndarray, c: np.ndarray | None) -> State:
    """The other way round."""
    return h if c is None else (h, c)


@overload
def mapped(function: Callable[[np.ndarray], np.ndarray], hx: State) -> State: ...
@overload
def mapped(function: Callable[[np.ndarray], np.ndarray], hx: AnyState) -> AnyState: ...
def mapped(function: Callable[[np.ndarray], np.ndarray], hx: AnyState) -> AnyState:
    """The function of each array of a state, in the state's form."""
    if isinstance(hx, (tuple, list)):
        return tuple(mapped(function, part) for part in hx)
    return function(hx)


@overload
def take(hx: None, rows: Rows) -> None: ...
@overload
def take(hx: State, rows: Rows) -> State: ...
@overload
def take(hx: State | None, rows: Rows) -> State | None: ...
@overload
def take(hx: AnyState | None, rows: Rows) -> AnyState | None: ...
def take(hx: AnyState | None, rows: Rows) -> AnyState | None:
    """The state of some of the sequences, copied; None for None."""
    return None if hx is None else mapped(lambda array: array[:, rows].copy(), hx)


def put(hx: State, rows: Rows, part: State) -> None:
    """Write the state of some of the sequences into that of all."""
    if isinstance(hx, (tuple, list)):
        for everyone, some in zip(hx, part, strict=True):
            put(everyone, rows, some)
    else:
        hx[:, rows] = part


@overload
def reordered(array: np.ndarray, order: np.ndarray | None) -> np.ndarray: ...
@overload
def reordered(array: np.ndarray | None, order: np.ndarray | None) -> np.ndarray | None: ...
def reordered(array: np.ndarray | None, order: np.ndarray | None) -> np.ndarray | None:
    """One of a state's arrays with its sequences in another order; None for None."""
    return array if array is None or order is None else np.ascontiguousarray(array[:, order])


@overload
def side_by_side(states: Sequence[State | None], rows: Sequence[int]) -> State | None: ...
@overload
def side_by_side(states: Sequence[Initial], rows: Sequence[int]) -> Initial: ...
@overload
def side_by_side(states: Sequence[AnyInitial], rows: Sequence[int]) -> AnyInitial: ...
def side_by_side(states: Sequence[AnyInitial], rows: Sequence[int]) -> AnyInitial:
    """One state of many, None standing for zeros of so many rows; None where all are."""
    example = next((state for state in states if state is not None), None)
    if example is None:
        return None
    if isinstance(example, (tuple, list)):
        parts = [state or [None] * len(example) for state in states]
        return tuple(side_by_side(same, rows) for same in zip(*parts, strict=True))
    layers, _, width = example.shape
    return np.concatenate(
        [
            np.zeros((layers, count, width), example.dtype) if state is None else state
            for state, count in zip(states, rows, strict=True)
        ],
        axis=1,
    )


@overload
def checked(shape: LayerShape, hx: State, sequences: int) -> State: ...
@overload
def checked(shape: LayerShape, hx: GivenState, sequences: int) -> State | None: ...
def checked(shape: LayerShape, hx: GivenState, sequences: int) -> State | None:
    """The state, if a layer of this shape can begin with it; None for None, and one of an LSTM's
    two that is None as zeros.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        Not as many arrays as the layer has, another dtype, another shape; as torch raises them.
    """
    if hx is None:
        return None
    states = shape.kind.states
    if len(states) > 1:
        if not isinstance(hx, (tuple, list)) or len(hx) != len(states):
            given = (
                f"{type(hx).__name__} of {len(hx)}"
                if isinstance(hx, (tuple, list))
                else type(hx).__name__
            )
            raise TypeError(f"{shape.kind.name}: hx must be a tuple (h_0, c_0), got a {given}")
        arrays = list(hx)
    else:
        if isinstance(hx, tuple) and len(hx) != 1:
            raise TypeError(f"{shape.kind.name}: hx must be one array, got a tuple of {len(hx)}")
        arrays = list(hx) if isinstance(hx, tuple) else [hx]
    for i, (letter, expected) in enumerate(zip(states, shape.state_shapes(sequences), strict=True)):
        if arrays[i] is None:
            arrays[i] = np.zeros(expected, shape.dtype)
            continue
        array = array_of(arrays[i], f"{letter}_0", stack=True)
        if array.shape != expected:
            label = f"hidden[{i}]" if len(states) > 1 else "hidden"
            raise RuntimeError(f"Expected {label} size {expected}, got {list(array.shape)}")
        if array.dtype != shape.dtype:
            raise ValueError(wrong_dtype(f"{letter}_0", array.dtype, shape.dtype))
        arrays[i] = contiguous(array)
    return tuple(arrays) if len(states) > 1 else arrays[0]
