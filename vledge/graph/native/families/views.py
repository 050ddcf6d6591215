"""Reshape, Transpose, Slice and the like: handlers of ``ext/program/views.c``."""

from __future__ import annotations

from vledge.graph.native.lowering import Lowered, Site, lowering

_END = 2**62


@lowering("Identity")
def identity(site: Site) -> Lowered:
    return Lowered("identity")


@lowering("Dropout")
def dropout(site: Site) -> Lowered | None:
    training = site.constant(2) if site.has(2) else None
    if (site.has(2) and (training is None or training.any())) or any(site.node.outputs[1:]):
        return None
    if not site.attribute("is_test", 1):
        return None
    return Lowered("identity", inputs=site.node.inputs[:1])


@lowering("Reshape")
def reshape(site: Site) -> Lowered:
    allow_zero = site.attribute("allowzero", 0)
    if site.opset < 5:
        return Lowered("reshape", ints=[allow_zero, *site.attribute("shape", [])])
    return Lowered("reshape", ints=[allow_zero])


@lowering("Flatten")
def flatten(site: Site) -> Lowered:
    return Lowered("flatten", ints=[site.attribute("axis", 1)])


@lowering("Squeeze")
def squeeze(site: Site) -> Lowered:
    return Lowered("squeeze", ints=site.attribute("axes", ()))


@lowering("Unsqueeze")
def unsqueeze(site: Site) -> Lowered:
    return Lowered("unsqueeze", ints=site.attribute("axes", ()))


@lowering("Transpose")
def transpose(site: Site) -> Lowered:
    return Lowered("transpose", ints=site.attribute("perm", ()))


@lowering("Slice")
def slice_(site: Site) -> Lowered:
    if site.opset >= 10:
        return Lowered("slice")
    starts, ends = site.attribute("starts"), site.attribute("ends")
    axes = site.attribute("axes", list(range(len(starts))))
    return Lowered("slice", ints=[len(starts), *starts, *ends, *axes])


@lowering("Split")
def split(site: Site) -> Lowered:
    axis, sizes = site.attribute("axis", 0), site.attribute("split")
    if sizes is not None:
        return Lowered("split", ints=[axis, 0, *sizes])
    return Lowered("split", ints=[axis, int(not site.has(1))])


@lowering("Expand")
def expand(site: Site) -> Lowered:
    return Lowered("expand")


@lowering("Shape")
def shape(site: Site) -> Lowered:
    return Lowered("shape", ints=[site.attribute("start", 0), site.attribute("end", _END)])


@lowering("Size")
def size(site: Site) -> Lowered:
    return Lowered("size")
