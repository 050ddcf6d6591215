"""Products with small weights, term by term in NumPy: what the kernels' sums answer to."""

from __future__ import annotations

from typing import Any

import numpy as np

from vledge.small_matrix import FORMS, SmallMatrix

__all__ = ["SmallWeights", "integers", "product"]


def integers(x: np.ndarray, storage: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of float32 as integers [rows, columns], and the rows' scales."""
    levels = np.float32(FORMS[storage].levels)
    largest = np.abs(x).max(axis=1, initial=0).astype(np.float32)
    something = largest >= np.float32(1e-30)
    safe = np.where(something, largest, np.float32(1))
    factors = np.where(something, levels / safe, np.float32(0))
    q = np.rint(x * factors[:, None]).astype(np.int64)
    return q, np.where(something, safe / levels, np.float32(0))


def product(
    x: np.ndarray, small: SmallMatrix, start: np.ndarray, fused: bool
) -> tuple[np.ndarray, np.ndarray]:
    """start + x . w^T [rows, outputs] in the kernels' order, and the blocks' sums of integers
    [rows, outputs, blocks]. ``fused``: whether products and sums are rounded together."""
    block = FORMS[small.storage].block
    q, x_scales = integers(x, small.storage)
    w = small.values.astype(np.int64)
    sums = [q[:, k : k + block] @ w[:, k : k + block].T for k in range(0, w.shape[1], block)]

    def multiply_add(a: Any, b: Any, c: Any) -> np.ndarray:
        wide = np.longdouble if fused else np.float32
        return (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(np.float32)

    total = np.zeros((len(x), len(w)), np.float32)
    for number, one in enumerate(sums):
        assert np.abs(one).max(initial=0) < 2**31
        total = multiply_add(one.astype(np.float32), small.scales[None, :, number], total)
    out = multiply_add(total, x_scales[:, None], np.broadcast_to(start, total.shape))
    return out, np.stack(sums, axis=2) if sums else np.zeros((*total.shape, 0), np.int64)


class SmallWeights:
    """A matrix for the cells' equations in float64, whose left operand goes through integers."""

    __array_ufunc__ = None

    def __init__(self, small: SmallMatrix) -> None:
        self.small = small

    @property
    def T(self) -> SmallWeights:
        return self

    def __getitem__(self, rows: slice) -> SmallWeights:
        return SmallWeights(self.small[rows])

    def __rmatmul__(self, x: np.ndarray) -> np.ndarray:
        q, scales = integers(x.astype(np.float32), self.small.storage)
        block = FORMS[self.small.storage].block
        factors = np.repeat(self.small.scales, block, axis=1)[:, : self.small.shape[1]]
        w = self.small.values.astype(np.float64) * factors
        return q.astype(np.float64) @ w.T * scales[:, None].astype(np.float64)
