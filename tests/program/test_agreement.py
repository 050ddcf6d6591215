"""Lowerings beside the Python operators: random shapes, axes, strides and attributes, both ways.

A model of one node is run by the native program and by the plan's Python function; what only moves
elements must agree bit for bit. The native run must not have declined where `declines` is not said.
"""

import numpy as np
import pytest

from tests.peers import peer
from vledge import InferenceSession

peer("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

DTYPES = [np.float32, np.int64, np.bool_, np.float64, np.uint8, np.int32, np.float16]
CASES = 25


def run_both(op_type, arrays, attributes, outputs=1, opset=18, constants=(), declines=False):
    """Run a node both ways on arrays of any strides; returns the native results."""
    names = [f"x{k}" if array is not None else "" for k, array in enumerate(arrays)]
    given = {n: a for n, a in zip(names, arrays, strict=True) if n}
    node = helper.make_node(op_type, names, [f"y{k}" for k in range(outputs)], **attributes)
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [None] * a.ndim)
        for n, a in given.items()
        if n not in constants
    ]
    graph = helper.make_graph(
        [node],
        "one",
        inputs,
        [
            helper.make_tensor_value_info(f"y{k}", TensorProto.UNDEFINED, None)
            for k in range(outputs)
        ],
        [numpy_helper.from_array(np.ascontiguousarray(given[n]), n) for n in constants],
    )
    for info in graph.output:
        info.ClearField("type")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    session = InferenceSession(model.SerializeToString())
    plan = session._plan
    feed = [given[name] for name in plan.inputs]
    count = len(plan.native.nodes)
    profile = np.zeros(count, np.int64), np.zeros(count, np.int32)
    native = plan.native.program.run(feed, profile)
    again = plan.native.program.run(feed)
    with np.errstate(all="ignore"):
        expected = plan.function(*feed)
    for ours, twice, theirs in zip(native, again, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours, twice)
        assert ours.flags.writeable
    assert profile[1].any() == declines, "ran in Python" if not declines else "ran natively"
    return native


def strided(rng, shape, dtype):
    """An array of that shape whose memory is in another order, with gaps, backwards or repeated."""
    if not shape:
        return np.array(rng.integers(0, 2), dtype)
    kind = rng.integers(5)
    if dtype == np.bool_:
        whole = rng.integers(0, 2, [2 * n + 1 for n in shape]).astype(bool)
    else:
        whole = rng.integers(0, 100, [2 * n + 1 for n in shape]).astype(dtype)
    if kind == 0:
        return whole[tuple(slice(0, n) for n in shape)].copy()
    if kind == 1:
        return whole[tuple(slice(1, 2 * n, 2) for n in shape)]
    if kind == 2:
        return whole[tuple(slice(n - 1 if n else 0, None, -1) if n else slice(0, 0) for n in shape)]
    order = rng.permutation(len(shape))
    moved = np.ascontiguousarray(whole[tuple(slice(0, n) for n in shape)].transpose(order))
    back = moved.transpose(np.argsort(order))
    if kind == 4:
        axis = rng.integers(len(shape))
        first = back[(slice(None),) * axis + (slice(0, 1),)]
        return np.broadcast_to(first, shape) if first.size else back
    return back


def shape_of(rng, least=0, most=4, zero=True):
    low = 0 if zero and rng.random() < 0.1 else 1
    return [int(n) for n in rng.integers(low, 6, rng.integers(least, most + 1))]


@pytest.fixture(params=range(CASES))
def rng(request):
    return np.random.default_rng(request.param)


@pytest.fixture
def dtype(rng):
    return DTYPES[rng.integers(len(DTYPES))]


def test_transpose(rng, dtype):
    x = strided(rng, shape_of(rng), dtype)
    run_both(
        "Transpose", [x], {"perm": [int(a) for a in rng.permutation(x.ndim)]} if x.ndim else {}
    )
    run_both("Transpose", [x], {})


@pytest.mark.parametrize("known", [True, False])
def test_reshape(rng, dtype, known):
    x = strided(rng, shape_of(rng), dtype)
    sizes = [int(n) for n in x.shape]
    rng.shuffle(sizes)
    while len(sizes) > 1 and rng.random() < 0.5:
        at = int(rng.integers(len(sizes) - 1))
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    if sizes and 0 not in sizes and rng.random() < 0.5:
        sizes[int(rng.integers(len(sizes)))] = -1
    if rng.random() < 0.3:
        sizes.insert(int(rng.integers(len(sizes) + 1)), 1)
    constants = ["x1"] if known else []
    run_both(
        "Reshape",
        [x, np.array(sizes, np.int64)],
        {"allowzero": int(0 in sizes)},
        constants=constants,
    )


def test_flatten(rng, dtype):
    x = strided(rng, shape_of(rng), dtype)
    run_both("Flatten", [x], {"axis": int(rng.integers(-x.ndim, x.ndim + 1))})


