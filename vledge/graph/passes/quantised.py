"""Products of values that were quantised and made real again become products of the integers.

``DequantizeLinear(q) @ DequantizeLinear(w)``, as quantisers write it around every MatMul, is
``MatMulInteger(q, w) * (q_scale * w_scale)``: the same numbers but for roundings, of which the
integers have none, and several times as quick. Weights, scales and zero points must be constants.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from vledge.graph.passes.program import Program, captured
from vledge.model.definition import Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["join_quantised"]

_BYTES = (np.dtype(np.uint8), np.dtype(np.int8))
_DEEPEST = 2**31 // 255**2  # no sum of so many products of bytes is beyond int32


def join_quantised(program: Program) -> None:
    """Join in the program's graph and every graph inside of it, in place."""
    _join(program, program.graph)


def _join(program: Program, graph: Graph) -> None:
    readers = Counter(name for node in graph.nodes for name in node.inputs if name)
    readers.update(info.name for info in graph.outputs)
    for node in graph.nodes:
        for inner in node.subgraphs():
            readers.update(captured(inner))
            _join(program, inner)
    made_real: dict[str, Node] = {}
    kept: list[Node] = []
    gone: set[str] = set()
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear" and not node.domain and len(node.inputs) > 1:
            made_real[node.outputs[0]] = node
        if node.op_type == "MatMul" and not node.domain and len(node.inputs) == 2:
            left, right = (made_real.get(name) for name in node.inputs)
            product = None
            if left is not None and right is not None:
                product = _integer_product(program, node, left, right)
            if product is not None:
                kept += product
                gone.update(name for name in node.inputs if readers[name] == 1)
                continue
        kept.append(node)
    graph.nodes = [node for node in kept if node.outputs[0] not in gone]


def _integer_product(program: Program, product: Node, left: Node, right: Node) -> list[Node] | None:
    """The nodes that stand for the product, or None where it is none of such integers."""
    x, w = _Quantised.of(program, left), _Quantised.of(program, right)
    weights = program.constants.get(right.inputs[0])
    if x is None or w is None or weights is None or weights.ndim != 2:
        return None
    depth, columns = weights.shape
    whole = x.scale.size == 1 and x.zero_point.size == 1
    if weights.dtype != w.zero_point.dtype or not whole or not 0 < depth < _DEEPEST:
        return None
    if any(part.size not in (1, columns) for part in (w.scale, w.zero_point)):
        return None
    if w.scale.size > 1 and right.attributes.get("axis", 1) not in (1, -1):
        return None
    names = {}
    for name, array in (
        ("zero", _alike(x.zero_point)),
        ("zeros", _alike(w.zero_point)),
        ("scale", _alike(np.asarray(w.scale * x.scale.astype(np.float64), np.float32))),
    ):
        names[name] = program.fresh(f"{product.outputs[0]}~{name}")
        program.set_constant(names[name], array)
    sums, real = (program.fresh(f"{product.outputs[0]}~{name}") for name in ("integers", "real"))
    inputs = [left.inputs[0], right.inputs[0], names["zero"], names["zeros"]]
    return [
        Node("MatMulInteger", inputs, [sums], {}, product.name),
        Node("Cast", [sums], [real], {"to": NUMBERS["float"]}, product.name),
        Node("Mul", [real, names["scale"]], product.outputs, {}, product.name),
    ]


def _alike(array: np.ndarray) -> np.ndarray:
    """One number without axes, or one for each column."""
    return np.asarray(array.reshape(()) if array.size == 1 else array)


class _Quantised:
    """The parameters of a DequantizeLinear of bytes, all of them constants."""

    def __init__(self, scale: np.ndarray, zero_point: np.ndarray) -> None:
        self.scale, self.zero_point = scale, zero_point

    @classmethod
    def of(cls, program: Program, node: Node) -> _Quantised | None:
        if len(node.inputs) < 3 or node.attributes.get("block_size", 0):
            return None
        if node.attributes.get("output_dtype", 0) not in (0, NUMBERS["float"]):
            return None
        scale, zero_point = (program.constants.get(name) for name in node.inputs[1:3])
        if scale is None or zero_point is None or max(scale.ndim, zero_point.ndim) > 1:
            return None
        fits = scale.dtype == np.float32 and zero_point.dtype in _BYTES
        return cls(scale, zero_point) if fits and scale.size and zero_point.size else None
