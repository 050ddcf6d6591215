"""Det: LAPACK's; of a large matrix by elimination in blocks, between which Ctrl-C is heard."""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge._ext.room import ask
from vledge.graph.operators.matrix import matmul
from vledge.graph.registry import operator
from vledge.pieces import copy_into, in_slices, ufunc_into

#: Rows of a matrix that LAPACK takes some 40 ms for.
_LARGE: Final = 1280
#: Columns that are eliminated one by one, and rows that one call solves for.
_NARROW: Final = 8
_SHORT: Final = 32


@operator("Det", since=11)
def det(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < _LARGE:
        ask(x.shape[-1] ** 2 * x.itemsize if x.ndim else 0)  # LAPACK copies one matrix at a time
        return in_slices(lambda a: np.asarray(np.linalg.det(a), x.dtype), x, range(x.ndim - 2))
    matrices = x.reshape(-1, *x.shape[-2:])
    with np.errstate(all="ignore"):
        return np.array([_of_large(a) for a in matrices]).astype(x.dtype).reshape(x.shape[:-2])


def _of_large(matrix: np.ndarray) -> float:
    a = np.empty(matrix.shape)  # float64, as NumPy computes it whatever the type
    copy_into(a, matrix)
    sign = _eliminate(a, 0, len(a))
    diagonal = a.diagonal()
    if not diagonal.all():
        return 0.0
    return float(sign * np.sign(diagonal).prod() * np.exp(np.log(np.abs(diagonal)).sum()))


def _eliminate(a: np.ndarray, begin: int, end: int) -> int:
    """P L U of the columns, the left half first, then the right; the sign of P's rows.

    Toledo, "Locality of reference in LU decomposition with partial pivoting" (1997).
    """
    if end - begin <= _NARROW:
        return _eliminate_one_by_one(a, begin, end)
    middle = (begin + end) // 2
    sign = _eliminate(a, begin, middle)
    upper = a[begin:middle, middle:end]
    _solve(a[begin:middle, begin:middle], upper)
    below = a[middle:, middle:end]
    ufunc_into(np.subtract, below, below, matmul(a[middle:, begin:middle], upper))
    return sign * _eliminate(a, middle, end)


def _eliminate_one_by_one(a: np.ndarray, begin: int, end: int) -> int:
    columns = a[begin:, begin:end].T.copy()  # side by side in memory
    sign = 1
    for k in range(end - begin):
        pivot = k + int(np.abs(columns[k, k:]).argmax())
        if pivot != k:
            columns[:, [k, pivot]] = columns[:, [pivot, k]]
            a[[begin + k, begin + pivot]] = a[[begin + pivot, begin + k]]
            sign = -sign
        if columns[k, k] == 0:
            continue  # so is all below it
        columns[k, k + 1 :] /= columns[k, k]
        columns[k + 1 :, k + 1 :] -= columns[k + 1 :, k, None] * columns[k, k + 1 :]
    a[begin:, begin:end] = columns.T
    return sign


def _solve(lower: np.ndarray, right: np.ndarray) -> None:
    """``right`` becomes X of L X = right; L's diagonal is ones, and what stands above it is U's."""
    rows = len(lower)
    if rows <= _SHORT:
        right[...] = np.linalg.solve(np.tril(lower, -1) + np.eye(rows), right)
        return
    half = rows // 2
    _solve(lower[:half, :half], right[:half])
    below = right[half:]
    ufunc_into(np.subtract, below, below, matmul(lower[half:, :half], right[:half]))
    _solve(lower[half:, half:], below)
