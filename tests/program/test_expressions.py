"""Element-wise operators and runs of them: the native program against the operators in Python."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.program.test_chain import broadcast
from vledge.graph.native import expressions

F32 = np.float32


def both_ways(model, feed, monkeypatch):
    """Native results, Python's, and how often an instruction was Python's in the native run."""
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    expected = vledge.InferenceSession(model).run(None, feed)
    monkeypatch.setenv("VLEDGE_PROGRAM", "1")
    session = vledge.InferenceSession(model)
    program = session._plan.native.program
    count = len(session._plan.native.nodes)
    nanoseconds, declined = np.zeros(count, np.int64), np.zeros(count, np.int32)
    got = program.run(list(feed.values()), (nanoseconds, declined))
    return got, expected, int(declined.sum()), count


def same(got, expected, rtol=4e-7, atol=1e-7):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if a.dtype == np.float64:
            np.testing.assert_allclose(
                a, b, rtol=max(rtol * 1e-7, 1e-14), atol=max(atol * 1e-8, 4e-15)
            )
        elif a.dtype == F32:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(a, b)


def n(*values):
    return np.array(values, F32)


# operator: opset, cases of (attributes, inputs); of those "x" is positive numbers, "y" any, "u"
# between -1 and 1, "m" a mask, an array a constant
CASES = {
    **{
        op: (20, [({}, "y")])
        for op in (
            "Abs",
            "Ceil",
            "Cos",
            "Erf",
            "Exp",
            "Floor",
            "HardSwish",
            "Neg",
            "Reciprocal",
            "Relu",
            "Round",
            "Sigmoid",
            "Sign",
            "Sin",
            "Softplus",
            "Tanh",
            "IsNaN",
            "Softsign",
            "Mish",
            "Tan",
            "Atan",
            "Sinh",
            "Cosh",
            "Asinh",
        )
    },
    **{op: (20, [({}, "u")]) for op in ("Asin", "Acos", "Atanh")},
    "Acosh": (20, [({}, "x")]),
    "IsInf": (20, [({}, "y"), ({"detect_negative": 0}, "y"), ({"detect_positive": 0}, "y")]),
    "Log": (20, [({}, "x")]),
    "Sqrt": (20, [({}, "x")]),
    "LeakyRelu": (
        20,
        [({}, "y"), ({"alpha": 0.2}, "y"), ({"alpha": 1.5}, "y"), ({"alpha": -0.5}, "y")],
    ),
    "PRelu": (20, [({}, "yy"), ({}, ["y", n(0.25)])]),
    "Elu": (20, [({}, "y"), ({"alpha": 0.3}, "y")]),
    "Celu": (20, [({}, "y"), ({"alpha": 0.3}, "y")]),
    "Selu": (20, [({}, "y"), ({"alpha": 0.3, "gamma": 2.0}, "y")]),
    "HardSigmoid": (20, [({}, "y"), ({"alpha": 0.3, "beta": 0.1}, "y")]),
    "Swish": (24, [({}, "y"), ({"alpha": 0.3}, "y")]),
    "Gelu": (20, [({}, "y"), ({"approximate": "tanh"}, "y")]),
    "ThresholdedRelu": (20, [({}, "y"), ({"alpha": -0.3}, "y")]),
    "Shrink": (20, [({}, "y"), ({"bias": 0.2, "lambd": 0.7}, "y")]),
    "Clip": (
        20,
        [
            ({}, "y"),
            ({}, ["y", F32(-0.5)]),
            ({}, ["y", F32(-0.5), F32(0.5)]),
            ({}, ["y", None, F32(0.5)]),
            ({}, ["y", F32("nan"), F32(0.5)]),
        ],
    ),
    **{
        op: (20, [({}, "yy"), ({}, ["y", n(2.5)]), ({}, ["y", n(1, 2, 3)])])
        for op in (
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Less",
            "LessOrEqual",
            "Greater",
            "GreaterOrEqual",
            "Equal",
        )
    },
    **{op: (20, [({}, "mm")]) for op in ("And", "Or", "Xor")},
    "Not": (20, [({}, "m")]),
    "Where": (20, [({}, "myy"), ({}, ["m", "y", n(0)])]),
    **{
        op: (20, [({}, "y"), ({}, "yy"), ({}, "yyyy"), ({}, ["y", F32("nan")])])
        for op in ("Max", "Min")
    },
    **{op: (20, [({}, "y"), ({}, "yy"), ({}, "yyy")]) for op in ("Sum", "Mean")},
    "Pow": (
        20,
        [({}, ["x", F32(p)]) for p in (2, 3, 1, -1, 0, 0.5, -0.5, 1.7)]
        + [({}, ["x", np.int64(3)]), ({}, "xy"), ({}, ["x", n(1, 2, 0.3)])],
    ),
    "Cast": (
        20,
        [({"to": 1}, "m"), ({"to": 9}, "y"), ({"to": 1}, "y"), ({"to": 7}, "y"), ({"to": 10}, "y")],
    ),
    "BatchNormalization": (
        15,
        [({}, ["y4"] + [n(1, 2, 3)] * 4), ({"epsilon": 0.1}, ["y4", *[n(3, 2, 1)] * 4])],
    ),
}


def test_every_expression_has_a_case():
    # test_integer.py and test_quantised_operators.py
    between_bytes = {"DequantizeLinear", "MultiplyAdd", "QuantizeLinear"}
    assert set(CASES) | between_bytes == set(expressions._registry)


@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize("op", CASES)
def test_one_operator(instruction_set, op, dtype, monkeypatch):
    rng = np.random.default_rng(len(op))
    opset, cases = CASES[op]
    for attributes, inputs in cases:
        inputs = list(inputs)
        for shape in [(), (1,), (3,), (2, 3), (1, 1, 3), (700, 3), (4, 5, 6, 3)]:
            feed, constants, names = {}, {}, []
            if any(isinstance(kind, str) and kind == "y4" for kind in inputs):
                shape = {0: (2, 3), 1: (2, 3, 9), 2: (2, 3, 4, 5)}[len(shape) % 3]
            for k, kind in enumerate(inputs):
                name = f"v{k}"
                names.append("" if kind is None else name)
                if isinstance(kind, str):
                    own = shape if k == 0 or kind == "y4" else broadcast(list(shape), rng)
                    a = np.asarray(rng.normal(size=own) * 2, dtype)
                    a = np.tanh(a) if kind == "u" else a
                    a = np.abs(a) + dtype(0.01) if kind == "x" else a > 0 if kind == "m" else a
                    feed[name] = np.asarray(a)
                elif kind is not None:
                    array = np.asarray(kind)
                    constants[name] = array.astype(dtype) if array.dtype == F32 else array
            model = model_bytes(
                [node(op, names, ["out"], **attributes)], feed, ["out"], constants, opset
            )
            got, expected, declined, _ = both_ways(model, feed, monkeypatch)
            # what NumPy's functions round otherwise than ours
            same(
                got,
                expected,
                rtol=2e-6,
                atol=1e-6 if op in ("Gelu", "Mish", "Sin", "Cos", "Tan", "Acos") else 2e-7,
            )
            assert declined == 0, (op, attributes, shape)


# ---- runs of operators

RUNS = {
    "swish": [node("Sigmoid", ["x"], ["a"]), node("Mul", ["x", "a"], ["out"])],
    "hard swish": [
        node("Add", ["x", "three"], ["a"]),
        node("Clip", ["a", "zero", "six"], ["b"]),
        node("Div", ["b", "six"], ["c"]),
        node("Mul", ["x", "c"], ["out"]),
    ],
    "gelu": [
        node("Div", ["x", "root"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "one"], ["c"]),
        node("Mul", ["x", "c"], ["d"]),
        node("Mul", ["d", "half"], ["out"]),
    ],
    "masked": [
        node("Greater", ["x", "zero"], ["m"]),
        node("Not", ["m"], ["o"]),
        node("Where", ["o", "y", "x"], ["a"]),
        node("Cast", ["m"], ["f"], to=1),
        node("Add", ["a", "f"], ["out"]),
    ],
    "affine": [
        node("Mul", ["x", "v"], ["a"]),
        node("Add", ["a", "w"], ["b"]),
        node("Relu", ["b"], ["out"]),
    ],
    "residual": [
        node("Add", ["x", "y"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("Sub", ["b", "y"], ["out"]),
    ],
    "product read twice": [
        node("Mul", ["x", "y"], ["a"]),
        node("Add", ["a", "v"], ["b"]),
        node("Sub", ["b", "a"], ["out"]),
    ],
    "a mask at the end": [node("Abs", ["x"], ["a"]), node("Less", ["a", "y"], ["out"])],
    "an operand twice": [node("Mul", ["x", "x"], ["a"]), node("Add", ["a", "a"], ["out"])],
    "more axes by a constant": [node("Mul", ["x", "deep"], ["a"]), node("Neg", ["a"], ["out"])],
}
CONSTANTS = {
    "three": F32(3),
    "zero": F32(0),
    "six": F32(6),
    "one": n(1),
    "half": F32(0.5),
    "root": F32(2**0.5),
    "v": n(1, -2, 3),
    "w": n(0.5, 0, 1),
    "deep": np.full((1, 1, 1, 1, 1), 2, F32),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_one_instruction(instruction_set, name, monkeypatch):
    rng = np.random.default_rng(0)
    for shape in [(3,), (40, 3), (2, 7, 300, 3)]:
        used = {i for line in RUNS[name] for i in line.input}
        feed = {"x": rng.normal(size=shape).astype(F32)}
        if "y" in used:
            feed["y"] = rng.normal(size=shape[-1:]).astype(F32)
        constants = {key: np.asarray(a) for key, a in CONSTANTS.items() if key in used}
        model = model_bytes(RUNS[name], feed, ["out"], constants, 17)
        got, expected, declined, count = both_ways(model, feed, monkeypatch)
        same(got, expected, rtol=2e-6, atol=1e-6)
        assert (declined, count) == (0, 1)


def test_a_constant_of_more_axes_than_handlers_have(monkeypatch):
    nodes = [node("Mul", ["x", "deep"], ["out"])]
    feed = {"x": np.ones((2, 3), F32)}
    constants = {"deep": np.full((1,) * 12, 2, F32)}
    model = model_bytes(nodes, feed, ["out"], constants, 17)
    got, expected, declined, _ = both_ways(model, feed, monkeypatch)
    same(got, expected)
    assert declined == 1


def test_what_others_read_stays_a_value_of_its_own(monkeypatch):
    nodes = [
        node("Exp", ["x"], ["a"]),
        node("Neg", ["a"], ["b"]),
        node("Abs", ["b"], ["c"]),
        node("ReduceSum", ["a"], ["s"], keepdims=0),
        node("Mul", ["c", "x"], ["out"]),
    ]
    feed = {"x": np.random.default_rng(0).normal(size=(5, 7)).astype(F32)}
    model = model_bytes(nodes, feed, ["out", "s", "b"], {}, 17)
    got, expected, declined, count = both_ways(model, feed, monkeypatch)
    same(got, expected, rtol=2e-6)
    assert (declined, count) == (0, 4)  # Exp | Neg | Abs Mul | ReduceSum


def test_few_are_not_computed_for_many(monkeypatch):
    """The root of a variance is taken once a row, not once an element."""
    nodes = [
        node("ReduceMean", ["x"], ["v"], axes=[-1]),
        node("Sqrt", ["v"], ["d"]),
        node("Div", ["x", "d"], ["a"]),
        node("Neg", ["a"], ["out"]),
    ]
    feed = {"x": np.random.default_rng(0).random((5, 7)).astype(F32)}
    model = model_bytes(nodes, feed, ["out"], {}, 17)
    got, expected, declined, count = both_ways(model, feed, monkeypatch)
    same(got, expected, rtol=2e-6)
    assert (declined, count) == (0, 3)


def test_long_and_wide_runs_are_cut(monkeypatch):
    rng = np.random.default_rng(0)
    feed = {f"x{k}": rng.normal(size=(3, 4)).astype(F32) for k in range(20)}
    nodes, last = [], "x0"
    for k in range(60):
        nodes.append(node(("Add", "Sub", "Mul")[k % 3], [last, f"x{k % 20}"], [f"v{k}"]))
        last = f"v{k}"
    constants = {f"c{k}": np.asarray(F32(k / 7)) for k in range(40)}
    for k in range(40):
        nodes.append(node("Max", [last, f"c{k}"], [f"w{k}"]))
        last = f"w{k}"
    model = model_bytes(nodes, feed, [last], constants, 17)
    got, expected, declined, count = both_ways(model, feed, monkeypatch)
    same(got, expected)
    assert declined == 0
    assert 5 < count < 20


def _layer_norm(form):
    square = (
        node("Mul", ["c", "c"], ["q"]) if form == "a product" else node("Pow", ["c2", "two"], ["q"])
    )
    if form != "differences twice" and form != "a product":
        square = node("Pow", ["c", "two"], ["q"])
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[-1]),
        node("Sub", ["x", "m"], ["c"]),
        node("Sub", ["x", "m"], ["c2"]),
        square,
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["e", "v"], ["w"]),
        node("Sqrt", ["w"], ["d"]),
        node("Div", ["c", "d"], ["n"]),
        node("Mul", ["s", "n"], ["o"]),
        node("Add", ["o", "t"], ["y"]),
        node("Tanh", ["y"], ["out"]),
    ]
    return [line for line in nodes if line.output[0] != "c2" or form == "differences twice"]


@pytest.mark.parametrize("form", ["a power", "a product", "differences twice"])
def test_a_layer_norm_written_out_is_one_instruction(form, monkeypatch):
    rng = np.random.default_rng(0)
    constants = {
        "e": n(1e-3).reshape(()),
        "two": n(2).reshape(()),
        "s": rng.normal(size=20).astype(F32),
        "t": rng.normal(size=20).astype(F32),
    }
    nodes = _layer_norm(form)
    feed = {"x": rng.normal(size=(3, 4, 20)).astype(F32)}
    got, expected, declined, count = both_ways(
        model_bytes(nodes, feed, ["out"], constants), feed, monkeypatch
    )
    same(got, expected, rtol=1e-5, atol=2e-6)
    assert (declined, count) == (0, 2)
    # somebody else reads what is inside: without its first step it is one without a mean
    model = model_bytes(nodes, feed, ["out", "c"], constants)
    got, expected, declined, count = both_ways(model, feed, monkeypatch)
    same(got, expected, rtol=1e-5, atol=2e-6)
    assert declined == 0
    assert count > 3
    # a scale that makes rows of single numbers: the handler declines, the nodes run one by one
    feed = {"x": rng.normal(size=(3, 4, 1)).astype(F32)}
    got, expected, declined, count = both_ways(
        model_bytes(nodes, feed, ["out"], constants), feed, monkeypatch
    )
    same(got, expected, rtol=1e-5, atol=2e-6)
    assert (declined, count) == (1, 2)


RMS_ROOTS = {
    "a quotient": [node("Div", ["x", "d"], ["n"])],
    "a reciprocal": [node("Reciprocal", ["d"], ["r"]), node("Mul", ["x", "r"], ["n"])],
    "one over it": [node("Div", ["one", "d"], ["r"]), node("Mul", ["r", "x"], ["n"])],
}


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("form", RMS_ROOTS)
def test_an_rms_norm_written_out_is_one_instruction(form, square, monkeypatch):
    rng = np.random.default_rng(0)
    constants = {"e": n(1e-3).reshape(()), "two": n(2).reshape(()), "one": n(1).reshape(())}
    constants["s"] = rng.normal(size=20).astype(F32)
    nodes = [
        node(square, ["x", "two" if square == "Pow" else "x"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "e"], ["w"]),
        node("Sqrt", ["w"], ["d"]),
        *RMS_ROOTS[form],
        node("Mul", ["s", "n"], ["o"]),
        node("Tanh", ["o"], ["out"]),
    ]
    feed = {"x": rng.normal(size=(3, 4, 20)).astype(F32)}
    model = model_bytes(nodes, feed, ["out"], constants)
    got, expected, declined, count = both_ways(model, feed, monkeypatch)
    same(got, expected, rtol=1e-5, atol=2e-6)
    assert (declined, count) == (0, 2)
    for read in ("q", "v", "d", "n"):  # somebody else reads what is inside
        model = model_bytes(nodes, feed, ["out", read], constants)
        got, expected, declined, count = both_ways(model, feed, monkeypatch)
        same(got, expected, rtol=1e-5, atol=2e-6)
        assert declined == 0
        assert count > 2


@pytest.mark.parametrize("axes", [0, 1, 2, 4])
@pytest.mark.parametrize("name", ["e", "two", "one"])
@pytest.mark.parametrize("form", RMS_ROOTS)
def test_numbers_with_axes_give_a_norm_theirs(form, name, axes, monkeypatch):
    rng = np.random.default_rng(0)
    constants = {"e": n(1e-3), "two": n(2), "one": n(1)}
    constants = {
        key: array.reshape((1,) * (axes * (key == name))) for key, array in constants.items()
    }
    nodes = [
        node("Pow", ["x", "two"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "e"], ["w"]),
        node("Sqrt", ["w"], ["d"]),
        *RMS_ROOTS[form],
        node("Mul", ["s", "n"], ["out"]),
    ]
    feed = {"x": rng.normal(size=20).astype(F32)}
    constants["s"] = rng.normal(size=20).astype(F32)
    model = model_bytes(nodes, feed, ["out"], constants)
    got, expected, _, _ = both_ways(model, feed, monkeypatch)
    same(got, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize("seed", range(60))
def test_random_expressions(instruction_set, seed, dtype, monkeypatch):
    """Trees and knots of operators over operands of any shapes that broadcast."""
    rng = np.random.default_rng(seed)
    shape = [int(rng.choice([1, 2, 5, 130])) for _ in range(rng.integers(1, 5))]
    feed = {f"x{k}": rng.normal(size=broadcast(shape, rng)).astype(dtype) for k in range(4)}
    constants = {"c": np.asarray(dtype(0.7)), "d": rng.normal(size=(shape[-1],)).astype(dtype)}
    numbers, masks, nodes = [*feed, *constants], [], []
    for k in range(int(rng.integers(2, 25))):
        out = f"v{k}"
        a, b = (numbers[i] for i in rng.integers(0, len(numbers), 2))
        which = rng.integers(6)
        if which == 0:
            nodes.append(node("Less", [a, b], [out]))
            masks.append(out)
            continue
        if which == 1 and masks:
            nodes.append(node("Where", [masks[rng.integers(len(masks))], a, b], [out]))
        elif which < 4:
            nodes.append(node(str(rng.choice(["Add", "Sub", "Mul", "Max", "Min"])), [a, b], [out]))
        else:
            nodes.append(
                node(str(rng.choice(["Tanh", "Abs", "Relu", "Sigmoid", "Neg"])), [a], [out])
            )
        numbers.append(out)
    read = {i for line in nodes for i in line.input}
    outputs = [line.output[0] for line in nodes if line.output[0] not in read]
    feed = {key: a for key, a in feed.items() if key in read}
    if not feed:
        return
    model = model_bytes(nodes, feed, outputs, constants, 17)
    got, expected, declined, _ = both_ways(model, feed, monkeypatch)
    same(got, expected, rtol=1e-5, atol=1e-5)
    assert declined == 0
