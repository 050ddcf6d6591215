"""Widths that a run need not ask for: the size of a product's last axis is its weight's.

torch writes ``chunk`` as a computation on the shape of what is cut, whenever another axis, the
batch, is dynamic. With the width known that folds, and the gates of a hand-written cell are slices
at constant places.
"""

from __future__ import annotations

import numpy as np

from vledge.graph.passes.program import Program
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.registry import pointwise_operators
from vledge.model.definition import Graph, Node

__all__ = ["fold_widths"]


def fold_widths(program: Program) -> bool:
    """Make a constant of every ``Gather(Shape(x), axis)`` that is known; whether there was one."""
    return _Walk(program).graph(program.graph)


class _Walk:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.ranks = ranks_of(program.graph, program.constants)
        self.pointwise = pointwise_operators()
        self.widths: dict[str, int] = {}  # value → the size of its last axis
        self.shapes: dict[str, str] = {}  # what Shape gives → of which value

    def graph(self, graph: Graph) -> bool:
        """Whether a node has gone."""
        changed = False
        kept = []
        for node in graph.nodes:
            for inner in node.subgraphs():
                changed |= self.graph(inner)
            simple = len(node.outputs) == 1 and node.inputs and all(node.inputs)
            if node.domain or not simple or not self.known(node):
                kept.append(node)
        changed |= len(kept) < len(graph.nodes)
        graph.nodes = kept
        return changed

    def known(self, node: Node) -> bool:
        """Note what is known of the node's one output; whether that is all of it."""
        output = node.outputs[0]
        if node.op_type == "Shape" and not node.attributes.keys() & {"start", "end"}:
            self.shapes[output] = node.inputs[0]
        elif node.op_type == "Gather":
            size = self.gathered(node)
            if size is not None:
                self.program.set_constant(output, size)
                return True
        else:
            width = self.width(node)
            if width is not None:
                self.widths[output] = width
        return False

    def gathered(self, node: Node) -> np.ndarray | None:
        """The last of a shape's sizes."""
        value = self.shapes.get(node.inputs[0])
        index = self.program.constants.get(node.inputs[1]) if len(node.inputs) == 2 else None
        if value not in self.widths or index is None or index.size != 1:
            return None
        if index.item() not in (-1, self.ranks.get(value, 0) - 1):
            return None
        return np.full(index.shape, self.widths[value], np.int64)

    def width(self, node: Node) -> int | None:
        """Of a product by a weight, or of what is element by element made of such."""
        if node.op_type in ("Gemm", "MatMul"):
            weight = self.program.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
            if weight is None or weight.ndim < 2:
                return None
            turned = node.op_type == "Gemm" and node.attributes.get("transB", 0)
            return int(weight.shape[-2 if turned else -1])
        if node.op_type in self.pointwise.of_one:
            return self.width_of(node.inputs[0])
        if node.op_type not in self.pointwise.of_several:
            return None
        known = {self.width_of(name) for name in node.inputs}
        wide = {width for width in known if width is not None and width > 1}
        return wide.pop() if len(wide) == 1 else None  # others can only be 1 wide

    def width_of(self, name: str) -> int | None:
        constant = self.program.constants.get(name)
        if constant is not None:
            return int(constant.shape[-1]) if constant.ndim else 1
        return self.widths.get(name)
