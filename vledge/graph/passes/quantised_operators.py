"""onnxruntime's quantised operators in terms of ONNX's own, so that they join chains.

They compute what `operators/quantization_microsoft.py` does, bit for bit. Scales and zero points
have to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from vledge.graph.operators.quantization_microsoft import spread_along_rows, zero_points
from vledge.graph.passes.program import Program
from vledge.model.definition import INTERNAL_DOMAIN, Attributes, Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["expand_quantised_operators"]

_DOMAIN: Final = "com.microsoft"
_OLDEST: Final = 10  # QuantizeLinear's first
_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))


def expand_quantised_operators(program: Program) -> bool:
    """Expand them in the program's graph and every graph inside of it; whether there were any."""
    if program.opsets.get("", 1) < _OLDEST:
        return False
    return _expand(program, program.graph)


def _expand(program: Program, graph: Graph) -> bool:
    expanded = False
    nodes: list[Node] = []
    for node in graph.nodes:
        for inner in node.subgraphs():
            expanded |= _expand(program, inner)
        expansion = _EXPANSIONS.get((node.domain, node.op_type))
        made = None if expansion is None else expansion(_Writer(program, node))
        expanded |= made is not None
        nodes += [node] if made is None else made
    graph.nodes = nodes
    return expanded


class _Writer:
    """The nodes that one becomes."""

    def __init__(self, program: Program, node: Node) -> None:
        self.program = program
        self.node = node
        self.nodes: list[Node] = []

    def input(self, index: int) -> str:
        return self.node.inputs[index] if index < len(self.node.inputs) else ""

    def known(self, index: int) -> np.ndarray | None:
        """An input that is a constant of one number."""
        value = self.program.constants.get(self.input(index))
        return value if value is not None and value.size == 1 and value.ndim <= 1 else None

    def scale(self, index: int) -> np.ndarray | None:
        value = self.known(index)
        fine = value is not None and value.dtype == np.float32
        return value.reshape(()) if fine and value is not None else None

    def zero(self, index: int, like: str) -> np.ndarray | None:
        """The zero point of this index, or of the type of a value."""
        if self.input(index):
            value = self.known(index)
        else:
            dtype = self.program.dtype_of(like)
            value = None if dtype is None else np.zeros((), dtype)
        return value.reshape(()) if value is not None and value.dtype in _BYTES else None

    def constant(self, value: object, dtype: type | np.dtype = np.float32) -> str:
        name = self.program.fresh(f"{self.node.outputs[0]}_constant")
        self.program.set_constant(name, np.asarray(value, dtype))
        return name

    def add(self, op_type: str, inputs: Sequence[str], **attributes: object) -> str:
        """A further node; the name of its result."""
        return self._added(op_type, inputs, attributes, "")

    def table(self, x: str, table: np.ndarray) -> str:
        """A function of bytes, by their bits."""
        return self.own("ByteTable", [x, self.constant(table, table.dtype)])

    def own(self, op_type: str, inputs: Sequence[str]) -> str:
        """As `add`, of the passes' own operators."""
        return self._added(op_type, inputs, {}, INTERNAL_DOMAIN)

    def _added(
        self, op_type: str, inputs: Sequence[str], attributes: Attributes, domain: str
    ) -> str:
        name = self.program.fresh(f"{self.node.outputs[0]}_part")
        own = self.node
        self.nodes.append(
            Node(op_type, list(inputs), [name], attributes, own.name, domain, part_of=str(own))
        )
        return name

    def ended(self) -> list[Node]:
        """The nodes, of which the last makes the result."""
        self.nodes[-1].outputs = list(self.node.outputs)
        return self.nodes


_Expansion = Callable[[_Writer], "list[Node] | None"]


def _rounded(to: _Writer, x: str, zero: np.ndarray) -> list[Node]:
    """Sums that have the zero point in them, to bytes."""
    none = to.constant(0, zero.dtype)
    to.add("QuantizeLinear", [x, to.constant(1), none])
    return to.ended()


def _ratios(to: _Writer) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    """The scales and zero points of the two inputs and the result."""
    scales = [to.scale(k) for k in (1, 4, 6)]
    zeros = [to.zero(2, to.input(0)), to.zero(5, to.input(3)), to.zero(7, to.input(0))]
    known = [p for p in (*scales, *zeros) if p is not None]
    return (known[:3], known[3:]) if len(known) == 6 else None


def _real(to: _Writer, index: int) -> str:
    return to.add("Cast", [to.input(index)], to=NUMBERS["float"])


def _sum(to: _Writer) -> list[Node] | None:
    known = _ratios(to)
    if known is None:
        return None
    (a_scale, b_scale, c_scale), zeros = known
    first, second = a_scale / c_scale, b_scale / c_scale
    a_zero, b_zero, c_zero = (zero.astype(np.float32) for zero in zeros)
    terms = [(3, second), (0, first)]
    a = to.program.constants.get(to.input(0))
    if a is not None and spread_along_rows(a.shape, (1,) * a.ndim + (2,)):
        terms.reverse()
    total = to.constant(zero_points(first, second, a_zero, b_zero, c_zero))
    for index, ratio in terms:
        total = to.own("MultiplyAdd", [_real(to, index), to.constant(ratio), total])
    return _rounded(to, total, zeros[2])


