"""A Gelu written out is one node, and anything like it that is none stays as it is."""

import math

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node

F32 = np.float32
ROOT = math.sqrt(2)
TANH = {"three": 3.0, "cube": 0.044715, "slope": math.sqrt(2 / math.pi)}

DIVIDED = [node("Div", ["x", "root"], ["d"]), node("Erf", ["d"], ["e"])]
SCALED = [node("Mul", ["inverse", "x"], ["d"]), node("Erf", ["d"], ["e"])]
ORDERS = {
    "torch": [
        *DIVIDED,
        node("Add", ["e", "one"], ["a"]),
        node("Mul", ["x", "a"], ["m"]),
        node("Mul", ["m", "half"], ["y"]),
    ],
    "half first": [
        node("Mul", ["half", "x"], ["h"]),
        *SCALED,
        node("Add", ["one", "e"], ["a"]),
        node("Mul", ["a", "h"], ["y"]),
    ],
    "half of the sum": [
        *SCALED,
        node("Add", ["e", "one"], ["a"]),
        node("Mul", ["a", "half"], ["m"]),
        node("Mul", ["x", "m"], ["y"]),
    ],
}

CUBES = {
    "powers": [node("Pow", ["x", "three"], ["c"]), node("Mul", ["c", "cube"], ["b"])],
    "products": [
        node("Mul", ["x", "x"], ["s"]),
        node("Mul", ["x", "s"], ["c"]),
        node("Mul", ["cube", "c"], ["b"]),
    ],
}
BY_TANH = {
    **{
        name: [
            *cube,
            node("Add", ["x", "b"], ["i"]),
            node("Mul", ["i", "slope"], ["j"]),
            node("Tanh", ["j"], ["e"]),
            node("Add", ["e", "one"], ["a"]),
            node("Mul", ["x", "half"], ["h"]),
            node("Mul", ["h", "a"], ["y"]),
        ]
        for name, cube in CUBES.items()
    },
    "factored": [
        node("Mul", ["x", "cube"], ["c"]),
        node("Mul", ["c", "x"], ["s"]),
        node("Add", ["one", "s"], ["b"]),
        node("Mul", ["x", "slope"], ["i"]),
        node("Mul", ["i", "b"], ["j"]),
        node("Tanh", ["j"], ["e"]),
        node("Add", ["e", "one"], ["a"]),
        node("Mul", ["x", "a"], ["m"]),
        node("Mul", ["half", "m"], ["y"]),
    ],
}


def made(nodes, x, outputs=("y",), **constants):
    given = {"root": ROOT, "inverse": 1 / ROOT, "one": 1.0, "half": 0.5, **TANH, **constants}
    names = {name for one in nodes for name in one.input}
    arrays = {n: np.asarray(v, F32) for n, v in given.items() if n in names}
    return vledge.InferenceSession(model_bytes(nodes, {"x": x}, list(outputs), arrays, 13))


def kinds(session):
    return [one.op_type for one in session._plan._graph.nodes]


@pytest.fixture
def x():
    return (3 * np.random.default_rng(0).standard_normal((2, 5, 40))).astype(F32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axes", [0, 1])
def test_joined(order, axes, x):
    ones = {"one": np.ones([1] * axes), "half": np.full([1] * axes, 0.5)}
    session = made(ORDERS[order], x, **ones)
    assert kinds(session) == ["Gelu"]
    rows = session.profile({"x": x}, 1).rows
    assert [(row.handler, row.python_calls) for row in rows] == [("chain", 0)]
    wide = x.astype(np.float64)
    exact = wide / 2 * (1 + np.vectorize(math.erf)(wide / ROOT))
    np.testing.assert_allclose(session.run(None, {"x": x})[0], exact, rtol=2e-6, atol=1e-7)
    assert session._plan.run(x)[0].dtype == F32


@pytest.mark.parametrize("order", BY_TANH)
def test_joined_by_tanh(order, x):
    session = made(BY_TANH[order], x)
    assert kinds(session) == ["Gelu"]
    rows = session.profile({"x": x}, 1).rows
    assert [(row.handler, row.python_calls) for row in rows] == [("chain", 0)]
    wide = x.astype(np.float64)
    exact = wide / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    np.testing.assert_allclose(session.run(None, {"x": x})[0], exact, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("order", BY_TANH)
@pytest.mark.parametrize("change", ["three", "cube", "slope", "one", "half"])
def test_other_numbers_by_tanh_are_no_gelu(order, change, x):
    if any(change in one.input for one in BY_TANH[order]):
        assert "Tanh" in kinds(made(BY_TANH[order], x, **{change: 1.25}))


@pytest.mark.parametrize("order", BY_TANH)
def test_what_others_read_by_tanh_stays(order, x):
    for one in BY_TANH[order][:-1]:
        assert "Tanh" in kinds(made(BY_TANH[order], x, ["y", one.output[0]]))


def test_a_deep_sum_is_no_work(x):
    """Each value twice in the next: its polynomial is asked for once."""
    nodes = [node("Add", ["x", "x"], ["v0"])]
    nodes += [node("Add", [f"v{k}", f"v{k}"], [f"v{k + 1}"]) for k in range(200)]
    nodes += [
        node("Tanh", ["v200"], ["e"]),
        node("Add", ["e", "one"], ["a"]),
        node("Mul", ["x", "a"], ["m"]),
        node("Mul", ["half", "m"], ["y"]),
    ]
    assert "Tanh" in kinds(made(nodes, x))


@pytest.mark.parametrize(
    ("order", "change"),
    [(order, change) for order in ORDERS for change in ("root", "inverse", "one", "half")],
)
def test_other_numbers_are_no_gelu(order, change, x):
    if not any(change in one.input for one in ORDERS[order]):
        return
    session = made(ORDERS[order], x, **{change: 1.25})
    assert "Erf" in kinds(session)


@pytest.mark.parametrize("read", ["d", "e", "a", "m"])
def test_what_others_read_stays(read, x):
    session = made(ORDERS["torch"], x, ["y", read])
    assert "Erf" in kinds(session)
    y, other = session.run(None, {"x": x})
    assert np.array_equal(y, made(ORDERS["torch"], x, ["y", read]).run(None, {"x": x})[0])
    assert other.shape == x.shape


@pytest.mark.parametrize("order", ORDERS)
def test_two_inputs_are_no_gelu(order, x):
    """erf of one value times another."""
    nodes = [node("Exp", ["x"], ["other"])]
    for one in ORDERS[order]:
        inputs = list(one.input)
        if one.op_type == "Mul" and "inverse" not in inputs:
            inputs = ["other" if name == "x" else name for name in inputs]
        nodes.append(node(one.op_type, inputs, list(one.output)))
    session = made(nodes, x)
    assert "Erf" in kinds(session)
    wide = x.astype(np.float64)
    exact = np.exp(wide) / 2 * (1 + np.vectorize(math.erf)(wide / ROOT))
    np.testing.assert_allclose(session.run(None, {"x": x})[0], exact, rtol=1e-5, atol=1e-6)


def test_a_number_of_one_axis_gives_a_value_that_has_none_one():
    """Joined, the result would have the axes of x."""
    x = np.array(0.5, F32)
    session = made(ORDERS["torch"], x, root=[ROOT], one=[1.0], half=[0.5])
    assert session.run(None, {"x": x})[0].shape == (1,)
