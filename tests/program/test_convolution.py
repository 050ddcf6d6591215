"""Convolutions and pools of the native program: it runs them, as the Python operators do."""

import concurrent.futures

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from vledge.graph.native.chain import Chain
from vledge.graph.native.families.convolution import chained
from vledge.graph.native.lowering import Lowered


def natively(model, feed):
    """(handlers, results); every instruction ran natively and as the Python plan says."""
    session = vledge.InferenceSession(model)
    native = session._plan.native
    arrays = [feed[name] for name in session._plan.inputs]
    count = len(native.handlers)
    declined = np.zeros(count, np.int32)
    results = native.program.run(arrays, (np.zeros(count, np.int64), declined))
    assert not declined.any(), native.handlers
    with np.errstate(all="ignore"):
        expected = session._plan.run(*arrays)
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=2e-6)
    return native.handlers, results


def conv_model(x, w, b=None, after=(), outputs=("y",), weights=None, op="Conv", **attributes):
    names = {"w": w} if b is None else {"w": w, "b": b}
    first = node(op, ["x", *names], ["y"], **attributes)
    return model_bytes([first, *after], {"x": x}, list(outputs), {**names, **(weights or {})})


def some(rng, *shape):
    return rng.uniform(-1, 1, shape).astype(np.float32)


