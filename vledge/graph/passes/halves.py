"""What computes on float16 computes on float32: inputs are widened, and results rounded only for
who asks for float16: outputs of the graph, and operators that are not in this pass's lists.

This is what onnxruntime does on a CPU. Between two operators of a model in half precision nothing
is rounded, so weights are packed, chains and epilogues joined, and recurrent layers run as if the
file had float32. An operator that only moves elements follows what made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from vledge.graph.native.types import infer
from vledge.graph.passes.program import Program
from vledge.graph.registry import pointwise_operators
from vledge.model.definition import Graph, Node
from vledge.model.element_types import NUMBERS

__all__ = ["widen_halves"]

_HALF: Final = np.dtype(np.float16)

_COMPUTING: Final = frozenset(
    """
    ArgMax ArgMin AveragePool BatchNormalization Conv ConvTranspose CumSum DFT DequantizeLinear Det
    Einsum GRU Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool GroupNormalization Hardmax
    InstanceNormalization LRN LSTM LayerNormalization LogSoftmax LpNormalization LpPool MatMul
    MaxPool MeanVarianceNormalization QuantizeLinear RMSNormalization RNN Range ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    Resize STFT Softmax TopK
    """.split()  # noqa: SIM905
)
_MOVING: Final = frozenset(
    """
    Compress Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity NonZero
    OneHot Pad Reshape ReverseSequence Scatter ScatterElements ScatterND Shape Size Slice
    SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """.split()  # noqa: SIM905
)
# Whose further outputs are not of the first one's type
_OF_ONE_OUTPUT: Final = frozenset(["BatchNormalization", "LayerNormalization"])


def widen_halves(program: Program) -> bool:
    """Rewrite the program's graph and every graph inside of it, in place; whether any was."""
    dtypes = infer(program.graph, program.constants, dict(program.dtypes))
    if _HALF not in {*dtypes.values(), *(a.dtype for a in program.constants.values())}:
        return False
    return _Widening(program, dtypes).graph(program.graph, {})


class _Widening:
    def __init__(self, program: Program, dtypes: dict[str, np.dtype]) -> None:
        self.program, self.dtypes = program, dtypes
        self.constants: dict[str, str] = {}  # of float16 → its name in float32
        pointwise = pointwise_operators()
        self.computing = (_COMPUTING | pointwise.of_one | pointwise.of_several) - _MOVING

    def graph(self, graph: Graph, outer: Mapping[str, str]) -> bool:
        """``outer`` has values of float16 of the graphs around and their names in float32."""
        wide, kept, changed = dict(outer), list[Node](), False
        for node in graph.nodes:
            for inner in node.subgraphs():
                changed |= self.graph(inner, wide)
            if self.is_widened(node, wide):
                changed = True
                self.widen(node, wide, kept)
            else:
                kept.append(node)
        graph.nodes = kept
        return changed

    def is_widened(self, node: Node, wide: Mapping[str, str]) -> bool:
        halves = [name for name in node.inputs if name and self.is_half(name)]
        if node.domain or not halves or any(map(self.is_unknown, node.inputs)):
            return False
        if node.op_type in _OF_ONE_OUTPUT and any(node.outputs[1:]):
            return False
        if node.op_type in ("DequantizeLinear", "QuantizeLinear") and "output_dtype" in (
            node.attributes
        ):
            return False
        if node.op_type in _MOVING or node.op_type == "Cast":
            return any(name in wide for name in halves)
        return node.op_type in self.computing

    def is_half(self, name: str) -> bool:
        known = self.program.constants.get(name)
        return (self.dtypes.get(name) if known is None else known.dtype) == _HALF

    def is_unknown(self, name: str) -> bool:
        return bool(name) and name not in self.program.constants and name not in self.dtypes

    def widen(self, node: Node, wide: dict[str, str], kept: list[Node]) -> None:
        for index, name in enumerate(node.inputs):
            if name and self.is_half(name):
                node.inputs[index] = self.widened(name, wide, kept)
        if node.op_type == "Cast" and node.attributes.get("to") == NUMBERS["float16"]:
            node.op_type, node.attributes = "Identity", {}  # it was float16 before
        kept.append(node)
        for index, name in enumerate(node.outputs):
            if name and self.is_half(name) and node.op_type != "Cast":
                node.outputs[index] = wide[name] = self.program.fresh(name)
                to = {"to": NUMBERS["float16"]}
                kept.append(Node("Cast", [wide[name]], [name], to, part_of=str(node)))

    def widened(self, name: str, wide: dict[str, str], kept: list[Node]) -> str:
        constant = self.program.constants.get(name)
        if constant is not None:
            if name not in self.constants:
                self.program.budget.take(2 * constant.nbytes, f"{name}, made float32 at load,")
                self.constants[name] = self.program.fresh(name)
                self.program.set_constant(self.constants[name], constant.astype(np.float32))
            return self.constants[name]
        if name not in wide:
            wide[name] = self.program.fresh(name)
            to = {"to": NUMBERS["float"]}
            kept.append(Node("Cast", [name], [wide[name]], to))
        return wide[name]
