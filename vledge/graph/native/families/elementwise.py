"""Element-wise operators by themselves: chains of reals, or handlers of ``ext/program/typed.c``.

Runs of them are joined by `vledge.graph.native.clusters`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge._ext.program import type_code
from vledge.graph.native.clusters import chain_lowered
from vledge.graph.native.expressions import expressed
from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.model.definition import INTERNAL_DOMAIN
from vledge.model.element_types import dtype_of

# Handlers of any type, by operator and how many inputs it has there.
_TYPED: Final = {
    ("Add", 2): "add", ("Sub", 2): "subtract", ("Mul", 2): "multiply", ("Div", 2): "divide",
    ("Max", 2): "maximum", ("Min", 2): "minimum", ("Sum", 2): "add", ("Pow", 2): "power",
    ("Max", 1): "identity", ("Min", 1): "identity", ("Sum", 1): "identity",
    ("Abs", 1): "absolute", ("Ceil", 1): "ceil", ("Floor", 1): "floor", ("Neg", 1): "negative",
    ("Reciprocal", 1): "reciprocal", ("Round", 1): "round", ("Sign", 1): "sign",
    ("Sqrt", 1): "sqrt",
    ("Less", 2): "less", ("LessOrEqual", 2): "less_equal", ("Equal", 2): "equal",
    ("Greater", 2): "greater", ("GreaterOrEqual", 2): "greater_equal",
    ("And", 2): "logical_and", ("Or", 2): "logical_or", ("Xor", 2): "logical_xor",
    ("Not", 1): "logical_not", ("BitwiseAnd", 2): "bitwise_and", ("BitwiseOr", 2): "bitwise_or",
    ("BitwiseXor", 2): "bitwise_xor", ("BitwiseNot", 1): "bitwise_not", ("IsNaN", 1): "is_nan",
    ("Where", 3): "where", ("Clip", 1): "clip", ("Clip", 2): "clip", ("Clip", 3): "clip",
}  # fmt: skip
# What is lowered otherwise by itself
_APART: Final = {"Cast", "DequantizeLinear", "IsInf", "MultiplyAdd", "QuantizeLinear"}


@lowering(*sorted(({op_type for op_type, _ in _TYPED} | expressed()) - _APART))
def elementwise(site: Site) -> Lowered | None:
    made = None if _is_logic(site) else chain_lowered([site], site.node.outputs[0])
    if made is not None:
        return made
    if site.node.op_type == "Clip" and site.opset < 11:  # bounds are attributes
        return None
    handler = _TYPED.get((site.node.op_type, len(site.node.inputs)))
    return None if handler is None else Lowered(handler)


lowering("Gelu", "MultiplyAdd", domain=INTERNAL_DOMAIN)(elementwise)


def _is_logic(site: Site) -> bool:
    """Of bools alone: typed handlers move bytes."""
    return site.node.op_type in ("And", "Or", "Xor", "Not")


@lowering("IsInf")
def is_inf(site: Site) -> Lowered | None:
    made = chain_lowered([site], site.node.outputs[0])
    both = site.attribute("detect_negative", 1) and site.attribute("detect_positive", 1)
    return Lowered("is_inf") if made is None and both else made


@lowering("Mod")
def mod(site: Site) -> Lowered:
    return Lowered("remainder" if site.attribute("fmod", 0) else "modulo")


@lowering("Cast")
def cast(site: Site) -> Lowered | None:
    """bfloat16 is held as float32, but rounds: Python's."""
    to = site.attribute("to")
    dtype = dtype_of(to)
    if dtype is None or to == 16:
        return None
    return _cast_to(dtype)


@lowering("CastLike")
def cast_like(site: Site) -> Lowered | None:
    dtype = site.dtype(1)
    return None if dtype is None else _cast_to(dtype)


def _cast_to(dtype: np.dtype) -> Lowered | None:
    code = type_code(dtype)
    return None if code is None else Lowered("cast", ints=[code])
