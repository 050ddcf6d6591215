"""Layers as ONNX models: the same numbers in onnxruntime as in `vledge.nn`, in every form."""

import numpy as np
import pytest

from tests.peers import peer
from tests.reference import GATES
from vledge import nn
from vledge.integrations.onnx_layers import layer_model

onnxruntime = peer("onnxruntime")
RNG = np.random.default_rng(3)
STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6


def weights_of(kind, layers, directions, bias):
    rows = GATES[{"RNN": "rnn_tanh"}.get(kind, kind.lower())] * HIDDEN
    shapes = {}
    for layer in range(layers):
        for suffix in ("", "_reverse")[:directions]:
            wide = directions * HIDDEN if layer else INPUTS
            shapes[f"weight_ih_l{layer}{suffix}"] = (rows, wide)
            shapes[f"weight_hh_l{layer}{suffix}"] = (rows, HIDDEN)
            if bias:
                shapes |= {f"bias_{part}_l{layer}{suffix}": (rows,) for part in ("ih", "hh")}
    return {
        name: RNG.uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in shapes.items()
    }


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_same_numbers_as_the_layer(kind, layers, directions, bias):
    weights = weights_of(kind, layers, directions, bias)
    x = RNG.standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
    state = RNG.standard_normal((layers * directions, BATCH, HIDDEN)).astype(np.float32)
    layer = getattr(nn, kind).from_weights(weights)
    letters = "hc" if kind == "LSTM" else "h"
    expected, final = layer(x, (state, state) if kind == "LSTM" else state)
    for steps, batch in [(STEPS, BATCH), ("T", "B")]:
        model = layer_model(kind, weights, steps, batch, states=True)
        feed = {"x": x} | {
            f"{letter}_0_l{k}": state[k * directions : (k + 1) * directions]
            for k in range(layers)
            for letter in letters
        }
        session = onnxruntime.InferenceSession(model)
        names = [info.name for info in session.get_outputs()]
        results = dict(zip(names, session.run(None, feed), strict=True))
        np.testing.assert_allclose(results["y"], expected, rtol=0, atol=1e-5)
        for letter, whole in zip(letters, final if kind == "LSTM" else [final], strict=True):
            made = np.concatenate([results[f"{letter}_n_l{k}"] for k in range(layers)])
            np.testing.assert_allclose(made, whole, rtol=0, atol=1e-5)


def test_lengths_an_unjoined_output_and_outputs_that_are_not_wanted():
    weights = weights_of("GRU", 2, 2, True)
    x = RNG.standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
    lengths = np.array([5, 2, 3], np.int32)
    expected, _ = nn.GRU.from_weights(weights)(x, lengths=lengths)
    model = layer_model("GRU", weights, STEPS, BATCH, lengths=True, joined=False, outputs=["y"])
    session = onnxruntime.InferenceSession(model)
    assert [info.name for info in session.get_inputs()] == ["x", "sequence_lens"]
    (y,) = session.run(None, {"x": x, "sequence_lens": lengths})
    joined = y.transpose(0, 2, 1, 3).reshape(STEPS, BATCH, -1)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(joined[:length, row], expected[:length, row], rtol=0, atol=1e-5)
    (only,) = onnxruntime.InferenceSession(
        layer_model("GRU", weights, STEPS, BATCH, outputs=["h_n_l1"])
    ).get_outputs()
    assert only.name == "h_n_l1"


def test_an_rnn_of_relus():
    weights = weights_of("RNN", 1, 2, True)
    x = RNG.standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
    expected, _ = nn.RNN.from_weights(weights, nonlinearity="relu")(x)
    model = layer_model("RNN", weights, STEPS, BATCH, activations=["Relu"], outputs=["y"])
    (y,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
