"""Values of a graph that are no arrays: sequences. An optional value that is absent is None.

Tensors are ndarrays, sequences are `TensorSequence` inside of a graph and lists outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

__all__ = ["TensorSequence", "as_value"]


@dataclass(frozen=True, slots=True)
class TensorSequence:
    """Arrays of one dtype, in order; it is never changed, so that nodes may share it."""

    arrays: tuple[np.ndarray, ...]
    dtype: np.dtype

    def __array__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise TypeError("a sequence of tensors is given where a tensor is expected")


def as_value(result: Any) -> Any:
    """What an operator returned as a value of the graph: NumPy's scalars become arrays."""
    if result is None or isinstance(result, TensorSequence):
        return result
    return np.asarray(result)
