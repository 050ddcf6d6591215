"""Matrix products: MatMul, Gemm, Einsum; and Det.

A matrix that is known at load is packed and multiplied by vledge's own tiles, others by BLAS.

float16 is multiplied in single precision and rounded once: NumPy would sum in half.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge._ext.product import Product
from vledge._ext.room import ask
from vledge.errors import FormatError
from vledge.graph.pieces import in_slices
from vledge.graph.registry import Context, operator, prepared_operator

__all__ = ["Contraction", "matmul"]


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.float16:
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    return np.matmul(a, b)


@prepared_operator("MatMul", since=1)
def matmul_(context: Context) -> Callable[..., np.ndarray]:
    known = context.constants[1]
    if known is None or not _packs(known):
        return matmul
    context.release(1)
    return _Known(Product(known.T))


class _Known:
    """A product with a packed matrix, which the native program takes from here."""

    def __init__(self, product: Product, turned: int = 0) -> None:
        self.product = product
        self.turned = turned

    def __call__(self, a: np.ndarray, *_: np.ndarray | None) -> np.ndarray:
        return self.product(a.T if self.turned else a)


class _KnownPlus(_Known):
    """The same and something that comes with each run."""

    def __init__(
        self, product: Product, turned: int, shift: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        super().__init__(product, turned)
        self.shift = shift

    def __call__(self, a: np.ndarray, *others: np.ndarray | None) -> np.ndarray:
        _, c = (*others, None, None)[:2]
        return _added(super().__call__(a), c, self.shift)


def _packs(b: np.ndarray) -> bool:
    return b.ndim == 2 and b.dtype in (np.float32, np.float64)


@prepared_operator("Gemm", since=7)
def gemm(
    context: Context, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Callable[..., np.ndarray]:
    """alpha A B + beta C."""
    _, known_b, known_c = (*context.constants, None)[:3]

    def scaled(b: np.ndarray) -> np.ndarray:
        b = b.T if transB else b
        return b if alpha == 1 else b * b.dtype.type(alpha)

    def shift(c: np.ndarray) -> np.ndarray:
        return c if beta == 1 else c * c.dtype.type(beta)

    if known_b is not None and _packs(known_b):
        b_t = scaled(known_b).T
        context.release(1)
        if known_c is not None and known_c.size in (1, len(b_t)) and known_c.ndim <= 1:
            product = Product(b_t, np.broadcast_to(shift(known_c), len(b_t)))
            context.release(2)
            return _Known(product, transA)
        return _KnownPlus(Product(b_t), transA, shift)

    def run(a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None) -> np.ndarray:
        return _added(matmul(a.T if transA else a, scaled(b)), c, shift)

    return run


def _added(
    total: np.ndarray, c: np.ndarray | None, shift: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    return total if c is None else total + shift(c)


@operator("Det", since=11)
def det(x: np.ndarray) -> np.ndarray:
    ask(x.shape[-1] ** 2 * x.itemsize if x.ndim else 0)  # a matrix at a time is copied by LAPACK
    return in_slices(lambda some: np.asarray(np.linalg.det(some), x.dtype), x, range(x.ndim - 2))


# ---- Einsum

_TERM: Final = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
_EQUATION: Final = re.compile(rf"{_TERM}(,{_TERM})*(->{_TERM})?")


@prepared_operator("Einsum", since=12)
def einsum(context: Context, *, equation: str) -> Callable[..., np.ndarray]:
    """NumPy's, but a product of two operands is one batched matrix product where it can be."""
    equation = equation.replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if not _EQUATION.fullmatch(equation) or len(terms) != len(context.node.inputs):
        raise FormatError(
            f"equation is {equation!r}, expected letters for the axes of "
            f"{len(context.node.inputs)} inputs"
        )
    product = _as_matrix_product(equation)
    if product is not None:
        return product
    rest, alone = _summed_alone(equation)
    contract = _as_matrix_product(rest) or functools.partial(_einsum, rest)

    def run(*operands: np.ndarray) -> np.ndarray:
        half = operands[0].dtype == np.float16
        wide = [operand.astype(np.float32) if half else operand for operand in operands]
        summed = [
            np.add.reduce(operand, axes, operand.dtype) if axes else operand
            for operand, axes in zip(wide, alone, strict=True)
        ]
        return np.asarray(contract(*summed)).astype(operands[0].dtype, copy=False)

    return run


def _einsum(equation: str, *operands: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum(equation, *operands, optimize=len(operands) > 2))


def _summed_alone(equation: str) -> tuple[str, list[tuple[int, ...]]]:
    """The equation without the letters that one operand alone has, and which axes of each they are.

    They are summed first: of ``i,j->`` NumPy would add up every pair.
    """
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation:  # without an arrow such letters are kept
        return equation, [()] * len(terms)
    alone = [
        tuple(axis for axis, letter in enumerate(term) if (left + out).count(letter) == 1)
        for term in terms
    ]
    kept = [
        "".join(letter for axis, letter in enumerate(term) if axis not in axes)
        for term, axes in zip(terms, alone, strict=True)
    ]
    return f"{','.join(kept)}->{out}", alone


@dataclass(frozen=True)
class Contraction:
    """An equation of two operands as matrix products, one for each index of the batch's letters.

    The orders are of the axes: ``a_order`` batch, rows, summed, ``b_order`` batch, summed, columns;
    ``out_order`` says where among batch, rows, columns each axis of the output stands.
    """

    equation: str
    batches: int
    rows: int
    summed: int
    columns: int
    a_order: list[int]
    b_order: list[int]
    out_order: list[int]

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        operands = x, y
        x, y = x.transpose(self.a_order), y.transpose(self.b_order)
        inside = self.batches + self.rows
        shared, kept = x.shape[: self.batches], x.shape[self.batches : inside]
        along, wide = x.shape[inside:], y.shape[self.batches + self.summed :]
        if y.shape[: self.batches + self.summed] != shared + along:
            return np.einsum(self.equation, *operands)  # an axis of 1 is broadcast, or sizes clash
        rows, inner, columns = (math.prod(sizes) for sizes in (kept, along, wide))
        result = matmul(x.reshape(*shared, rows, inner), y.reshape(*shared, inner, columns))
        return result.reshape(shared + kept + wide).transpose(self.out_order)


def _as_matrix_product(equation: str) -> Contraction | None:
    """The equation of two operands without diagonals, lone sums and ellipses."""
    left, arrow, out = equation.partition("->")
    a, comma, b = left.partition(",")
    if not comma or "," in b or "." in equation:
        return None
    if not arrow:  # the letters that appear once, in the alphabet's order
        out = "".join(sorted(letter for letter in set(a + b) if (a + b).count(letter) == 1))
    if any(len(set(term)) != len(term) for term in (a, b, out)):
        return None
    if set(out) - set(a + b) or set(a) - set(b + out) or set(b) - set(a + out):
        return None
    batch = [letter for letter in out if letter in a and letter in b]
    summed = [letter for letter in a if letter in b and letter not in out]
    rows = [letter for letter in out if letter not in b]
    columns = [letter for letter in out if letter not in a]
    made = [*batch, *rows, *columns]
    return Contraction(
        equation,
        len(batch),
        len(rows),
        len(summed),
        len(columns),
        [a.index(letter) for letter in (*batch, *rows, *summed)],
        [b.index(letter) for letter in (*batch, *summed, *columns)],
        [made.index(letter) for letter in out],
    )
