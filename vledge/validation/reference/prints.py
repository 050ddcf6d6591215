"""Fingerprints of a model's weights: which tensor of a file is another one, and how it is.

A print has a few elements of the tensor and its sums over each axis: enough to tell a transposed
tensor from a rounded one and to name the rows that are wrong, in about a hundredth of its size.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from vledge.model.definition import Graph, Model
from vledge.validation.reference.samples import WEIGHTS, Sample, sampled

__all__ = ["Print", "prints_of", "profile", "stored"]

MOST_SUMS = 4096  # of an axis


@dataclass
class Print:
    """What is known of one tensor of the model that was recorded."""

    checksum: int  #: zlib.crc32 of its bytes
    dtype: str
    sample: Sample
    profiles: dict[int, np.ndarray]  #: axis → its elements' sums, where they are not too many

    def same(self, array: np.ndarray) -> bool:
        """Whether an array is that tensor, bit by bit."""
        return (
            array.shape == self.sample.shape
            and array.dtype.name == self.dtype
            and _checksum(array) == self.checksum
        )


def prints_of(model: Model) -> dict[str, Print]:
    """Of every tensor that the model holds."""
    return {
        name: Print(
            _checksum(array),
            array.dtype.name,
            sampled(array, WEIGHTS),
            {
                axis: profile(array, axis)
                for axis in range(array.ndim)
                if array.dtype.kind in "fiu" and array.shape[axis] <= MOST_SUMS and array.ndim > 1
            },
        )
        for name, array in stored(model.graph).items()
        if array.dtype.kind in "fiub" and array.size
    }


def stored(graph: Graph) -> dict[str, np.ndarray]:
    """The tensors of a graph and of those inside of it: initializers, and values of Constant."""
    found: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        value = node.attributes.get("value")
        if node.op_type == "Constant" and isinstance(value, np.ndarray):
            found[node.outputs[0]] = value
        for inner in node.subgraphs():
            found = stored(inner) | found
    return found | graph.initializers


def profile(array: np.ndarray, axis: int) -> np.ndarray:
    """The sum of everything that each index of an axis has, float64."""
    others = tuple(a for a in range(array.ndim) if a != axis)
    with np.errstate(all="ignore"):
        return np.asarray(array.sum(others, dtype=np.float64))


def _checksum(array: np.ndarray) -> int:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return zlib.crc32(np.ascontiguousarray(little).tobytes())
