"""Concat, Gather, Pad and the like: handlers of ``ext/program/movement.c``."""

from __future__ import annotations

import numpy as np

from vledge._ext.program import type_code
from vledge.graph.native.lowering import Lowered, Site, lowering

_MODES = {"constant": 0, "reflect": 1, "edge": 2, "wrap": 3}


@lowering("Concat")
def concat(site: Site) -> Lowered:
    return Lowered("concat", ints=[site.attribute("axis", 1)])


@lowering("Gather")
def gather(site: Site) -> Lowered:
    return Lowered("gather", ints=[site.attribute("axis", 0)])


@lowering("Pad")
def pad(site: Site) -> Lowered | None:
    mode = _MODES.get(site.attribute("mode", "constant"))
    if mode is None:
        return None
    if site.opset >= 11:
        return Lowered("pad", ints=[mode, 0])
    pads = site.attribute("pads", site.attribute("paddings", []))
    return Lowered("pad", ints=[mode, 1, *pads], floats=[site.attribute("value", 0.0)])


@lowering("Tile")
def tile(site: Site) -> Lowered | None:
    return Lowered("tile") if site.opset >= 6 else None


@lowering("ConstantOfShape")
def constant_of_shape(site: Site) -> Lowered | None:
    value = site.attribute("value", np.zeros(1, np.float32))
    code = type_code(value.dtype)
    if code is None or value.size != 1:
        return None
    bits = np.zeros(8, np.uint8)
    bits[: value.dtype.itemsize] = np.frombuffer(value.tobytes(), np.uint8)
    return Lowered("constant_of_shape", ints=[code, int(bits.view(np.int64)[0])])


@lowering("Range")
def range_(site: Site) -> Lowered:
    return Lowered("range")
