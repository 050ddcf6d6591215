"""Element types of a graph's values, as far as operators' names and attributes tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from vledge.graph.registry import pointwise_operators
from vledge.model.definition import Graph, Node
from vledge.model.element_types import DTYPES, dtype_of

__all__ = ["as_first_input", "infer"]

_Dtype = Callable[[str], np.dtype | None]  # a value's, where it is known
_Note = Callable[[str, np.dtype | None], None]

_BOOL: Final = frozenset(
    "And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or Xor".split()  # noqa: SIM905
)
_INT64: Final = frozenset(
    ["ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "SequenceLength", "Shape", "Size"]
)
# Outputs behind the first are not as it is.
_FURTHER: Final = {
    "TopK": np.dtype(np.int64),
    "MaxPool": np.dtype(np.int64),
    "Unique": np.dtype(np.int64),
    "Dropout": np.dtype(np.bool_),
}
# They are as the inputs that begin here.
_FURTHER_AS_INPUTS: Final = {"BatchNormalization": 3}
# Outputs are as the input of this index.
_AS_INPUT: Final = {"Where": 1, "OneHot": 2, "DequantizeLinear": 1, "SequenceInsert": 1}
# Besides element-wise operators; see `as_first_input`.
_AS_FIRST: Final = frozenset(
    """
    AffineGrid Attention AveragePool BatchNormalization CenterCropPad Col2Im Compress Concat
    Conv ConvTranspose CumProd CumSum DFT DeformConv DepthToSpace Det Dropout Einsum Expand
    Flatten GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
    GridSample GroupNormalization Hardmax InstanceNormalization LRN LSTM LayerNormalization
    LogSoftmax LpNormalization LpPool MatMul MaxPool MaxRoiPool MaxUnpool
    MeanVarianceNormalization NegativeLogLikelihoodLoss Pad RMSNormalization RNN Range ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Reshape Resize ReverseSequence RoiAlign RotaryEmbedding STFT Scatter
    ScatterElements ScatterND Slice Softmax SoftmaxCrossEntropyLoss SpaceToDepth Split Squeeze
    TensorScatter Tile TopK Transpose Trilu Unique Unsqueeze Upsample
    """.split()  # noqa: SIM905
)
_FIXED: Final = {
    "ConvInteger": np.int32,
    "MatMulInteger": np.int32,
}
_REAL_OF_BYTES: Final = frozenset(
    """
    DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulIntegerToFloat QAttention
    QEmbedLayerNormalization
    """.split()  # noqa: SIM905
)
# onnxruntime's operators whose result has the type of the zero point at this place
_LIKE_ZERO_POINT: Final = {
    "QGemm": 8,
    "QLinearAdd": 7,
    "QLinearAveragePool": 4,
    "QLinearConcat": 1,
    "QLinearGlobalAveragePool": 4,
    "QLinearLeakyRelu": 4,
    "QLinearMul": 7,
    "QLinearSigmoid": 4,
    "QLinearSoftmax": 4,
}
_OWN: Final = frozenset(
    """
    ConvRelu GRU GRUCell Gelu LSTM LSTMCell LayerNormalization MultiplyAdd RMSNormalization RNN
    RNNCell
    """.split()  # noqa: SIM905
)  # the passes' own, as their first input
# onnxruntime's functions of real numbers, as their first input
_REAL: Final = frozenset(
    """
    Attention BiasGelu FastGelu FusedConv FusedGemm FusedMatMul Gelu MultiHeadAttention QuickGelu
    SkipLayerNormalization SkipSimplifiedLayerNormalization
    """.split()  # noqa: SIM905
)


def as_first_input(op_type: str) -> bool:
    """Whether the first output of ONNX's operator has its first input's dtype, at every opset."""
    pointwise = pointwise_operators()
    if op_type in _BOOL or op_type in _AS_INPUT or op_type in ("Cast", "EyeLike"):
        return False
    return op_type in _AS_FIRST or op_type in pointwise.of_one or op_type in pointwise.of_several


def infer(
    graph: Graph, constants: Mapping[str, np.ndarray], dtypes: dict[str, np.dtype]
) -> dict[str, np.dtype]:
    """Add what can be told of the graph's values, and of those of graphs inside, to ``dtypes``."""

    def dtype(name: str) -> np.dtype | None:
        known = constants.get(name)
        return dtypes.get(name) if known is None else known.dtype

    def note(name: str, value: np.dtype | None) -> None:
        if name and value is not None:
            dtypes.setdefault(name, value)

    for info in graph.inputs:
        if info.type in DTYPES:
            note(info.name, DTYPES[info.type])
    for node in graph.nodes:
        if node.op_type in ("Loop", "Scan") and not node.domain:
            _note_states(node, dtype, note)
        for inner in node.subgraphs():
            infer(inner, constants, dtypes)
        _note_outputs(node, dtype, note)
    return dtypes