WINDOWS = {
    "plain": ((2, 3, 9, 10), (4, 3, 3, 3), {}),
    "pads": ((1, 5, 9, 10), (4, 5, 3, 2), {"pads": [1, 0, 2, 1]}),
    "one axis": ((2, 3, 30), (4, 3, 5), {"strides": [2], "pads": [4, 0], "dilations": [2]}),
    "three axes": ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"pads": [1, 0, 0, 0, 1, 1]}),
    "same upper": ((1, 3, 10, 11), (4, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    "same lower": ((1, 3, 10, 11), (4, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "valid": ((1, 3, 10, 11), (4, 3, 4, 3), {"auto_pad": "VALID"}),
    "depthwise": ((1, 6, 8, 9), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    "groups": ((2, 8, 8, 9), (6, 4, 3, 3), {"group": 2}),
    "winograd": ((2, 16, 9, 10), (20, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
    "winograd, dilated": ((2, 16, 9, 10), (20, 16, 3, 3), {"dilations": [2, 1]}),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_conv(instruction_set, window, bias):
    shape, weights, attributes = WINDOWS[window]
    rng = np.random.default_rng(1)
    x, w = some(rng, *shape), some(rng, *weights)
    b = some(rng, len(w)) if bias else None
    handlers, (plain,) = natively(conv_model(x, w, b, **attributes), {"x": x})
    assert handlers == ["conv"]
    relu = [node("Relu", ["y"], ["z"])]
    handlers, (positive,) = natively(conv_model(x, w, b, relu, ["z"], **attributes), {"x": x})
    assert handlers == ["conv"]
    assert np.array_equal(positive, np.maximum(plain, 0))


@pytest.mark.parametrize("window", ["plain", "one axis", "depthwise", "groups", "winograd"])
def test_what_follows_a_convolution_runs_with_it(instruction_set, window):
    shape, weights, attributes = WINDOWS[window]
    rng = np.random.default_rng(2)
    x, w, b = some(rng, *shape), some(rng, *weights), some(rng, weights[0])
    _, (y,) = natively(conv_model(x, w, b, **attributes), {"x": x})
    column = (weights[0],) + (1,) * (len(shape) - 2)
    extra = {
        "slope": some(rng, *column),
        "scale": some(rng, *column),
        "low": np.float32(-0.25),
        "high": np.float32(0.75),
        "like": some(rng, *y.shape),
        "row": some(rng, *y.shape[2:]),
        "sample": some(rng, len(y), 1, *y.shape[2:]),
    }
    chains = {
        "leaky": [node("LeakyRelu", ["y"], ["z"], alpha=0.3)],
        "prelu": [node("PRelu", ["y", "slope"], ["z"])],
        "clip": [node("Clip", ["y", "low", "high"], ["z"])],
        "sigmoid": [node("Sigmoid", ["y"], ["s"]), node("Mul", ["y", "s"], ["z"])],
        "tanh": [node("Mul", ["y", "scale"], ["s"]), node("Tanh", ["s"], ["z"])],
        "residual": [node("Add", ["like", "y"], ["s"]), node("Relu", ["s"], ["z"])],
        "row": [node("Mul", ["y", "row"], ["z"])],
        "sample": [node("Sub", ["sample", "y"], ["z"])],
    }
    for name, after in chains.items():
        named = {n for one in after for n in one.input}
        constants = {n: a for n, a in extra.items() if n in named and n not in ("like", "sample")}
        arrays = {n: extra[n] for n in ("like", "sample") if n in named}
        nodes = [node("Conv", ["x", "w", "b"], ["y"], **attributes), *after]
        feed = {"x": x, **arrays}
        model = model_bytes(nodes, feed, ["z"], {"w": w, "b": b, **constants})
        handlers, _ = natively(model, feed)
        assert handlers == ["conv"], name


FUSED_POOLS = {
    "2x2": ("plain", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "3x2": ("pads", {"kernel_shape": [3, 2], "strides": [3, 2]}),
    "1x4": ("depthwise", {"kernel_shape": [1, 4], "strides": [1, 4]}),
    "3": ("one axis", {"kernel_shape": [3], "strides": [3]}),
    "groups": ("groups", {"kernel_shape": [2, 3], "strides": [2, 3]}),
    "winograd": ("winograd", {"kernel_shape": [3, 3], "strides": [3, 3]}),
    "winograd, dilated": ("winograd, dilated", {"kernel_shape": [1, 4], "strides": [1, 4]}),
    "winograd, 2x2": ("winograd", {"kernel_shape": [2, 2], "strides": [2, 2]}),
}


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pool", FUSED_POOLS)
def test_a_pool_runs_with_its_convolution(instruction_set, pool, op):
    window, pooling = FUSED_POOLS[pool]
    shape, weights, attributes = WINDOWS[window]
    rng = np.random.default_rng(2)
    x, w, b = some(rng, *shape), some(rng, *weights), some(rng, weights[0])
    slope = {"slope": some(rng, weights[0], *[1] * (len(shape) - 2))}
    for before in (
        [],
        [node("Relu", ["y"], ["r"])],
        [node("Sigmoid", ["y"], ["s"]), node("Mul", ["y", "s"], ["r"])],
        [node("PRelu", ["y", "slope"], ["r"])],
    ):
        last = node(op, [before[-1].output[0] if before else "y"], ["z"], **pooling)
        model = conv_model(x, w, b, [*before, last], ["z"], slope, **attributes)
        assert natively(model, {"x": x})[0] == ["conv"]


def test_pools_of_long_images(instruction_set):
    """Many blocks, with what a pool leaves out at the ends."""
    rng = np.random.default_rng(3)
    x, w = some(rng, 2, 16, 67, 301), some(rng, 24, 16, 3, 3)
    for side in (2, 5):
        pool = node("MaxPool", ["y"], ["z"], kernel_shape=[side, side], strides=[side, side])
        model = conv_model(x, w, None, [pool], ["z"], pads=[1, 1, 1, 1])
        handlers, (alone,) = natively(model, {"x": x})
        assert handlers == ["conv"]
        vledge.set_num_threads(2)
        try:
            assert np.array_equal(natively(model, {"x": x})[1][0], alone)
        finally:
            vledge.set_num_threads(1)


def test_pools_that_do_not_fit_stand_alone():
    rng = np.random.default_rng(4)
    x, w, like = some(rng, 1, 3, 9, 9), some(rng, 4, 3, 3, 3), some(rng, 1, 4, 7, 7)
    side = {"kernel_shape": [2, 2], "strides": [2, 2]}
    for pooling in ({"kernel_shape": [2, 2]}, {**side, "ceil_mode": 1}, {**side, "pads": [1] * 4}):
        last = node("MaxPool", ["y"], ["z"], **pooling)
        assert natively(conv_model(x, w, None, [last], ["z"]), {"x": x})[0] == ["conv", "pool"]
    nodes = [
        node("Conv", ["x", "w"], ["y"]),
        node("Add", ["y", "like"], ["s"]),
        node("MaxPool", ["s"], ["z"], **side),
    ]
    feed = {"x": x, "like": like}
    handlers, _ = natively(model_bytes(nodes, feed, ["z"], {"w": w}), feed)
    assert handlers == ["conv", "pool"]


def test_a_convolution_that_others_read_keeps_its_result():
    rng = np.random.default_rng(3)
    x, w = some(rng, 1, 3, 9, 9), some(rng, 4, 3, 3, 3)
    after = [node("LeakyRelu", ["y"], ["z"])]
    handlers, _ = natively(conv_model(x, w, None, after, ["z", "y"]), {"x": x})
    assert len(handlers) == 2
    two = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "v"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    model = model_bytes(two, {"x": x}, ["y"], {"w": w, "v": some(rng, 4, 3, 3, 3)})
    assert natively(model, {"x": x})[0] == ["conv", "conv"]


def test_a_sum_larger_than_the_convolution_is_the_operators():
    """Broadcasting may make a chain's result larger than its first operand: Python's."""
    rng = np.random.default_rng(4)
    x, w = some(rng, 1, 3, 9, 9), some(rng, 4, 3, 3, 3)
    other = some(rng, 2, 4, 7, 7)
    nodes = [node("Conv", ["x", "w"], ["y"]), node("Add", ["y", "other"], ["z"])]
    feed = {"x": x, "other": other}
    session = vledge.InferenceSession(model_bytes(nodes, feed, ["z"], {"w": w}))
    (z,) = session.run(None, feed)
    (y,) = vledge.InferenceSession(conv_model(x, w)).run(None, {"x": x})
    np.testing.assert_allclose(z, y + other, atol=1e-6)


TRANSPOSED = {
    "plain": ((2, 3, 5, 6), (3, 4, 3, 3), {}),
    "strides": ((1, 3, 5, 6), (3, 4, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    "output_padding": ((1, 3, 9), (3, 4, 3), {"strides": [2], "output_padding": [1]}),
    "output_shape": ((1, 3, 9), (3, 4, 3), {"strides": [2], "output_shape": [17]}),
    "longer": ((1, 3, 9), (3, 4, 3), {"strides": [2], "output_shape": [25]}),
    "same": ((1, 3, 9), (3, 4, 4), {"strides": [3], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 3, 9), (3, 4, 5), {"strides": [2], "auto_pad": "SAME_LOWER"}),
    "depthwise": (
        (1, 8, 4, 9),
        (8, 1, 1, 3),
        {"group": 8, "strides": [1, 2], "pads": [0, 1, 0, 1]},
    ),
    "groups": ((1, 8, 4, 9), (8, 3, 2, 3), {"group": 2, "dilations": [1, 2]}),
    "side by side": ((2, 3, 5, 6), (3, 4, 2, 2), {"strides": [2, 2]}),
    "side by side, one axis": ((2, 20, 9), (20, 1, 4), {"strides": [4]}),
    "side by side in one axis": (
        (1, 3, 5, 6),
        (3, 5, 3, 3),
        {"strides": [2, 3], "pads": [1, 0, 0, 0]},
    ),
    "side by side, three axes": ((1, 3, 4, 5, 3), (3, 6, 2, 2, 2), {"strides": [2, 2, 2]}),
    "side by side, cut": ((1, 3, 9), (3, 4, 2), {"strides": [2], "pads": [1, 0]}),
    "side by side, longer": ((1, 3, 9), (3, 4, 2), {"strides": [2], "output_padding": [1]}),
    "side by side, given": ((1, 3, 9), (3, 4, 2), {"strides": [2], "output_shape": [16]}),
}


@pytest.mark.parametrize("op", ["leaky", "slopes", "residual", "row", "none"])
@pytest.mark.parametrize("shape", [(2, 24, 11, 7), (1, 5, 40, 33)])
def test_what_follows_windows_side_by_side(instruction_set, shape, op):
    """They are made as more channels than there are, which what follows must not see."""
    rng = np.random.default_rng(7)
    x, w, b = some(rng, *shape), some(rng, shape[1], 9, 2, 3), some(rng, 9)
    sizes = (shape[0], 9, shape[2] * 2, shape[3] * 3)
    extra = {
        "slopes": some(rng, 9, 1, 1),
        "residual": some(rng, *sizes),
        "row": some(rng, sizes[3]),
    }
    after = {
        "leaky": [node("LeakyRelu", ["y"], ["z"], alpha=0.3)],
        "slopes": [node("PRelu", ["y", "slopes"], ["z"])],
        "residual": [node("Add", ["residual", "y"], ["s"]), node("Tanh", ["s"], ["z"])],
        "row": [node("Mul", ["y", "row"], ["z"])],
        "none": [],
    }[op]
    nodes = [node("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2, 3]), *after]
    feed = {"x": x, **({"residual": extra["residual"]} if op == "residual" else {})}
    constants = {"w": w, "b": b, **({op: extra[op]} if op in ("slopes", "row") else {})}
    model = model_bytes(nodes, feed, [nodes[-1].output[0]], constants)
    handlers, (ours,) = natively(model, feed)
    assert handlers == ["conv_transpose"]
    y = np.einsum("nchw,cmij->nmhiwj", x.astype(np.float64), w).reshape(sizes) + b[:, None, None]
    expected = {
        "leaky": np.where(y < 0, y * 0.3, y),
        "slopes": np.where(y < 0, y * extra["slopes"], y),
        "residual": np.tanh(y + extra["residual"]),
        "row": y * extra["row"],
        "none": y,
    }[op]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", TRANSPOSED)
def test_conv_transpose(instruction_set, window):
    shape, weights, attributes = TRANSPOSED[window]
    rng = np.random.default_rng(5)
    x, w = some(rng, *shape), some(rng, *weights)
    b = some(rng, weights[1] * attributes.get("group", 1))
    model = conv_model(x, w, b, op="ConvTranspose", **attributes)
    assert natively(model, {"x": x})[0] == ["conv_transpose"]
    after = [node("LeakyRelu", ["y"], ["z"])]
    model = conv_model(x, w, b, after, ["z"], op="ConvTranspose", **attributes)
    assert natively(model, {"x": x})[0] == ["conv_transpose"]


@pytest.mark.parametrize("size", [(9, 7), (70, 71)])
def test_phases_share_an_input_with_channels_last(instruction_set, size):
    """Which is made once of one with channels first, in pieces, or is there."""
    rng = np.random.default_rng(9)
    x, w, b = some(rng, 2, 5, *size), some(rng, 5, 3, 3, 3), some(rng, 3)
    model = conv_model(x, w, b, op="ConvTranspose", strides=[2, 2], pads=[1, 1, 0, 0])
    handlers, (y,) = natively(model, {"x": x})
    assert handlers == ["conv_transpose"]
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert np.array_equal(natively(model, {"x": last})[1][0], y)


@pytest.mark.parametrize(
    ("op", "micro", "numbers", "epilogue", "floats"),
    [
        ("Relu", "at_least", [0.0], 1, [0.0, np.inf]),
        ("Clip", "at_most", [3.0], 1, [-np.inf, 3.0]),
        ("Clip", "clip", [0.0, 6.0], 1, [0.0, 6.0]),
        ("LeakyRelu", "leaky", [0.25], 2, [0.25]),
        ("Elu", "elu", [0.25], 3, [0.25]),
    ],
)
def test_an_activation_alone_is_no_chain(op, micro, numbers, epilogue, floats):
    chain = Chain()
    value = chain(micro, chain.operand("y"), *map(chain.constant, numbers))
    plain = Lowered("conv", [0] * 26, (), (), ["x"])
    both = chained(plain, chain.parameters(value, first="y"), "z")
    assert both.ints[25] == epilogue, op
    assert list(both.floats) == floats
    assert list(both.outputs) == ["z"]
    assert len(both.ints) == 26 or epilogue == 3
    # of something else as well, or of more than one operation
    more = chain("add", value, chain.operand("r"))
    assert chained(plain, chain.parameters(more, first="y"), "z").ints[25] == 3


POOLS = {
    "2x2": ((2, 5, 8, 10), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "3 / 2": ((1, 5, 21), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    "3x3x2": ((1, 2, 5, 6, 7), {"kernel_shape": [3, 3, 2], "pads": [1, 1, 0, 1, 1, 1]}),
    "ceil": ((1, 70, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1}),
    "ceil, pads": (
        (1, 3, 7, 8),
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    ),
    "same": ((1, 3, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((1, 3, 7, 8), {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
    "dilated": ((1, 3, 9, 8), {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [0, 1, 1, 0]}),
    # windows side by side as one row; the kernel's rows first, and then its columns
    "of one": ((2, 1, 9, 50), {"kernel_shape": [2, 2]}),
    "7x5 of three": ((2, 3, 16, 40), {"kernel_shape": [7, 5], "pads": [3, 2, 3, 2]}),
    "7x7 / 2": ((1, 20, 19, 33), {"kernel_shape": [7, 7], "strides": [2, 2], "pads": [3, 3, 2, 1]}),
    "3x4x5": ((2, 2, 6, 7, 21), {"kernel_shape": [3, 4, 5], "pads": [1, 1, 1, 1, 1, 1]}),
    "5x3, dilated": ((1, 9, 14, 18), {"kernel_shape": [5, 3], "dilations": [2, 2]}),
}


def byte_pool(pool, shape):
    return model_bytes([pool], {"x": np.zeros(shape, np.int8)}, ["y"], opset=19)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "counted"])
@pytest.mark.parametrize("pool", POOLS)
def test_pools(instruction_set, pool, op):
    shape, attributes = POOLS[pool]
    x = some(np.random.default_rng(6), *shape)
    if op == "counted":
        op, attributes = "AveragePool", {**attributes, "count_include_pad": 1}
    first = node(op, ["x"], ["y"], **attributes)
    model = model_bytes([first], {"x": x}, ["y"], opset=19)
    handlers, (y,) = natively(model, {"x": x})
    assert handlers == ["pool"]
    natively(model, {"x": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)})
    if op == "MaxPool":
        assert natively(byte_pool(first, x.shape), {"x": (x * 100).astype(np.int8)})[0] == ["pool"]
        x.reshape(-1)[7] = np.nan
        _, (y,) = natively(model, {"x": x})
        assert np.isnan(y).any()


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 5, 30), (1, 70, 9, 400), (1, 2, 3, 4, 5)])
def test_pools_over_everything(instruction_set, shape, op):
    x = some(np.random.default_rng(7), *shape)
    model = model_bytes([node(op, ["x"], ["y"])], {"x": x}, ["y"])
    assert natively(model, {"x": x})[0] == ["pool"]
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    natively(model, {"x": last})


def test_a_pool_of_nothing_but_pads_is_the_operators():
    x = some(np.random.default_rng(8), 1, 2, 4)
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[1], pads=[1, 0])
    session = vledge.InferenceSession(model_bytes([pool], {"x": x}, ["y"]))
    assert session.run(None, {"x": x})[0].shape == (1, 2, 5)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("samples", "channels"), [(0, 3), (2, 0)])
def test_a_pool_of_nothing_takes_no_time_for_its_places(op, samples, channels):
    pool = node(op, ["x"], ["y"], kernel_shape=[3])
    model = model_bytes([pool], {"x": np.zeros((samples, channels, 9), np.float32)}, ["y"])
    x = np.zeros((samples, channels, 1 << 38), np.float32)
    assert vledge.InferenceSession(model).run(None, {"x": x})[0].shape == (
        samples,
        channels,
        (1 << 38) - 2,
    )


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_ceiling_s_pool_wider_than_its_input(op):
    """Of no place there is nothing, as onnxruntime has it; of fewer, an error that says so."""
    for kernel, stride, pads in ((8, 2, [4, 0]), (9, 4, [3, 0]), (4, 2, [0, 2])):
        attributes = {"kernel_shape": [kernel], "strides": [stride], "pads": pads, "ceil_mode": 1}
        x = some(np.random.default_rng(11), 1, 2, 1)
        session = vledge.InferenceSession(
            model_bytes([node(op, ["x"], ["y"], **attributes)], {"x": x}, ["y"])
        )
        if kernel == 4:
            assert np.array_equal(session.run(None, {"x": x})[0], x)
            continue
        assert session.run(None, {"x": x})[0].shape == (1, 2, 0)
    pool = node(op, ["x"], ["y"], kernel_shape=[9], ceil_mode=1)
    session = vledge.InferenceSession(model_bytes([pool], {"x": x}, ["y"]))
    with pytest.raises(ValueError, match="the padded input has 1 steps, the kernel spans 9"):
        session.run(None, {"x": x})


def test_wrong_sizes_are_worded_by_the_operators():
    rng = np.random.default_rng(9)
    x, w = some(rng, 1, 3, 9), some(rng, 4, 3, 3)
    session = vledge.InferenceSession(conv_model(x, w))
    for wrong, text in ((x[:, :2], "3 channels"), (x[:, :, :2], "kernel spans 3")):
        with pytest.raises(Exception, match=text):
            session.run(None, {"x": wrong})
    session = vledge.InferenceSession(conv_model(x, some(rng, 3, 4, 3), op="ConvTranspose"))
    with pytest.raises(ValueError, match="expected a step or more on every axis"):
        session.run(None, {"x": x[:, :, :0]})


@pytest.mark.parametrize("program", ["0", "1"])
def test_no_slope_below_zero_leaves_infinities_above(program, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    rng = np.random.default_rng(12)
    x, w = some(rng, 1, 1, 9), np.ones((2, 1, 1), np.float32)
    x[0, 0, :3] = np.inf, np.nan, -0.5
    for alpha in (0.0, 1e-46, -0.5):
        leaky = [node("LeakyRelu", ["y"], ["z"], alpha=alpha)]
        session = vledge.InferenceSession(conv_model(x, w, None, leaky, ["z"]))
        z = session.run(None, {"x": x})[0]
        assert z[0, 0, 0] == np.inf
        assert np.isnan(z[0, :, 1]).all()


def test_exact_convolutions(monkeypatch):
    """VLEDGE_WINOGRAD=0 multiplies every 3x3 window as it stands."""
    shape, weights, attributes = WINDOWS["winograd"]
    rng = np.random.default_rng(10)
    x, w = some(rng, *shape), some(rng, *weights)
    model = conv_model(x, w, **attributes)
    fast = natively(model, {"x": x})[1][0]
    monkeypatch.setenv("VLEDGE_WINOGRAD", "0")
    exact = natively(model, {"x": x})[1][0]
    assert not np.array_equal(fast, exact)
    np.testing.assert_allclose(fast, exact, atol=2e-5)


ONE_ROW = {
    "winograd": ((2, 20, 1, 31), (36, 20, 3, 3), {"pads": [1, 1, 1, 1]}),
    "windows": ((1, 5, 1, 31), (7, 5, 3, 5), {"pads": [1, 2, 1, 2], "strides": [1, 2]}),
    "same": ((1, 24, 2, 9), (17, 24, 5, 3), {"auto_pad": "SAME_UPPER"}),
    "depthwise": ((2, 19, 1, 17), (19, 1, 5, 5), {"group": 19, "pads": [2, 2, 2, 2]}),
    "one axis": ((2, 24, 1), (6, 12, 3), {"group": 2, "pads": [1, 1]}),
}


@pytest.mark.parametrize("window", ONE_ROW)
def test_what_only_meets_padding_is_laid_out_once(instruction_set, window):
    """Python does it at the first run of a size that is so small; later runs are native."""
    shape, weights, attributes = ONE_ROW[window]
    rng = np.random.default_rng(7)
    x, w, b = some(rng, *shape), some(rng, *weights), some(rng, weights[0])
    after = [node("Sigmoid", ["y"], ["s"]), node("Mul", ["y", "s"], ["z"])]
    session = vledge.InferenceSession(conv_model(x, w, b, after, ["z"], **attributes))
    native, before = session._plan.native, session.memory().packed
    declined = np.zeros(len(native.handlers), np.int32)
    results = [
        native.program.run([x], (np.zeros(len(declined), np.int64), declined))[0] for _ in range(3)
    ]
    assert declined.tolist() == [1]
    assert session.memory().packed > before
    with np.errstate(all="ignore"):
        (expected,) = session._plan.function(x)
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=2e-6, atol=2e-6)
    assert np.array_equal(results[1], results[2])


def test_a_pool_behind_what_is_left_out():
    """Of sizes that the pool cuts off: the taps are those of the convolution by itself."""
    rng = np.random.default_rng(8)
    x, w = some(rng, 1, 6, 2, 11), some(rng, 5, 6, 5, 3)
    pool = node("MaxPool", ["y"], ["z"], kernel_shape=[2, 2], strides=[2, 2])
    model = conv_model(x, w, None, [pool], ["z"], pads=[2, 1, 3, 1])
    session = vledge.InferenceSession(model)
    session.run(None, {"x": x})
    native = session._plan.native
    declined = np.zeros(len(native.handlers), np.int32)
    (got,) = native.program.run([x], (np.zeros(len(declined), np.int64), declined))
    assert not declined.any()
    np.testing.assert_allclose(got, session._plan.function(x)[0], rtol=2e-6, atol=2e-6)


def test_threads_that_lay_out_at_the_same_time():
    rng = np.random.default_rng(9)
    w = some(rng, 32, 32, 3, 3)
    images = [some(rng, 1, 32, *size) for size in ((1, 40), (40, 1), (1, 1), (1, 7))] * 8
    model = model_bytes(
        [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        {"x": np.empty((1, 32, 0, 0), np.float32)},
        ["y"],
        {"w": w},
    )
    one, many = vledge.InferenceSession(model), vledge.InferenceSession(model)
    expected = [one.run(None, {"x": x})[0] for x in images]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: many.run(None, {"x": x})[0], images))
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert one.memory().packed == many.memory().packed