@pytest.mark.parametrize("opset", [11, 18])
def test_squeeze_and_unsqueeze(rng, dtype, opset):
    x = strided(rng, shape_of(rng), dtype)
    axes = [int(a) for a in rng.permutation(x.ndim + 2)[:2]]
    if rng.random() < 0.5:
        axes[0] -= x.ndim + 2
    if opset == 11:
        (y,) = run_both("Unsqueeze", [x], {"axes": axes}, opset=11)
        run_both("Squeeze", [y], {"axes": axes}, opset=11)
        run_both("Squeeze", [y], {}, opset=11)
    else:
        (y,) = run_both("Unsqueeze", [x, np.array(axes, np.int64)], {})
        run_both("Squeeze", [y, np.array(axes, np.int64)], {})


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_slice(rng, dtype, kind):
    x = strided(rng, shape_of(rng, least=1), dtype)
    axes = rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)]
    starts, ends = rng.integers(-8, 9, (2, len(axes)))
    steps = rng.choice([-3, -2, -1, 1, 2, 3], len(axes))
    arrays = [np.array(a, kind) for a in (starts, ends, axes, steps)]
    run_both("Slice", [x, *arrays], {})
    run_both("Slice", [x, *arrays], {}, constants=["x1", "x2", "x3", "x4"])
    run_both("Slice", [x, *arrays[:3]], {})


def test_split(rng, dtype):
    x = strided(rng, shape_of(rng, least=1), dtype)
    axis = int(rng.integers(-x.ndim, x.ndim))
    size = x.shape[axis]
    cut = sorted(int(n) for n in rng.integers(0, size + 1, 2))
    sizes = np.diff([0, *cut, size])
    run_both("Split", [x, sizes.astype(np.int64)], {"axis": axis}, outputs=3)
    if size >= 3:
        run_both("Split", [x], {"axis": axis, "num_outputs": 2}, outputs=2)


def test_expand(rng, dtype):
    x = strided(rng, shape_of(rng, zero=False), dtype)
    wanted = [n if rng.random() < 0.5 and n > 1 else 1 for n in x.shape]
    x = x[(*(slice(0, 1) if rng.random() < 0.5 else slice(None) for _ in x.shape), ...)]
    wanted = [max(a, b) if 1 in (a, b) else b for a, b in zip(wanted, x.shape, strict=True)]
    run_both("Expand", [x, np.array([2, *wanted], np.int64)], {})


def test_shape_and_size(rng, dtype):
    x = strided(rng, shape_of(rng), dtype)
    start, end = (int(n) for n in rng.integers(-5, 6, 2))
    run_both("Shape", [x], {"start": start, "end": end})
    run_both("Shape", [x], {})
    run_both("Size", [x], {})


def test_concat(rng, dtype):
    shape = shape_of(rng, least=1)
    axis = int(rng.integers(len(shape)))
    parts = []
    for _ in range(rng.integers(1, 5)):
        shape[axis] = int(rng.integers(0, 5))
        parts.append(strided(rng, shape, dtype))
    run_both("Concat", parts, {"axis": axis - len(shape) if rng.random() < 0.5 else axis})


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_gather(rng, dtype, kind):
    x = strided(rng, shape_of(rng, least=1, zero=False), dtype)
    axis = int(rng.integers(-x.ndim, x.ndim))
    size = x.shape[axis]
    indices = rng.integers(-size, size, shape_of(rng, most=2)).astype(kind)
    run_both("Gather", [x, indices], {"axis": axis})
    run_both("Gather", [x, indices], {"axis": axis}, constants=["x1"])


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_pad(rng, dtype, mode):
    x = strided(rng, shape_of(rng, least=1, zero=False), dtype)
    pads = []
    for _ in range(2):
        for n in x.shape:
            most = n if mode == "reflect" else n + 1
            pads.append(int(rng.integers(0, most)))
    if mode == "constant" and rng.random() < 0.5:
        pads[0] = -int(rng.integers(0, x.shape[0]))
    given = [np.array(pads, np.int64)]
    if mode == "constant" and dtype is not np.bool_:
        given.append(np.array(7, dtype))
    run_both("Pad", [x, *given], {"mode": mode}, opset=19)


def test_tile(rng, dtype):
    x = strided(rng, shape_of(rng), dtype)
    run_both("Tile", [x, rng.integers(0, 4, x.ndim)], {})


def test_constant_of_shape(rng, dtype):
    value = numpy_helper.from_array(np.array([5], dtype))
    run_both("ConstantOfShape", [np.array(shape_of(rng), np.int64)], {"value": value})
    run_both("ConstantOfShape", [np.array(shape_of(rng), np.int64)], {})


def test_range(rng):
    start, limit, delta = (int(n) for n in rng.integers(-9, 10, 3))
    run_both("Range", [np.array(n, np.int64) for n in (start, limit, delta or 1)], {})