def _note_states(node: Node, dtype: _Dtype, note: _Note) -> None:
    """A body's inputs are as what is handed to them, which need not be declared."""
    body = node.attributes.get("body")
    if not isinstance(body, Graph):
        return
    if node.op_type == "Loop" and len(body.inputs) >= 2:
        note(body.inputs[0].name, np.dtype(np.int64))
        note(body.inputs[1].name, np.dtype(np.bool_))
    for info, name in zip(body.inputs, node.inputs, strict=False):
        if info.name not in (i.name for i in body.inputs[: 2 if node.op_type == "Loop" else 0]):
            note(info.name, dtype(name))


def _note_outputs(node: Node, dtype: _Dtype, note: _Note) -> None:
    op, outputs = node.op_type, node.outputs
    if node.domain == "vledge" and op in _OWN:
        for name in outputs:
            note(name, dtype(node.inputs[0]))
        return
    if node.domain == "com.microsoft":
        if op in _REAL:
            for name in outputs:
                note(name, dtype(node.inputs[0]))
        elif op in _REAL_OF_BYTES:
            for name in outputs:
                note(name, np.dtype(np.float32))
        elif op in _LIKE_ZERO_POINT:
            place = _LIKE_ZERO_POINT[op]
            known = dtype(node.inputs[place]) if place < len(node.inputs) else None
            without = np.dtype(np.float32) if op == "QGemm" else dtype(node.inputs[0])
            note(outputs[0], known or without)
        return
    if node.domain == "vledge" and op == "TreeScores":
        note(outputs[0], np.dtype(np.float32))
        return
    if node.domain == "vledge" and op == "ByteTable":
        note(outputs[0], dtype(node.inputs[1]))
        return
    if node.domain or not outputs:
        return
    if op in ("If", "Loop", "Scan"):
        bodies = list(node.subgraphs())
        skipped = 1 if op == "Loop" else 0
        for position, name in enumerate(outputs):
            dtypes = {
                dtype(body.outputs[position + skipped].name)
                for body in bodies
                if position + skipped < len(body.outputs)
            }
            if len(dtypes) == 1:
                note(name, dtypes.pop())
        return
    first: np.dtype | None = None
    if op == "Cast":
        first = dtype_of(node.attributes.get("to", 0))
    elif op in _BOOL:
        first = np.dtype(np.bool_)
    elif op in _INT64:
        first = np.dtype(np.int64)
    elif op in _FIXED:
        first = np.dtype(_FIXED[op])
    elif op == "ConstantOfShape":
        first = node.attributes.get("value", np.zeros(1, np.float32)).dtype
    elif op == "DynamicQuantizeLinear":
        for name, kind in zip(outputs, (np.uint8, np.float32, np.uint8), strict=False):
            note(name, np.dtype(kind))
        return
    elif op == "QuantizeLinear":
        first = dtype(node.inputs[2]) if len(node.inputs) > 2 else np.dtype(np.uint8)
    elif op == "CastLike" and len(node.inputs) > 1:
        first = dtype(node.inputs[1])
    elif op in ("QLinearMatMul", "QLinearConv") and len(node.inputs) > 7:
        first = dtype(node.inputs[7])
    elif op in _AS_INPUT and len(node.inputs) > _AS_INPUT[op]:
        first = dtype(node.inputs[_AS_INPUT[op]])
    elif (op == "EyeLike" or as_first_input(op)) and node.inputs:
        first = dtype(node.inputs[0])
    named = node.attributes.get("output_dtype") or node.attributes.get("dtype")
    if named and op not in _BOOL:
        first = dtype_of(named)
    note(outputs[0], first)
    for position, name in enumerate(outputs[1:]):
        note(name, _of_further(node, position, first, dtype))


def _of_further(
    node: Node, position: int, first: np.dtype | None, dtype: _Dtype
) -> np.dtype | None:
    """Of an output behind the first; ``position`` counts from there."""
    if node.op_type in _FURTHER_AS_INPUTS:
        place = _FURTHER_AS_INPUTS[node.op_type] + position
        return dtype(node.inputs[place]) if place < len(node.inputs) else None
    if node.op_type == "LayerNormalization" and first == np.float16:  # means are not rounded
        return np.dtype(np.float32)
    return _FURTHER.get(node.op_type, first)
