"""Operators whose form changed between operator sets, in every form, against onnxruntime.

Each case is one node. What later operator sets take as inputs (axes, sizes, limits) is tested both
as constants, which operators prepare for, and as inputs of the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests.graph.models import model_bytes, node, onnx
from tests.peers import peer
from vledge import InferenceSession

ort = peer("onnxruntime")

RNG = np.random.default_rng(4)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
WHOLE = RNG.integers(-9, 9, (2, 3, 4)).astype(np.int64)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def texts(*values: str) -> np.ndarray:
    return np.array(values, object)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@dataclass
class Case:
    """A node, and the operator sets in which it has this form."""

    op_type: str
    opsets: tuple[int, ...]
    inputs: tuple[np.ndarray | None, ...] = (X,)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    rtol: float = 1e-6

    def __str__(self) -> str:
        shown = [
            f"{name}={'x' if isinstance(value, np.ndarray) else value}"
            for name, value in self.attributes.items()
        ]
        more = [str(a.tolist()) if a is not None and a.size < 9 else "-" for a in self.inputs[1:]]
        return f"{self.op_type}({', '.join([*more, *shown])})".replace(" ", "")

    def model(self, opset: int, constant: bool) -> tuple[bytes, dict[str, np.ndarray]]:
        """The model's bytes and what to feed it."""
        names = [f"i{i}" if a is not None else "" for i, a in enumerate(self.inputs)]
        given = {n: a for n, a in zip(names, self.inputs, strict=True) if a is not None}
        feed = {n: a for n, a in given.items() if n == "i0" or (a.size and not constant)}
        outputs = [f"y{i}" for i in range(self.outputs)]
        made = model_bytes(
            [node(self.op_type, names, outputs, **self.attributes)],
            {n: (onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feed.items()},
            outputs,
            {n: a for n, a in given.items() if n not in feed},
            opset=opset,
        )
        return made, feed


def forms(*cases: Case) -> list[Any]:
    """Every case in each of its operator sets, with constants and, if it has them, inputs."""
    return [
        pytest.param(case, opset, constant, id=f"{case}-{opset}{'-constant' * constant}")
        for case in cases
        for opset in case.opsets
        for constant in ((True, False) if len(case.inputs) > 1 else (False,))
    ]


def reductions() -> list[Case]:
    cases = []
    for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"):
        op_type, x = f"Reduce{name}", np.abs(X) if name == "LogSum" else X
        cases += [
            Case(op_type, (7, 11, 13, 17), (x,), {"axes": [1, 2]}, rtol=1e-5),
            Case(op_type, (11, 17), (x,), {"axes": [-1], "keepdims": 0}, rtol=1e-5),
            Case(op_type, (7, 17), (x,), rtol=1e-5),
            Case(op_type, (18, 20, 22), (x, ints(1, -1)), rtol=1e-5),
            Case(op_type, (18,), (x, ints(0)), {"keepdims": 0}, rtol=1e-5),
            Case(op_type, (18,), (x,), {"keepdims": 0}, rtol=1e-5),
        ]
    return [
        *cases,
        Case("ReduceSum", (7, 11, 12), (X,), {"axes": [0, 3]}, rtol=1e-5),
        Case("ReduceSum", (7, 12), (X,), {"keepdims": 0}, rtol=1e-5),
        Case("ReduceSum", (13, 18, 22), (X, ints(0, -1)), {"keepdims": 0}, rtol=1e-5),
        Case("ReduceSum", (13,), (X, ints()), {"noop_with_empty_axes": 1}),
        Case("ReduceSum", (13,), (X, ints()), rtol=1e-5),
        Case("ReduceSum", (12,), (WHOLE,), {"axes": [1]}),
        Case("ReduceMax", (12, 17), (WHOLE,), {"axes": [1]}),
        Case("ReduceMean", (12,), (WHOLE.astype(np.int32),), {"axes": [1]}),
        Case("ArgMax", (7, 11), (X,), {"axis": 2}),
        Case("ArgMax", (11, 12, 13), (X,), {"axis": -1, "keepdims": 0}),
        Case("ArgMax", (12, 13), (np.zeros((2, 4), np.float32),), {"select_last_index": 1}),
        Case("ArgMin", (7, 12, 13), (X,), {"axis": 1}),
        Case("CumSum", (11, 14), (X, np.array(-2)), {"exclusive": 1, "reverse": 1}, rtol=1e-5),
    ]


THIN = X[:1, :, :1]
SHAPES = [
    Case("Squeeze", (7, 11, 12), (THIN,), {"axes": [0]}),
    Case("Squeeze", (11, 12), (THIN,), {"axes": [-2, 0]}),
    Case("Squeeze", (7, 12, 13, 21), (THIN,)),
    Case("Squeeze", (13, 21), (THIN, ints(2))),
    Case("Squeeze", (13,), (THIN, ints(-2, -4))),
    Case("Unsqueeze", (7, 11, 12), (X,), {"axes": [3, 0]}),
    Case("Unsqueeze", (11, 12), (X,), {"axes": [-1]}),
    Case("Unsqueeze", (13, 21), (X, ints(0, -1))),
    Case("Slice", (7, 9), (X,), {"starts": [1, -3], "ends": [100, -1], "axes": [1, 3]}),
    Case("Slice", (7, 9), (X,), {"starts": [0, 1], "ends": [1, 2]}),
    Case("Slice", (10, 11, 13), (X, ints(1, 0), ints(9, -1), ints(1, 3))),
    Case("Slice", (10, 13), (X, ints(0), ints(1))),
    Case("Slice", (10, 13), (X, ints(-1), ints(-(2**63) + 1), ints(3), ints(-2))),
    Case("Slice", (13,), (X, ints(4), ints(0), ints(-1), ints(-1))),
    Case("Slice", (13,), (X, ints(-9), ints(-(2**63)), ints(1), ints(-1))),
    Case("Slice", (13,), (X, ints(9, -9), ints(-9, 9), ints(1, 2), ints(-2, 1))),
    Case("Slice", (13,), (X, ints(1), ints(4), None, ints(2))),
    Case("Split", (7, 11), (X,), {"axis": 2}, 2),
    Case("Split", (7, 11), (X,), {"axis": 3, "split": [1, 4]}, 2),
    Case("Split", (11, 12), (X,), {"axis": -1, "split": [2, 3]}, 2),
    Case("Split", (13, 17), (X, ints(2, 3)), {"axis": 3}, 2),
    Case("Split", (13, 17), (X,), {"axis": -2}, 2),
    Case("Split", (18, 22), (X,), {"axis": -1, "num_outputs": 2}, 2),
    Case("Split", (18,), (X, ints(1, 0, 2)), {"axis": 1}, 3),
    Case("Reshape", (7, 13, 14, 21), (X, ints(0, -1, 5))),
    Case("Reshape", (14,), (X[:0], ints(3, 0)), {"allowzero": 1}),
    Case("Shape", (7, 13), (X,)),
    Case("Shape", (15, 21), (X,), {"start": 1, "end": -1}),
    Case("Flatten", (7, 9, 11, 13), (X,), {"axis": 2}),
    Case("Flatten", (11, 13), (X,), {"axis": -1}),
    Case("Expand", (8, 13), (X[:, :1], ints(3, 1, 1))),
    Case("Tile", (7, 13), (X, ints(1, 2, 1, 3))),
    Case("Concat", (7, 11), (X, X[:, :1]), {"axis": 1}),
    Case("Concat", (11, 13), (X, X[..., :1]), {"axis": -1}),
    Case("Transpose", (7, 13, 21), (X,), {"perm": [2, 0, 3, 1]}),
    Case("DepthToSpace", (7, 11, 13), (X.reshape(1, 4, 5, 6),), {"blocksize": 2}),
    Case("DepthToSpace", (11, 13), (X.reshape(1, 4, 5, 6),), {"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", (7, 13), (X.reshape(1, 5, 4, 6),), {"blocksize": 2}),
]

PADS = (0, 1, 0, 2, 0, 0, 1, 3)
PADDING = [
    Case("Pad", (7, 10), (X,), {"pads": PADS, "mode": "constant", "value": 0.5}),
    Case("Pad", (7, 10), (X,), {"pads": PADS, "mode": "edge"}),
    Case("Pad", (7, 10), (X,), {"pads": PADS, "mode": "reflect"}),
    Case("Pad", (7, 10), (X,), {"pads": [0, 0, -1, 2, 0, 0, 1, -1]}),
    Case("Pad", (11, 13, 18, 19), (X, ints(*PADS))),
    Case("Pad", (11, 13, 18, 19), (X, ints(*PADS), scalar(0.5))),
    Case("Pad", (11, 13, 18, 21), (X, ints(*PADS)), {"mode": "reflect"}),
    Case("Pad", (11, 18), (X, ints(*PADS)), {"mode": "edge"}),
    Case("Pad", (13,), (WHOLE, ints(0, 0, 1, 0, 0, 2), np.array(7))),
    Case("Pad", (18, 19), (X, ints(1, 2, 0, 3), None, ints(-1, 1))),
    Case("Pad", (19, 21), (X, ints(*PADS)), {"mode": "wrap"}),
]

LIMITED = [
    Case("Clip", (7, 10), (X,), {"min": -0.5, "max": 0.25}),
    Case("Clip", (7, 10), (X,), {"max": 0.25}),
    Case("Clip", (7,), (X,)),
    Case("Clip", (11, 12, 13), (X, scalar(-0.5), scalar(0.25))),
    Case("Clip", (11, 13), (X, None, scalar(0.25))),
    Case("Clip", (11, 13), (X, scalar(0.1))),
    Case("Clip", (12, 13), (WHOLE, np.array(-3), np.array(2))),
    Case("Clip", (13,), (X, scalar(1), scalar(-1))),
    Case("Dropout", (7, 9, 10, 11), (X,), {"ratio": 0.3}, 2),
    Case("Dropout", (12, 13, 22), (X,)),
    Case("Dropout", (12, 13), (X, scalar(0.3)), {}, 2),
    Case("Dropout", (13,), (X, scalar(0.3), np.array(False)), {}, 2),
    Case("Softmax", (7, 9, 11, 12), (X,), {"axis": 1}, rtol=1e-5),
    Case("Softmax", (7, 12, 13), (X,), rtol=1e-5),
    Case("Softmax", (11, 12, 13), (X,), {"axis": -2}, rtol=1e-5),
    Case("LogSoftmax", (7, 11, 12, 13), (X,), {"axis": 2}, rtol=1e-5),
    Case("LogSoftmax", (12, 13), (X,), rtol=1e-5),
    Case("Hardmax", (7, 11, 12, 13), (X,), {"axis": 2}),
    Case("Hardmax", (12, 13), (X,)),
    Case("TopK", (7, 9), (X,), {"k": 2, "axis": 1}, 2),
    Case("TopK", (7, 9), (X,), {"k": 3}, 2),
    Case("TopK", (10,), (X, ints(2)), {"axis": 2}, 2),
    Case("TopK", (11, 20), (X, ints(2)), {"axis": -1, "largest": 0}, 2),
    Case("TopK", (11,), (np.round(X), ints(4)), {}, 2),
    Case("OneHot", (9, 11), (ints(1, 0, 2), np.array(3), floats(0, 5))),
    Case("OneHot", (11,), (ints(-1, 0, -3), np.array(3), floats(0, 5)), {"axis": 0}),
    Case("Gather", (7, 11, 13), (X, np.array([[0, 2], [1, 1]])), {"axis": 1}),
    Case("Gather", (11, 13), (X, ints(-1, 0)), {"axis": -2}),
    Case("Gather", (11, 13), (X, np.array(-1)), {"axis": 2}),
    Case("GatherElements", (11, 13), (X, np.array(X > 0, np.int64)), {"axis": 1}),
    Case("GatherND", (11, 12, 13), (X, np.array([[0, 1], [1, -1]]))),
    Case("GatherND", (12, 13), (X, np.array([[1], [2]])), {"batch_dims": 1}),
    Case("Scatter", (9, 10), (X, np.zeros_like(X, np.int64)[..., :1], X[..., 1:2]), {"axis": 3}),
    Case("ScatterElements", (11, 13), (X, np.full((2, 1, 4, 5), -1), X[:, :1]), {"axis": 1}),
    Case(
        "ScatterElements",
        (16, 18),
        (X, np.full((2, 1, 4, 5), 2), X[:, :1]),
        {"axis": 1, "reduction": "add"},
    ),
    Case(
        "ScatterElements",
        (18,),
        (X, np.full((2, 1, 4, 5), 2), X[:, :1]),
        {"axis": 1, "reduction": "max"},
    ),
    Case("ScatterND", (11, 13), (X, np.array([[0, 1], [1, -1]]), X[:, 0])),
    Case("ScatterND", (16, 18), (X, np.array([[0, 1], [0, 1]]), X[:, 0]), {"reduction": "mul"}),
]

SCALE, MEAN, VARIANCE = floats(1, 2, 3), floats(0.5, 0, -1), floats(1, 0.5, 2)
PICTURE = X.reshape(1, 2, 6, 10)
NORMALISING = [
    Case("BatchNormalization", (7, 8, 9, 13, 14, 15), (X, SCALE, MEAN, MEAN, VARIANCE), rtol=1e-5),
    Case("BatchNormalization", (7, 9, 15), (X[:, :, 0], SCALE, MEAN, MEAN, VARIANCE), rtol=1e-5),
    Case(
        "BatchNormalization",
        (9, 15),
        (X, SCALE, MEAN, MEAN, VARIANCE),
        {"epsilon": 0.1},
        rtol=1e-5,
    ),
    Case("InstanceNormalization", (7, 22), (X, SCALE, MEAN), rtol=1e-4),
    Case("LayerNormalization", (17,), (X, np.ones(5, np.float32), X[0, 0, 0]), {}, 3, 1e-4),
    Case("LayerNormalization", (17,), (X, X[0, 0]), {"axis": 2}, rtol=1e-4),
    Case("LpNormalization", (7, 22), (X,), {"axis": 1, "p": 1}, rtol=1e-5),
    Case("LRN", (7, 13), (X,), {"size": 3}, rtol=1e-5),
    Case("MaxPool", (7, 8), (X,), {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
    Case("MaxPool", (8, 11, 12), (X,), {"kernel_shape": [2, 2], "storage_order": 1}, 2),
    Case("MaxPool", (10, 12), (X,), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    Case(
        "MaxPool", (10, 12, 22), (X,), {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}
    ),
    Case("MaxPool", (7, 12), (X,), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}),
    Case(
        "AveragePool",
        (7, 10, 11, 19),
        (X,),
        {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1]},
        rtol=1e-5,
    ),
    Case(
        "AveragePool",
        (7, 11, 19, 22),
        (X,),
        {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "count_include_pad": 1},
        rtol=1e-5,
    ),
    Case(
        "AveragePool",
        (10, 11, 19, 22),
        (X,),
        {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
        rtol=1e-5,
    ),
    Case("AveragePool", (19,), (X,), {"kernel_shape": [2, 2], "dilations": [2, 1]}, rtol=1e-5),
    Case("LpPool", (7, 11, 18), (X,), {"kernel_shape": [2, 2], "p": 1}, rtol=1e-5),
    Case("LpPool", (18, 22), (X,), {"kernel_shape": [2, 2], "dilations": [1, 2]}, rtol=1e-5),
    Case(
        "Conv", (7, 11, 22), (X, X[:, :, :2, :3], floats(1, 2)), {"pads": [1, 0, 0, 1]}, rtol=1e-4
    ),
    Case("ConvTranspose", (7, 11, 22), (X, X[0, :, None, :2, :3]), {"strides": [2, 1]}, rtol=1e-4),
    Case("Upsample", (7, 8), (PICTURE,), {"scales": [1.0, 1.0, 2.0, 3.0]}),
    Case(
        "Upsample",
        (7, 8),
        (PICTURE,),
        {"scales": [1.0, 1.0, 2.0, 1.5], "mode": "linear"},
        rtol=1e-5,
    ),
    Case("Upsample", (9,), (PICTURE, floats(1, 1, 2, 3))),
    Case("Upsample", (9,), (PICTURE, floats(1, 1, 1.5, 2)), {"mode": "linear"}, rtol=1e-5),
    Case("Resize", (10,), (PICTURE, floats(1, 1, 2, 3))),
    Case("Resize", (10,), (PICTURE, floats(1, 1, 0.5, 0.6))),
    Case("Resize", (10,), (PICTURE, floats(1, 1, 0.5, 1.5)), {"mode": "linear"}, rtol=1e-5),
    Case("Resize", (11, 13, 18, 19), (PICTURE, floats(), floats(1, 1, 2, 3))),
    Case("Resize", (11, 13, 19), (PICTURE, floats(), floats(1, 1, 0.7, 0.3))),
    Case(
        "Resize",
        (11, 13, 19),
        (PICTURE, floats(), floats(1, 1, 2, 1.5)),
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        rtol=1e-5,
    ),
    Case(
        "Resize",
        (11, 13, 19),
        (PICTURE, floats(), floats(), ints(1, 2, 3, 7)),
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
        rtol=1e-5,
    ),
    Case(
        "Resize",
        (11, 13, 19),
        (PICTURE, floats(), floats(), ints(1, 2, 9, 7)),
        {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
        rtol=1e-4,
    ),
    Case(
        "Resize",
        (13, 19),
        (PICTURE, None, floats(1, 1, 2, 2)),
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    Case(
        "Resize",
        (11, 13),
        (PICTURE, floats(0, 0, 0.2, 0, 1, 1, 0.9, 1.1), floats(), ints(1, 2, 4, 5)),
        {
            "mode": "linear",
            "coordinate_transformation_mode": "tf_crop_and_resize",
            "extrapolation_value": 2.0,
        },
        rtol=1e-5,
    ),
    Case("Resize", (18, 19), (PICTURE, None, floats(2, 3)), {"axes": [2, 3]}),
    Case(
        "Resize",
        (18, 19),
        (PICTURE, None, None, ints(3, 4)),
        {"axes": [2, 3], "mode": "linear", "antialias": 1},
        rtol=1e-5,
    ),
    Case(
        "Resize",
        (18, 19),
        (PICTURE, None, None, ints(7, 8)),
        {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
    ),
]

A, B = X[0, 0], X[0, 1].T
GREY = np.arange(-8, 8, dtype=np.float32).reshape(2, 2, 4) / 3
BYTES = RNG.integers(0, 256, (2, 3, 4)).astype(np.uint8)
SOUND = RNG.normal(size=(2, 40, 1)).astype(np.float32)
ARITHMETIC = [
    Case(
        "Gemm", (7, 9, 11, 13), (A, B, floats(1, 2, 3, 4)), {"alpha": 0.5, "beta": 2.0}, rtol=1e-5
    ),
    Case("Gemm", (11, 13), (A, A), {"transB": 1}, rtol=1e-5),
    Case("MatMul", (7, 9, 13), (X, X[0, 0].T), rtol=1e-5),
    Case("Add", (7, 13, 14), (X, X[0, 0])),
    Case("Div", (7, 13, 14), (WHOLE, np.array([[3], [-4], [5]]))),
    Case("Pow", (7, 12, 13, 15), (np.abs(X), scalar(2))),
    Case("Pow", (12, 13), (X, np.array(3))),
    Case("Pow", (12, 13), (WHOLE, np.array(2))),
    Case("Mod", (10, 13), (WHOLE, np.array([[3], [-4], [5]]))),
    Case("Mod", (10, 13), (X, scalar(0.3)), {"fmod": 1}, rtol=1e-4),
    Case("Max", (7, 8, 12, 13), (X, X[::-1].copy())),
    Case("Min", (8, 12, 13), (X, X[0, 0])),
    Case("Sum", (7, 8, 13), (X, X[::-1].copy())),
    Case("Mean", (8, 13), (X, X[0, 0], X[:1])),
    Case("Equal", (7, 11, 13, 19), (WHOLE, WHOLE[0])),
    Case("Greater", (7, 9, 13), (X, X[0, 0])),
    Case("GreaterOrEqual", (12, 16), (X, X[0, 0])),
    Case("PRelu", (7, 9, 16), (X, scalar(0.2))),
    Case("LeakyRelu", (7, 16), (X,), {"alpha": 0.3}),
    Case("Elu", (7, 22), (X,), {"alpha": 0.3}, rtol=1e-5),
    Case("HardSigmoid", (7, 22), (X,)),
    Case("Round", (11, 22), (np.arange(-5, 5, dtype=np.float32) / 2,)),
    Case("IsInf", (10, 20), (floats(1, np.inf, -np.inf, np.nan),), {"detect_negative": 0}),
    Case("Cast", (7, 9, 13, 19, 21), (X * 3,), {"to": 7}),
    Case("Cast", (9, 13), (X,), {"to": 9}),
    Case("Cast", (9, 13), (floats(0.1, 1 / 3, 1e7, 123456789, -0.0, np.inf, np.nan),), {"to": 8}),
    Case("Cast", (9, 13), (np.array([0.1, 1 / 3, 1e17, -np.inf]),), {"to": 8}),
    Case("Cast", (9, 13), (X > 0,), {"to": 8}),
    Case("Cast", (9, 13), (WHOLE,), {"to": 8}),
    Case("Cast", (9, 13), (texts("1.5", "+INF", "-inf", "NaN", "1e-3", " 2"),), {"to": 1}),
    Case("Cast", (9, 13), (texts("1.5", "1e300"),), {"to": 11}),
    Case("Cast", (9, 13), (texts("15", "-3", "+4", "2.9"),), {"to": 7}),
    Case("Cast", (9, 13), (texts("1", "0", "7"),), {"to": 9}),
    Case("CastLike", (15, 19), (X, np.array(["a"], object))),
    Case("CastLike", (15, 19), (X * 9, np.array(1, np.int8))),
    Case("NonZero", (9, 13), (np.round(X[0]),)),
    Case("Where", (9, 16), (X > 0, X, scalar(0))),
    Case("Range", (11,), (scalar(1), scalar(4), scalar(0.7))),
    Case("ReverseSequence", (10,), (X, ints(2, 1, 2)), {"batch_axis": 1, "time_axis": 0}),
    Case("EyeLike", (9, 22), (A,), {"k": 1}),
    Case("Erf", (9, 13), (X,), rtol=1e-5),
    Case("Gelu", (20,), (X,), {"approximate": "tanh"}, rtol=1e-4),
    Case("Einsum", (12,), (A, B), {"equation": "ij,jk->ki"}, rtol=1e-5),
    Case("QuantizeLinear", (10, 13, 19, 21), (GREY, scalar(0.02), np.array(3, np.int8))),
    Case(
        "QuantizeLinear",
        (13, 19, 21),
        (GREY, floats(0.02, 0.1), np.array([3, 0], np.uint8)),
        {"axis": 1},
    ),
    Case(
        "DequantizeLinear",
        (10, 13, 19, 21),
        (WHOLE.astype(np.int8), scalar(0.02), np.array(3, np.int8)),
    ),
    Case("DequantizeLinear", (13, 21), (WHOLE.astype(np.int8), floats(1, 2, 3)), {"axis": -2}),
    Case("DynamicQuantizeLinear", (11,), (GREY,), {}, 3),
    Case("DynamicQuantizeLinear", (11,), (GREY * 0,), {}, 3),
    Case("MatMulInteger", (10,), (BYTES[0], BYTES[0].T.copy())),
    Case("MatMulInteger", (10,), (BYTES, BYTES[0].T.copy(), np.array(9, np.uint8), BYTES[0, :, 0])),
    Case("MatMulInteger", (10,), (BYTES[0], BYTES[0].T.astype(np.int8), np.array(9, np.uint8))),
    Case("ConvInteger", (10,), (BYTES, BYTES[:, :, :2], np.array(9, np.uint8)), {"pads": [1, 0]}),
    Case(
        "QLinearMatMul",
        (10, 21),
        (
            BYTES[0],
            scalar(0.02),
            np.array(100, np.uint8),
            BYTES[0].T.copy(),
            scalar(0.03),
            np.array(120, np.uint8),
            scalar(4),
            np.array(128, np.uint8),
        ),
    ),
    Case("STFT", (17,), (SOUND, np.array(8), np.hanning(16).astype(np.float32)), rtol=1e-4),
    Case("STFT", (17,), (SOUND, np.array(5), None, np.array(12)), {"onesided": 0}, rtol=1e-4),
    Case("HannWindow", (17,), (np.array(11),), rtol=1e-5),
    Case("HammingWindow", (17,), (np.array(10),), {"periodic": 0}, rtol=1e-5),
    Case("BlackmanWindow", (17,), (np.array(9),), rtol=1e-5),
    Case(
        "MelWeightMatrix",
        (17,),
        (np.array(8), np.array(64), np.array(8000), scalar(20), scalar(3900)),
        rtol=1e-5,
    ),
    Case("DFT", (17, 19), (X[..., :2], None), {"axis": 2}, rtol=1e-4),
    Case("DFT", (20,), (X[..., :2], None, np.array(2)), rtol=1e-4),
    Case("DFT", (20,), (X[..., :1], np.array(3), np.array(-2)), {"onesided": 1}, rtol=1e-4),
]


def compared(case: Case, opset: int, constant: bool) -> None:
    model, feed = case.model(opset, constant)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    expected = ort.InferenceSession(model, options).run(None, feed)
    session = InferenceSession(model)
    for _ in range(2):  # what the first run keeps must not change the second
        outputs = session.run(None, feed)
        for output, wanted in zip(outputs, expected, strict=True):
            assert output.dtype == wanted.dtype
            assert output.shape == wanted.shape
            if output.dtype == object:
                np.testing.assert_array_equal(output, wanted)
            else:
                np.testing.assert_allclose(output, wanted, case.rtol, case.rtol)


@pytest.mark.parametrize(
    ("case", "opset", "constant"),
    forms(*reductions(), *SHAPES, *PADDING, *LIMITED, *NORMALISING, *ARITHMETIC),
)
def test_every_form_is_as_onnxruntime_has_it(case, opset, constant):
    compared(case, opset, constant)


@pytest.mark.parametrize(
    ("op_type", "opset"), [("Squeeze", 11), ("ReduceSum", 11), ("ReduceMax", 17)]
)
def test_an_empty_list_of_axes_means_all(op_type, opset):
    made = node(op_type, ["x"], ["y"])
    ints_kind = onnx.AttributeProto.INTS
    made.attribute.append(onnx.helper.make_attribute("axes", [], attr_type=ints_kind))
    model, feed = model_bytes([made], {"x": THIN}, ["y"], opset=opset), {"x": THIN}
    (wanted,) = ort.InferenceSession(model).run(None, feed)
    (output,) = InferenceSession(model).run(None, feed)
    np.testing.assert_allclose(output, wanted, 1e-6)


def test_squeeze_with_no_axes_in_its_input():
    compared(Case("Squeeze", (13,), (THIN, ints())), 13, True)
