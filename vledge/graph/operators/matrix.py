"""Matrix products: MatMul, Gemm, Einsum.

A matrix that is known at load is packed and multiplied by vledge's own tiles, others by BLAS.

float16 is multiplied in single precision and rounded once: NumPy would sum in half.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from vledge._ext.product import Product
from vledge.errors import FormatError
from vledge.graph.registry import Context, prepared_operator
from vledge.pieces import in_slices, ufunc_into

__all__ = ["Contraction", "matmul"]


#: Multiply-adds of one call of NumPy's product: some ten milliseconds of BLAS, or of its own loops,
#: and of matrices so small that calling BLAS takes longer than they do.
_AT_ONCE: Final = 1 << 28
_AT_ONCE_OF_OTHERS: Final = 1 << 22
#: Matrices of one call: each takes NumPy some 0.1 us, however small it is.
_MATRICES_AT_ONCE: Final = 1 << 16
_SMALL: Final = 1 << 15


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.float16:
        return matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float16)
    by_blas = a.dtype == b.dtype and a.dtype in (np.float32, np.float64)
    if b.ndim and math.prod(a.shape[-2:]) * b.shape[-1] < _SMALL:
        by_blas = False
    return _multiplied(a, b, _AT_ONCE if by_blas else _AT_ONCE_OF_OTHERS)


def _multiplied(a: np.ndarray, b: np.ndarray, most: int) -> np.ndarray:
    if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-2]:
        return np.matmul(a, b)
    shared = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    result = np.empty((*shared, a.shape[-2], b.shape[-1]), np.result_type(a, b))
    if _is_short(result, a.shape[-1], most):
        return np.matmul(a, b, out=result)
    a = np.broadcast_to(a, (*shared, *a.shape[-2:]))
    _multiply(a, np.broadcast_to(b, (*shared, *b.shape[-2:])), result, most)
    return result


def _is_short(out: np.ndarray, depth: int, most: int) -> bool:
    return out.size * depth <= most and math.prod(out.shape[:-2]) <= _MATRICES_AT_ONCE


def _multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray, most: int) -> None:
    """In halves of matrices, or of rows: Ctrl-C is heard between two."""
    axis = max(range(out.ndim - 1), key=lambda k: out.shape[k])
    half = out.shape[axis] // 2
    if _is_short(out, a.shape[-1], most) or half == 0:
        np.matmul(a, b, out=out)
        return
    for part in (slice(0, half), slice(half, None)):
        place = (*(slice(None),) * axis, part)
        _multiply(a[place], b if axis == out.ndim - 2 else b[place], out[place], most)


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


# ---- Einsum

_TERM: Final = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
_EQUATION: Final = re.compile(rf"{_TERM}(,{_TERM})*(->{_TERM})?")


@prepared_operator("Einsum", since=12)
def einsum(context: Context, *, equation: str) -> Callable[..., np.ndarray]:
    """Products of matrices, two operands at a time.

    Axes that repeat are taken along their diagonal, those that one operand alone has are summed
    first.
    """
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

    def run(*operands: np.ndarray) -> np.ndarray:
        half = operands[0].dtype == np.float16
        wide = [operand.astype(np.float32) if half else operand for operand in operands]
        total = _contracted(*_plain(equation, wide))
        return total.astype(operands[0].dtype, copy=False)

    return run


def _plain(
    equation: str, operands: Sequence[np.ndarray]
) -> tuple[list[str], list[np.ndarray], str]:
    """The same without ellipses, diagonals, axes that are broadcast and an output that is left out:
    a letter for each axis, once in a term."""
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    shared = 0
    for place, (term, x) in enumerate(zip(terms, operands, strict=True)):
        axes = x.ndim - len(term.replace("...", ""))
        if axes < 0 or (axes and "..." not in term) or axes > len(spare):
            raise ValueError(f"operand {place} has {x.ndim} axes, {term!r} has other")
        shared = max(shared, axes)
        terms[place] = term.replace("...", "".join(spare[:axes][::-1]))
    ellipsis = "".join(spare[:shared][::-1])  # whose last letters the shorter ones have
    if arrow:
        out = out.replace("...", ellipsis)
    else:  # the letters that appear once, in the alphabet's order
        once = sorted(letter for letter in set(left) - set(".,") if left.count(letter) == 1)
        out = ellipsis + "".join(once)
    if len(set(out)) != len(out) or set(out) - set("".join(terms)):
        raise ValueError(f"the output of {equation!r} repeats an axis, or has one of no operand")
    sizes: dict[str, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for letter, size in zip(term, x.shape, strict=True):
            if sizes.setdefault(letter, size) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                raise ValueError(
                    f"an axis of {equation!r} is {sizes[letter]} long in one place, "
                    f"{size} in another"
                )
    plain = [_one_axis_a_letter(term, x, sizes) for term, x in zip(terms, operands, strict=True)]
    return [term for term, _ in plain], [x for _, x in plain], out


def _one_axis_a_letter(term: str, x: np.ndarray, sizes: dict[str, int]) -> tuple[str, np.ndarray]:
    """A view without the axes of 1 that are longer elsewhere, and along the diagonal of those that
    repeat."""
    kept = [axis for axis, letter in enumerate(term) if x.shape[axis] == sizes[letter]]
    x = x.reshape([x.shape[axis] for axis in kept])
    letters = [term[axis] for axis in kept]
    axis = 0
    while axis < len(letters):
        if (again := letters.index(letters[axis])) < axis:
            x = np.moveaxis(np.diagonal(x, 0, again, axis), -1, again)
            del letters[axis]
        else:
            axis += 1
    return "".join(letters), x


def _contracted(terms: list[str], operands: list[np.ndarray], out: str) -> np.ndarray:
    """Two operands at a time, those first whose product is smallest."""
    for place, (term, x) in enumerate(zip(terms, operands, strict=True)):
        others = "".join([*terms[:place], *terms[place + 1 :], out])
        alone = tuple(axis for axis, letter in enumerate(term) if letter not in others)
        if alone:  # of ``i,j->`` every pair would be multiplied
            terms[place] = "".join(letter for letter in term if letter in others)
            operands[place] = np.asarray(_summed(x, alone))
    while len(terms) > 1:
        sizes = {
            c: n
            for t, x in zip(terms, operands, strict=True)
            for c, n in zip(t, x.shape, strict=True)
        }
        made = {
            pair: _letters_left(terms, pair, out) for pair in combinations(range(len(terms)), 2)
        }
        a, b = min(made, key=lambda pair: math.prod(sizes[letter] for letter in made[pair]))
        product = _as_matrix_product(f"{terms[a]},{terms[b]}->{made[a, b]}")
        assert product is not None  # each letter is once in a term, and in another or the output
        terms[a], operands[a] = made[a, b], product(operands[a], operands[b])
        del terms[b], operands[b]
    return operands[0].transpose([terms[0].index(letter) for letter in out])


def _letters_left(terms: list[str], pair: tuple[int, int], out: str) -> str:
    """The axes of two operands' product: those of others, or of the output, too."""
    rest = "".join([out, *(term for n, term in enumerate(terms) if n not in pair)])
    both = terms[pair[0]] + terms[pair[1]]
    return "".join(dict.fromkeys(letter for letter in both if letter in rest))


def _summed(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    def add(some: np.ndarray) -> np.ndarray:
        return np.asarray(np.add.reduce(some, axes, some.dtype, keepdims=True))

    others = [axis for axis in range(x.ndim) if axis not in axes]
    return in_slices(add, x, others).reshape([x.shape[axis] for axis in others])


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
            # an axis of 1 is broadcast, or sizes clash
            return _contracted(*_plain(self.equation, operands))
        if not self.summed:  # a product for each element of the result
            made = (*shared, *kept, *wide)
            ones = (1,) * len(wide), (1,) * len(kept)
            total = np.empty(made, np.result_type(x, y))
            x, y = x.reshape(shared + kept + ones[0]), y.reshape(shared + ones[1] + wide)
            ufunc_into(np.multiply, total, x, y)
            return total.transpose(self.out_order)
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
