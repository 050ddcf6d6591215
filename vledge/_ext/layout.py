"""Where the numbers of a matrix stand among vectors of lanes, and back.

What is laid out for kernels is packed from these. Plain NumPy, for what happens once, at load.

A matrix ``[G*H, K]`` of G gates and H hidden units is cut into panels of L units (L: a vector's
lanes), whose gates are a vector each; the units that do not fill a panel have their gates side by
side in as few vectors as hold them.
"""

import math

import numpy as np
from numpy.typing import DTypeLike

from vledge.pieces import copy_into

__all__ = [
    "aligned_copy",
    "aligned_empty",
    "candidate_bias",
    "from_vectors",
    "group_of",
    "to_vectors",
    "unpack",
    "vector_count",
]


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An uninitialised C-contiguous array that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array: np.ndarray = memory[start : start + size].view(dtype).reshape(shape)
    return array


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """The same numbers, C-contiguous, beginning at a multiple of 64 bytes."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def candidate_bias(bias_hh: np.ndarray, lanes: int) -> np.ndarray:
    """What the sums of a GRU's third gate begin with.

    Of full panels its vectors; of the units that do not fill one, where it shares vectors with the
    other two gates, zeros for those.
    """
    alone = np.zeros_like(bias_hh)
    third = slice(2 * len(bias_hh) // 3, None)
    alone[third] = bias_hh[third]
    vectors = to_vectors(alone, 3, lanes)
    full = 3 * (len(bias_hh) // 3 // lanes)
    return aligned_copy(np.concatenate([vectors[2:full:3], vectors[full:]]))


def group_of(gates: int) -> int:
    """Vectors that stand side by side in packed weights: the three gates of a panel, else four."""
    return 3 if gates == 3 else 4


def vector_count(gates: int, hidden_size: int, lanes: int) -> int:
    """Vectors of one row of ``gates * hidden_size`` results."""
    panels, units = divmod(hidden_size, lanes)
    return panels * gates + -(-units * gates // lanes)


def to_vectors(matrix: np.ndarray, gates: int, lanes: int) -> np.ndarray:
    """``[gates*H, ...]`` → ``[vectors, lanes, ...]``, zeros in lanes that hold nothing."""
    hidden_size, rest = matrix.shape[0] // gates, matrix.shape[1:]
    full = hidden_size // lanes * lanes
    by_gate = matrix.reshape(gates, hidden_size, *rest)
    rows = np.zeros((vector_count(gates, hidden_size, lanes) * lanes, *rest), matrix.dtype)
    panels = rows[: gates * full].reshape(full // lanes, gates, lanes, *rest)
    copy_into(panels, by_gate[:, :full].reshape(gates, full // lanes, lanes, *rest).swapaxes(0, 1))
    rows[gates * full : gates * hidden_size] = by_gate[:, full:].reshape(
        gates * (hidden_size - full), *rest
    )
    return rows.reshape(len(rows) // lanes, lanes, *rest)


def from_vectors(vectors: np.ndarray, gates: int, hidden_size: int) -> np.ndarray:
    """The inverse of :func:`to_vectors`."""
    lanes, rest = vectors.shape[1], vectors.shape[2:]
    full = hidden_size // lanes * lanes
    rows = vectors.reshape(len(vectors) * lanes, *rest)
    by_gate = np.empty((gates, hidden_size, *rest), vectors.dtype)
    panels = rows[: gates * full].reshape(full // lanes, gates, lanes, *rest).swapaxes(0, 1)
    copy_into(by_gate[:, :full].reshape(gates, full // lanes, lanes, *rest), panels)
    by_gate[:, full:] = rows[gates * full : gates * hidden_size].reshape(
        gates, hidden_size - full, *rest
    )
    return by_gate.reshape(gates * hidden_size, *rest)


def unpack(
    packed: np.ndarray, gates: int, hidden_size: int, depth: int, lanes: int, group: int
) -> np.ndarray:
    """``packed[group][k][vector in group][L]`` of ``weights.pack`` → ``[gates*H, depth]``."""
    count = vector_count(gates, hidden_size, lanes)
    full = count // group * group
    vectors = np.empty((count, lanes, depth), packed.dtype)
    head = packed[: full * lanes * depth].reshape(full // group, depth, group, lanes)
    copy_into(
        vectors[:full].reshape(full // group, group, lanes, depth), head.transpose(0, 2, 3, 1)
    )
    tail = packed[full * lanes * depth :].reshape(depth, count - full, lanes)
    vectors[full:] = tail.transpose(1, 2, 0)
    return from_vectors(vectors, gates, hidden_size)
