"""Gather and Scatter by computed places, and their like: handlers of
``ext/program/indexing.c`` and ``rearrange.c``."""

from __future__ import annotations

from vledge.graph.native.lowering import Lowered, Site, lowering

_HOW = {"none": 0, "add": 1, "mul": 2, "max": 3, "min": 4}


@lowering("GatherElements")
def gather_elements(site: Site) -> Lowered:
    return Lowered("gather_elements", ints=[site.attribute("axis", 0)])


@lowering("GatherND")
def gather_nd(site: Site) -> Lowered | None:
    return None if site.attribute("batch_dims", 0) else Lowered("gather_nd")


@lowering("Scatter", "ScatterElements")
def scatter_elements(site: Site) -> Lowered:
    return Lowered("scatter_elements", ints=[site.attribute("axis", 0), _how(site)])


@lowering("ScatterND")
def scatter_nd(site: Site) -> Lowered:
    return Lowered("scatter_nd", ints=[_how(site)])


def _how(site: Site) -> int:
    return _HOW[site.attribute("reduction", "none")]


@lowering("ReverseSequence")
def reverse_sequence(site: Site) -> Lowered | None:
    axes = site.attribute("time_axis", 0), site.attribute("batch_axis", 1)
    return Lowered("reverse_sequence", ints=axes) if sorted(axes) == [0, 1] else None


@lowering("Trilu")
def trilu(site: Site) -> Lowered:
    return Lowered("trilu", ints=[site.attribute("upper", 1)])


@lowering("NonZero")
def nonzero(site: Site) -> Lowered:
    return Lowered("nonzero")


@lowering("Compress")
def compress(site: Site) -> Lowered:
    return Lowered("compress", ints=_axis(site))


@lowering("Unique")
def unique(site: Site) -> Lowered:
    return Lowered("unique", ints=[*_axis(site), site.attribute("sorted", 1)])


def _axis(site: Site) -> list[int]:
    """Whether the node names one, and which."""
    axis = site.attribute("axis")
    return [int(axis is not None), axis or 0]


@lowering("OneHot")
def one_hot(site: Site) -> Lowered:
    return Lowered("one_hot", ints=[site.attribute("axis", -1)])


@lowering("DepthToSpace")
def depth_to_space(site: Site) -> Lowered:
    dcr = site.attribute("mode", "DCR") == "DCR"
    return Lowered("blocks", ints=[site.attribute("blocksize"), 1, int(dcr)])


@lowering("SpaceToDepth")
def space_to_depth(site: Site) -> Lowered:
    dcr = site.attribute("mode", "DCR") == "DCR"
    return Lowered("blocks", ints=[site.attribute("blocksize"), 0, int(dcr)])
