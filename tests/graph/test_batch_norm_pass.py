"""BatchNormalization in the weights of the convolution before it."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node

F32 = np.float32


def _vectors(count, rng):
    return {
        "scale": rng.normal(size=count).astype(F32),
        "offset": rng.normal(size=count).astype(F32),
        "mean": rng.normal(size=count).astype(F32),
        "variance": (rng.random(count) + 0.1).astype(F32),
    }


def _nodes_that_run(session):
    return [line.op_type for line in session._plan._graph.nodes]


def _by_hand(y, v, epsilon=1e-5):
    axis = (1, -1, *[1] * (y.ndim - 2))
    factor = v["scale"].astype(np.float64) / np.sqrt(v["variance"].astype(np.float64) + epsilon)
    return (y - v["mean"].reshape(axis)) * factor.reshape(axis) + v["offset"].reshape(axis)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("axes", [1, 2])
def test_folded(op, group, has_bias, axes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, *[7, 6][:axes])).astype(F32)
    w = rng.normal(
        size=(6 if op == "Conv" else 4, (4 if op == "Conv" else 6) // group, *[3] * axes)
    )
    constants = {"w": w.astype(F32), **_vectors(6, rng)}
    if has_bias:
        constants["b"] = rng.normal(size=6).astype(F32)
    conv = node(op, ["x", "w", "b"][: 2 + has_bias], ["a"], group=group)
    norm = node(
        "BatchNormalization", ["a", "scale", "offset", "mean", "variance"], ["y"], epsilon=0.01
    )
    session = vledge.InferenceSession(model_bytes([conv, norm], {"x": x}, ["y"], constants, 15))
    assert _nodes_that_run(session) == [op]
    alone = vledge.InferenceSession(
        model_bytes([conv], {"x": x}, ["a"], {k: v for k, v in constants.items() if k in "wb"}, 15)
    )
    expected = _by_hand(alone.run(None, {"x": x})[0].astype(np.float64), constants, 0.01)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=2e-5)


def test_a_relu_behind_it_is_fused_as_well():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 9, 9)).astype(F32)
    constants = {"w": rng.normal(size=(5, 3, 3, 3)).astype(F32), **_vectors(5, rng)}
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("BatchNormalization", ["a", "scale", "offset", "mean", "variance"], ["n"]),
        node("Relu", ["n"], ["y"]),
    ]
    session = vledge.InferenceSession(model_bytes(nodes, {"x": x}, ["y"], constants, 15))
    assert _nodes_that_run(session) == ["ConvRelu"]


@pytest.mark.parametrize(
    "why", ["read twice", "an output", "statistics as inputs", "weights as an input"]
)
def test_not_folded(why):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 9)).astype(F32)
    w, vectors = rng.normal(size=(5, 3, 3)).astype(F32), _vectors(5, rng)
    feed, constants, outputs = {"x": x}, {"w": w, **vectors}, ["y"]
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("BatchNormalization", ["a", "scale", "offset", "mean", "variance"], ["y"]),
    ]
    if why == "read twice":
        nodes.append(node("Exp", ["a"], ["e"]))
        outputs.append("e")
    elif why == "an output":
        outputs.append("a")
    else:
        name = "scale" if why == "statistics as inputs" else "w"
        feed[name] = constants.pop(name)
    session = vledge.InferenceSession(model_bytes(nodes, feed, outputs, constants, 15))
    assert "BatchNormalization" in _nodes_that_run(session)
    alone = vledge.InferenceSession(model_bytes(nodes[:1], {"x": x}, ["a"], {"w": w}, 15))
    expected = _by_hand(alone.run(None, {"x": x})[0].astype(np.float64), vectors)
    np.testing.assert_allclose(session.run(None, feed)[0], expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (1, 1, 1), ()])
def test_a_sum_with_a_vector_of_channels_is_a_bias(op, has_bias, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 7, 6)).astype(F32)
    constants = {"w": rng.normal(size=(6, 4, 3, 3) if op == "Conv" else (4, 6, 3, 3)).astype(F32)}
    constants["shift"] = rng.normal(size=shape).astype(F32)
    if has_bias:
        constants["b"] = rng.normal(size=6).astype(F32)
    conv = node(op, ["x", "w", "b"][: 2 + has_bias], ["a"])
    for order in (["a", "shift"], ["shift", "a"]):
        nodes = [conv, node("Add", order, ["s"]), node("Relu", ["s"], ["y"])]
        session = vledge.InferenceSession(model_bytes(nodes, {"x": x}, ["y"], constants, 15))
        assert "Add" not in _nodes_that_run(session)
        own = {name: constants[name] for name in conv.input if name != "x"}
        alone = vledge.InferenceSession(model_bytes([conv], {"x": x}, ["a"], own, 15))
        expected = np.maximum(alone.run(None, {"x": x})[0] + constants["shift"], 0)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "shape", [(6,), (1, 6), (6, 6, 1), (1, 1, 6, 1), (2, 6, 1, 1), (1, 1, 6, 1, 1)]
)
def test_other_sums_stay(shape):
    """(6,) is along the last axis, which is as long as there are channels."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 8, 8)).astype(F32)
    constants = {"w": rng.normal(size=(6, 4, 3, 3)).astype(F32)}
    constants["shift"] = rng.normal(size=shape).astype(F32)
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "shift"], ["y"])]
    session = vledge.InferenceSession(model_bytes(nodes, {"x": x}, ["y"], constants, 15))
    assert _nodes_that_run(session) == ["Conv", "Add"]
    own = {"w": constants["w"]}
    alone = vledge.InferenceSession(model_bytes(nodes[:1], {"x": x}, ["a"], own, 15))
    expected = alone.run(None, {"x": x})[0] + constants["shift"]
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=2e-6)
