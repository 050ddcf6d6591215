"""onnxruntime's 8-bit products on CPUs without VNNI, which saturate: how to avoid it, and a model.

There ``vpmaddubsw`` multiplies uint8 activations by int8 weights and adds each pair of neighbours
along k in an int16, which 2 · 255 · 127 does not fit into: the pair is cut off at 32,767. The sum
is then not what ONNX defines. uint8 weights take another path that never overflows, so the same
weights with 128 added to them and to their zero point give the defined numbers on every CPU.
Source: MLAS's QgemmU8X8KernelAvx2, onnxruntime's avx2_weight_s8_to_u8.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.operators.recurrent_quantized import QuantizedMatrix, dynamic_quantize_lstm
from vledge.graph.plan import Plan, simplified
from vledge.graph.registry import Context, NodeFunction
from vledge.model.definition import Graph, Model, Node

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

__all__ = ["WHY", "saturating_plan", "saturating_product", "unsaturated"]

WHY: Final = (
    "8-bit products that saturate in 16 bits, as onnxruntime's do on a CPU without VNNI where "
    "activations are uint8 and weights int8"
)

# operator → inputs that hold weights, each with the input of its zero point
_WEIGHTS: Final = {
    "ConvInteger": ((1, 3),),
    "DequantizeLinear": ((0, 2),),
    "DynamicQuantizeLSTM": ((1, 9), (2, 11)),
    "DynamicQuantizeMatMul": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "MatMulIntegerToFloat": ((1, 5),),
    "QAttention": ((1, 7),),
    "QGemm": ((3, 5),),
    "QLinearConv": ((3, 5),),
    "QLinearMatMul": ((3, 5),),
}
# operator → the input of the activations' zero point: int8 activations take another path
_ACTIVATIONS: Final = {"ConvInteger": 2, "MatMulInteger": 2, "QLinearConv": 2, "QLinearMatMul": 2}
_DOMAIN: Final = "vledge.saturating"
_HALF: Final = 128

Constants = dict[str, np.ndarray]


def unsaturated(proto: ModelProto) -> int:
    """Shift an ``onnx.ModelProto``'s int8 weights to uint8, in place; how many there were."""
    from onnx import numpy_helper

    shifted: dict[str, str] = {}

    def arrays_of(graph: GraphProto) -> dict[str, TensorProto]:
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                tensors[node.output[0]] = node.attribute[0].t
        return tensors

    def moved(graph: GraphProto, name: str, tensor: TensorProto) -> str:
        if name not in shifted:
            array = numpy_helper.to_array(tensor).astype(np.int16) + _HALF
            shifted[name] = f"{name}.uint8"
            own = numpy_helper.from_array(array.astype(np.uint8), shifted[name])
            proto.graph.initializer.append(own)
        return shifted[name]

    def walk(graph: GraphProto, around: dict[str, TensorProto]) -> None:
        known = around | arrays_of(graph)
        for node in graph.node:
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    if inner.node:
                        walk(inner, known)
            activations = _ACTIVATIONS.get(node.op_type, len(node.input))
            if activations < len(node.input):
                zero = known.get(node.input[activations])
                if zero is not None and numpy_helper.to_array(zero).dtype == np.int8:
                    continue
            for at, zero_at in _WEIGHTS.get(node.op_type, ()):
                weights = known.get(node.input[at]) if at < len(node.input) else None
                if weights is None or numpy_helper.to_array(weights).dtype != np.int8:
                    continue
                zero_name = node.input[zero_at] if zero_at < len(node.input) else ""
                zero = known.get(zero_name)
                if zero_name and zero is None:  # made by the graph: it stays as it is
                    continue
                if zero is None:
                    zero = numpy_helper.from_array(np.zeros((), np.int8), "zero.int8")
                    zero_name = zero.name
                node.input[at] = moved(graph, node.input[at], weights)
                node.input.extend([""] * (zero_at + 1 - len(node.input)))
                node.input[zero_at] = moved(graph, zero_name, zero)

    walk(proto.graph, {})
    kept = _used(proto.graph)
    for tensor in [t for t in proto.graph.initializer if t.name in shifted and t.name not in kept]:
        proto.graph.initializer.remove(tensor)
    return len(shifted)


def _used(graph: GraphProto) -> set[str]:
    """The values that an ``onnx.GraphProto`` and those inside of it declare or take."""
    names = {info.name for info in (*graph.input, *graph.output)}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                names |= _used(inner)
    return names


# ---- the model of it


