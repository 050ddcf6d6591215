"""A product or convolution of integers, and the nodes that make it real, as one instruction.

What quantisers write is Cast(MatMulInteger(q, w)) * (x_scale * w_scale) + bias, often with the two
scales multiplied in a node of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.graph.native.families.integer import scaled_convolution, scaled_product
from vledge.graph.native.lowering import Joint, Site
from vledge.model.element_types import NUMBERS

__all__ = ["integer_joints"]

_SCALED: Final = {"MatMulInteger": scaled_product, "ConvInteger": scaled_convolution}


def integer_joints(sites: Sequence[Site], readers: Mapping[str, set[int]]) -> list[Joint]:
    """``readers`` are the places of those who read each value, -1 for who is no node."""
    makers = {name: place for place, own in enumerate(sites) for name in own.node.outputs if name}
    joints = []
    for place, own in enumerate(sites):
        if own.node.op_type in _SCALED and not own.node.domain:
            found = _Finder(sites, readers, makers).joint(place)
            if found is not None:
                joints.append(found)
    return joints


@dataclass(frozen=True)
class _Finder:
    sites: Sequence[Site]
    readers: Mapping[str, set[int]]
    makers: Mapping[str, int]

    def joint(self, place: int) -> Joint | None:
        cast = self.only_reader(place, "Cast")
        if cast is None or self.sites[cast].attribute("to") != NUMBERS["float"]:
            return None
        product = self.only_reader(cast, "Mul")
        factor = None if product is None else self.other(product, cast)
        if product is None or factor is None:
            return None
        scales = self.scales(factor, product)
        if scales is None:
            return None
        scale_place, x_scale, scale = scales
        places = [place, cast, product, *scale_place]
        lower = _SCALED[self.sites[place].node.op_type]
        total = self.only_reader(product, "Add")
        if total is not None:
            bias = self.sites[total].constants.get(self.other(total, product) or "")
            if bias is not None and bias.dtype == np.float32:
                result = self.sites[total].node.outputs[0]
                made = lower(self.sites[place], result, x_scale, scale, bias)
                if made is not None:
                    return Joint(sorted([*places, total]), made)
        result = self.sites[product].node.outputs[0]
        made = lower(self.sites[place], result, x_scale, scale, None)
        return None if made is None else Joint(sorted(places), made)

    def only_reader(self, place: int, op_type: str) -> int | None:
        """Who alone reads a node's result, if it is such a node."""
        found = self.readers.get(self.sites[place].node.outputs[0], set())
        reader = next(iter(found)) if len(found) == 1 else -1
        node = self.sites[reader].node if reader >= 0 else None
        return reader if node and node.op_type == op_type and not node.domain else None

    def other(self, place: int, source: int) -> str | None:
        """What a node of two inputs reads beside a result; None where that is the same."""
        name = self.sites[source].node.outputs[0]
        rest = [other for other in self.sites[place].node.inputs if other != name]
        return rest[0] if len(rest) == 1 else None

    def scales(self, name: str, reader: int) -> tuple[list[int], str, np.ndarray] | None:
        """The places of nodes that only make this factor, the name of x's scale ("" is 1) and the
        weights' scale."""
        known = self.sites[reader].constants.get(name)
        if known is not None:
            return ([], "", known) if known.dtype == np.float32 else None
        place = self.makers.get(name)
        if place is None or self.readers.get(name) != {reader}:
            return None
        own = self.sites[place]
        if own.node.op_type != "Mul" or own.node.domain:
            return None
        for x_scale, other in (own.node.inputs, own.node.inputs[::-1]):
            known = own.constants.get(other)
            maker = self.makers.get(x_scale)
            if known is None or known.dtype != np.float32 or maker is None:
                continue
            source = self.sites[maker].node
            if source.op_type == "DynamicQuantizeLinear" and x_scale == source.outputs[1]:
                return [place], x_scale, known
        return None
