"""Products of values that were quantised and made real again run as products of integers."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node

F32 = np.float32


def nodes():
    return [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["r"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["v"], axis=1),
        node("MatMul", ["r", "v"], ["y"]),
    ]


def constants(rng, columns=True, signed=(False, True), depth=50):
    kinds = [np.int8 if each else np.uint8 for each in signed]
    count = 12 if columns else 1
    zeros = rng.integers(-20, 20, count) if signed[1] else rng.integers(0, 255, count)
    return {
        "xs": np.array(0.02, F32),
        "xz": np.array(-7 if signed[0] else 120, kinds[0]),
        "w": rng.integers(-128, 128, (depth, 12)).astype(np.int8).view(kinds[1]),
        "ws": rng.uniform(0.01, 0.1, count).astype(F32).reshape([-1] if columns else []),
        "wz": zeros.astype(kinds[1]).reshape([-1] if columns else []),
    }


def made(parts, x, order=None, outputs=("y",)):
    given = order or nodes()
    names = {name for one in given for name in one.input}
    own = {name: array for name, array in parts.items() if name in names}
    return vledge.InferenceSession(model_bytes(given, {"x": x}, list(outputs), own, 13))


def kinds(session):
    return [one.op_type for one in session._plan._graph.nodes]


def exact(parts, x):
    q = np.round(x.astype(np.float64) / parts["xs"]) + parts["xz"]
    info = np.iinfo(parts["xz"].dtype)
    r = (np.clip(q, info.min, info.max) - parts["xz"]) * np.float64(parts["xs"])
    return r @ ((parts["w"].astype(np.float64) - parts["wz"]) * parts["ws"])


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("signed", [(False, True), (False, False), (True, True)])
def test_joined(columns, signed, instruction_set):
    rng = np.random.default_rng(0)
    parts = constants(rng, columns, signed)
    x = rng.standard_normal((2, 7, 50)).astype(F32)
    session = made(parts, x)
    assert kinds(session) == ["QuantizeLinear", "MatMulInteger", "Cast", "Mul"]
    rows = session.profile({"x": x}, 1).rows
    assert [row.handler for row in rows] == ["quantize_linear", "matmul_integer"]
    assert not any(row.python_calls for row in rows)
    expected = exact(parts, x)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(session._plan.run(x)[0], session.run(None, {"x": x})[0])


def test_what_others_read_is_made_all_the_same():
    rng = np.random.default_rng(1)
    parts = constants(rng)
    x = rng.standard_normal((3, 50)).astype(F32)
    session = made(parts, x, outputs=["y", "r", "v"])
    y, r, v = session.run(None, {"x": x})
    assert "MatMulInteger" in kinds(session)
    np.testing.assert_allclose(y, exact(parts, x), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(r @ v, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "why", ["per row", "other axis", "a scale as input", "16 bits", "too deep"]
)
def test_what_is_no_such_product_stays(why):
    rng = np.random.default_rng(2)
    parts, order = constants(rng), nodes()
    x = rng.standard_normal((5, 50)).astype(F32)
    feed = {"x": x}
    if why == "per row":
        order[2] = node("DequantizeLinear", ["w", "rows", "rowz"], ["v"], axis=0)
        parts["rows"] = rng.uniform(0.01, 0.1, 50).astype(F32)
        parts["rowz"] = np.zeros(50, np.int8)
    elif why == "other axis":
        parts["w"] = parts["w"][:12]
        order[2] = node("DequantizeLinear", ["w", "ws", "wz"], ["v"], axis=0)
        feed["x"] = x[:, :12]
    elif why == "a scale as input":
        feed["ws"] = parts.pop("ws")
    elif why == "16 bits":
        parts["w"], parts["wz"] = parts["w"].astype(np.int16), parts["wz"].astype(np.int16)
    else:
        parts["w"] = np.ones((40_000, 12), np.int8)
        feed["x"] = np.ones((1, 40_000), F32)
    names = {name for one in order for name in one.input}
    own = {name: array for name, array in parts.items() if name in names}
    opset = 21 if why == "16 bits" else 13
    session = vledge.InferenceSession(model_bytes(order, feed, ["y"], own, opset))
    assert "MatMulInteger" not in kinds(session)
    assert np.isfinite(session.run(None, feed)[0]).all()
