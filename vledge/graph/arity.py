"""How many inputs the operators that are made by factories take, and how many outputs any has.

What a factory returns is known only when it has been called, and it may look at inputs before; so
their number is looked up here. Source: Operators.md, of the versions that are registered.
"""

from __future__ import annotations

from typing import Final

__all__ = ["inputs_of", "outputs_of"]

_Arity = tuple[int, int | None]

_ARITY: Final[dict[str, _Arity]] = {
    **dict.fromkeys(("Constant", "RandomNormal", "RandomUniform", "SequenceEmpty"), (0, 0)),
    **dict.fromkeys(
        """
        AveragePool Bernoulli BitCast BlackmanWindow Cast ConstantOfShape DepthToSpace Dropout
        EyeLike Gelu GlobalLpPool HammingWindow HannWindow Hardmax LRN LogSoftmax LpNormalization
        LpPool MaxPool Multinomial RandomNormalLike RandomUniformLike Softmax SpaceToDepth
        TreeScores
        """.split(),  # noqa: SIM905
        (1, 1),
    ),
    "DynamicQuantizeMatMul": (3, 5),
    "MatMulIntegerToFloat": (4, 7),
    "QGemm": (6, 9),
    **dict.fromkeys(
        "QLinearAveragePool QLinearGlobalAveragePool QLinearSoftmax".split(),  # noqa: SIM905
        (4, 5),
    ),
    **dict.fromkeys(
        """
        ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Split Squeeze
        """.split(),  # noqa: SIM905
        (1, 2),
    ),
    **dict.fromkeys(
        """
        BitShift CastLike Gather GridSample MatMul MaxRoiPool Pow RMSNormalization Reshape Unsqueeze
        """.split(),  # noqa: SIM905
        (2, 2),
    ),
    **dict.fromkeys(
        """
        Conv ConvRelu ConvTranspose DequantizeLinear Gemm LayerNormalization QuantizeLinear
        TensorScatter
        """.split(),  # noqa: SIM905
        (2, 3),
    ),
    **dict.fromkeys(
        "Col2Im GroupNormalization Range RoiAlign Scatter ScatterElements ScatterND".split(),  # noqa: SIM905
        (3, 3),
    ),
    "BatchNormalization": (5, 5),
    "ConvInteger": (2, 4),
    "DeformConv": (3, 5),
    "DynamicQuantizeLSTM": (3, 12),
    "Einsum": (1, None),
    "GRU": (3, 6),
    "LSTM": (3, 8),
    "MatMulInteger": (2, 4),
    "MaxUnpool": (2, 3),
    "MelWeightMatrix": (5, 5),
    "NonMaxSuppression": (2, 5),
    "Pad": (2, 4),
    "QLinearConv": (8, 9),
    "QLinearMatMul": (8, 8),
    "RNN": (3, 6),
    "Resize": (1, 4),
    "RotaryEmbedding": (3, 4),
    "Slice": (3, 5),
    "Upsample": (2, 2),
}

# Those whose inputs were attributes in versions until then.
_BEFORE: Final[dict[tuple[str, int], _Arity]] = {
    ("Pad", 2): (1, 1),
    ("Resize", 10): (2, 2),
    ("Slice", 1): (1, 1),
    ("Split", 2): (1, 1),
    ("Squeeze", 1): (1, 1),
    ("Unsqueeze", 1): (1, 1),
    ("Upsample", 7): (1, 1),
}


# Outputs, of operators of ONNX's that have others than one; None for any number.
_OUTPUTS: Final[dict[str, int | None]] = {
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap", "Split")),
    "Attention": 4,
    "BatchNormalization": 5,
    "Dropout": 2,
    "DynamicQuantizeLinear": 3,
    "GRU": 2,
    "LSTM": 3,
    "LayerNormalization": 3,
    "LinearAttention": 2,
    "MaxPool": 2,
    "NegativeLogLikelihoodLoss": 1,
    "RNN": 2,
    "SoftmaxCrossEntropyLoss": 2,
    "StringSplit": 2,
    "TopK": 2,
    "Unique": 4,
}


def outputs_of(op_type: str) -> int | None:
    """The most that an operator of ONNX's own domain has; None for any number."""
    return _OUTPUTS.get(op_type, 1)


def inputs_of(op_type: str, since: int) -> _Arity:
    """Of a factory's operator in the version of that opset; any number where none is known."""
    return _BEFORE.get((op_type, since), _ARITY.get(op_type, (0, None)))
