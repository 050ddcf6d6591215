"""Cells that somebody wrote by hand in torch, by Linear layers and ``chunk``: they are layers."""

import io
import warnings

import numpy as np
import pytest

import vledge
from tests.peers import peer

torch = peer("torch")
from tests.graph.models import model_bytes, node  # noqa: E402
from tests.graph.test_passes import operators  # noqa: E402

FEATURES, HIDDEN = 5, 6
GATES = {"lstm": 4, "gru": 3, "gated": 2, "rnn": 1}
LAYERS = {"lstm": "LSTM", "gru": "GRU", "gated": "GRU", "rnn": "RNN"}


class HandWritten(torch.nn.Module):
    """One layer over time; "gated" is the minimal gated unit, whose gate is a GRU's both gates."""

    def __init__(self, kind: str):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.hidden = kind, HIDDEN
        self.x = torch.nn.Linear(FEATURES, GATES[kind] * HIDDEN)
        self.h = torch.nn.Linear(HIDDEN, GATES[kind] * HIDDEN)

    def forward(self, x):
        h = torch.zeros(x.shape[1], self.hidden)
        c = h
        outputs = []
        for step in range(x.shape[0]):
            a, b = self.x(x[step]), self.h(h)
            if self.kind == "lstm":
                i, f, g, o = (a + b).chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            elif self.kind == "gru":
                r, z, n = a.chunk(3, 1)
                r_h, z_h, n_h = b.chunk(3, 1)
                r, z = torch.sigmoid(r + r_h), torch.sigmoid(z + z_h)
                h = (1 - z) * torch.tanh(n + r * n_h) + z * h
            elif self.kind == "gated":
                f, n = a.chunk(2, 1)
                f_h, n_h = b.chunk(2, 1)
                f = torch.sigmoid(f + f_h)
                h = (1 - f) * torch.tanh(n + f * n_h) + f * h
            else:
                h = torch.tanh(a + b)
            outputs.append(h)
        return torch.stack(outputs), h


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("kind", sorted(GATES))
def test_they_are_layers(kind, scripted):
    """Whatever the batch is; a script's length, too."""
    network = HandWritten(kind).eval()
    axes = {1: "batch", 0: "time"} if scripted else {1: "batch"}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch.jit.script(network) if scripted else network,
            (torch.zeros(4, 2, FEATURES),),
            stream,
            input_names=["x"],
            output_names=["y", "h_n"],
            dynamic_axes={"x": axes},
            dynamo=False,
        )
    model = stream.getvalue()
    left = operators(model)
    assert LAYERS[kind] in left
    assert "Loop" not in left
    assert "Gemm" not in left
    x = torch.randn(9 if scripted else 4, 3, FEATURES)
    got = vledge.InferenceSession(model).run(None, {"x": x.numpy()})
    for ours, theirs in zip(got, network(x), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, 1])
def test_the_width_of_a_product_is_known(axis):
    weight = np.ones((FEATURES, 8), np.float32)
    model = model_bytes(
        [
            node("Gemm", ["x", "w"], ["product"]),
            node("Relu", ["product"], ["y"]),
            node("Shape", ["y"], ["shape"]),
            node("Gather", ["shape", "axis"], ["width"], axis=0),
        ],
        {"x": np.zeros((2, FEATURES), np.float32)},
        ["y", "width"],
        {"w": weight, "axis": np.array(axis)},
    )
    assert "Shape" not in operators(model)
    y, width = vledge.InferenceSession(model).run(None, {"x": np.ones((3, FEATURES), np.float32)})
    assert y.shape == (3, 8)
    assert width == 8
    assert width.dtype == np.int64


def test_what_a_run_alone_can_tell_is_left_to_it():
    """The batch, and a width that a value without one may have made wider."""
    weight = np.ones((FEATURES, 1), np.float32)
    model = model_bytes(
        [
            node("Gemm", ["x", "w"], ["product"]),
            node("Shape", ["product"], ["shape"]),
            node("Gather", ["shape", "zero"], ["batch"], axis=0),
            node("Add", ["product", "other"], ["wider"]),
            node("Shape", ["wider"], ["wider_shape"]),
            node("Gather", ["wider_shape", "last"], ["width"], axis=0),
        ],
        dict.fromkeys(["x", "other"], np.zeros((2, 2), np.float32)),
        ["batch", "width"],
        {"w": weight, "zero": np.array(0), "last": np.array(-1)},
    )
    for rows, columns in ((3, 7), (2, 1)):
        feed = {
            "x": np.ones((rows, FEATURES), np.float32),
            "other": np.ones((rows, columns), np.float32),
        }
        batch, width = vledge.InferenceSession(model).run(None, feed)
        assert (batch, width) == (rows, columns)


def test_a_sum_with_a_negative_is_a_difference():
    model = model_bytes(
        [
            node("Neg", ["x"], ["negative"]),
            node("Add", ["negative", "one"], ["left"]),
            node("Add", ["one", "negative"], ["right"]),
            node("Add", ["negative", "negative"], ["both"]),
        ],
        {"x": np.zeros(4, np.float32)},
        ["left", "right", "both"],
        {"one": np.ones(4, np.float32)},
    )
    x = np.array([0.0, -0.0, np.inf, np.nan], np.float32)
    left, right, both = vledge.InferenceSession(model).run(None, {"x": x})
    np.testing.assert_array_equal(left, 1 - x)
    np.testing.assert_array_equal(right, 1 - x)
    np.testing.assert_array_equal(both, -x - x)
    assert np.array_equal(np.signbit(both[:3]), np.signbit((-x - x)[:3]))
