"""DequantizeLinear in front of a product or convolution with known weights, perhaps QuantizeLinear
behind it: an operator on integers.

With bytes on both sides it becomes QLinearConv, QLinearMatMul or QGemm; with bytes only in front an
integer product that is made real. What else stands between such pairs (sums, activations) is left
to tables and chains, for which every reader gets a DequantizeLinear of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.passes.program import Program, captured
from vledge.model.definition import Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["has_pairs", "join_quantised_pairs"]

_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_OLDEST: Final = 10
_DEEPEST: Final = 2**31 // 255**2  # no sum of so many products of bytes is beyond int32


def has_pairs(graph: Graph) -> bool:
    """Whether there is a DequantizeLinear in the graph or one inside of it."""
    return any(
        _is(node, "DequantizeLinear") or any(map(has_pairs, node.subgraphs()))
        for node in graph.nodes
    )


def join_quantised_pairs(program: Program) -> None:
    """Join in the program's graph and every graph inside of it, in place."""
    if program.opsets.get("", 1) >= _OLDEST:
        _join(program, program.graph)


def _is(node: Node | None, op_type: str) -> bool:
    return node is not None and node.op_type == op_type and not node.domain


@dataclass(frozen=True)
class _Bytes:
    """A value and its scale and zero point, by name."""

    name: str
    scale: str
    zero: str


@dataclass(frozen=True)
class _Weights:
    """Known integers, their scale and zero point: numbers, or one for each output."""

    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray


def _join(program: Program, graph: Graph) -> None:
    for node in graph.nodes:
        for inner in node.subgraphs():
            _join(program, inner)
    joiner = _Joiner(program, graph)
    for place, node in enumerate(graph.nodes):
        join = {"Conv": joiner.convolution, "Gemm": joiner.gemm, "MatMul": joiner.product}.get(
            node.op_type
        )
        if join is not None and not node.domain:
            join(place, node)
    graph.nodes = joiner.nodes()
    _part_readers(program, graph)


def _readers(graph: Graph) -> Counter[str]:
    readers = Counter(name for node in graph.nodes for name in node.inputs if name)
    readers.update(info.name for info in graph.outputs)
    for node in graph.nodes:
        for inner in node.subgraphs():
            readers.update(captured(inner))
    return readers


