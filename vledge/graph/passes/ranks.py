"""How many axes values have, as far as declarations, constants and operators tell.

What a graph declares of its inputs is believed: a session checks its own, and a body whose states
are not as declared is no valid model. A state without a declaration has the axes of what it begins
with, if the body then gives it as many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from vledge.graph.registry import pointwise_operators
from vledge.model.definition import Graph, Node

__all__ = ["ranks_of"]

# Besides element-wise operators of one value.
_AS_FIRST: Final = frozenset(
    """
    AveragePool BatchNormalization CastLike Concat Conv ConvInteger ConvTranspose CumSum
    DequantizeLinear Dropout GlobalAveragePool GlobalMaxPool InstanceNormalization
    LayerNormalization LogSoftmax MaxPool Pad QLinearConv QuantizeLinear Resize ReverseSequence
    Slice Softmax Split Tile Trilu
    """.split()  # noqa: SIM905
)
# Of onnxruntime's domain: the places of operands, the most axes of which the result has.
_OF_BYTES: Final = {
    "QLinearAdd": (0, 3),
    "QLinearMul": (0, 3),
    **dict.fromkeys(
        ["QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearSigmoid"],
        (0,),
    ),
    "QLinearSoftmax": (0,),
}
# The same domain's functions of real numbers, as their first input.
_REAL: Final = frozenset(
    """
    BiasGelu FastGelu FusedConv FusedGemm Gelu QuickGelu SkipLayerNormalization
    SkipSimplifiedLayerNormalization
    """.split()  # noqa: SIM905
)
_NORMS: Final = ("Gelu", "LayerNormalization", "RMSNormalization")  # of the passes'
_FIXED: Final = {"Gemm": 2, "Shape": 1, "Size": 0, "Range": 1}
_LAYERS: Final = frozenset(["GRU", "LSTM", "RNN"])
_CELLS: Final = frozenset(["GRUCell", "LSTMCell", "RNNCell"])


def ranks_of(graph: Graph, constants: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The number of axes of the graph's values, and of those of graphs inside, where known."""
    ranks = {name: array.ndim for name, array in constants.items()}
    _Inference(constants, ranks).graph(graph)
    return ranks


