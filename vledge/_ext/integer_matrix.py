"""A constant matrix of bytes as the integer products of ``ext/simd/bytes/integer.h`` read it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from vledge._ext import isa
from vledge._ext.layout import aligned_copy, to_vectors

__all__ = ["IntegerMatrix", "gates_in_panels"]

_GROUP: Final = 4  # vectors of a panel
# "bytes" adds products of two weights and two bytes in 16 bits: 255 * 128 is below 2^15.
_MOST_OF_TWO: Final = 128
# Extra fours, of all, from which on pairs are as quick (AVX-512; AVX2: twice as many).
_MOST_EXTRA: Final = 0.5


class IntegerMatrix:
    """``w [K, N]`` of int8 or uint8, packed for the instruction set that is selected now.

    ``zero_point``, ``scale`` and ``bias`` are one number or ``[N]``, the last two None where the
    result is int32. A row that it is multiplied with has ``runs`` of K / runs bytes, each read in
    whole fours. ``ints`` and ``objects`` are what handlers ask for.
    """

    def __init__(
        self,
        w: np.ndarray,
        zero_point: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        runs: int = 1,
    ) -> None:
        depth, columns = w.shape
        way, lanes = isa.selected_integers(), isa.lanes(np.float32)
        way, packed, extras = _packed(w.reshape(runs, -1, columns), way, lanes)
        zero = np.zeros(columns, np.int32)
        if zero_point is not None:
            zero[:] = zero_point.reshape(-1)
        sums = (w.sum(0, dtype=np.int64) - depth * zero.astype(np.int64)).astype(np.int32)
        zero += _shift(w, way)
        bits = [int(zero.any()), 2 * (scale is not None), 4 * (bias is not None)]
        self.ints: list[int] = [isa.WAYS.index(way), depth, columns, runs, sum(bits)]
        self.objects: list[object] = [aligned_copy(packed), _vectors(sums, lanes), *extras]
        if bits[0]:
            self.objects.append(_vectors(zero, lanes))
        for parameter in (scale, bias):
            if parameter is not None:
                own = np.broadcast_to(parameter.reshape(-1).astype(np.float32), (columns,))
                self.objects.append(_vectors(own, lanes))


def gates_in_panels(gates: np.ndarray) -> np.ndarray:
    """``[*, gate, unit]`` → ``[*, panel * gate * L]``, zeros where units do not fill a panel: the
    columns of a recurrent layer's matrix, whose sums the cell's kernel reads."""
    *rows, count, size = gates.shape
    lanes = isa.lanes(np.float32)
    whole = np.zeros((*rows, count, -(-size // lanes) * lanes), gates.dtype)
    whole[..., :size] = gates
    by_panel = whole.reshape(*rows, count, -1, lanes).swapaxes(-3, -2)
    return np.ascontiguousarray(by_panel.reshape(*rows, whole.size // max(math.prod(rows), 1)))


def _vectors(row: np.ndarray, lanes: int) -> np.ndarray:
    vectors: np.ndarray = aligned_copy(to_vectors(np.ascontiguousarray(row), 1, lanes))
    return vectors


def _shift(w: np.ndarray, way: str) -> int:
    """From a weight to the byte that is multiplied, unsigned or signed as the way takes it."""
    if isa.unsigned_weights(way):
        return 128 if w.dtype.kind == "i" else 0
    return -128 if w.dtype.kind == "u" else 0


def _packed(w: np.ndarray, way: str, lanes: int) -> tuple[str, np.ndarray, list[np.ndarray]]:
    """The way that ``w [runs, K, N]`` is packed for in the end, the weights, and what "bytes" needs
    beside them."""
    runs, depth, columns = w.shape
    padded = np.zeros((runs, -(-depth // 4) * 4, -(-columns // lanes) * lanes), np.uint8)
    padded[:, :depth, :columns] = w.view(np.uint8) + np.uint8(_shift(w, way) % 256)
    whole = padded.reshape(-1, padded.shape[2])
    if way != "bytes":
        return way, np.concatenate(_groups(whole, lanes)), []
    packed, *extras = _by_bytes(whole.view(np.int8), lanes)
    if packed.size > (1 + _MOST_EXTRA) * whole.size:
        return _packed(w, "pairs", lanes)
    return way, packed, extras


def _groups(whole: np.ndarray, lanes: int) -> list[np.ndarray]:
    """``[k / 4][vector in group][lane][k % 4]`` of each group of vectors, and an empty one."""
    width = _GROUP * lanes
    parts = [
        whole[:, first : first + width].reshape(len(whole) // 4, 4, -1, lanes)
        for first in range(0, whole.shape[1], width)
    ]
    return [*(part.transpose(0, 2, 3, 1).reshape(-1) for part in parts), whole[:0, 0]]


def _by_bytes(whole: np.ndarray, lanes: int) -> tuple[np.ndarray, ...]:
    """All groups' weights, where each begins, and the extra fours: a part of the pairs of weights
    whose products could be beyond 16 bits."""
    two = whole.reshape(-1, 2, whole.shape[1]).astype(np.int16)
    beyond = (np.maximum(two, 0).sum(1) > _MOST_OF_TWO) | (
        np.minimum(two, 0).sum(1) < -_MOST_OF_TWO
    )
    half = _MOST_OF_TWO // 2
    near = np.where(beyond[:, None], np.clip(two, -half, half), two)
    near, rest = (part.reshape(whole.shape).astype(np.int8) for part in (near, two - near))
    width, fours = _GROUP * lanes, rest.reshape(-1, 4, whole.shape[1])
    parts: list[np.ndarray] = []
    starts, extras = [], []
    for first in range(0, whole.shape[1], width):
        columns = slice(first, first + width)
        extra = np.flatnonzero(fours[:, :, columns].any((1, 2)))
        own = np.concatenate(
            [near[:, columns], fours[extra, :, columns].reshape(-1, near[:, columns].shape[1])]
        )
        starts.append(sum(part.size for part in parts))
        parts += _groups(own, lanes)
        extras.append(extra.astype(np.int32))
    ends = np.cumsum([0, *map(len, extras)], dtype=np.int32)
    none = np.zeros(1, np.int32)
    return (
        np.concatenate([*parts, whole[:0, 0]]),
        np.array([*starts, 0], np.int64),
        ends,
        np.concatenate([*extras, none]),
    )
