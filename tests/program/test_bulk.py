"""Comparisons, masks and casts of many elements: loops for steps of 0 and 1, and all the others."""

import itertools

import numpy as np
import pytest

from tests.peers import peer

peer("onnx")
from onnx import TensorProto  # noqa: E402

from tests.program.test_agreement import run_both, strided  # noqa: E402

TYPES = [np.float32, np.float64, np.int64, np.int32, np.uint8]
SHAPES = [
    ([37, 257], [37, 257]),
    ([37, 257], [257]),
    ([37, 257], [37, 1]),
    ([37, 1], [1, 257]),
    ([], [300]),
    ([300], []),
]


@pytest.mark.parametrize("op_type", ["Equal", "Less", "GreaterOrEqual", "And", "Or", "Xor"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_comparisons(op_type, shapes):
    rng = np.random.default_rng(len(shapes[0]))
    for dtype in [np.bool_] if op_type in ("And", "Or", "Xor") else TYPES:
        a, b = (strided(rng, shape, dtype) for shape in shapes)
        run_both(op_type, [a, b], {})
        run_both(op_type, [np.ascontiguousarray(a), np.ascontiguousarray(b)], {})


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64])
def test_choices(shapes, dtype):
    rng = np.random.default_rng(5)
    for order in ([0, 1], [1, 0]):
        x, y = (np.ascontiguousarray(strided(rng, shapes[k], dtype)) for k in order)
        mask = rng.random(np.broadcast_shapes(*shapes)) < 0.5
        run_both("Where", [mask, x, y], {})


@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64])
def test_casts(dtype, to):
    rng = np.random.default_rng(6)
    for shape in ([1000], [17, 63]):
        x = strided(rng, shape, dtype)
        run_both("Cast", [x], {"to": to})
        run_both("Cast", [np.ascontiguousarray(x)], {"to": to})


@pytest.mark.parametrize("pair", [(np.float32, "DOUBLE"), (np.float64, "FLOAT")])
def test_casts_of_reals(pair):
    dtype, to = pair
    x = np.random.default_rng(7).standard_normal(999).astype(dtype)
    x[:4] = np.nan, np.inf, -np.inf, -0.0
    run_both("Cast", [x], {"to": getattr(TensorProto, to)})


@pytest.mark.parametrize(
    "shape", [(2_500_000,), (3, 700, 601), (1200, 1100), (2, 3, 5, 400, 120), (40, 1, 9, 4001)]
)
def test_copies_in_parts(shape):
    """Of more than what is copied at once, in every order of axes, backwards and with gaps."""
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    orders = list(itertools.permutations(range(x.ndim)))[:: max(x.ndim * (x.ndim - 1) // 3, 1)]
    for order in orders:
        run_both("Transpose", [x], {"perm": list(order)})
        run_both("Transpose", [x[::-1]], {"perm": list(order)})
    run_both("Concat", [x[..., ::2], x[..., 1::2]], {"axis": x.ndim - 1})
