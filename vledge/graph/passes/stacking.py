"""What a node of a loop's body makes, made in front of the loop for all steps at once.

There is a rule for each operator that can be: element-wise ones, products with a matrix that every
step has, and what moves elements about. A rule that finds something that it does not know does
nothing: the node stays in the body.
"""

from __future__ import annotations

import numpy as np

from vledge.graph.passes.program import Program
from vledge.graph.passes.stacks import Stacked
from vledge.graph.passes.trips import Front
from vledge.graph.registry import pointwise_operators
from vledge.model.definition import Graph, Node

__all__ = ["Stacking"]


class Stacking:
    """``stacks`` holds the body's values that are known for all steps, the loop's columns first."""

    def __init__(self, program: Program, body: Graph, ranks: dict[str, int], front: Front) -> None:
        self.program, self.ranks, self.front = program, ranks, front
        self.constants = program.constants
        self.stacks: dict[str, Stacked] = {}
        self.inside = {info.name for info in body.inputs}
        self.inside |= {name for node in body.nodes for name in node.outputs if name}

    def visit(self, node: Node) -> None:
        """Stack what the node makes, if it is made of stacked values and of values around."""
        if node.domain or any(node.subgraphs()) or not node.outputs:
            return
        if node.outputs[0] in self.stacks:  # the choices that a layer makes
            return
        if not any(name in self.stacks for name in node.inputs):
            return
        if any(name in self.inside and name not in self.stacks for name in node.inputs):
            return
        rule = getattr(self, f"stack_{node.op_type.lower()}", None)
        pointwise = pointwise_operators()
        if node.op_type in pointwise.of_one:
            rule = self.alone
        elif node.op_type in pointwise.of_several:
            rule = self.broadcast
        if rule is not None:
            rule(node)

    def stack_of(self, node: Node, index: int = 0) -> Stacked | None:
        return self.stacks.get(node.inputs[index]) if index < len(node.inputs) else None

    def note(self, name: str, stacked: str, rank: int | None, *sources: Stacked) -> None:
        heavy = any(source.heavy for source in sources)
        self.stacks[name] = Stacked(stacked, rank, heavy)

    def alone(self, node: Node) -> None:
        x = self.stack_of(node)
        if x is None or any(name in self.stacks for name in node.inputs[1:]):
            return
        rank = None if x.rank is None else x.rank + 1
        output = node.outputs[0]
        inputs = [x.name, *node.inputs[1:]]
        name = self.front.add(node.op_type, inputs, rank, output, **node.attributes)
        self.note(output, name, x.rank, x)

    def broadcast(self, node: Node) -> None:
        """Element by element: what has fewer axes gets its new one where the others have it."""
        output = node.outputs[0]
        sources = [self.stacks[name] for name in node.inputs if name in self.stacks]
        aligned = self.aligned(node.inputs, output)
        if aligned is None:
            return
        inputs, rank = aligned
        name = self.front.add(
            node.op_type, inputs, None if rank is None else rank + 1, output, **node.attributes
        )
        self.note(output, name, rank, *sources)

    def aligned(self, names: list[str], like: str) -> tuple[list[str], int | None] | None:
        known: list[int] = []
        unknown: set[str] = set()
        for name in names:
            stack = self.stacks.get(name)
            rank = self.ranks.get(name) if stack is None else stack.rank
            if rank is not None:
                known.append(rank)
            elif stack is None:
                return None
            else:
                unknown.add(name)
        if unknown:
            # one value of unknown axes, alone or with numbers
            if len(unknown) > 1 or any(known):
                return None
            if any(n in self.stacks and n not in unknown for n in names):
                return None
            return [self.stacks[n].name if n in self.stacks else n for n in names], None
        most = max(known)
        inputs = []
        for name in names:
            stack = self.stacks.get(name)
            if stack is None:
                inputs.append(name)
                continue
            assert stack.rank is not None
            axes = list(range(1, 1 + most - stack.rank))
            inputs.append(
                self.front.reshaped("Unsqueeze", stack.name, axes, like) if axes else stack.name
            )
        return inputs, most

    def stack_matmul(self, node: Node) -> None:
        x, matrix = self.stack_of(node), node.inputs[1]
        if x is None or matrix in self.stacks or self.ranks.get(matrix) != 2:
            return
        rank = None if x.rank is None else x.rank + 1
        name = self.front.add("MatMul", [x.name, matrix], rank, node.outputs[0])
        self.stacks[node.outputs[0]] = Stacked(name, x.rank, True)

    def stack_gemm(self, node: Node) -> None:
        x, weight = self.stack_of(node), self.constants.get(node.inputs[1])
        attributes = node.attributes
        if x is None or weight is None or attributes.get("transA", 0):
            return
        alpha, beta = (attributes.get(key, 1.0) for key in ("alpha", "beta"))
        if attributes.get("transB", 0):
            weight = weight.T
        if alpha != 1:
            weight = weight * weight.dtype.type(alpha)
        output = node.outputs[0]
        third = node.inputs[2] if len(node.inputs) > 2 else ""
        if third and (third in self.stacks or self.ranks.get(third, 3) > 2):
            return
        matrix = self.front.constant(np.ascontiguousarray(weight), f"{output}.weight")
        name = self.front.add("MatMul", [x.name, matrix], 3, output)
        if third:
            if beta != 1:
                known = self.constants.get(third)
                if known is None:
                    return
                third = self.front.constant(known * known.dtype.type(beta), f"{output}.bias")
            name = self.front.add("Add", [name, third], 3, output)
        self.stacks[output] = Stacked(name, 2, True)

    def stack_gather(self, node: Node) -> None:
        data, index = node.inputs
        output, axis = node.outputs[0], node.attributes.get("axis", 0)
        x, i = self.stack_of(node), self.stack_of(node, 1)
        if x is not None and i is None:
            place = self.ranks.get(index)
            rank = None if x.rank is None or place is None else x.rank + place - 1
            axis += axis >= 0
            name = self.front.add("Gather", [x.name, index], _more(rank), output, axis=axis)
            self.note(output, name, rank, x)
            return
        if x is not None or i is None or i.rank is None:
            return
        axes = self.ranks.get(data)
        if axis < 0 and axes is not None:
            axis += axes
        rank = None if axes is None else axes + i.rank - 1
        if axis != 0 and (rank is None or axis < 0):
            return
        name = self.front.add("Gather", [data, i.name], _more(rank), output, axis=axis)
        if axis != 0 and rank is not None:
            order = [axis, *(a for a in range(rank + 1) if a != axis)]
            name = self.front.add("Transpose", [name], rank + 1, output, perm=order)
        self.note(output, name, rank, i)

    def stack_squeeze(self, node: Node) -> None:
        self.reshape(node)

    def stack_unsqueeze(self, node: Node) -> None:
        self.reshape(node)

    def reshape(self, node: Node) -> None:
        x, output = self.stack_of(node), node.outputs[0]
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1 and node.inputs[1]:
            known = self.constants.get(node.inputs[1])
            axes = None if known is None else known.ravel().tolist()
        if x is None or axes is None:
            return
        moved = [axis + (axis >= 0) for axis in axes]
        name = self.front.reshaped(node.op_type, x.name, moved, output)
        change = len(axes) if node.op_type == "Unsqueeze" else -len(axes)
        self.note(output, name, None if x.rank is None else x.rank + change, x)

    def stack_transpose(self, node: Node) -> None:
        x, order = self.stack_of(node), node.attributes.get("perm")
        if x is None or order is None:
            return
        moved = [0, *(axis + 1 for axis in order)]
        name = self.front.add("Transpose", [x.name], len(moved), node.outputs[0], perm=moved)
        self.note(node.outputs[0], name, len(order), x)

    def stack_concat(self, node: Node) -> None:
        stacks = [self.stacks.get(name) for name in node.inputs]
        ranks = {None if stack is None else stack.rank for stack in stacks}
        axis = node.attributes.get("axis", 0)
        if len(ranks) != 1 or None in ranks:
            return
        (rank,) = ranks
        axis += axis >= 0
        known = [stack for stack in stacks if stack is not None]
        inputs = [stack.name for stack in known]
        name = self.front.add("Concat", inputs, _more(rank), node.outputs[0], axis=axis)
        self.note(node.outputs[0], name, rank, *known)

    def stack_split(self, node: Node) -> None:
        x, axis = self.stack_of(node), node.attributes.get("axis", 0)
        if x is None or any(name in self.stacks for name in node.inputs[1:]):
            return
        attributes = {**node.attributes, "axis": axis + (axis >= 0)}
        names = [self.program.fresh(output) if output else "" for output in node.outputs]
        self.front.nodes.append(Node("Split", [x.name, *node.inputs[1:]], names, attributes))
        for output, name in zip(node.outputs, names, strict=True):
            if output:
                if x.rank is not None:
                    self.ranks[name] = x.rank + 1
                self.note(output, name, x.rank, x)

    def stack_softmax(self, node: Node) -> None:
        axis = node.attributes.get("axis", -1)
        if self.program.opsets.get("", 1) >= 13 and axis < 0:
            self.alone(node)


def _more(rank: int | None) -> int | None:
    return None if rank is None else rank + 1
