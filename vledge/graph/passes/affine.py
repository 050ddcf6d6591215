"""Values that are sums of products with known matrices: ``x @ W.T + h @ R.T + b``.

Gemm, MatMul and Add in any order and nesting make such a sum, and so does a part of one, which
Split or Slice takes along the last axis: a gate's part of the sum for all gates is the sum of the
gate's parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vledge.model.definition import Node

__all__ = ["Affine", "AffineForms"]


@dataclass(frozen=True)
class Affine:
    """``sum(x @ weight.T) + bias``."""

    terms: dict[str, np.ndarray]  #: x -> weight [rows, features]
    bias: np.ndarray | None  #: [rows]
    rows: int
    matrix: bool  #: whether the value is certain to have two axes

    def part(self, start: int, stop: int) -> Affine:
        terms = {x: weight[start:stop] for x, weight in self.terms.items()}
        bias = None if self.bias is None else self.bias[start:stop]
        return Affine(terms, bias, stop - start, self.matrix)

    def negated(self) -> Affine:
        terms = {x: -weight for x, weight in self.terms.items()}
        return Affine(terms, None if self.bias is None else -self.bias, self.rows, self.matrix)

    def plus(self, other: Affine) -> Affine | None:
        if self.rows != other.rows:
            return None
        terms = dict(self.terms)
        for x, weight in other.terms.items():
            mine = terms.get(x)
            if mine is not None and (mine.shape != weight.shape or mine.dtype != weight.dtype):
                return None
            terms[x] = weight if mine is None else mine + weight
        biases = [bias for bias in (self.bias, other.bias) if bias is not None]
        bias = biases[0] + biases[1] if len(biases) == 2 else biases[0] if biases else None
        # a product with a matrix of more axes than the other one's makes the sum as large
        return Affine(terms, bias, self.rows, self.matrix and other.matrix)


class AffineForms:
    """The values of one graph that are such sums."""

    def __init__(
        self,
        constants: Mapping[str, np.ndarray],
        makers: Mapping[str, Node],
        ranks: Mapping[str, int],
    ) -> None:
        self.constants = constants
        self.makers = makers
        self.ranks = ranks
        self._known: dict[str, Affine | None] = {}

    def of(self, name: str) -> Affine | None:
        """The sum that a value is, or None."""
        if name not in self._known:
            self._known[name] = None  # what names itself among its inputs is no graph
            self._known[name] = self._made(name)
        return self._known[name]

    def _made(self, name: str) -> Affine | None:
        node = self.makers.get(name)
        if node is None or node.domain:
            return None
        if node.op_type == "Gemm":
            return self._gemm(node)
        if node.op_type == "MatMul":
            weight = self._weight(node.inputs[1])
            if weight is None:
                return None
            matrix = self.ranks.get(node.inputs[0]) == 2
            return Affine({node.inputs[0]: weight.T}, None, weight.shape[1], matrix)
        if node.op_type == "Add":
            left, right = node.inputs
            return self._sum(left, right) or self._sum(right, left)
        if node.op_type in ("Split", "Slice"):
            whole = self.of(node.inputs[0])
            bounds = None if whole is None else self._bounds(node, name, whole)
            return None if whole is None or bounds is None else whole.part(*bounds)
        return None

    def _weight(self, name: str) -> np.ndarray | None:
        weight = self.constants.get(name)
        if weight is None or weight.ndim != 2 or weight.dtype not in (np.float32, np.float64):
            return None
        return weight

    def _gemm(self, node: Node) -> Affine | None:
        weight = self._weight(node.inputs[1])
        if weight is None or node.attributes.get("transA", 0):
            return None
        if not node.attributes.get("transB", 0):
            weight = weight.T
        alpha, beta = (node.attributes.get(key, 1.0) for key in ("alpha", "beta"))
        if alpha != 1:
            weight = weight * weight.dtype.type(alpha)
        product = Affine({node.inputs[0]: weight}, None, weight.shape[0], True)
        if len(node.inputs) < 3 or not node.inputs[2]:
            return product
        bias = self.constants.get(node.inputs[2])
        if bias is not None:
            if bias.dtype != weight.dtype:
                return None
            return self._with_row(product, bias if beta == 1 else bias * bias.dtype.type(beta))
        third = self.of(node.inputs[2])
        return None if third is None or beta != 1 else product.plus(third)

    def _sum(self, left: str, right: str) -> Affine | None:
        first = self.of(left)
        if first is None:
            return None
        bias = self.constants.get(right)
        if bias is not None:
            return self._with_row(first, bias)
        second = self.of(right)
        return None if second is None else first.plus(second)

    def _with_row(self, form: Affine, bias: np.ndarray) -> Affine | None:
        """The sum with a constant added to each row, if that is a row, and gives no more axes."""
        if bias.size != (bias.shape or (1,))[-1] or bias.size not in (1, form.rows):
            return None
        if bias.ndim > (2 if form.matrix else 1):
            return None
        row = np.broadcast_to(bias.ravel(), (form.rows,))
        return Affine(
            form.terms, row if form.bias is None else form.bias + row, form.rows, form.matrix
        )

    def _is_last(self, axis: int, form: Affine) -> bool:
        return axis == -1 or (axis == 1 and form.matrix)

    def _bounds(self, node: Node, name: str, whole: Affine) -> tuple[int, int] | None:
        """Which part of the last axis this is."""
        if node.op_type == "Slice":
            return self._sliced(node, whole)
        if not self._is_last(node.attributes.get("axis", 0), whole):
            return None
        sizes = node.attributes.get("split")
        if len(node.inputs) > 1 and node.inputs[1]:
            given = self.constants.get(node.inputs[1])
            if given is None:
                return None
            sizes = given.tolist()
        if sizes is None:
            size = -(-whole.rows // len(node.outputs))
            sizes = [size] * (len(node.outputs) - 1)
            sizes.append(whole.rows - sum(sizes))
        place = node.outputs.index(name)
        if len(sizes) != len(node.outputs) or sum(sizes) != whole.rows or min(sizes) <= 0:
            return None
        return sum(sizes[:place]), sum(sizes[: place + 1])

    def _sliced(self, node: Node, whole: Affine) -> tuple[int, int] | None:
        if len(node.inputs) > 1:
            bounds = [self.constants.get(name) if name else None for name in node.inputs[1:]]
            if len(bounds) < 3 or any(bound is None for bound in bounds[:3]):
                return None
            starts, ends, axes = (b.ravel().tolist() for b in bounds[:3] if b is not None)
            if len(bounds) > 3 and (bounds[3] is None or (bounds[3] != 1).any()):
                return None
        else:
            starts, ends, axes = (
                list(node.attributes.get(key, [])) for key in ("starts", "ends", "axes")
            )
        if not len(starts) == len(ends) == len(axes) == 1 or not self._is_last(axes[0], whole):
            return None
        start, stop, _ = slice(starts[0], ends[0]).indices(whole.rows)
        return (start, stop) if start < stop else None
