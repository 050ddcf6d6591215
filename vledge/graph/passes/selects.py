"""A value chosen by a mask: ``Where``, or the products and the sum that tf2onnx writes for it.

``mask * new + (1 - mask) * old`` is the choice for what is finite, if the mask is a bool that was
cast; where it is a float, it may be anything and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vledge.model.definition import Node

__all__ = ["Select", "selects_of"]


@dataclass(frozen=True)
class Select:
    """``new`` where the mask is true, else ``old``; ``old`` is "" for zeros."""

    mask: str
    new: str
    old: str
    nodes: tuple[Node, ...]  #: that the choice is made of


class _Reader:
    def __init__(
        self,
        makers: Mapping[str, Node],
        constants: Mapping[str, np.ndarray],
        dtypes: Mapping[str, Any],
    ) -> None:
        self.makers, self.constants, self.dtypes = makers, constants, dtypes

    def made_by(self, name: str, op_type: str) -> Node | None:
        node = self.makers.get(name)
        return node if node and node.op_type == op_type and not node.domain else None

    def truth(self, name: str) -> tuple[str, bool]:
        """The bool that a bool is, and whether it is its opposite."""
        opposite = False
        node = self.made_by(name, "Not")
        while node is not None:
            name, opposite = node.inputs[0], not opposite
            node = self.made_by(name, "Not")
        return name, opposite

    def factor(self, name: str) -> tuple[str, bool] | None:
        """The bool that was cast to a number, and whether its opposite was."""
        node = self.made_by(name, "Cast")
        if node is not None:
            source = node.inputs[0]
            certain = self.dtypes.get(source) == np.bool_ or self.made_by(source, "Not")
            return self.truth(source) if certain else None
        node = self.made_by(name, "Sub")
        one = None if node is None else self.constants.get(node.inputs[0])
        if node is None or one is None or one.size != 1 or one.ndim > 1 or one.item() != 1:
            return None
        inner = self.factor(node.inputs[1])
        return None if inner is None else (inner[0], not inner[1])

    def products(self, name: str) -> Iterator[tuple[str, bool, str, Node]]:
        """(mask, whether its opposite, value, node) of a product with a mask."""
        node = self.made_by(name, "Mul")
        if node is not None:
            for mask, value in (node.inputs, node.inputs[::-1]):
                found = self.factor(mask)
                if found is not None:
                    yield *found, value, node

    def selects(self, name: str) -> Iterator[Select]:
        node = self.made_by(name, "Where")
        if node is not None:
            mask, opposite = self.truth(node.inputs[0])
            new, old = node.inputs[1:][:: -1 if opposite else 1]
            yield Select(mask, new, old, (node,))
        node = self.made_by(name, "Add")
        if node is not None:
            for left, right in (node.inputs, node.inputs[::-1]):
                for mask, opposite, new, first in self.products(left):
                    for other, other_opposite, old, second in self.products(right):
                        if mask == other and not opposite and other_opposite:
                            yield Select(mask, new, old, (node, first, second))
        for mask, opposite, new, node in self.products(name):
            if not opposite:
                yield Select(mask, new, "", (node,))


def selects_of(
    name: str,
    makers: Mapping[str, Node],
    constants: Mapping[str, np.ndarray],
    dtypes: Mapping[str, Any],
) -> list[Select]:
    """The ways to read a value as a choice by a mask."""
    return list(_Reader(makers, constants, dtypes).selects(name))
