"""How much arithmetic an instruction does: the products of convolutions, matrices and recurrences.

A multiplication and its addition count as two. What element-wise operators add is left out, and so
is what a quicker algorithm (Winograd's) saves, so that figures of one model compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from vledge._ext.convolution import Convolution
from vledge.model.definition import Node
from vledge.recurrent.cells import KINDS, OPERATORS

__all__ = ["Shape", "operations"]

Shape = tuple[int, ...] | None  #: of a value; None where it is left out or no tensor

_SEQUENCE_LENS: Final = 4  # which input of the node that is; instructions may take fewer
# Operator → its kind: layers, quantised ones, and the passes' cells
_KINDS_OF: Final = {
    **{name: KINDS[name] for name in OPERATORS},
    **{f"{name}Cell": KINDS[name] for name in OPERATORS},
    "DynamicQuantizeLSTM": KINDS["LSTM"],
}
_OF_BYTES: Final = ("ConvInteger", "QLinearConv")


class Instruction(NamedTuple):
    """Its nodes, what it keeps (packed weights), and the shapes that it met in a run."""

    nodes: Sequence[Node]
    objects: Sequence[object]
    inputs: Sequence[Shape]
    outputs: Sequence[Shape]


def operations(
    nodes: Sequence[Node],
    objects: Sequence[object],
    inputs: Sequence[Shape],
    outputs: Sequence[Shape],
) -> int:
    """Of an instruction that is these nodes, by what it keeps and the shapes it met; 0 if none."""
    for node in nodes:
        count = _COUNTS.get(node.op_type)
        if count is not None and inputs and inputs[0] is not None and outputs:
            return count(node, Instruction(nodes, objects, inputs, outputs))
    return 0


def _convolution(node: Node, seen: Instruction) -> int:
    """Each output element (transposed: each input element) meets the window of its group."""
    packed = next((kept for kept in seen.objects if isinstance(kept, Convolution)), None)
    if packed is not None:
        transposed = packed.transposed
        channels = packed.out_channels if transposed else packed.in_channels
        window = channels // packed.groups * math.prod(packed.kernel)
    elif node.op_type in _OF_BYTES:  # whose weights the instruction has packed
        transposed = False
        channels = (seen.inputs[0] or (0, 0))[1]
        window = channels // node.attributes.get("group", 1)
        window *= math.prod(node.attributes.get("kernel_shape", (0,)))
    else:
        weight = seen.inputs[1] if len(seen.inputs) > 1 else None
        if weight is None:
            return 0
        transposed = node.op_type == "ConvTranspose"
        window = math.prod(weight[1:])
    elements = math.prod(seen.inputs[0] or ()) if transposed else math.prod(seen.outputs[0] or ())
    for other in seen.nodes:  # a pool in the same instruction has seen more
        if other.op_type in ("MaxPool", "AveragePool"):
            elements *= math.prod(other.attributes.get("kernel_shape", ()))
    return 2 * elements * window


def _product(node: Node, seen: Instruction) -> int:
    first = seen.inputs[0]
    if not first or seen.outputs[0] is None:
        return 0
    depth = first[0] if node.attributes.get("transA", 0) else first[-1]
    return 2 * math.prod(seen.outputs[0]) * depth


def _contraction(node: Node, seen: Instruction) -> int:
    """Einsum of two operands: each output element sums over the letters that go."""
    equation = node.attributes["equation"].replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if "." in equation or len(terms) != 2:
        return 0
    sizes = {
        letter: size
        for term, shape in zip(terms, seen.inputs, strict=False)
        for letter, size in zip(term, shape or (), strict=False)
    }
    return 2 * math.prod(sizes.values())


def _recurrence(node: Node, seen: Instruction) -> int:
    """Each step of each sequence multiplies ``[gates * H, I + H]``, in each direction.

    0 with sequence_lens (of the passes' own nodes: a mask), whose numbers are not seen here.
    """
    x = seen.inputs[0]
    if any(node.inputs[_SEQUENCE_LENS : _SEQUENCE_LENS + 1]):
        return 0
    hidden = next((shape[-1] for shape in seen.outputs if shape), 0)
    if not x:
        return 0
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    gates = len(_KINDS_OF[node.op_type].gates) * hidden
    return 2 * math.prod(x[:-1]) * directions * gates * (x[-1] + hidden)


_COUNTS: Final[dict[str, Callable[[Node, Instruction], int]]] = {
    **dict.fromkeys(["Conv", "ConvRelu", "ConvTranspose"], _convolution),
    **dict.fromkeys(_OF_BYTES, _convolution),
    **dict.fromkeys(["MatMul", "Gemm", "FusedMatMul", "MatMulInteger"], _product),
    **dict.fromkeys(["QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"], _product),
    "Einsum": _contraction,
    **dict.fromkeys(_KINDS_OF, _recurrence),
}
