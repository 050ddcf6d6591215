"""MatMul, Einsum and Gemm: handlers of ``ext/program/matrix.c``."""

from __future__ import annotations

import numpy as np

from vledge._ext.product import Product
from vledge._ext.program import type_code
from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.graph.operators.matrix import Contraction


@lowering("MatMul")
def matmul(site: Site) -> Lowered:
    product = _known(site)
    if product is None:
        return Lowered("matmul")
    return Lowered(
        "matmul_known",
        ints=[product.depth, product.columns, 0, type_code(product.dtype) or 0],
        objects=_arrays(product),
        inputs=site.without(1),
    )


@lowering("Einsum")
def einsum(site: Site) -> Lowered | None:
    """Products of matrices; element by element, where nothing is summed or one side has no axis of
    its own, a product for each number would be slower than NumPy."""
    product = site.prepared.function
    if not isinstance(product, Contraction) or not (product.rows or product.columns):
        return None
    counts = [product.batches, product.rows, product.summed, product.columns]
    return Lowered("einsum", [*counts, *product.a_order, *product.b_order, *product.out_order])


@lowering("Gemm")
def gemm(site: Site) -> Lowered:
    ints = [site.attribute("transA", 0), site.attribute("transB", 0), 0, 0, 0, 0]
    floats = [site.attribute("alpha", 1.0), site.attribute("beta", 1.0)]
    product = _known(site)
    if product is None:
        return Lowered("gemm", ints, floats)
    ints[2:4] = product.depth, product.columns
    ints[5] = type_code(product.dtype) or 0
    objects = _arrays(product)
    gone = (1, 2) if len(objects) == 2 else (1,)
    return Lowered("gemm", ints, floats, objects, site.without(*gone))


def _known(site: Site) -> Product | None:
    """The packed matrix that the Python operator holds."""
    product: Product | None = getattr(site.prepared.function, "product", None)
    return product


def _arrays(product: Product) -> list[np.ndarray]:
    return (
        [product.packed] if product.bias_vectors is None else [product.packed, product.bias_vectors]
    )
