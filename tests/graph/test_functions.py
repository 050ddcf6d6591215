"""Operators that are made of others: the pass, the node's own function and onnxruntime agree on
random shapes and attributes, and what the pass has expanded runs natively."""

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge import InferenceSession
from vledge.errors import FormatError, UnsupportedError
from vledge.graph.prepared import prepare
from vledge.model.definition import Node

onnxruntime = peer("onnxruntime")

MICROSOFT = "com.microsoft"
CASES = range(12)
EPSILON = 1e-5


class Draw:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def among(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def sizes(self, low, high, count):
        return [int(n) for n in self.rng.integers(low, high, count)]

    def reals(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)


@pytest.fixture(params=CASES)
def draw(request):
    return Draw(request.param)


def agreed(
    op_type, arrays, attributes, outputs=1, domain=MICROSOFT, opset=None, known=(), close=2e-5
):
    """The results of a node on arrays by name, by onnxruntime; ours are as they, in all ways."""
    opset = opset or 17
    names = [name if array is not None else "" for name, array in arrays.items()]
    while names and not names[-1]:
        names.pop()
    given = {name: array for name, array in arrays.items() if array is not None}
    feed = {name: array for name, array in given.items() if name not in known}
    weights = {name: given[name] for name in known if name in given}
    made = outputs if isinstance(outputs, list) else [f"y{n}" for n in range(outputs)]
    one = node(op_type, names, made, domain=domain, **attributes)
    wanted = [name for name in made if name]
    model = model_bytes([one], feed, wanted, weights, opset=opset, domains=[MICROSOFT])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    expected = onnxruntime.InferenceSession(model, options).run(None, feed)

    session = InferenceSession(model)
    native = session._plan.native
    declined = np.zeros(len(native.handlers), np.int32)
    fed = [feed[name] for name in session._plan.inputs]
    ours = native.program.run(fed, (np.zeros(len(declined), np.int64), declined))
    assert None not in native.handlers, native.handlers
    assert not declined.any(), native.handlers
    plain = Node(op_type, names, made, attributes, domain=domain)
    alone = prepare(plain, {"": opset, MICROSOFT: 1}, {}, options={})
    arguments = [given[name] if name else None for name in names]
    by_itself = [r for n, r in zip(made, alone.call(*arguments), strict=True) if n]
    for result in (ours, by_itself):
        for x, y in zip(result, expected, strict=True):
            assert (x.dtype, x.shape) == (y.dtype, y.shape)
            np.testing.assert_allclose(x, y, atol=close, rtol=close)
    return expected


@pytest.mark.parametrize("op_type", ["BiasGelu", "FastGelu", "Gelu", "QuickGelu"])
def test_gelus(draw, op_type):
    shape = draw.sizes(1, 9, 3)
    arrays = {"x": draw.reals(*shape)}
    if op_type == "BiasGelu" or (op_type == "FastGelu" and draw.among(True, False)):
        arrays["bias"] = draw.reals(shape[-1])
    given = {"alpha": 1.3} if op_type == "QuickGelu" and draw.among(True, False) else {}
    agreed(op_type, arrays, given, opset=draw.among(9, 12, 17, 20), known=("bias",))


@pytest.mark.parametrize("simple", [False, True])
def test_norms_of_sums(draw, simple):
    batch, steps, size = draw.sizes(1, 9, 3)
    size += 1
    arrays = {
        "x": draw.reals(batch, steps, size),
        "skip": draw.reals(*draw.among([batch, steps, size], [1, steps, size], [steps, size])),
        "gamma": draw.reals(size),
    }
    if not simple:
        arrays["beta"] = draw.among(draw.reals(size), None)
    arrays["bias"] = draw.among(draw.reals(size), None)
    outputs = draw.among(["y"], ["y", "", "", "sum"])
    op_type = "SkipSimplifiedLayerNormalization" if simple else "SkipLayerNormalization"
    opset = draw.among(11, 17, 23)
    agreed(op_type, arrays, {"epsilon": EPSILON}, outputs, opset=opset, known=("gamma", "beta"))


@pytest.mark.parametrize("opset", [9, 13, 16])
@pytest.mark.parametrize("op_type", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_norms_that_onnx_did_not_have(draw, op_type, opset):
    batch, steps, size = draw.sizes(2, 9, 3)
    arrays = {"x": draw.reals(batch, steps, size), "scale": draw.reals(size)}
    if op_type == "LayerNormalization":
        arrays["bias"] = draw.among(draw.reals(size), None)
    given = {"epsilon": EPSILON, "axis": draw.among(-1, 2)}
    agreed(op_type, arrays, given, 1, "", opset, ("scale", "bias"))


def test_embeddings(draw):
    batch, steps, size = draw.sizes(2, 7, 3)
    words, places = draw.sizes(5, 12, 2)
    places = max(places, steps)

    def indices(count):
        return draw.rng.integers(0, count, (batch, steps)).astype(np.int32)

    segments = draw.among(True, False)
    lengths = draw.rng.integers(1, steps + 1, batch)
    mask = (np.arange(steps) < lengths[:, None]).astype(np.int32)
    arrays = {
        "ids": indices(words),
        "segment_ids": indices(2) if segments else None,
        "words": draw.reals(words, size),
        "positions": draw.reals(places, size),
        "segments": draw.reals(2, size) if segments else None,
        "gamma": draw.reals(size),
        "beta": draw.reals(size),
        "mask": draw.among(mask, None),
        "position_ids": draw.among(None, indices(places)),
    }
    tables = ("words", "positions", "segments", "gamma", "beta")
    outputs = draw.among(["y", "lengths"], ["y", "lengths", "sum"])
    if arrays["position_ids"] is not None and arrays["mask"] is None:
        arrays["mask"] = mask
    agreed("EmbedLayerNormalization", arrays, {"epsilon": EPSILON}, outputs, known=tables)


def test_quantised_embeddings(draw):
    batch, steps, size, words = draw.sizes(2, 7, 4)
    segments = draw.among(True, False)

    def integers(*shape):
        return draw.rng.integers(0, 256, shape).astype(np.uint8)

    def indices(count):
        return draw.rng.integers(0, count, (batch, steps)).astype(np.int32)

    arrays = {
        "ids": indices(words),
        "segment_ids": indices(2) if segments else None,
        "words": integers(words, size),
        "positions": integers(steps + 2, size),
        "segments": integers(2, size) if segments else None,
        "gamma": integers(size),
        "beta": integers(size),
        "mask": draw.among(None, np.ones((batch, steps), np.int32)),
    }
    tables = ("words", "positions", "segments", "gamma", "beta")
    for name in tables:
        there = arrays[name] is not None
        arrays[f"{name}_scale"] = np.float32(draw.rng.uniform(0.01, 0.1)) if there else None
    for name in tables:
        there = arrays[name] is not None
        arrays[f"{name}_zero"] = np.array(draw.rng.integers(256), np.uint8) if there else None
    known = [name for name in arrays if name not in ("ids", "segment_ids", "mask")]
    arrays = {name: a if a is None else np.asarray(a) for name, a in arrays.items()}
    agreed("QEmbedLayerNormalization", arrays, {"epsilon": EPSILON}, 2, known=known, close=1e-4)


def test_products(draw):
    depth, rows, columns = draw.sizes(1, 9, 3)
    batch = draw.sizes(1, 4, draw.among(0, 1, 2))
    turned_a, turned_b = draw.among(0, 1), draw.among(0, 1)
    a = draw.reals(*batch, *((depth, rows) if turned_a else (rows, depth)))
    b = draw.reals(*batch, *((columns, depth) if turned_b else (depth, columns)))
    given = {"transA": turned_a, "transB": turned_b, "alpha": draw.among(1.0, 0.3)}
    if len(batch) and draw.among(True, False):
        a = np.ascontiguousarray(np.moveaxis(a, -2, 0))
        given["transBatchA"] = 1
    agreed("FusedMatMul", {"a": a, "b": b}, given, known=draw.among(("b",), ()))


ACTIVATIONS = [("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]),
               ("Clip", [-0.3, 0.4]), ("HardSigmoid", [0.3, 0.4]), ("", [])]  # fmt: skip


def test_convolutions(draw):
    channels, size = draw.sizes(1, 5, 2)
    name, parameters = draw.among(*ACTIVATIONS)
    x = draw.reals(2, channels, size + 3, 9)
    out = draw.sizes(1, 5, 1)[0]
    arrays = {"x": x, "w": draw.reals(out, channels, 3, 2), "b": draw.among(draw.reals(out), None)}
    given = {"activation": name} if name else {}
    if parameters:
        given["activation_params"] = parameters
    given["pads"] = [1, 0, 1, 1]
    arrays["z"] = (
        draw.among(None, draw.reals(2, out, size + 3, 9)) if name in ("Relu", "") else None
    )
    agreed("FusedConv", arrays, given, known=("w", "b"), opset=draw.among(9, 17))


def test_gemms(draw):
    depth, rows, columns = draw.sizes(1, 9, 3)
    name, parameters = draw.among(*ACTIVATIONS[:4])
    arrays = {"a": draw.reals(rows, depth), "b": draw.reals(depth, columns)}
    arrays["c"] = draw.among(draw.reals(columns), None)
    given = {"activation": name, "alpha": 0.5}
    if parameters:
        given["activation_alpha"] = parameters[0]
    agreed("FusedGemm", arrays, given, known=draw.among((), ("b", "c")))


def mask_of(draw, batch, steps, seen):
    """Masks of every number of axes, which leave a key to every step."""
    lengths = draw.rng.integers(1, seen + 1, batch)
    rows = (np.arange(seen) < lengths[:, None]).astype(np.int32)
    whole = draw.rng.integers(0, 2, (batch, steps, seen)).astype(np.int32)
    whole[..., 0] = 1
    return draw.among(None, lengths.astype(np.int32), rows, whole)


def test_attention(draw):
    batch, steps, heads, size, given_size, before = draw.sizes(1, 6, 6)
    hidden = heads * size
    causal = draw.among(0, 1)
    past = draw.among(None, draw.reals(2, batch, heads, before, size))
    seen = steps + (0 if past is None else before)
    mask = mask_of(draw, batch, steps, seen)
    arrays = {
        "x": draw.reals(batch, steps, given_size),
        "w": draw.reals(given_size, 3 * hidden),
        "b": draw.reals(3 * hidden),
        "mask": mask,
        "past": past,
        "bias": draw.among(None, draw.reals(batch, heads, steps, seen)) if past is None else None,
    }
    given = {"num_heads": heads, "unidirectional": causal}
    if draw.among(True, False):
        given["scale"] = 0.7
    outputs = ["y"] if past is None else ["y", "present"]
    opset = draw.among(11, 17)
    agreed("Attention", arrays, given, outputs, known=("w", "b"), opset=opset, close=1e-4)


def test_attention_of_several_sizes(draw):
    batch, steps, heads, size, given_size, other = draw.sizes(1, 6, 6)
    sizes = [heads * size, heads * size, heads * other]
    arrays = {
        "x": draw.reals(batch, steps, given_size),
        "w": draw.reals(given_size, sum(sizes)),
        "b": draw.reals(sum(sizes)),
    }
    given = {"num_heads": heads, "qkv_hidden_sizes": sizes}
    agreed("Attention", arrays, given, known=("w", "b"), close=1e-4)


def test_heads(draw):
    batch, steps, heads, size, seen, before = draw.sizes(1, 6, 6)
    hidden = heads * size
    arrays = {"query": draw.reals(batch, steps, hidden)}
    arrays |= {name: draw.reals(batch, seen, hidden) for name in ("key", "value")}
    arrays["bias"] = draw.among(None, draw.reals(3 * hidden))
    past = draw.among(True, False)
    whole = seen + before if past else seen
    arrays["mask"] = mask_of(draw, batch, steps, whole)
    arrays["scores"] = draw.among(None, draw.reals(batch, heads, steps, whole))
    for name in ("past_key", "past_value"):
        arrays[name] = draw.reals(batch, heads, before, size) if past else None
    given = {"num_heads": heads}
    if draw.among(True, False) and seen == steps:
        given["unidirectional"] = 1
    outputs = ["y", "present_key", "present_value"] if past else ["y"]
    opset = draw.among(11, 17)
    agreed("MultiHeadAttention", arrays, given, outputs, known=("bias",), opset=opset, close=1e-4)


def test_quantised_attention(draw):
    batch, steps, heads, size, given_size = draw.sizes(1, 6, 5)
    hidden = heads * size
    steps_of = draw.among(np.uint8, np.int8)

    def integers(dtype, *shape):
        ends = np.iinfo(dtype)
        return np.asarray(draw.rng.integers(ends.min, ends.max, shape, dtype, endpoint=True))

    arrays = {
        "x": integers(np.uint8, batch, steps, given_size),
        "w": integers(steps_of, given_size, 3 * hidden),
        "b": draw.reals(3 * hidden),
        "x_scale": np.array(0.01, np.float32),
        "w_scale": np.array(0.005, np.float32),
        "mask": draw.among(None, np.full(batch, steps, np.int32)),
        "x_zero": np.array(120, np.uint8),
        "w_zero": np.array(draw.among(0, 3), steps_of),
    }
    given = {"num_heads": heads, "unidirectional": draw.among(0, 1)}
    known = ("w", "b", "x_scale", "w_scale", "x_zero", "w_zero")
    agreed("QAttention", arrays, given, known=known, close=1e-4)


@pytest.mark.parametrize("op_type", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_losses(draw, op_type):
    samples, classes, *sizes = draw.sizes(1, 6, draw.among(2, 3, 4))
    target = draw.rng.integers(0, classes, (samples, *sizes))
    given = {"reduction": draw.among("none", "sum", "mean")}
    if draw.among(True, False):
        given["ignore_index"] = draw.among(0, -1)
        target[draw.rng.random(target.shape) < 0.3] = given["ignore_index"]
        target.ravel()[0] = classes - 1 if given["ignore_index"] else 1 % classes
    arrays = {"x": draw.reals(samples, classes, *sizes), "target": target}
    arrays["weight"] = draw.among(None, np.abs(draw.reals(classes)) + 0.1)
    outputs = 2 if op_type.startswith("S") and draw.among(True, False) else 1
    agreed(op_type, arrays, given, outputs, "", draw.among(13, 17))


def test_what_is_wrong_is_said_with_its_place():
    x = np.zeros((1, 2, 4), np.float32)
    wrong = [
        ("MultiHeadAttention", ["x", "x", "x"], {"num_heads": 0}, FormatError, "num_heads is 0"),
        ("MultiHeadAttention", ["x"], {"num_heads": 2}, UnsupportedError, "in one input"),
        ("FusedConv", ["x", "x"], {"activation": "Cosh"}, UnsupportedError, "activation=Cosh"),
    ]
    for op_type, names, given, kind, message in wrong:
        one = node(op_type, names, ["y"], "mine", domain=MICROSOFT, **given)
        model = model_bytes([one], {"x": x}, ["y"], domains=[MICROSOFT])
        with pytest.raises(kind, match=f"node 'mine' .*{op_type}.*{message}"):
            InferenceSession(model)


def test_ranks_of_reduced_masks_are_known():
    """onnxruntime's optimizer reduces a mask to lengths in front of the attention that reads it."""
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    mask = np.ones((2, 5), np.int32)
    weights = {"w": np.ones((8, 24), np.float32), "b": np.ones(24, np.float32)}
    weights["axes"] = np.array([1])
    nodes = [
        node("ReduceSum", ["mask", "axes"], ["lengths"], keepdims=0),
        node("Attention", ["x", "w", "b", "lengths"], ["y"], domain=MICROSOFT, num_heads=2),
    ]
    feed = {"x": x, "mask": mask}
    model = model_bytes(nodes, feed, ["y"], weights, domains=[MICROSOFT])
    assert None not in InferenceSession(model)._plan.native.handlers


@pytest.mark.parametrize("program", ["0", "1"])
def test_more_outputs_than_it_has_are_refused(program, monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    one = node("QuickGelu", ["x"], ["y", "z"], "two", domain=MICROSOFT)
    x = np.ones((2, 3), np.float32)
    model = model_bytes([one], {"x": x}, ["y", "z"], domains=[MICROSOFT])
    with pytest.raises(FormatError, match=r"node 'two'.*2 outputs, the operator 1"):
        InferenceSession(model)