def _product(to: _Writer) -> list[Node] | None:
    known = _ratios(to)
    if known is None:
        return None
    (a_scale, b_scale, c_scale), zeros = known
    centred = [
        to.add("Sub", [_real(to, k), to.constant(zero)]) if zero else _real(to, k)
        for k, zero in zip((0, 3), zeros, strict=False)
    ]
    product = to.add("Mul", [to.add("Mul", centred), to.constant(a_scale * b_scale / c_scale)])
    return _rounded(to, to.add("Add", [product, to.constant(zeros[2])]), zeros[2])


def _of_two_values(to: _Writer) -> list[Node] | None:
    """A QLinearMatMul without known weights: the integers multiplied in float32, whose sums are
    exact below 2^24."""
    scales, zeros = [to.scale(k) for k in (1, 4, 6)], [to.zero(k, "") for k in (2, 5, 7)]
    known = [p for p in (*scales, *zeros) if p is not None]
    if len(known) != 6 or to.program.constants.get(to.input(3)) is not None:
        return None
    (a_scale, b_scale, y_scale), zeros_ = known[:3], known[3:]
    centred = [
        to.add("Sub", [_real(to, k), to.constant(zero)]) if zero else _real(to, k)
        for k, zero in zip((0, 3), zeros_, strict=False)
    ]
    product = to.add("MatMul", centred)
    steps = to.add("Mul", [product, to.constant(a_scale * b_scale / y_scale)])
    zero = to.constant(zeros_[2], zeros_[2].dtype)
    to.add("QuantizeLinear", [steps, to.constant(1), zero])
    return to.ended()


def _joined(to: _Writer) -> list[Node] | None:
    y_scale, y_zero = to.scale(0), to.zero(1, "")
    parts = range(2, len(to.node.inputs), 3)
    if y_scale is None or y_zero is None or len(to.node.inputs) % 3 != 2 or not parts:
        return None
    names = []
    for k in parts:
        scale, zero = to.scale(k + 1), to.zero(k + 2, "")
        if scale is None or zero is None:
            return None
        if (scale, zero, zero.dtype) == (y_scale, y_zero, y_zero.dtype):
            names.append(to.input(k))
            continue
        bytes_ = np.arange(256, dtype=np.uint8).view(zero.dtype)
        one = Node(to.node.op_type, to.node.inputs[:5], to.node.outputs, {"axis": 0}, "", _DOMAIN)
        (table,) = to.program.prepared(one).call(y_scale, y_zero, bytes_, scale, zero)
        names.append(to.table(to.input(k), np.asarray(table)))
    to.add("Concat", names, axis=to.node.attributes.get("axis"))
    return to.ended()


def _within(op_type: str, dropped: Sequence[str] = ()) -> _Expansion:
    """The operator of real numbers, between bytes."""

    def expand(to: _Writer) -> list[Node] | None:
        given = to.node.attributes
        zero = to.zero(4, to.input(0))
        if given.get("channels_last", 0) or zero is None or to.scale(3) is None:
            return None
        attributes = {key: value for key, value in given.items() if key not in dropped}
        real = to.add("DequantizeLinear", to.node.inputs[:3])
        result = to.add(op_type, [real], **attributes)
        to.add("QuantizeLinear", [result, to.input(3), to.constant(zero, zero.dtype)])
        return to.ended()

    return expand


def _softmax(to: _Writer) -> list[Node] | None:
    opset = to.node.attributes.get("opset", 0)
    if (opset >= 13) != (to.program.opsets.get("", 1) >= 13) or "axis" not in to.node.attributes:
        return None
    return _within("Softmax", ["opset"])(to)


def _dynamic_product(to: _Writer) -> list[Node] | None:
    names = [to.program.fresh(f"{to.node.outputs[0]}_{part}") for part in ("q", "scale", "zero")]
    own, part_of = to.node.name, str(to.node)
    steps = Node("DynamicQuantizeLinear", [to.input(0)], names, {}, own, part_of=part_of)
    if to.program.opsets.get("", 1) < 11:
        return None
    q, scale, zero = names
    inputs = [q, to.input(1), scale, to.input(2), zero, to.input(3), to.input(4)]
    outputs = list(to.node.outputs)
    product = Node("MatMulIntegerToFloat", inputs, outputs, {}, own, _DOMAIN, part_of)
    return [steps, product]


_EXPANSIONS: Final[dict[tuple[str, str], _Expansion]] = {
    ("", "QLinearMatMul"): _of_two_values,
    (_DOMAIN, "DynamicQuantizeMatMul"): _dynamic_product,
    (_DOMAIN, "QLinearAdd"): _sum,
    (_DOMAIN, "QLinearAveragePool"): _within("AveragePool", ["channels_last"]),
    (_DOMAIN, "QLinearConcat"): _joined,
    (_DOMAIN, "QLinearGlobalAveragePool"): _within("GlobalAveragePool", ["channels_last"]),
    (_DOMAIN, "QLinearMul"): _product,
    (_DOMAIN, "QLinearSoftmax"): _softmax,
}
