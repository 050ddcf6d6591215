"""Every operator on a large array: how long at most it computes before it looks for Ctrl-C.

Each runs by its native handler and by its Python operator (`VLEDGE_PROGRAM=0`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np

import vledge
from benchmarks.reliability.hearing import HEARD_NOTHING, PROMISED, Heard, apart, listen
from vledge.graph.plan import NEWEST_OPSET
from vledge.graph.registry import find, known_operators, pointwise_operators
from vledge.graph.trees import Trees
from vledge.model.definition import INTERNAL_DOMAIN, Graph, Model, Node, ValueInfo
from vledge.model.element_types import name_of

COUNT: Final = 1
N: Final = 1 << int(os.environ.get("VLEDGE_SWEEP_BITS", "26"))  # elements: 256 MiB of float32
MICROSOFT: Final = "com.microsoft"


class Case(NamedTuple):
    """A node on large inputs; None stands for one that is left out."""

    inputs: list[Any]
    attributes: Mapping[str, Any] = MappingProxyType({})
    outputs: int = 1
    known: tuple[int, ...] = ()  # which inputs the file has
    opset: int = NEWEST_OPSET


Make = Callable[[np.dtype], Case]
CASES: dict[tuple[str, str], list[Make]] = {}
KINDS: dict[tuple[str, str], str] = {}
USUAL: Final = "f4 f8 i8"


def case(names: str, make: Make, kinds: str = USUAL, domain: str = "") -> None:
    for name in names.split():
        CASES.setdefault((domain, name), []).append(make)
        KINDS[domain, name] = kinds


def some(dtype: np.dtype, *shape: int) -> np.ndarray:
    """Numbers that differ, made quickly: of floats between 0 and 1, of integers up to a hundred."""
    count = int(np.prod(shape))
    piece = np.random.default_rng(0).random(min(count, 1 << 20))
    piece = (piece if dtype.kind == "f" else piece * 100).astype(dtype)
    return np.resize(piece, count).reshape(shape)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def places(count: int, size: int) -> np.ndarray:
    """Indices."""
    return (
        np.random.default_rng(0)
        .integers(0, size, min(count, 1 << 20))
        .repeat(-(-count // (1 << 20)))[:count]
    )


F4 = np.dtype(np.float32)


def _pointwise() -> None:
    one, several = pointwise_operators()
    bits = "BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitShift".split()  # noqa: SIM905
    for name in sorted(one | several):
        entry = find(name, "", NEWEST_OPSET)
        assert entry is not None
        attributes = {"to": 11} if name == "Cast" else {}
        if name == "BitShift":
            attributes = {"direction": "LEFT"}
        count = 3 if name in ("Where", "Clip") else 2 if name in several else 1

        def make(
            t: np.dtype, name: str = name, count: int = count, attributes: dict = attributes
        ) -> Case:
            x = some(t, N)
            inputs = [x] * count
            if name == "Where":
                inputs[0] = some(np.dtype(np.int8), N) > 50
            if name == "Clip":
                inputs[1:] = [t.type(0), t.type(1)]
            if name == "BitShift":
                inputs = [x, x % t.type(8)]
            return Case(inputs, attributes)

        kinds = USUAL
        if name in ("And", "Or", "Xor", "Not"):
            kinds = "?"
        elif name in bits:
            kinds = "u1 u8" if name == "BitShift" else "u1 i8"
        elif entry.domain == "":
            kinds = "f4 f8 f2 i8"
        case(name, make, kinds)


_pointwise()
case("MultiplyAdd", lambda t: Case([some(t, N)] * 3), "f4 f8", INTERNAL_DOMAIN)
case("Gelu", lambda t: Case([some(t, N)]), "f4 f8", INTERNAL_DOMAIN)
case("ByteTable", lambda t: Case([some(t, N), some(t, 256)], known=(1,)), "u1", INTERNAL_DOMAIN)
case("Softmax LogSoftmax Hardmax", lambda t: Case([some(t, N // 1024, 1024)]), "f4 f8 f2")
case("Softmax LogSoftmax Hardmax", lambda t: Case([some(t, 1024, N // 1024)], {"axis": 0}))
case("Constant", lambda t: Case([], {"value": some(t, 1000)}), "f4")
case("ConstantOfShape", lambda t: Case([ints(N)]), "f4")
case("Range", lambda t: Case([t.type(0), t.type(N), t.type(1)]), "i8 f4 f8")
case("EyeLike", lambda t: Case([some(t, 8192, 8192)]))
case("BlackmanWindow HammingWindow HannWindow", lambda t: Case([np.array(N)]), "f4")
case("CastLike", lambda t: Case([some(t, N), np.float64(1)]))
case("BitCast", lambda t: Case([some(t, N)], {"to": 6}), "f4")


def _branches(name: str) -> Graph:
    nodes = [Node("Tan", [name], ["t"]), Node("Tan", ["t"], ["o"])]
    return Graph(nodes, [], [ValueInfo("o", "", None)])


def _body(op_type: str, extra: bool) -> Graph:
    infos = [ValueInfo("v", "", None)]
    nodes = [Node(op_type, ["v"], ["w"])]
    outputs = [ValueInfo("w", "", None)]
    if extra:
        infos = [ValueInfo("i", "int64", ()), ValueInfo("go", "bool", ()), *infos]
        nodes.append(Node("Identity", ["go"], ["on"]))
        outputs = [ValueInfo("on", "bool", ()), *outputs]
    return Graph(nodes, infos, outputs)


case(
    "If",
    lambda t: Case(
        [np.array(True), some(t, N)],
        {"then_branch": _branches("x1"), "else_branch": _branches("x1")},
    ),
    "f4",
)
case("Loop", lambda t: Case([ints(3)[0], None, some(t, N)], {"body": _body("Tan", True)}), "f4")
case(
    "Scan",
    lambda t: Case([some(t, 4, N // 4)], {"body": _body("Tan", False), "num_scan_inputs": 1}),
    "f4",
)
case("SequenceMap", lambda t: Case([[some(t, N // 4)] * 4], {"body": _body("Tan", False)}), "f4")
FILTERS: Final = {"pads": [1, 1, 1, 1]}
for known in ((1,), ()):
    case(
        "Conv",
        lambda t, known=known: Case(
            [some(t, 4, 32, 512, 512), some(t, 64, 32, 3, 3)], FILTERS, known=known
        ),
        "f4 f8",
    )
    case(
        "ConvTranspose",
        lambda t, known=known: Case(
            [some(t, 4, 32, 256, 256), some(t, 32, 32, 3, 3)], FILTERS, known=known
        ),
        "f4 f8",
    )
    case(
        "MatMul Gemm",
        lambda t, known=known: Case([some(t, 4096, 4096), some(t, 4096, 4096)], known=known),
        "f4 f8 i8",
    )
case("MatMul", lambda t: Case([some(t, 1000, 4096, 4, 4), some(t, 1, 4096, 4, 4)]))
case("MatMul", lambda t: Case([some(t, 4, 1, 2048, 2048), some(t, 1, 2, 2048, 2048)]), "f4 f8")
case(
    "ConvRelu",
    lambda t: Case([some(t, 4, 32, 512, 512), some(t, 64, 32, 3, 3)], FILTERS, known=(1,)),
    "f4",
    INTERNAL_DOMAIN,
)
case("Dropout", lambda t: Case([some(t, N)]), "f4")
case("Slice", lambda t: Case([some(t, N), ints(N), ints(-N - 1), ints(0), ints(-1)]))
case("Gather", lambda t: Case([some(t, N // 64, 64), places(N // 64, N // 64)]))
case("Gather", lambda t: Case([some(t, 1000), places(N, 1000)]))
case("GatherElements", lambda t: Case([some(t, N), places(N, N)]))
case("GatherND", lambda t: Case([some(t, 8192, 8192), places(N, 8192).reshape(N // 2, 2)]))
case(
    "GatherND",
    lambda t: Case([some(t, 2, 4096, 4096), places(N, 4096).reshape(2, -1, 1)], {"batch_dims": 1}),
)
for how in ("none", "add"):
    case(
        "ScatterElements Scatter",
        lambda t, how=how: Case(
            [some(t, N), places(N, N), some(t, N)], {} if how == "none" else {"reduction": how},
            opset=10 if how == "none" else NEWEST_OPSET,
        ),
    )  # fmt: skip
    case(
        "ScatterND",
        lambda t, how=how: Case(
            [some(t, N), places(N, N).reshape(N, 1), some(t, N)], {"reduction": how}
        ),
    )
case(
    "TensorScatter",
    lambda t: Case([some(t, 64, 16, 1024, 64), some(t, 64, 16, 512, 64)]),
    "f4 f2",
)
case("Concat", lambda t: Case([some(t, 1000, N // 2000)] * 2, {"axis": 1}))
case("Tile", lambda t: Case([some(t, 8192), ints(8192)]))
case("Split", lambda t: Case([some(t, N // 1000, 1000)], {"axis": 1, "num_outputs": 2}, 2))
case("Det", lambda t: Case([some(t, N // 64, 8, 8)]), "f4 f8")
case("Det", lambda t: Case([some(t, 3000, 3000)]), "f4 f8")
for equation, shapes in {
    "bij,bjk->bik": [(4, 2048, 2048)] * 2,
    "ij,jk,kl->il": [(2000, 2000)] * 3,
    "iij->j": [(400, 400, 400)],
    "i,j->": [(N,)] * 2,
    "...ij,...jk->...ik": [(2, 1, 1024, 1024), (1, 2, 1024, 1024)],
    "ij,ij->ij": [(8192, 8192)] * 2,
    "ij,ik,il->jkl": [(100, 400)] * 3,
}.items():
    case(
        "Einsum",
        lambda t, equation=equation, shapes=shapes: Case(
            [some(t, *shape) for shape in shapes], {"equation": equation}
        ),
        "f4 f8",
    )
for mode in ("constant", "reflect"):
    case(
        "Pad",
        lambda t, mode=mode: Case([some(t, 4096, N // 4096), ints(1, 1, 1, 1)], {"mode": mode}),
        "f4 f2",
    )
case("CenterCropPad", lambda t: Case([some(t, 8192, 8192), ints(8000, 9000)]))
CHANNELS: Final = (16, 64, 256, 256)
case(
    "BatchNormalization",
    lambda t: Case([some(t, *CHANNELS), *[some(t, 64)] * 4]),
    "f4 f8",
)
case("InstanceNormalization", lambda t: Case([some(t, *CHANNELS), *[some(t, 64)] * 2]), "f4 f8")
case(
    "GroupNormalization",
    lambda t: Case([some(t, *CHANNELS), *[some(t, 64)] * 2], {"num_groups": 8}),
    "f4 f8",
)
case("LayerNormalization RMSNormalization", lambda t: Case([some(t, N // 512, 512), some(t, 512)]),
     "f4 f8 f2")  # fmt: skip
case("MeanVarianceNormalization LpNormalization", lambda t: Case([some(t, *CHANNELS)]), "f4 f8")
case("LpNormalization", lambda t: Case([some(t, *CHANNELS)], {"axis": 1}), "f4 f8")
case("LRN", lambda t: Case([some(t, *CHANNELS)], {"size": 5}), "f4 f8")
REDUCTIONS: Final = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)
for axis in (0, 1):
    case(REDUCTIONS, lambda t, axis=axis: Case([some(t, 4096, N // 4096), ints(axis)]))
    case("ArgMax ArgMin", lambda t, axis=axis: Case([some(t, 4096, N // 4096)], {"axis": axis}))
    case("CumSum CumProd", lambda t, axis=axis: Case([some(t, 4096, N // 4096), ints(axis)[0]]))
WINDOW: Final = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
case("MaxPool AveragePool LpPool", lambda t: Case([some(t, *CHANNELS)], WINDOW), "f4 f8")
case("MaxPool", lambda t: Case([some(t, 4, 64, 256, 256)], WINDOW, 2), "f4 f8")
case("AveragePool LpPool", lambda t: Case([some(t, 4, 4, 1024, 1024)], {"kernel_shape": [99, 99]}),
     "f4 f8")  # fmt: skip
case("GlobalAveragePool GlobalMaxPool GlobalLpPool", lambda t: Case([some(t, *CHANNELS)]), "f4 f8")
ONE: Final = np.float32(0.5)
BYTE: Final = np.uint8(3)
case("QuantizeLinear", lambda t: Case([some(t, N), ONE, BYTE]), "f4")
case("DequantizeLinear", lambda t: Case([some(t, N), ONE, t.type(3)]), "u1 i1")
case("DynamicQuantizeLinear", lambda t: Case([some(t, N)], {}, 3), "f4")
case("MatMulInteger", lambda t: Case([some(t, 4096, 4096), some(t, 4096, 4096)]), "u1 i1")
QUANTISED: Final = [ONE, BYTE]
case(
    "QLinearMatMul",
    lambda t: Case([some(t, 4096, 4096), *QUANTISED, some(t, 4096, 4096), *QUANTISED * 2]),
    "u1",
)
IMAGES: Final = (4, 32, 512, 512)
case("ConvInteger", lambda t: Case([some(t, *IMAGES), some(t, 64, 32, 3, 3)], FILTERS, known=(1,)),
     "u1")  # fmt: skip
case(
    "QLinearConv",
    lambda t: Case(
        [some(t, *IMAGES), *QUANTISED, some(t, 64, 32, 3, 3), *QUANTISED * 2],
        FILTERS,
        known=(1, 2, 3, 4, 5, 6, 7),
    ),
    "u1",
)
case(
    "QLinearAdd QLinearMul",
    lambda t: Case([some(t, N), *QUANTISED, some(t, N), *QUANTISED * 2]),
    "u1",
    MICROSOFT,
)
case("QLinearSigmoid QLinearLeakyRelu", lambda t: Case([some(t, N), *QUANTISED * 2]), "u1",
     MICROSOFT)  # fmt: skip
case(
    "QLinearConcat",
    lambda t: Case([*QUANTISED, some(t, N), *QUANTISED, some(t, N), *QUANTISED], {"axis": 0}),
    "u1",
    MICROSOFT,
)
case("QLinearGlobalAveragePool", lambda t: Case([some(t, *CHANNELS), *QUANTISED * 2]), "u1",
     MICROSOFT)  # fmt: skip
case("QLinearAveragePool", lambda t: Case([some(t, *CHANNELS), *QUANTISED * 2], WINDOW), "u1",
     MICROSOFT)  # fmt: skip
case(
    "QLinearSoftmax",
    lambda t: Case([some(t, N // 256, 256), *QUANTISED * 2], {"opset": 13}),
    "u1",
    MICROSOFT,
)
case(
    "QGemm",
    lambda t: Case(
        [some(t, 4096, 4096), *QUANTISED, some(t, 4096, 4096), *QUANTISED, None, *QUANTISED]
    ),
    "u1",
    MICROSOFT,
)
case("MatMulIntegerToFloat", lambda t: Case([some(t, 4096, 4096)] * 2 + [ONE, ONE]), "u1",
     MICROSOFT)  # fmt: skip
case(
    "DynamicQuantizeMatMul",
    lambda t: Case([some(t, 4096, 4096), some(np.dtype(np.uint8), 4096, 4096), ONE]),
    "f4",
    MICROSOFT,
)
case("RandomNormal RandomUniform", lambda t: Case([], {"shape": [N]}), "f4")
case("RandomNormalLike RandomUniformLike Bernoulli", lambda t: Case([some(t, N)]), "f4 f8")
case("Multinomial", lambda t: Case([some(t, N // 64, 64)], {"sample_size": 4}), "f4 f8")
case("Multinomial", lambda t: Case([some(t, 2, N // 2)], {"sample_size": 1000}), "f4")
case("Multinomial", lambda t: Case([some(t, 1, 1000)], {"sample_size": N}), "f4")
for name, gates in {"RNN": 1, "GRU": 3, "LSTM": 4}.items():

    def recurrent(t: np.dtype, gates: int = gates) -> Case:
        w, r = some(t, 1, gates * 128, 64), some(t, 1, gates * 128, 128)
        return Case([some(t, 20_000, 1, 64), w, r], {"hidden_size": 128}, known=(1, 2))

    def cell(t: np.dtype, gates: int = gates, name: str = name) -> Case:
        states = [some(t, 50_000, 128)] * (2 if name == "LSTM" else 1)
        weights = {"weight_ih": some(t, gates * 128, 64), "weight_hh": some(t, gates * 128, 128)}
        return Case([some(t, 50_000, 64), *states], weights)

    case(name, recurrent, "f4 f8")
    case(name, recurrent, "f4", INTERNAL_DOMAIN)
    case(f"{name}Cell", cell, "f4", INTERNAL_DOMAIN)


def quantised_lstm(t: np.dtype) -> Case:
    w, r = some(np.dtype(np.uint8), 1, 64, 512), some(np.dtype(np.uint8), 1, 128, 512)
    scale, zero = np.full((1,), 0.001, np.float32), np.full((1,), 50, np.uint8)
    inputs = [some(t, 20_000, 1, 64), w, r, *[None] * 5, scale, zero, scale, zero]
    return Case(inputs, {"hidden_size": 128}, known=tuple(range(1, 12)))


case("DynamicQuantizeLSTM", quantised_lstm, "f4", MICROSOFT)
SCALES: Final = np.array([1, 1, 2, 2], np.float32)
case("Upsample", lambda t: Case([some(t, 4, 16, 512, 512), SCALES], opset=9), "f4 f8")
for mode in ("nearest", "linear", "cubic"):
    case(
        "Resize",
        lambda t, mode=mode: Case([some(t, 4, 16, 512, 512), None, SCALES], {"mode": mode}),
        "f4 f8",
    )
case(
    "Resize",
    lambda t: Case(
        [some(t, 4, 16, 1024, 1024), None, SCALES / np.float32(2)],
        {"mode": "linear", "antialias": 1},
    ),
    "f4 f8",
)
case("TopK", lambda t: Case([some(t, N // 1024, 1024), ints(10)], {}, 2))
case("TopK", lambda t: Case([some(t, N // 4), ints(N // 4)], {}, 2))
case("NonZero", lambda t: Case([some(t, N)]))
case("Compress", lambda t: Case([some(t, N), some(np.dtype(np.int8), N) > 50]))
case("Compress", lambda t: Case([some(t, 64, N // 64), some(np.dtype(np.int8), N // 64) > 50],
                                {"axis": 1}))  # fmt: skip
case("Unique", lambda t: Case([some(t, N // 4)], {}, 4))
case("Unique", lambda t: Case([some(t, N // 64, 16)], {"axis": 0}, 4))
case("OneHot", lambda t: Case([places(N // 64, 64), ints(64)[0], some(t, 2)]))
case("OneHot", lambda t: Case([places(N // 64, 64).astype(F4), ints(64)[0], some(t, 2)]), "f4")
case("Trilu", lambda t: Case([some(t, 8192, 8192)]))
case("ReverseSequence", lambda t: Case([some(t, 1000, 64, N // 64000), places(64, 1000)]))
case("SequenceEmpty", lambda t: Case([]), "f4")
case("SequenceConstruct", lambda t: Case([some(t, N)] * 2), "f4")
case("SequenceInsert", lambda t: Case([[some(t, 10)] * 1000, some(t, N)]), "f4")
case("SequenceErase SequenceLength", lambda t: Case([[some(t, 10)] * 1000]), "f4")
case("SequenceAt", lambda t: Case([[some(t, 10)] * 1000, ints(3)[0]]), "f4")
case("SplitToSequence", lambda t: Case([some(t, N // 64, 64)]), "f4")
case("ConcatFromSequence", lambda t: Case([[some(t, N // 4)] * 4], {"axis": 0}), "f4")
case("Optional OptionalHasElement OptionalGetElement", lambda t: Case([some(t, N)]), "f4")
case("Shape Size Flatten", lambda t: Case([some(t, N)]), "f4")
case("Reshape", lambda t: Case([some(t, N), ints(-1, 2)]), "f4")
case("Transpose", lambda t: Case([some(t, 8192, 8192)]))
case("Squeeze", lambda t: Case([some(t, 1, N), ints(0)]), "f4")
case("Unsqueeze", lambda t: Case([some(t, N), ints(0)]), "f4")
case("Expand", lambda t: Case([some(t, 8192, 1), ints(8192, 8192)]), "f4")
case("DepthToSpace SpaceToDepth", lambda t: Case([some(t, *CHANNELS)], {"blocksize": 2}))
case("DFT", lambda t: Case([some(t, N // 2048, 1024, 1), None, ints(1)[0]]), "f4 f8")
case("DFT", lambda t: Case([some(t, 1, N // 8, 1), None, ints(1)[0]]), "f4 f8")
case("STFT", lambda t: Case([some(t, 1, N // 8, 1), ints(128)[0], None, ints(512)[0]]), "f4 f8")
case("MelWeightMatrix", lambda t: Case([*(np.array(n) for n in (2000, 40_000, 48_000)),
                                        np.float32(0), np.float32(20_000)]), "f4")  # fmt: skip
case("Col2Im", lambda t: Case([some(t, 1, 16 * 9, 512 * 512), ints(514, 514), ints(3, 3)]),
     "f4 f8")  # fmt: skip
for mode in ("nearest", "linear", "cubic"):
    case(
        "GridSample",
        lambda t, mode=mode: Case(
            [some(t, 4, 16, 512, 512), some(t, 4, 512, 512, 2)], {"mode": mode}
        ),
        "f4 f8",
    )
case("AffineGrid", lambda t: Case([some(t, 4, 2, 3), ints(4, 3, 2000, 2000)]), "f4 f8")
case(
    "NonMaxSuppression",
    lambda t: Case(
        [some(t, 1, 20_000, 4), some(t, 1, 2, 20_000), ints(1000)[0], np.float32(0.9)],
    ),
    "f4",
)
for mode in ("avg", "max"):
    case(
        "RoiAlign",
        lambda t, mode=mode: Case(
            [some(t, 1, 256, 200, 200), some(t, 300, 4) * t.type(200), places(300, 1)],
            {"mode": mode, "output_height": 7, "output_width": 7, "sampling_ratio": 2},
        ),
        "f4",
    )
case(
    "MaxRoiPool",
    lambda t: Case(
        [some(t, 1, 256, 200, 200), some(t, 300, 5) * np.array([0, 50, 50, 200, 200], t)],
        {"pooled_shape": [7, 7]},
    ),
    "f4",
)  # fmt: skip
case(
    "MaxUnpool",
    lambda t: Case(
        [some(t, 4, 16, 512, 512), places(N, N)[: 1 << 24].reshape(4, 16, 512, 512) % (1 << 26)],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
)
case(
    "RotaryEmbedding",
    lambda t: Case([some(t, 4, 32, 2048, 64), some(t, 4, 2048, 32), some(t, 4, 2048, 32)]),
    "f4 f8",
)
ATTENDING: Final = {"q_num_heads": 8, "kv_num_heads": 8}
case("Attention", lambda t: Case([some(t, 4, 1024, 512)] * 3, ATTENDING, opset=25), "f4 f8")
case(
    "LayerNormalization RMSNormalization",
    lambda t: Case([some(t, N // 1024, 1024), some(t, 1024)]),
    "f4 f8",
    INTERNAL_DOMAIN,
)
case(
    "SimplifiedLayerNormalization", lambda t: Case([some(t, N // 1024, 1024), some(t, 1024)]), "f4"
)
case("Gelu QuickGelu FastGelu", lambda t: Case([some(t, N)]), "f4", MICROSOFT)
case("BiasGelu", lambda t: Case([some(t, N // 1024, 1024), some(t, 1024)]), "f4", MICROSOFT)
case(
    "SkipLayerNormalization SkipSimplifiedLayerNormalization",
    lambda t: Case([some(t, 1, N // 2048, 1024), some(t, 1, N // 2048, 1024), some(t, 1024)]),
    "f4",
    MICROSOFT,
)
case(
    "EmbedLayerNormalization",
    lambda t: Case(
        [
            places(N // 1024, 1000).reshape(-1, 64).astype(np.int32),
            None,
            some(t, 1000, 512),
            some(t, 64, 512),
            None,
            some(t, 512),
            some(t, 512),
        ],
        outputs=2,
        known=(2, 3, 5, 6),
    ),
    "f4",
    MICROSOFT,
)
case(
    "QEmbedLayerNormalization",
    lambda t: Case(
        [
            places(N // 1024, 1000).reshape(-1, 64).astype(np.int32),
            None,
            some(t, 1000, 512),
            some(t, 64, 512),
            None,
            some(t, 512),
            some(t, 512),
            None,
            *[np.float32(0.01)] * 5,
            *[t.type(3)] * 5,
        ],
        outputs=2,
        known=(2, 3, 5, 6, *range(8, 18)),
    ),
    "u1",
    MICROSOFT,
)
case("FusedMatMul FusedGemm", lambda t: Case([some(t, 2048, 2048)] * 2, {"transB": 1}), "f4",
     MICROSOFT)  # fmt: skip
case(
    "FusedConv",
    lambda t: Case(
        [some(t, 1, 64, 256, 256), some(t, 64, 64, 3, 3)], {"activation": "Relu"}, known=(1,)
    ),
    "f4",
    MICROSOFT,
)
HEADS: Final = {"num_heads": 8}
case("MultiHeadAttention", lambda t: Case([some(t, 4, 1024, 512)] * 3, HEADS), "f4", MICROSOFT)
case(
    "Attention",
    lambda t: Case([some(t, 4, 1024, 512), some(t, 512, 1536)], HEADS, known=(1,)),
    "f4",
    MICROSOFT,
)
case(
    "QAttention",
    lambda t: Case(
        [
            some(t, 4, 1024, 512),
            some(t, 512, 1536),
            some(F4, 1536),
            np.float32(0.01),
            np.float32(0.01),
        ],
        HEADS,
        known=(1, 2, 3, 4),
    ),
    "u1",
    MICROSOFT,
)
case(
    "DeformConv",
    lambda t: Case(
        [some(t, 1, 64, 130, 130), some(t, 64, 64, 3, 3), some(t, 1, 18, 128, 128)], known=(1,)
    ),
    "f4 f8",
)
case(
    "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    lambda t: Case([some(t, N // 16, 16), places(N // 16, 16)]),
    "f4 f8",
)
TABLES: Final = "ai.onnx.ml"
case("Scaler", lambda t: Case([some(t, N // 16, 16)], {"offset": [0.5], "scale": [2.0]}), "f4",
     TABLES)  # fmt: skip
case("Binarizer Normalizer", lambda t: Case([some(t, N // 16, 16)]), "f4", TABLES)
case("FeatureVectorizer", lambda t: Case([some(t, N // 64, 16)] * 2, {"inputdimensions": [16, 16]}),
     "f4", TABLES)  # fmt: skip
case("ArrayFeatureExtractor", lambda t: Case([some(t, N // 16, 16), ints(1, 5, 7)]), "f4", TABLES)
case("Imputer", lambda t: Case([some(t, N // 16, 16)], {"imputed_value_floats": [0.5]}), "f4",
     TABLES)  # fmt: skip
case(
    "LabelEncoder",
    lambda t: Case([some(t, N)], {"keys_int64s": list(range(50)), "values_floats": [0.5] * 50}),
    "i8",
    TABLES,
)
case("OneHotEncoder", lambda t: Case([some(t, N // 64)], {"cats_int64s": list(range(50))}), "i8",
     TABLES)  # fmt: skip
LINEAR: Final = {"coefficients": [0.1] * 48, "intercepts": [0.1] * 3}
case("LinearRegressor", lambda t: Case([some(t, N // 16, 16)], {**LINEAR, "targets": 3}), "f4",
     TABLES)  # fmt: skip
case(
    "LinearClassifier",
    lambda t: Case([some(t, N // 16, 16)], {**LINEAR, "classlabels_ints": [0, 1, 2]}, 2),
    "f4",
    TABLES,
)


def forest(ends: str) -> dict[str, Any]:
    """A hundred trees of a thousand nodes."""
    trees, branches = 100, 511
    count = 2 * branches + 1
    numbers, leaf = list(range(count)), [k >= branches for k in range(count)]
    leaves = [k for k in numbers if leaf[k]]
    return {
        "nodes_treeids": [tree for tree in range(trees) for _ in numbers],
        "nodes_nodeids": numbers * trees,
        "nodes_featureids": [k % 16 for k in numbers] * trees,
        "nodes_values": [(k % 7) / 7 for k in numbers] * trees,
        "nodes_modes": ["LEAF" if own else "BRANCH_LEQ" for own in leaf] * trees,
        "nodes_truenodeids": [0 if leaf[k] else 2 * k + 1 for k in numbers] * trees,
        "nodes_falsenodeids": [0 if leaf[k] else 2 * k + 2 for k in numbers] * trees,
        f"{ends}_treeids": [tree for tree in range(trees) for _ in leaves],
        f"{ends}_nodeids": leaves * trees,
        f"{ends}_ids": [0] * len(leaves) * trees,
        f"{ends}_weights": [0.5] * len(leaves) * trees,
    }


case(
    "TreeEnsembleRegressor", lambda t: Case([some(t, 1 << 14, 16)], forest("target")), "f4", TABLES
)
case(
    "TreeEnsembleClassifier",
    lambda t: Case([some(t, 1 << 14, 16)], {**forest("class"), "classlabels_int64s": [0, 1, 2]}, 2),
    "f4",
    TABLES,
)


def trees() -> Trees:
    given = forest("target")
    columns = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    nodes = tuple(given[f"nodes_{name}"] for name in columns)
    ends = tuple(given[f"target_{name}"] for name in ("treeids", "nodeids", "ids"))
    splits = np.array(given["nodes_values"], np.float32)
    weights = np.array(given["target_weights"])
    return Trees(nodes, splits, given["nodes_modes"], [], ends, weights, 1)


case(
    "TreeScores",
    lambda t: Case([some(t, 1 << 14, 16)], {"trees": trees(), "aggregate": "SUM"}),
    "f4",
    INTERNAL_DOMAIN,
)


def deep() -> Trees:
    """A tree that is a chain of branches."""
    branches = 50_000
    numbers, ends = np.arange(2 * branches + 1), [0] * (branches + 1)
    none = np.zeros_like(numbers).tolist()
    below = [*range(1, branches), 2 * branches, *ends]
    nodes = (none, numbers.tolist(), none, [*range(branches, 2 * branches), *ends], below)
    modes = ["BRANCH_LEQ"] * branches + ["LEAF"] * len(ends)
    splits = numbers.astype(np.float32)
    return Trees(nodes, splits, modes, [], ([0], [2 * branches], [0]), np.ones(1), 1)


case(
    "TreeScores",
    lambda t: Case([np.full((1 << 14, 16), 1e9, t)], {"trees": deep(), "aggregate": "SUM"}),
    "f4",
    INTERNAL_DOMAIN,
)


def names() -> Iterator[tuple[str, str]]:
    """Every operator that is registered; KeyError where one has no case here."""
    for key in known_operators():
        if key not in CASES:
            raise KeyError(f"benchmarks/reliability/operators.py has no case of {key}")
        yield key


def run(domain: str, name: str, number: int, kind: str, native: bool) -> Heard:
    """How the node hears."""
    os.environ["VLEDGE_PROGRAM"] = str(int(native))
    os.environ["VLEDGE_LIMITS"] = "memory=64GB steps=1e12 run_memory=64GB"
    vledge.set_num_threads(1)
    made = CASES[domain, name][number](np.dtype(kind))
    given = {f"x{n}": value for n, value in enumerate(made.inputs) if value is not None}
    feeds = {k: v for n, (k, v) in enumerate(given.items()) if int(k[1:]) not in made.known}
    known = {k: np.asarray(v) for k, v in given.items() if k not in feeds}
    inputs = [f"x{n}" if f"x{n}" in given else "" for n in range(len(made.inputs))]
    if name == "If":
        inputs = inputs[:1]
    outputs = [f"y{n}" for n in range(made.outputs)]
    node = Node(name, inputs, outputs, dict(made.attributes), "", domain)
    infos = [
        ValueInfo(k, "seq(float)", None)
        if isinstance(v, list)
        else ValueInfo(k, name_of(np.asarray(v).dtype), (None,) * np.ndim(v))
        for k, v in feeds.items()
    ]
    graph = Graph([node], infos, [ValueInfo(output, "", None) for output in outputs], known)
    model = Model(graph, {"": made.opset, MICROSOFT: 1, TABLES: 4}, ir_version=10)
    session = vledge.InferenceSession(model)
    return listen(lambda: session.run(None, feeds))


class Row(NamedTuple):
    name: str
    way: str
    kind: str
    heard: Heard
    error: str


def measured(domain: str, name: str, number: int, kind: str, native: bool) -> Row:
    """One case in a process of its own."""
    shown = f"{domain}{'.' * bool(domain)}{name}" + f" ({number + 1})" * (
        len(CASES[domain, name]) > 1
    )
    way = "native" if native else "Python"
    return Row(shown, way, kind, *apart(run, domain, name, number, kind, native))


def sweep(only: str = "") -> Iterator[Row]:
    """Every case of every operator, of its first type by both ways."""
    for domain, name in names():
        if only and name not in only.split(","):
            continue
        for number in range(len(CASES[domain, name])):
            for place, kind in enumerate(KINDS[domain, name].split()):
                for native in (True, False)[: 1 if place else 2]:
                    row = measured(domain, name, number, kind, native)
                    if row.error and row.error != HEARD_NOTHING and place:
                        continue  # a type that the operator does not take
                    yield row


def measure(count: int) -> tuple[int, str]:
    """Faults, and what there is to say; ``VLEDGE_SWEEP=Unique,Det`` takes these operators alone."""
    rows = []
    for row in sweep(os.environ.get("VLEDGE_SWEEP", "")):
        rows.append(row)
        print(f"{row.name} {row.way} {row.kind}: {row.heard} {row.error}", file=sys.stderr)
        sys.stderr.flush()
    broken = [row for row in rows if row.error and row.error != HEARD_NOTHING]
    late = [row for row in rows if row.heard.deaf > PROMISED]
    late.sort(key=lambda row: -row.heard.deaf)
    shown = ", ".join(
        f"{row.name} {row.way} {row.kind} {row.heard.deaf * 1e3:.0f} ms" for row in late
    )
    line = (
        f"{len(rows)} runs of {len(CASES)} operators on large arrays: {len(late)} heard nothing "
        f"for longer than {PROMISED * 1e3:.0f} ms: {shown or 'none'}"
    )
    return len(late) + len(broken), line
