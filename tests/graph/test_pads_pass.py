"""A Pad of zeros before a Conv is the Conv's own; any other stays."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from vledge.errors import FormatError

X = np.random.default_rng(0).standard_normal((2, 3, 9, 11)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((5, 3, 3, 2)).astype(np.float32)
CAUSAL = [0, 0, 2, 1, 0, 0, 0, 1]


def run(nodes, opset=17, x=X, weights=None, outputs=("y",)):
    """The session's operators; its outputs are those of the Pad and the Conv by NumPy."""
    session = vledge.InferenceSession(
        model_bytes(nodes, {"x": x}, list(outputs), {"w": W, **(weights or {})}, opset)
    )
    return session.run(None, {"x": x}), [one.op_type for one in session._plan._graph.nodes]


def padded(x, pads, value=0.0):
    axes = x.ndim
    return np.pad(x, list(zip(pads[:axes], pads[axes:], strict=True)), constant_values=value)


def convolved(x, **attributes):
    (y,), _ = run([node("Conv", ["x", "w"], ["y"], **attributes)], x=x)
    return y


@pytest.mark.parametrize("strides", [[1, 1], [2, 1]])
@pytest.mark.parametrize("own", [[0, 0, 0, 0], [1, 0, 2, 3]])
@pytest.mark.parametrize("opset", [10, 11, 18])
def test_joined(opset, own, strides):
    weights = {"pads": np.array(CAUSAL)}
    pad = node("Pad", ["x", "pads"], ["p"])
    if opset == 10:
        pad, weights = node("Pad", ["x"], ["p"], pads=CAUSAL), {}
    conv = node("Conv", ["p", "w"], ["y"], pads=own, strides=strides)
    (y,), kinds = run([pad, conv], opset, weights=weights)
    assert kinds == ["Conv"]
    np.testing.assert_allclose(
        y, convolved(padded(X, CAUSAL), pads=own, strides=strides), rtol=1e-6, atol=1e-6
    )


def test_axes_are_named_and_pads_follow_pads():
    weights = {
        "one": np.array([4, 1]),
        "rows": np.array([-2]),
        "two": np.array([0, 0, 0, 1, 0, 0, 1, 0]),
        "zero": np.float32(0),
    }
    nodes = [
        node("Pad", ["x", "one", "", "rows"], ["p"]),
        node("Pad", ["p", "two", "zero"], ["q"]),
        node("Conv", ["q", "w"], ["y"], auto_pad="VALID"),
    ]
    (y,), kinds = run(nodes, 18, weights=weights)
    assert kinds == ["Conv"]
    np.testing.assert_allclose(
        y, convolved(padded(X, [0, 0, 4, 1, 0, 0, 2, 0])), rtol=1e-6, atol=1e-6
    )


STAYS = {
    "reflected": (node("Pad", ["x", "pads"], ["p"], mode="reflect"), CAUSAL),
    "ones": (node("Pad", ["x", "pads", "one"], ["p"]), CAUSAL),
    "cropped": (node("Pad", ["x", "pads"], ["p"]), [0, 0, 2, -1, 0, 0, 0, 1]),
    "channels": (node("Pad", ["x", "pads"], ["p"]), [0, 0, 2, 1, 1, 0, 0, 1]),
}


@pytest.mark.parametrize("kind", STAYS)
def test_others_stay(kind):
    pad, pads = STAYS[kind]
    weights = {"pads": np.array(pads), "one": np.float32(1)}
    conv = node("Conv", ["p", "w"], ["y"])
    (y, p), kinds = run([pad, conv], weights=weights, outputs=("y", "p"))
    assert kinds == ["Pad", "Conv"]
    np.testing.assert_allclose(y, convolved(p), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("own", [[1], [1, 1], [1] * 5, [-1, 0, 0, 0]], ids=str)
def test_a_broken_conv_is_refused_as_without_a_pad(own):
    conv = node("Conv", ["p", "w"], ["y"], pads=own)
    with pytest.raises(ValueError, match=r"Conv node that makes 'y'.*pads"):
        run([node("Pad", ["x", "pads"], ["p"]), conv], weights={"pads": np.array(CAUSAL)})


@pytest.mark.parametrize("own", [[0, 0, 0, 0], [1, 0, 2, 3]])
def test_pads_that_are_too_large_together_are_refused(own):
    pads = np.array([0, 0, 2**63 - 1, 0, 0, 0, 2**63 - 1, 0])
    conv = node("Conv", ["p", "w"], ["y"], pads=own)
    with pytest.raises(FormatError, match=r"Conv node that makes 'y': pads \(.*\) too large"):
        run([node("Pad", ["x", "pads"], ["p"]), conv], weights={"pads": pads})


def test_a_pad_that_others_read_stays_for_them():
    weights = {"pads": np.array(CAUSAL)}
    nodes = [
        node("Pad", ["x", "pads"], ["p"]),
        node("Conv", ["p", "w"], ["y"]),
        node("Neg", ["p"], ["n"]),
    ]
    (y, n), kinds = run(nodes, weights=weights, outputs=("y", "n"))
    assert kinds == ["Pad", "Conv", "Neg"]
    np.testing.assert_array_equal(n, -padded(X, CAUSAL))
    np.testing.assert_allclose(y, convolved(-n), rtol=1e-6, atol=1e-6)


def test_same_pads_are_of_the_size_that_was_padded():
    weights = {"pads": np.array(CAUSAL)}
    conv = node("Conv", ["p", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])
    (y,), kinds = run([node("Pad", ["x", "pads"], ["p"]), conv], weights=weights)
    assert kinds == ["Pad", "Conv"]
    same = convolved(padded(X, CAUSAL), auto_pad="SAME_UPPER", strides=[2, 2])
    np.testing.assert_allclose(y, same, rtol=1e-6, atol=1e-6)
