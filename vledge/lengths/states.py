"""States of many sequences: made, taken apart, put together, carried from call to call.

A state is what a layer takes as ``hx``: one array ``[num_layers * D, B, width]``, or a tuple of two
for an LSTM. Sequences are always in the caller's order, whatever a strategy sorts inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vledge.nn.dtype import wrong_dtype
from vledge.nn.recurrent import RecurrentBase

__all__ = ["arrays_of", "checked", "like", "take"]


def arrays_of(hx: Any) -> tuple[np.ndarray, ...]:
    """The state's arrays, of which an LSTM has two."""
    return tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def like(hx: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Arrays in the form of another state."""
    return tuple(arrays) if isinstance(hx, (tuple, list)) else arrays[0]


def take(hx: Any, rows: Any) -> Any:
    """The state of some of the sequences, copied; None for None."""
    if hx is None:
        return None
    return like(hx, [array[:, rows].copy() for array in arrays_of(hx)])


def checked(layer: RecurrentBase, hx: Any, sequences: int) -> Any:
    """The state, if the layer can begin with it; None for None.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        Not as many arrays as the layer has, another dtype, another shape; as torch raises them.
    """
    if hx is None:
        return None
    like = arrays_of(layer.zero_state(sequences))
    arrays = tuple(np.asarray(array) for array in arrays_of(hx))
    if len(arrays) != len(like):
        raise TypeError(
            f"{type(layer).__name__}: hx must be "
            + ("a tuple (h_0, c_0)" if len(like) == 2 else "one array")
        )
    for name, array, expected in zip(("h_0", "c_0"), arrays, like, strict=False):
        if array.shape != expected.shape:
            raise RuntimeError(f"Expected {name} size {expected.shape}, got {list(array.shape)}")
        if array.dtype != expected.dtype:
            raise ValueError(wrong_dtype(name, array.dtype, expected.dtype))
    return arrays if len(arrays) > 1 else arrays[0]
