"""Values of a graph that are no arrays: sequences. An optional value that is absent is None.

Tensors are ndarrays, sequences are `TensorSequence` inside of a graph and lists outside of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np

from vledge.errors import UnsupportedError
from vledge.model.definition import Graph
from vledge.model.element_types import DTYPES

__all__ = ["Result", "TensorSequence", "Value", "as_value", "check_tensors_only"]


@dataclass(frozen=True, slots=True)
class TensorSequence:
    """Arrays of one dtype, in order; it is never changed, so that nodes may share it."""

    arrays: tuple[np.ndarray, ...]
    dtype: np.dtype

    def __array__(self, *arguments: object, **options: object) -> NoReturn:
        raise TypeError("a sequence of tensors is given where a tensor is expected")


# Nearly always an ndarray; a union would have every reader ask what the model's check has said.
Value: TypeAlias = Any  #: within a graph: ndarray, TensorSequence or None
Result: TypeAlias = Any  #: of a run, as its caller gets it: ndarray, list of ndarray or None


def check_tensors_only(graph: Graph, what: str) -> None:
    """UnsupportedError if an input or output is a sequence or optional; ``what`` has tensors only.

    ``what`` is "a stream", "a reference".
    """
    for info in (*graph.inputs, *graph.outputs):
        if info.type and info.type not in DTYPES:
            raise UnsupportedError(
                f"{info.name!r} is of the type {info.type}: {what} has tensors only. "
                "outputs= of InferenceSession, and `vledge convert --only`, leave others out"
            )


def as_value(result: object) -> Value:
    """What an operator returned as a value of the graph: NumPy's scalars become arrays."""
    if result is None or isinstance(result, TensorSequence):
        return result
    return np.asarray(result)
