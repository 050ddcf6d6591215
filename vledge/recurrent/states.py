"""States of many sequences: checked, taken apart, put together.

A state is what a layer takes as ``hx``: one array ``[num_layers * D, B, width]``, or a tuple of two
for an LSTM, or a list of states for a layer made of layers. Sequences are always in the caller's
order, whatever sorts them inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vledge.array_like import array_of, contiguous, wrong_dtype
from vledge.recurrent.shape import LayerShape

__all__ = [
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

State = np.ndarray | tuple[np.ndarray, ...]


def arrays_of(hx: Any) -> tuple[np.ndarray, ...]:
    """The state's arrays, of which an LSTM has two."""
    return tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def like(hx: Any, arrays: Sequence[np.ndarray]) -> State:
    """Arrays in the form of another state."""
    return tuple(arrays) if isinstance(hx, (tuple, list)) else arrays[0]


def split(hx: Any) -> tuple[Any, Any]:
    """h and c of a state; None where there is none, which stands for zeros."""
    return tuple(hx) if isinstance(hx, tuple) else (hx, None)


def joined(h: np.ndarray, c: np.ndarray | None) -> State:
    """The other way round."""
    return h if c is None else (h, c)


def mapped(function: Callable[[np.ndarray], Any], hx: Any) -> Any:
    """The function of each array of a state, in the state's form."""
    if isinstance(hx, (tuple, list)):
        return tuple(mapped(function, part) for part in hx)
    return function(hx)


def take(hx: Any, rows: Any) -> Any:
    """The state of some of the sequences, copied; None for None."""
    return None if hx is None else mapped(lambda array: array[:, rows].copy(), hx)


def put(hx: Any, rows: Any, part: Any) -> None:
    """Write the state of some of the sequences into that of all."""
    if isinstance(hx, (tuple, list)):
        for everyone, some in zip(hx, part, strict=True):
            put(everyone, rows, some)
    else:
        hx[:, rows] = part


def reordered(array: Any, order: np.ndarray | None) -> Any:
    """One of a state's arrays with its sequences in another order; None for None."""
    return array if array is None or order is None else np.ascontiguousarray(array[:, order])


def side_by_side(states: Sequence[Any], rows: Sequence[int]) -> Any:
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


def checked(shape: LayerShape, hx: Any, sequences: int) -> Any:
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
            raise TypeError(f"{shape.kind.name}: hx must be a tuple (h_0, c_0)")
        arrays = list(hx)
    else:
        if isinstance(hx, tuple) and len(hx) != 1:
            raise TypeError(f"{shape.kind.name}: hx must be one array")
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
