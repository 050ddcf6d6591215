"""Where small weights stand among vectors of lanes, and back: small_kernels.h's ``vl_small``.

Plain NumPy, for what happens once, at load; groups, vectors and panels are layout.py's. A group is
one block of terms after another::

    scales[vector in group][L], undo[vector in group][L], q[k / terms][vector in group][L][terms]

``undo`` stands there only where the way to multiply adds an offset to its inputs.
"""

from typing import NamedTuple

import numpy as np

from vledge._ext.layout import aligned_empty, from_vectors, to_vectors, vector_count
from vledge.pieces import copy_into
from vledge.small_matrix import FORMS, SmallMatrix

__all__ = ["STEP", "SmallLayout", "pack_small", "unpack_small"]

STEP = 4  # VL_SMALL_STEP: columns are filled up to a multiple


class SmallLayout(NamedTuple):
    """How a way to multiply integers wants them."""

    terms: int  #: columns that stand side by side in a lane
    undo: int  #: times a sum of weights, undoes the offset of inputs; 0: there is none
    offset: int  #: that the weights have added, modulo 256


class _Block(NamedTuple):
    """Where a block stands in the bytes of a group, and its columns."""

    columns: slice
    scales: slice
    undo: slice
    values: slice


def _blocks(width: int, lanes: int, depth: int, storage: str, layout: SmallLayout) -> list[_Block]:
    form = FORMS[storage]
    padded = -(-depth // STEP) * STEP
    blocks, at = [], 0
    for first in range(0, padded, form.block):
        last = min(first + form.block, padded)
        scales = at + width * lanes * 4
        undo = scales + (width * lanes * 4 if layout.undo else 0)
        end = undo + width * lanes * (last - first) * form.dtype.itemsize
        places = slice(at, scales), slice(scales, undo), slice(undo, end)
        blocks.append(_Block(slice(first, last), *places))
        at = end
    return blocks


def _parts(count: int, group: int) -> list[tuple[slice, int]]:
    """The vectors of all whole groups and their width, and those that are left."""
    full = count // group * group
    parts = [(slice(0, full), group), (slice(full, count), count - full)]
    return [(vectors, width) for vectors, width in parts if vectors.stop > vectors.start]


def pack_small(
    matrix: SmallMatrix, gates: int, lanes: int, group: int, layout: SmallLayout
) -> np.ndarray:
    """``[G*H, K]`` → packed bytes, groups of so many vectors, the last may be narrower."""
    form = FORMS[matrix.storage]
    depth = matrix.shape[1]
    rows, scales = to_vectors(matrix.values, gates, lanes), to_vectors(matrix.scales, gates, lanes)
    values = np.zeros((*rows.shape[:2], -(-depth // STEP) * STEP), form.dtype)
    values[..., :depth] = rows
    pieces = []
    for vectors, width in _parts(len(values), group):
        groups = (vectors.stop - vectors.start) // width
        blocks = _blocks(width, lanes, depth, matrix.storage, layout)
        bytes_ = np.empty((groups, blocks[-1].values.stop if blocks else 0), np.uint8)
        for number, block in enumerate(blocks):
            q = values[vectors, :, block.columns]
            bytes_[:, block.scales] = _bytes(scales[vectors, :, number], groups)
            if layout.undo:
                sums = q.sum(axis=2, dtype=np.int64) * layout.undo
                bytes_[:, block.undo] = _bytes(sums.astype(np.int32), groups)
            q = q.reshape(groups, width, lanes, -1, layout.terms).transpose(0, 3, 1, 2, 4)
            bytes_[:, block.values] = _bytes(q, groups) + np.uint8(layout.offset)
        pieces.append(bytes_.reshape(-1))
    packed = aligned_empty((sum(map(len, pieces)),), np.uint8)
    end = 0
    for piece in pieces:
        begin, end = end, end + len(piece)
        copy_into(packed[begin:end], piece)
    return packed


def _bytes(array: np.ndarray, groups: int) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8).reshape(groups, -1)


def unpack_small(
    packed: np.ndarray,
    gates: int,
    hidden_size: int,
    depth: int,
    lanes: int,
    group: int,
    storage: str,
    layout: SmallLayout,
) -> SmallMatrix:
    """The inverse of :func:`pack_small`."""
    form = FORMS[storage]
    count = vector_count(gates, hidden_size, lanes)
    values = np.empty((count, lanes, -(-depth // STEP) * STEP), form.dtype)
    scales = np.empty((count, lanes, -(-depth // form.block)), np.float32)
    at = 0
    for vectors, width in _parts(count, group):
        groups = (vectors.stop - vectors.start) // width
        blocks = _blocks(width, lanes, depth, storage, layout)
        size = blocks[-1].values.stop if blocks else 0
        bytes_ = packed[at : at + groups * size].reshape(groups, size)
        at += groups * size
        for number, block in enumerate(blocks):
            one = np.ascontiguousarray(bytes_[:, block.scales]).view(np.float32)
            scales[vectors, :, number] = one.reshape(-1, lanes)
            q = (bytes_[:, block.values] - np.uint8(layout.offset)).view(form.dtype)
            q = q.reshape(groups, -1, width, lanes, layout.terms).transpose(0, 2, 3, 1, 4)
            values[vectors, :, block.columns] = q.reshape(groups * width, lanes, -1)
    rows = from_vectors(values, gates, hidden_size)[:, :depth]
    return SmallMatrix(
        np.ascontiguousarray(rows), from_vectors(scales, gates, hidden_size), storage
    )