class _Joiner:
    def __init__(self, program: Program, graph: Graph) -> None:
        self.program = program
        self.graph = graph
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers = _readers(graph)
        self.behind = {
            node.inputs[0]: place
            for place, node in enumerate(graph.nodes)
            if _is(node, "QuantizeLinear")
        }
        self.made: dict[int, list[Node]] = {}  # what stands in the place of a node

    def nodes(self) -> list[Node]:
        return [
            new
            for place, node in enumerate(self.graph.nodes)
            for new in self.made.get(place, [node])
        ]

    # ---- what is known

    def number(self, name: str, dtype: np.dtype | None = None) -> np.ndarray | None:
        """A constant of one number, of that type or of bytes."""
        value = self.program.constants.get(name)
        if value is None or value.size != 1 or value.ndim > 1:
            return None
        return value if value.dtype in ((dtype,) if dtype else _BYTES) else None

    def in_front(self, name: str) -> _Bytes | None:
        """The bytes that a value is made of, with one scale and zero point for all."""
        node = self.makers.get(name)
        if node is None or not _is(node, "DequantizeLinear") or not self.plain(node):
            return None
        if self.program.constants.get(node.inputs[0]) is not None:
            return None
        scale = self.number(node.inputs[1], np.dtype(np.float32))
        zero = self.number(node.inputs[2]) if len(node.inputs) > 2 else None
        if scale is None or zero is None or not np.isfinite(scale).all():
            return None
        return _Bytes(*node.inputs[:3])

    def plain(self, node: Node) -> bool:
        return not any(
            node.attributes.get(key, 0) for key in ("block_size", "output_dtype", "precision")
        )

    def weights(self, name: str, outputs_at: int) -> _Weights | None:
        """Bytes that a DequantizeLinear makes real, with one scale or one for each output."""
        node = self.makers.get(name)
        if node is None or not _is(node, "DequantizeLinear") or not self.plain(node):
            return None
        integers, scale = (self.program.constants.get(n) for n in node.inputs[:2])
        if integers is None or scale is None or integers.dtype not in _BYTES:
            return None
        if integers.ndim < 2:
            return None
        zero = np.zeros(scale.shape, integers.dtype)
        if len(node.inputs) > 2 and node.inputs[2]:
            given = self.program.constants.get(node.inputs[2])
            if given is None:
                return None
            zero = given
        axis = node.attributes.get("axis", 1)
        for parameter in (scale, zero):
            if parameter.ndim > 1:
                return None
            if parameter.size != 1 and (
                axis % integers.ndim != outputs_at % integers.ndim
                or parameter.size != integers.shape[outputs_at]
            ):
                return None
        if scale.dtype != np.float32 or zero.dtype != integers.dtype:
            return None
        if integers.size > _DEEPEST * integers.shape[outputs_at]:
            return None
        return _Weights(integers, scale, zero)

    def bias(self, name: str, scale: np.ndarray, columns: int) -> np.ndarray | None:
        """As int32 in units of a scale, if that is what it is."""
        node = self.makers.get(name)
        if node is None or not _is(node, "DequantizeLinear"):
            return None
        integers, own = (self.program.constants.get(n) for n in node.inputs[:2])
        if integers is None or own is None or integers.dtype != np.int32:
            return None
        zero = self.program.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if (zero is not None and zero.any()) or integers.shape != (columns,):
            return None
        near = np.allclose(own.reshape(-1), scale.reshape(-1), rtol=1e-5, atol=0)
        return integers if own.size in (1, columns) and near else None

    def real(self, name: str) -> np.ndarray | None:
        """A constant of real numbers, perhaps one that is not made yet."""
        known = self.program.constants.get(name)
        node = self.makers.get(name)
        if known is not None or node is None or not _is(node, "DequantizeLinear"):
            return known if known is None or known.dtype == np.float32 else None
        if any(n and n not in self.program.constants for n in node.inputs):
            return None
        arguments = [self.program.constants[n] if n else None for n in node.inputs]
        try:
            (value,) = self.program.prepared(node).call(*arguments)
        except (VledgeError, ValueError, TypeError, IndexError):
            return None  # which the fold says
        fine = isinstance(value, np.ndarray) and value.dtype == np.float32
        return value if fine and isinstance(value, np.ndarray) else None

    def target(self, node: Node) -> tuple[int, _Bytes] | None:
        """The place of the QuantizeLinear that alone reads a node, and what it makes."""
        result = node.outputs[0]
        place = self.behind.get(result)
        if place is None or self.readers[result] != 1:
            return None
        behind = self.graph.nodes[place]
        if len(behind.inputs) < 3 or not self.plain(behind):
            return None
        scale = self.number(behind.inputs[1], np.dtype(np.float32))
        if scale is None or self.number(behind.inputs[2]) is None:
            return None
        return place, _Bytes(behind.outputs[0], *behind.inputs[1:3])

    # ---- what is made

    def constant(self, node: Node, value: np.ndarray) -> str:
        name = self.program.fresh(f"{node.outputs[0]}_constant")
        self.program.set_constant(name, np.asarray(value))
        return name

    def put(self, place: int, node: Node, made: list[Node], target: int | None) -> None:
        self.made[place] = made
        if target is not None:
            self.made[target] = []

    def scaled(
        self, node: Node, product: Node, x: _Bytes, scale: np.ndarray, bias: np.ndarray | None
    ) -> list[Node]:
        """The integer product, and what makes it real: as quantisers write it."""
        names = [self.program.fresh(f"{node.outputs[0]}_{part}") for part in ("real", "product")]
        whole = self.program.constants[x.scale].reshape(()) * scale
        nodes = [
            product,
            Node(
                "Cast",
                product.outputs,
                names[:1],
                {"to": NUMBERS["float"]},
                node.name,
                part_of=str(node),
            ),
            Node(
                "Mul",
                [names[0], self.constant(node, whole)],
                [names[1]],
                {},
                node.name,
                part_of=str(node),
            ),
        ]
        if bias is not None:
            nodes.append(
                Node(
                    "Add",
                    [names[1], self.constant(node, bias)],
                    [""],
                    {},
                    node.name,
                    part_of=str(node),
                )
            )
        nodes[-1].outputs = list(node.outputs)
        return nodes

    def convolution(self, place: int, node: Node) -> None:
        x, w = self.in_front(node.inputs[0]), self.weights(node.inputs[1], 0)
        if x is None or w is None or w.integers.ndim < 3:
            return
        channels = len(w.integers)
        whole = self.program.constants[x.scale].reshape(-1)[:1] * w.scale.reshape(-1)
        bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
        bias = self.bias(bias_name, whole, channels) if bias_name else None
        target = self.target(node)
        integers, zero = self.constant(node, w.integers), self.constant(node, w.zero)
        if target is not None and (bias is not None or not bias_name):
            behind, y = target
            scale = self.constant(node, w.scale)
            inputs = [x.name, x.scale, x.zero, integers, scale, zero, y.scale, y.zero]
            if bias is not None:
                inputs.append(self.constant(node, bias))
            joined = Node(
                "QLinearConv", inputs, [y.name], node.attributes, node.name, part_of=str(node)
            )
            self.put(place, node, [joined], behind)
            return
        real = self.real(bias_name) if bias_name else None
        if bias_name and (real is None or real.shape != (channels,)):
            return
        over = (-1, *(1,) * (w.integers.ndim - 2))
        scale_ = w.scale.reshape(over) if w.scale.size > 1 else w.scale.reshape(())
        sums = self.program.fresh(f"{node.outputs[0]}_integers")
        product = Node(
            "ConvInteger",
            [x.name, integers, x.zero, zero],
            [sums],
            node.attributes,
            node.name,
            part_of=str(node),
        )
        bias_ = None if real is None else real.reshape(over)
        self.put(place, node, self.scaled(node, product, x, scale_, bias_), None)

    def gemm(self, place: int, node: Node) -> None:
        given = node.attributes
        turned = given.get("transB", 0)
        w = self.weights(node.inputs[1], 0 if turned else 1)
        if given.get("transA", 0) or given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
            return
        bias_name = node.inputs[2] if len(node.inputs) > 2 else ""
        if w is not None and w.integers.ndim == 2:
            self.rows(place, node, w, bias_name, bool(turned), flat=True)

    def product(self, place: int, node: Node) -> None:
        w = self.weights(node.inputs[1], 1)
        if w is not None and w.integers.ndim == 2:
            self.rows(place, node, w, "", turned=False, flat=False)

    def rows(
        self, place: int, node: Node, w: _Weights, bias_name: str, turned: bool, flat: bool
    ) -> None:
        x = self.in_front(node.inputs[0])
        if x is None:
            return
        integers = np.ascontiguousarray(w.integers.T) if turned else w.integers
        columns = integers.shape[1]
        whole = self.program.constants[x.scale].reshape(-1)[:1] * w.scale.reshape(-1)
        bias = self.bias(bias_name, whole, columns) if bias_name else None
        b, zero = self.constant(node, integers), self.constant(node, w.zero)
        target = self.target(node)
        if target is not None and (bias is not None or not bias_name):
            behind, y = target
            front = [x.name, x.scale, x.zero, b, self.constant(node, w.scale), zero]
            if bias is None:
                joined = Node(
                    "QLinearMatMul",
                    [*front, y.scale, y.zero],
                    [y.name],
                    {},
                    node.name,
                    part_of=str(node),
                )
                self.put(place, node, [joined], behind)
                return
            if flat and "com.microsoft" in self.program.opsets:
                inputs = [*front, self.constant(node, bias), y.scale, y.zero]
                joined = Node("QGemm", inputs, [y.name], {}, node.name, "com.microsoft", str(node))
                self.put(place, node, [joined], behind)
                return
        real = self.real(bias_name) if bias_name else None
        if bias_name and (real is None or real.shape not in ((columns,), (1, columns))):
            return
        sums = self.program.fresh(f"{node.outputs[0]}_integers")
        product = Node(
            "MatMulInteger", [x.name, b, x.zero, zero], [sums], {}, node.name, part_of=str(node)
        )
        bias_ = None if real is None else real.reshape(-1)
        scale = w.scale.reshape(-1) if w.scale.size > 1 else w.scale.reshape(())
        self.put(place, node, self.scaled(node, product, x, scale, bias_), None)


def _part_readers(program: Program, graph: Graph) -> None:
    """A DequantizeLinear for each reader, where they are nodes of this graph: chains then read the
    bytes."""
    readers = _readers(graph)
    places: dict[str, int] = Counter(name for node in graph.nodes for name in set(node.inputs))
    shared = {
        node.outputs[0]: node
        for node in graph.nodes
        if _is(node, "DequantizeLinear")
        and readers[node.outputs[0]] == places.get(node.outputs[0], 0) > 1
    }
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.outputs and node.outputs[0] in shared:
            continue
        for name in dict.fromkeys(node.inputs):
            if name in shared:
                own = program.fresh(name)
                source = shared[name]
                nodes.append(
                    Node(source.op_type, list(source.inputs), [own], source.attributes, source.name)
                )
                if name in program.dtypes:
                    program.dtypes[own] = program.dtypes[name]
                node.inputs = [own if other == name else other for other in node.inputs]
        nodes.append(node)
    graph.nodes = nodes