def saturating_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a [..., M, K] @ b [..., K, N]`` as int64, of uint8 and int8 as such a CPU has it.

    Operands of other types are multiplied exactly.
    """
    a, b = np.asarray(a), np.asarray(b)
    left, right = a.astype(np.int64), b.astype(np.int64)
    if a.dtype != np.uint8 or b.dtype != np.int8:
        return left @ right
    limits = np.iinfo(np.int16)
    total = np.zeros((), np.int64)
    for k in range(0, left.shape[-1], 2):
        pair = left[..., :, k : k + 2] @ right[..., k : k + 2, :]
        total = total + np.clip(pair, limits.min, limits.max)
    return total


def saturating_plan(model: Model) -> Plan | None:
    """The model with such products; None where it has no product that could saturate.

    Convolutions stay exact: in what order onnxruntime's pair their values differs by their form.
    """
    program = simplified(model)
    constants = program.constants
    graph = _renamed(replace(program.graph, initializers=dict(constants)), constants)
    if graph is None:
        return None

    def function(node: Node, opset: int) -> NodeFunction:
        if node.domain != _DOMAIN:
            raise UnsupportedError(f"{node}: the operator is not supported")
        return _MODELLED[node.op_type](node, constants)

    imports = {**model.opset_imports, _DOMAIN: 1}
    return Plan(replace(model, graph=graph, opset_imports=imports), {}, function)


def _renamed(graph: Graph, known: dict[str, np.ndarray]) -> Graph | None:
    """The nodes that may saturate in a domain of their own; None where there are none."""
    nodes, count = [], 0
    for node in graph.nodes:
        attributes = dict(node.attributes)
        for key, value in node.attributes.items():
            inner = _renamed(value, known) if isinstance(value, Graph) else None
            if inner is not None:
                attributes[key] = inner
                count += 1
        node = replace(node, attributes=attributes)
        if node.op_type in _MODELLED and any(
            known[node.inputs[at]].dtype == np.int8
            for at, _ in _WEIGHTS[node.op_type]
            if node.inputs[at] in known
        ):
            node = replace(node, domain=_DOMAIN)
            count += 1
        nodes.append(node)
    return replace(graph, nodes=nodes) if count else None


def _matmul_integer(node: Node, constants: Constants) -> Callable[..., np.ndarray]:
    def run(
        a: np.ndarray,
        b: np.ndarray,
        a_zero: np.ndarray | None = None,
        b_zero: np.ndarray | None = None,
    ) -> np.ndarray:
        return _centred(a, b, a_zero, b_zero).astype(np.int32)

    return run


def _qlinear_matmul(node: Node, constants: Constants) -> Callable[..., np.ndarray]:
    def run(
        a: np.ndarray,
        a_s: np.ndarray,
        a_z: np.ndarray,
        b: np.ndarray,
        b_s: np.ndarray,
        b_z: np.ndarray,
        y_s: np.ndarray,
        y_z: np.ndarray,
    ) -> np.ndarray:
        step = (_column(a_s) * b_s / _column(y_s)).astype(np.float64)
        limits = np.iinfo(y_z.dtype)
        steps = np.rint(_centred(a, b, a_z, b_z) * step) + _column(y_z).astype(np.int64)
        result: np.ndarray = np.clip(steps, limits.min, limits.max).astype(y_z.dtype)
        return result

    return run


def _column(parameter: np.ndarray) -> np.ndarray:
    """One value for each row of a product."""
    return parameter[:, None] if parameter.ndim == 1 else parameter


def _centred(
    a: np.ndarray, b: np.ndarray, a_zero: np.ndarray | None, b_zero: np.ndarray | None
) -> np.ndarray:
    """The product without the zero points: only what is multiplied as bytes can saturate."""
    total = saturating_product(a, b)
    left, right = a.astype(np.int64), b.astype(np.int64)
    az = np.zeros((1, 1), np.int64) if a_zero is None else _column(a_zero).astype(np.int64)
    bz = np.zeros((), np.int64) if b_zero is None else b_zero.astype(np.int64)
    rows, columns = left.sum(-1, keepdims=True), right.sum(-2, keepdims=True)
    centred: np.ndarray = total - az * columns - rows * bz + left.shape[-1] * az * bz
    return centred


class _SaturatingMatrix:
    """A DynamicQuantizeLSTM's matrix of int8, whose zero point is 0."""

    def __init__(self, matrix: QuantizedMatrix) -> None:
        self.scale = matrix.scale
        self.integers = matrix.integers.astype(np.int8)

    def product(self, rows: np.ndarray, low: np.float32, high: np.float32) -> np.ndarray:
        """As `QuantizedMatrix.product`."""
        low, high = min(low, np.float32(0)), max(high, np.float32(0))
        scale = np.float32((high - low) / np.float32(255)) if high != low else np.float32(1)
        zero = np.rint(np.clip(-low / scale, 0, 255))
        bytes_ = np.clip(np.rint(rows / scale) + zero, 0, 255).astype(np.uint8)
        total = _centred(bytes_, self.integers, np.asarray(zero), None)
        return np.asarray(total.astype(np.float32) * (scale * self.scale))


def _lstm(node: Node, constants: Constants) -> NodeFunction:
    known = tuple(constants.get(name) for name in node.inputs)
    run = dynamic_quantize_lstm(Context(node, 1, known), **node.attributes)
    if run.weights is None:
        raise UnsupportedError(f"{node}: its weights are no constants")
    for direction in run.weights.generic:
        for name, place in (("input_matrix", 1), ("recurrent_matrix", 2)):
            weights = known[place]
            if weights is not None and weights.dtype == np.int8:
                setattr(direction, name, _SaturatingMatrix(getattr(direction, name)))
    return run


_MODELLED: Final = {
    "DynamicQuantizeLSTM": _lstm,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
}
