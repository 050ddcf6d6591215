"""LayerNormalization and RMSNormalization written out in nodes, as exporters did before they were
operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from vledge.graph.native.lowering import Lowered, Site

__all__ = ["WrittenOut", "written_out_norms"]


@dataclass(frozen=True)
class WrittenOut:
    """Places of the nodes, in order, and the instruction that they are."""

    places: list[int]
    lowered: Lowered


def written_out_norms(
    sites: Sequence[Site], readers: Mapping[str, set[int]]
) -> dict[int, WrittenOut]:
    """By the place of the last node: (x - mean) / sqrt(mean of squares + epsilon) scale [+ bias],
    or the same without the mean, its root perhaps the factor of a product.

    Over the last axis, with a constant vector as scale; nobody else reads what is in between.
    """
    makers = {name: k for k, site in enumerate(sites) for name in site.node.outputs if name}
    by_last_place: dict[int, WrittenOut] = {}
    for place, site in enumerate(sites):
        if site.node.op_type in ("Div", "Mul") and not site.node.domain:
            norm = _Matcher(sites, readers, makers).match(place)
            if norm is None:
                norm = _Matcher(sites, readers, makers).match_uncentred(place)
            if norm is not None:
                by_last_place[norm.places[-1]] = norm
    return by_last_place


class _Matcher:
    def __init__(
        self,
        sites: Sequence[Site],
        readers: Mapping[str, set[int]],
        makers: Mapping[str, int],
    ) -> None:
        self.sites, self.readers, self.makers = sites, readers, makers
        self.places: set[int] = set()

    def match(self, div: int) -> WrittenOut | None:
        if self.sites[div].node.op_type != "Div":
            return None
        centred, deviation = self.sites[div].node.inputs
        sub = self.maker(centred, "Sub")
        root = self.maker(deviation, "Sqrt")
        if sub is None or root is None:
            return None
        x, mean = self.sites[sub].node.inputs
        add = self.maker(self.sites[root].node.inputs[0], "Add")
        average = self.maker(mean, "ReduceMean")
        if add is None or average is None or not self.is_mean_of_rows(average, x):
            return None
        parts = self.with_constant(add)
        if parts is None or not _is_number(parts[1]):
            return None
        variance = self.maker(parts[0], "ReduceMean")
        square = self.squared(variance, x, mean, centred)
        if square is None or variance is None:
            return None
        self.places |= {div, sub, root, add, average, variance, *square}
        return self.affine(div, x, float(parts[1].reshape(-1)[0]), centred=True)

    def match_uncentred(self, last: int) -> WrittenOut | None:
        """x / root, or x times one over the root, which several exporters have in the middle."""
        inputs = self.sites[last].node.inputs
        pairs = [inputs, inputs[::-1]] if self.sites[last].node.op_type == "Mul" else [inputs]
        for x, factor in pairs:
            root = self.maker(factor, "Sqrt")
            if self.sites[last].node.op_type == "Mul":
                inverse = self.inverse(factor)
                if inverse is None:
                    continue
                root = self.maker(self.sites[inverse].node.inputs[-1], "Sqrt")
                self.places = {inverse}
            if root is None:
                continue
            add = self.maker(self.sites[root].node.inputs[0], "Add")
            parts = None if add is None else self.with_constant(add)
            if add is None or parts is None or not _is_number(parts[1]):
                continue
            average = self.maker(parts[0], "ReduceMean")
            square = None if average is None else self.square_of(average)
            if average is None or square is None or square[1] != x:
                continue
            self.places |= {last, root, add, average, square[0]}
            return self.affine(last, x, float(parts[1].reshape(-1)[0]), centred=False)
        return None

    def inverse(self, name: str) -> int | None:
        """The place of the Reciprocal, or of the 1 / root, that makes a value."""
        place = self.maker(name, "Reciprocal")
        if place is not None:
            return place
        place = self.maker(name, "Div")
        one = None if place is None else self.sites[place].constant(0)
        return place if _is_number(one) and one.reshape(-1)[0] == 1 else None

    def affine(self, div: int, x: str, epsilon: float, centred: bool) -> WrittenOut | None:
        """With the scale, which there must be, and the bias."""
        scaled = self.only_reader(div, "Mul")
        scale = None if scaled is None else self.vector(scaled)
        if scaled is None or scale is None:
            return None
        self.places.add(scaled)
        last, inputs = scaled, [x, scale]
        shifted = self.only_reader(scaled, "Add")
        bias = None if shifted is None else self.vector(shifted)
        if shifted is not None and bias is not None:
            self.places.add(shifted)
            last = shifted
            inputs.append(bias)
        inside = self.places - {last}
        if any(
            not self.readers.get(name, set()) <= self.places
            for k in inside
            for name in self.sites[k].node.outputs
        ):
            return None
        if any(self.sites[k].dtype(0) != np.float32 for k in self.places):
            return None
        outputs = [self.sites[last].node.outputs[0]]
        lowered = Lowered("row_norm", [-1, int(centred)], [epsilon], (), inputs, outputs)
        return WrittenOut(sorted(self.places), lowered)

    def maker(self, name: str, op_type: str) -> int | None:
        place = self.makers.get(name)
        if place is None or self.sites[place].node.op_type != op_type:
            return None
        return None if self.sites[place].node.domain else place

    def is_mean_of_rows(self, place: int, x: str) -> bool:
        site = self.sites[place]
        axes = site.attribute("axes")
        if axes is None and site.has(1):
            known = site.constant(1)
            axes = None if known is None else known.tolist()
        keep = site.attribute("keepdims", 1)
        return site.node.inputs[0] == x and axes in (-1, [-1]) and bool(keep)

    def squared(self, variance: int | None, x: str, mean: str, centred: str) -> set[int] | None:
        """The places of what makes (x - mean)^2, whose mean is taken."""
        square = None if variance is None else self.square_of(variance)
        if square is None:
            return None
        place, base = square
        if base == centred:
            return {place}
        again = self.maker(base, "Sub")  # some exporters take the difference twice
        if again is None or self.sites[again].node.inputs != [x, mean]:
            return None
        return {place, again}

    def square_of(self, average: int) -> tuple[int, str] | None:
        """The place of the square whose mean over rows is taken, and what it is the square of."""
        name = self.sites[average].node.inputs[0]
        if not self.is_mean_of_rows(average, name):
            return None
        power, product = self.maker(name, "Pow"), self.maker(name, "Mul")
        if power is not None:
            exponent = self.sites[power].constant(1)
            if not _is_number(exponent) or exponent.reshape(-1)[0] != 2:
                return None
        elif product is None or len(set(self.sites[product].node.inputs)) != 1:
            return None
        place = product if power is None else power
        assert place is not None
        return place, self.sites[place].node.inputs[0]

    def with_constant(self, place: int) -> tuple[str, np.ndarray] | None:
        """A node's input and its constant, which may stand on either side."""
        site = self.sites[place]
        for k in (0, 1):
            constant = site.constant(1 - k)
            if constant is not None and site.constant(k) is None:
                return site.node.inputs[k], constant
        return None

    def vector(self, place: int) -> str | None:
        """The name of the constant vector that a node takes beside its other input."""
        site = self.sites[place]
        for k in (0, 1):
            constant = site.constant(k)
            if constant is not None and constant.ndim == 1 and constant.dtype == np.float32:
                return site.node.inputs[k]
        return None

    def only_reader(self, place: int, op_type: str) -> int | None:
        readers = self.readers.get(self.sites[place].node.outputs[0], set())
        if len(readers) != 1:
            return None
        (reader,) = readers
        if reader < 0 or self.sites[reader].node.op_type != op_type:
            return None
        return None if self.sites[reader].node.domain else reader


def _is_number(constant: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether this is one number that gives no value axes: rows have one at least."""
    return constant is not None and constant.size == 1 and constant.ndim <= 1
