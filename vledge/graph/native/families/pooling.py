"""MaxPool, AveragePool and those over everything: the handler of ``ext/program/pool.c``."""

from __future__ import annotations

from typing import Final

from vledge.graph.native.families.convolution import axes
from vledge.graph.native.lowering import Lowered, Site, lowering

_AUTO_PADS: Final = {"NOTSET": 0, "VALID": 0, "SAME_UPPER": 1, "SAME_LOWER": 2}


@lowering("MaxPool", "AveragePool")
def pool(site: Site) -> Lowered | None:
    kernel = site.attribute("kernel_shape")
    if len(kernel) > 3 or any(site.node.outputs[1:]):
        return None
    rank, auto_pad = len(kernel), site.attribute("auto_pad", "NOTSET")
    pads = site.attribute("pads") if auto_pad == "NOTSET" else None
    pads = pads or [0] * 2 * rank
    ints = [
        rank,
        int(site.node.op_type == "MaxPool"),
        _AUTO_PADS[auto_pad],
        site.attribute("ceil_mode", 0),
        site.attribute("count_include_pad", 0),
        *axes(kernel, 1),
        *axes(site.attribute("strides") or [1] * rank, 1),
        *axes(site.attribute("dilations") or [1] * rank, 1),
        *axes(pads[:rank], 0),
        *axes(pads[rank:], 0),
    ]
    return Lowered("pool", ints)


@lowering("GlobalMaxPool", "GlobalAveragePool")
def global_pool(site: Site) -> Lowered:
    return Lowered("pool", [0, int(site.node.op_type == "GlobalMaxPool"), 0, 0, 0])