class _Inference:
    def __init__(self, constants: Mapping[str, np.ndarray], ranks: dict[str, int]) -> None:
        self.constants = constants
        self.ranks = ranks
        self.pointwise = pointwise_operators()
        self.lengths: dict[str, int] = {}  # of vectors, which are shapes of other values

    def graph(self, graph: Graph) -> None:
        for info in graph.inputs:
            if info.shape is not None:
                self.ranks.setdefault(info.name, len(info.shape))
        for node in graph.nodes:
            if node.op_type in ("Loop", "Scan") and not node.domain:
                self.body(node)
            else:
                for inner in node.subgraphs():
                    self.graph(inner)
            self.node(node)

    def body(self, node: Node) -> None:
        body = node.attributes.get("body")
        if not isinstance(body, Graph):
            return
        loop = node.op_type == "Loop"
        count = len(node.inputs) - (2 if loop else node.attributes.get("num_scan_inputs", 0))
        own = body.inputs[2:] if loop else body.inputs[:count]
        given = node.inputs[2:] if loop else node.inputs[:count]
        ends = body.outputs[1:] if loop else body.outputs
        for info in body.inputs[:2] if loop else ():
            self.ranks.setdefault(info.name, 0)
        if not loop:
            for info, name in zip(body.inputs[count:], node.inputs[count:], strict=False):
                if name in self.ranks and info.shape is None:
                    self.ranks[info.name] = self.ranks[name] - 1
        supposed = {
            info.name: self.ranks[name]
            for info, name in zip(own, given, strict=False)
            if info.shape is None and name in self.ranks
        }
        while True:
            before, lengths = dict(self.ranks), dict(self.lengths)
            self.ranks.update(supposed)
            self.graph(body)
            wrong = [
                info.name
                for info, end in zip(own, ends, strict=False)
                if info.name in supposed and self.ranks.get(end.name) != supposed[info.name]
            ]
            if not wrong:
                break
            self.ranks, self.lengths = _restored(self.ranks, before), lengths
            for name in wrong:
                del supposed[name]
        for name, info in zip(node.outputs, ends, strict=False):
            place = node.outputs.index(name)
            rank = self.ranks.get(info.name)
            if name and rank is not None:
                begins = self.ranks.get(given[place]) if place < count else None
                if place >= count:
                    self.ranks[name] = rank + 1
                elif begins == rank:
                    self.ranks[name] = rank

    def node(self, node: Node) -> None:
        outputs = [name for name in node.outputs if name]
        if not outputs or outputs[0] in self.ranks:
            return
        if node.op_type in _LAYERS and node.domain in ("", "vledge"):
            for place, name in enumerate(node.outputs):
                if name:
                    self.ranks[name] = 3 if place else 4
            return
        rank = self.rank(node)
        if rank is not None and rank >= 0:
            for name in outputs:
                self.ranks[name] = rank
        length = self.length(node)
        if length is not None:
            self.lengths[outputs[0]] = length

    def rank(self, node: Node) -> int | None:
        op, inputs = node.op_type, node.inputs
        if node.domain == "com.microsoft" and op in _OF_BYTES:
            own = [self.ranks.get(inputs[k]) for k in _OF_BYTES[op] if k < len(inputs)]
            return None if not own or None in own else max(r for r in own if r is not None)
        if node.domain == "com.microsoft" and (op in _REAL or op == "FusedMatMul"):
            own = [self.ranks.get(name) for name in inputs[: 2 if op == "FusedMatMul" else 1]]
            return None if not own or None in own else max(r for r in own if r is not None)
        if node.domain == "vledge" and op == "TreeScores":
            return 2
        if node.domain == "vledge" and op in _NORMS:
            return self.ranks.get(inputs[0])
        if node.domain:
            states = [self.ranks.get(name) for name in inputs]
            if node.domain != "vledge" or op not in _CELLS or None in states:
                return None
            return max(rank for rank in states if rank is not None)
        if op in _FIXED:
            return _FIXED[op]
        known = [self.ranks.get(name) for name in inputs]
        first = known[0] if known else None
        second = known[1] if len(known) > 1 else None
        if op in _AS_FIRST or op in self.pointwise.of_one:
            return first
        if op in self.pointwise.of_several:
            return None if not known or None in known else max(r for r in known if r is not None)
        if op == "Transpose" and "perm" in node.attributes:
            return len(node.attributes["perm"])
        if op == "Gather" and first is not None and second is not None:
            return first + second - 1
        if op == "MatMul" and first is not None and second is not None:
            return max(first, second) - (first == 1) - (second == 1)
        if op.startswith("Reduce") or op in ("ArgMax", "ArgMin"):
            return self.reduced(node, first)
        if op in ("Squeeze", "Unsqueeze"):
            axes = self.axes(node)
            if axes is None or first is None:
                return None
            return first + (len(axes) if op == "Unsqueeze" else -len(axes))
        if op in ("Expand", "Reshape", "ConstantOfShape"):
            length = self.vector(inputs[0 if op == "ConstantOfShape" else 1])
            if length is None or op != "Expand":
                return length
            return None if first is None else max(first, length)
        return None

    def reduced(self, node: Node, rank: int | None) -> int | None:
        """Axes that are reduced stay as ones, or go."""
        if rank is None or node.attributes.get("keepdims", 1):
            return rank
        if node.op_type in ("ArgMax", "ArgMin"):
            return rank - 1
        axes = self.axes(node)
        if axes:
            return rank - len(axes)
        given = axes is None and len(node.inputs) > 1 and node.inputs[1]
        return None if given or node.attributes.get("noop_with_empty_axes", 0) else 0

    def axes(self, node: Node) -> list[int] | None:
        if "axes" in node.attributes:
            return list(node.attributes["axes"])
        known = self.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        return None if known is None else known.ravel().tolist()

    def vector(self, name: str) -> int | None:
        """How many elements a vector has."""
        known = self.constants.get(name)
        if known is not None:
            return known.size if known.ndim == 1 else None
        return self.lengths.get(name)

    def length(self, node: Node) -> int | None:
        op, inputs = node.op_type, node.inputs
        if node.domain or not inputs:
            return None
        if op == "Shape" and not node.attributes:
            return self.ranks.get(inputs[0])
        if op in ("Cast", "Identity"):
            return self.vector(inputs[0])
        if op == "Unsqueeze" and self.ranks.get(inputs[0]) == 0:
            return 1
        if op == "Gather" and len(inputs) > 1 and self.ranks.get(inputs[0]) == 1:
            return self.vector(inputs[1])
        if op in self.pointwise.of_several:  # one that is spread is shorter
            longer = [n for n in map(self.vector, inputs) if n is not None and n > 1]
            return longer[0] if longer and self.ranks.get(node.outputs[0]) == 1 else None
        if op == "Concat":
            lengths = [self.vector(name) for name in inputs]
            return None if None in lengths else sum(n for n in lengths if n is not None)
        if op == "Slice" and self.vector(inputs[0]) is not None:
            total = self.vector(inputs[0])
            if len(inputs) > 1:
                known = [self.constants.get(name) for name in inputs[1:3]]
                bounds = [[] if array is None else array.ravel().tolist() for array in known]
            else:
                bounds = [node.attributes.get(name) or [] for name in ("starts", "ends")]
            if [len(one) for one in bounds] != [1, 1] or len(inputs) > 4:
                return None
            return len(range(*slice(bounds[0][0], bounds[1][0]).indices(total or 0)))
        return None


def _restored(ranks: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """The same dictionary as it was: others hold it."""
    ranks.clear()
    ranks.update(before)
    return ranks
