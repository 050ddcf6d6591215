"""A constant matrix of bytes as the integer products of ``ext/simd/integer.h`` read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from vledge._ext import isa
from vledge._ext.weights import aligned_copy, to_vectors

__all__ = ["IntegerMatrix"]

_WAYS: Final = ("pairs", "dots")  # in the order of kernels.h
_SHIFTS: Final = {  # from a weight to the byte that its way multiplies: unsigned, or signed
    ("pairs", "i"): 128,
    ("pairs", "u"): 0,
    ("dots", "i"): 0,
    ("dots", "u"): -128,
}
_GROUP: Final = 4  # vectors of a panel


class IntegerMatrix:
    """``w [K, N]`` of int8 or uint8, packed for the instruction set that is selected now.

    ``zero_point``, ``scale`` and ``bias`` are one number or ``[N]``, the last two None where the
    result is int32. ``ints`` and ``objects`` are what handlers ask for.
    """

    def __init__(
        self,
        w: np.ndarray,
        zero_point: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> None:
        depth, columns = w.shape
        way, lanes = isa.selected_integers(), isa.lanes(np.float32)
        shift = _SHIFTS[way, w.dtype.kind]
        zero = np.zeros(columns, np.int32)
        if zero_point is not None:
            zero[:] = zero_point.reshape(-1)
        sums = (w.sum(0, dtype=np.int64) - depth * zero.astype(np.int64)).astype(np.int32)
        bits = [1 if (zero + shift).any() else 0, 2 * (scale is not None), 4 * (bias is not None)]
        self.ints: list[int] = [_WAYS.index(way), depth, columns, sum(bits)]
        self.objects: list[Any] = [_packed(w, shift, lanes), _vectors(sums, lanes)]
        if bits[0]:
            self.objects.append(_vectors(zero + shift, lanes))
        for parameter in (scale, bias):
            if parameter is not None:
                own = np.broadcast_to(parameter.reshape(-1).astype(np.float32), (columns,))
                self.objects.append(_vectors(own, lanes))


def _vectors(row: np.ndarray, lanes: int) -> np.ndarray:
    vectors: np.ndarray = aligned_copy(to_vectors(np.ascontiguousarray(row), 1, lanes))
    return vectors


def _packed(w: np.ndarray, shift: int, lanes: int) -> np.ndarray:
    """``[group][k / 4][vector in group][lane][k % 4]``, zeros beyond the depth."""
    depth, columns = w.shape
    quads, vectors = -(-depth // 4), -(-columns // lanes)
    whole = np.zeros((4 * quads, vectors * lanes), np.uint8)
    whole[:depth, :columns] = w.view(np.uint8) + np.uint8(shift % 256)
    parts: Sequence[np.ndarray] = [
        whole[:, first * lanes : (first + _GROUP) * lanes]
        .reshape(quads, 4, -1, lanes)
        .transpose(0, 2, 3, 1)
        .reshape(-1)
        for first in range(0, vectors, _GROUP)
    ]
    packed: np.ndarray = aligned_copy(np.concatenate([*parts, np.zeros(0, np.uint8)]))
    return packed
