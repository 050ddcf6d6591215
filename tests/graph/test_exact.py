"""exact= and VLEDGE_WINOGRAD: which convolutions are multiplied by Winograd's products."""

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 64, 20, 20)).astype(np.float32)
W = (RNG.normal(size=(64, 64, 3, 3)) / 24).astype(np.float32)
MODEL = model_bytes([node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"x": X}, ["y"], {"w": W})


def forms(session):
    """How the session's convolutions are computed."""
    return [packed.form for kept in session._plan.native.objects for packed in kept]


def true_result():
    padded = np.pad(X.astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("ncyxij,mcij->nmyx", windows, W.astype(np.float64))


def test_winograd_is_the_rule_and_exact_the_exception():
    usual, exact = vledge.InferenceSession(MODEL), vledge.InferenceSession(MODEL, exact=True)
    assert forms(usual) == ["winograd"]
    assert forms(exact) == ["windows"]
    (fast,), (slow,) = usual.run(None, {"x": X}), exact.run(None, {"x": X})
    assert not np.array_equal(fast, slow)
    for result in (fast, slow):
        np.testing.assert_allclose(result, true_result(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("switch", "form"), [("0", "windows"), ("1", "winograd")])
def test_the_switch_of_the_environment(monkeypatch, switch, form):
    monkeypatch.setenv("VLEDGE_WINOGRAD", switch)
    assert forms(vledge.InferenceSession(MODEL)) == [form]


def test_exact_holds_inside_of_branches():
    from tests.graph.models import helper

    out = helper.make_tensor_value_info("c", 1, None)
    branches = {
        f"{name}_branch": helper.make_graph(
            [node("Conv", ["x", "w"], ["c"], pads=[1] * 4)], name, [], [out]
        )
        for name in ("then", "else")
    }
    model = model_bytes(
        [node("If", ["yes"], ["y"], **branches)],
        {"x": X, "yes": np.array(True)},
        ["y"],
        {"w": W},
    )
    assert set(forms(vledge.InferenceSession(model))) == {"winograd"}
    assert set(forms(vledge.InferenceSession(model, exact=True))) == {"windows"}


def test_exact_is_true_or_false():
    with pytest.raises(ValueError, match="exact must be True or False, got 'no'"):
        vledge.InferenceSession(MODEL, exact="no")