@pytest.mark.parametrize("kind", [np.int64, np.int32])
def test_elements_by_place(rng, dtype, kind):
    x = strided(rng, shape_of(rng, least=1, zero=False), dtype)
    axis = int(rng.integers(-x.ndim, x.ndim))
    size = x.shape[axis]
    shape = [int(rng.integers(0, n + 1)) for n in x.shape]
    indices = rng.integers(-size, size, shape).astype(kind)
    run_both("GatherElements", [x, indices], {"axis": axis})
    updates = strided(rng, shape, dtype)
    if (
        all(shape) and np.prod(shape) < 2
    ):  # where a place comes twice, the order is nobody's promise
        run_both("ScatterElements", [x, indices, updates], {"axis": axis})
    if dtype is np.float32:
        for reduction in ("add", "max", "min", "mul"):
            run_both(
                "ScatterElements", [x, indices, updates], {"axis": axis, "reduction": reduction}
            )


@pytest.mark.parametrize("axis", [0, 1])
def test_places_that_an_expand_repeats(rng, dtype, axis):
    """As graph networks gather and add the rows of edges."""
    x = strided(rng, (7, 20), dtype)
    edges, features = int(rng.integers(1, 9)), int(rng.integers(1, 21))
    if axis == 0:
        indices = np.broadcast_to(rng.integers(-7, 7, (edges, 1)), (edges, features))
    else:
        indices = np.broadcast_to(rng.integers(-20, 20, (1, features)), (6, features))
    run_both("GatherElements", [x, indices], {"axis": axis})
    if dtype is np.float32:
        updates = strided(rng, indices.shape, dtype)
        for reduction in ("add", "max"):
            attributes = {"axis": axis, "reduction": reduction}
            run_both("ScatterElements", [x, indices, updates], attributes)
            run_both("ScatterElements", [x, indices, np.ascontiguousarray(updates)], attributes)


def test_places_of_several_axes(rng, dtype):
    x = strided(rng, shape_of(rng, least=1, zero=False), dtype)
    depth = int(rng.integers(1, x.ndim + 1))
    count = int(rng.integers(0, 4))
    indices = np.stack([rng.integers(-n, n, count) for n in x.shape[:depth]], -1)
    run_both("GatherND", [x, indices], {})
    updates = strided(rng, [min(count, 1), *x.shape[depth:]], dtype)
    run_both("ScatterND", [x, indices[:1], updates], {})


def test_reverse_sequence(rng, dtype):
    x = strided(rng, [int(n) for n in rng.integers(1, 6, 3)], dtype)
    for time in (0, 1):
        lengths = rng.integers(0, x.shape[time] + 1, x.shape[1 - time])
        run_both("ReverseSequence", [x, lengths], {"time_axis": time, "batch_axis": 1 - time})


def test_trilu(rng, dtype):
    x = strided(rng, shape_of(rng, least=2), dtype)
    for upper in (0, 1):
        run_both("Trilu", [x, np.array(int(rng.integers(-7, 8)), np.int64)], {"upper": upper})


def test_nonzero(rng, dtype):
    x = strided(rng, shape_of(rng, least=1), dtype)
    run_both("NonZero", [x], {})


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(rng, mode):
    block = int(rng.integers(1, 4))
    n, c, h, w = (int(k) for k in rng.integers(1, 4, 4))
    x = strided(rng, [n, c * block**2, h, w], np.float32)
    (y,) = run_both("DepthToSpace", [x], {"blocksize": block, "mode": mode})
    run_both("SpaceToDepth", [y], {"blocksize": block})


@pytest.mark.parametrize("known", [True, False])
def test_matmul(rng, known):
    """Small integers, whose sums are exact in any order."""
    depth, columns = (int(n) for n in rng.integers(1, 40, 2))
    batch = shape_of(rng, most=2, zero=False)
    a = strided(rng, [*batch, int(rng.integers(1, 9)), depth], np.float32)
    if known:
        run_both("MatMul", [a, strided(rng, [depth, columns], np.float32)], {}, constants=["x1"])
        return
    own = [n if rng.random() < 0.5 else 1 for n in batch[int(rng.integers(len(batch) + 1)) :]]
    run_both("MatMul", [a, strided(rng, [*own, depth, columns], np.float32)], {})
    run_both("MatMul", [a, strided(rng, [depth], np.float32)], {})
    run_both(
        "MatMul",
        [strided(rng, [depth], np.float32), strided(rng, [depth, columns], np.float32)],
        {},
    )


@pytest.mark.parametrize("constants", [[], ["x1"], ["x1", "x2"], ["x2"]])
def test_gemm(rng, constants):
    rows, depth, columns = (int(n) for n in rng.integers(1, 30, 3))
    turn_a, turn_b = (int(n) for n in rng.integers(0, 2, 2))
    a = strided(rng, [depth, rows] if turn_a else [rows, depth], np.float32)
    b = strided(rng, [columns, depth] if turn_b else [depth, columns], np.float32)
    shapes = [[columns], [1, columns], [rows, 1], [rows, columns], [], [1]]
    c = strided(rng, shapes[int(rng.integers(len(shapes)))], np.float32)
    attributes = {"transA": turn_a, "transB": turn_b, "beta": 2.0}
    if "x1" in constants:
        attributes["alpha"] = 0.5
    run_both("Gemm", [a, b, c], attributes, constants=constants)
    run_both("Gemm", [a, b], attributes, constants=[n for n in constants if n != "x2"])
