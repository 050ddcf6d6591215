"""Reductions, ArgMax, Hardmax, CumSum, TopK: handlers of ``ext/program/reduce.c``,
``along_axis.c`` and ``sort.c``."""

from __future__ import annotations

from typing import Final

from vledge.graph.native.lowering import Lowered, Site, lowering

# In the order of reduce.c's vl_reduce_kind.
_KINDS: Final = (
    "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceProd", "ReduceMax", "ReduceMin",
)  # fmt: skip


@lowering(*_KINDS)
def reduce(site: Site) -> Lowered:
    op_type = site.node.op_type
    by_input = site.opset >= (13 if op_type == "ReduceSum" else 18)
    noop = site.attribute("noop_with_empty_axes", 0) if by_input else 0
    axes = [] if by_input else site.attribute("axes") or []
    return Lowered("reduce", [_KINDS.index(op_type), site.attribute("keepdims", 1), noop, *axes])


@lowering("ArgMax", "ArgMin")
def arg(site: Site) -> Lowered:
    least = int(site.node.op_type == "ArgMin")
    last = site.attribute("select_last_index", 0)
    return Lowered("arg", [site.attribute("axis", 0), site.attribute("keepdims", 1), last, least])


@lowering("Hardmax")
def hardmax(site: Site) -> Lowered:
    flattens = site.opset < 13
    return Lowered("hardmax", [site.attribute("axis", 1 if flattens else -1), int(flattens)])


@lowering("CumSum")
def cumsum(site: Site) -> Lowered:
    return Lowered("cumsum", [site.attribute("exclusive", 0), site.attribute("reverse", 0)])


@lowering("TopK")
def topk(site: Site) -> Lowered:
    k = -1 if site.opset >= 10 else site.attribute("k")
    return Lowered("topk", [site.attribute("axis", -1), site.attribute("largest", 1), k])
