"""Cells in a row that share their weights, over slices of one value: a layer that was unrolled.

torch writes a Python loop over an LSTMCell so. Each cell must take its states from the one before,
and its x must be a slice of the same value as the others', which no earlier cell had a part in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vledge.graph.passes.cells import follows
from vledge.graph.passes.layers import layer_node
from vledge.graph.passes.program import Program, captured
from vledge.graph.passes.ranks import ranks_of
from vledge.graph.passes.trips import Front
from vledge.model.definition import Graph, Node

__all__ = ["join_unrolled"]

_CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def join_unrolled(program: Program) -> bool:
    """Make layers of rows of cells in every graph, in place; whether there was one."""
    return _in_graph(program, program.graph, None)


def _in_graph(program: Program, graph: Graph, ranks: dict[str, int] | None) -> bool:
    changed = False
    for node in graph.nodes:
        for inner in node.subgraphs():
            changed |= _in_graph(program, inner, ranks)
    if sum(node.op_type in _CELLS and node.domain == "vledge" for node in graph.nodes) > 1:
        ranks = ranks_of(program.graph, program.constants) if ranks is None else ranks
        changed |= _Row(program, graph, ranks).joined()
    return changed


@dataclass(frozen=True)
class _Slice:
    """One element of a value along an axis, which goes."""

    source: str
    axis: int
    index: int


class _Row:
    def __init__(self, program: Program, graph: Graph, ranks: dict[str, int]) -> None:
        self.program, self.graph, self.ranks = program, graph, ranks
        self.constants = program.constants
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers: dict[str, list[Node | None]] = {}
        for node in graph.nodes:
            inner = [name for body in node.subgraphs() for name in captured(body)]
            for name in (*node.inputs, *inner):
                self.readers.setdefault(name, []).append(node)
        for info in graph.outputs:
            self.readers.setdefault(info.name, []).append(None)

    def joined(self) -> bool:
        in_place: dict[int, list[Node]] = {}  # id of a cell -> what stands where it stood
        for row in self.rows():
            made = self.layer(row)
            if made is not None:
                in_place[id(row[0])] = made
                in_place |= {id(cell): [] for cell in row[1:]}
        nodes: list[Node] = []
        for node in self.graph.nodes:
            nodes += in_place.get(id(node), [node])
        self.graph.nodes = nodes
        return bool(in_place)

    def rows(self) -> Iterable[list[Node]]:
        """Cells each of which goes on from the one before."""
        cells = [n for n in self.graph.nodes if n.domain == "vledge" and n.op_type in _CELLS]
        followers: dict[int, Node] = {}
        for cell in cells:
            before = self.makers.get(cell.inputs[1])
            if before is not None and id(before) not in followers and follows(before, cell):
                followers[id(before)] = cell
        later = {id(cell) for cell in followers.values()}
        for cell in cells:
            if id(cell) in later:
                continue
            row = [cell]
            while id(row[-1]) in followers:
                row.append(followers[id(row[-1])])
            yield from self.cut(row)

    def cut(self, row: list[Node]) -> Iterable[list[Node]]:
        """Parts of a row whose inputs are slices of one value, cell states passed on only."""
        part: list[Node] = []
        first: _Slice | None = None
        spoiled = self.depending(row)
        for cell in row:
            own = self.slice(cell.inputs[0])
            fits = own is not None and own.source not in spoiled
            if part and not (
                fits
                and first is not None
                and own is not None
                and (own.source, own.axis) == (first.source, first.axis)
                and self.private(part[-1], cell)
            ):
                yield part
                part = []
            if fits:
                first = own if not part else first
                part.append(cell)
        yield part

    def depending(self, row: list[Node]) -> set[str]:
        """All that is made of the row's results."""
        spoiled = {name for cell in row for name in cell.outputs}
        for node in self.graph.nodes:
            inner = [name for body in node.subgraphs() for name in captured(body)]
            if any(name in spoiled for name in (*node.inputs, *inner)):
                spoiled.update(name for name in node.outputs if name)
        return spoiled

    def private(self, cell: Node, following: Node) -> bool:
        return all(
            reader is following for name in cell.outputs[1:] for reader in self.readers[name]
        )

    def slice(self, name: str) -> _Slice | None:
        node = self.makers.get(name)
        if node is None or node.domain or self.ranks.get(name) != 2:
            return None
        if node.op_type == "Gather":
            index = self.constants.get(node.inputs[1])
            axis = self.axis(node.attributes.get("axis", 0))
            if index is None or index.ndim or axis is None:
                return None
            return _Slice(node.inputs[0], axis, index.item())
        if node.op_type != "Squeeze":
            return None
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            known = self.constants.get(node.inputs[1])
            axes = None if known is None else known.ravel().tolist()
        axis = self.axis(axes[0]) if axes is not None and len(axes) == 1 else None
        inner = self.makers.get(node.inputs[0])
        if axis is None or inner is None or inner.domain:
            return None
        if inner.op_type == "Split" and self.axis(inner.attributes.get("axis", 0)) == axis:
            # parts of one element each, or the Squeeze fails
            if "split" not in inner.attributes and len(inner.inputs) < 2:
                return None
            sizes = inner.attributes.get("split")
            if sizes is None:
                known = self.constants.get(inner.inputs[1])
                sizes = None if known is None else known.tolist()
            if sizes is None or set(sizes) != {1}:
                return None
            return _Slice(inner.inputs[0], axis, inner.outputs.index(node.inputs[0]))
        return self.sliced(inner, axis) if inner.op_type == "Slice" else None

    def axis(self, axis: int) -> int | None:
        """An axis of what has three of them."""
        return axis + 3 * (axis < 0) if -3 <= axis < 3 else None

    def sliced(self, node: Node, axis: int) -> _Slice | None:
        if len(node.inputs) > 1:
            bounds = [self.constants.get(name) if name else None for name in node.inputs[1:]]
            if len(bounds) < 3 or any(b is None or b.size != 1 for b in bounds):
                return None
            start, end, own, *step = (b.item() for b in bounds if b is not None)
            if step and step[0] != 1:
                return None
        else:
            given = [node.attributes.get(key, []) for key in ("starts", "ends", "axes")]
            if any(len(values) != 1 for values in given):
                return None
            start, end, own = (values[0] for values in given)
        last = start == -1 and end >= np.iinfo(np.int32).max
        if self.axis(own) != axis or not (last or end == start + 1 != 0):
            return None
        return _Slice(node.inputs[0], axis, start)

    def layer(self, row: list[Node]) -> list[Node] | None:
        """The nodes that stand in for a row: its layer, and the state after each step."""
        if len(row) < 2 or any(self.ranks.get(name) != 2 for name in row[0].inputs[1:]):
            return None
        front = Front(self.program, self.ranks)
        slices = [own for cell in row if (own := self.slice(cell.inputs[0])) is not None]
        like = row[0].outputs[0]
        places = front.constant(np.array([s.index for s in slices]), f"{like}.steps")
        axis = slices[0].axis
        x = front.add("Gather", [slices[0].source, places], 3, f"{like}.X", axis=axis)
        if axis:
            order = [axis, *(a for a in range(3) if a != axis)]
            x = front.add("Transpose", [x], 3, f"{like}.X", perm=order)
        initial = [front.reshaped("Unsqueeze", n, [0], f"{like}.0") for n in row[0].inputs[1:]]
        node, y, finals = layer_node(front, row[0], x, initial, "", False)
        front.nodes.append(node)
        whole = front.reshaped("Squeeze", y, [1], f"{like}.all")
        for place, cell in enumerate(row):
            at = front.constant(np.array(place), f"{like}.{place}")
            front.nodes.append(Node("Gather", [whole, at], [cell.outputs[0]], {"axis": 0}))
        for name, final in zip(row[-1].outputs[1:], finals[1:], strict=True):
            squeezed = front.reshaped("Squeeze", final, [0], name)
            front.nodes.append(Node("Identity", [squeezed], [name]))
        self.collect(row, whole)
        return front.nodes

    def collect(self, row: list[Node], whole: str) -> None:
        """Where the states after all steps are stacked again, take them as they are."""
        names = [cell.outputs[0] for cell in row]
        for node in self.graph.nodes:
            if node.op_type != "Concat" or node.domain or len(node.inputs) != len(row):
                continue
            axis = node.attributes.get("axis", 0)
            axis += 3 * (axis < 0)
            if axis in (0, 1) and [self.unsqueezed(n, axis) for n in node.inputs] == names:
                order = [0, 1, 2] if axis == 0 else [1, 0, 2]
                node.op_type, node.inputs = "Transpose", [whole]
                node.attributes = {"perm": order}

    def unsqueezed(self, name: str, axis: int) -> str | None:
        node = self.makers.get(name)
        if node is None or node.op_type != "Unsqueeze" or node.domain:
            return None
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            known = self.constants.get(node.inputs[1])
            axes = None if known is None else known.ravel().tolist()
        return node.inputs[0] if axes in ([axis], [axis - 3]) else None
