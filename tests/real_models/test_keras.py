"""Keras models of published packages: activations by version and by config, and CuDNN's layout."""

import json
import warnings

import numpy as np
import pytest

import vledge
from tests.nn.test_keras_arguments import HARD_GATE, TANH, defined
from tests.peers import peer
from tests.registry import registry_file
from vledge import nn

peer("h5py")


def raw(weights, group):
    return {name: weights[f"{group}/{name}:0"] for name in ("kernel", "recurrent_kernel", "bias")}


def frames(features, steps=30, seed=0):
    return np.random.default_rng(seed).normal(size=(2, steps, features)).astype("f4")


@pytest.mark.parametrize("size", [50, 100, 150, 200, 300])
def test_chars2vec(size):
    """Weights alone of Keras 2.2.0, whose LSTM had hard_sigmoid gates."""
    member = f"chars2vec/trained_models/eng_{size}/weights.h5"
    path = registry_file("chars2vec==0.1.7", member)
    weights, hard, x = vledge.load_weights(path), (HARD_GATE, TANH, TANH), frames(59)
    names = sorted({name.partition("/")[0] for name in weights if "recurrent_kernel" in name})
    assert len(names) == 2
    with pytest.warns(UserWarning, match=r"'hard_sigmoid' \(the default of Keras 2\.2\.0\)"):
        layer = nn.LSTM.from_keras(path, names)
    want = x
    for name in names:
        want = defined("lstm", raw(weights, f"{name}/{name}"), want, hard)
    np.testing.assert_allclose(layer(x)[0], want, rtol=0, atol=5e-6)
    own = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}
    others = nn.LSTM.from_keras(path, names, **own)
    assert np.abs(others(x)[0] - want).max() > 0.02


def test_crema():
    """A whole model of Keras 2.2.2 that says hard_sigmoid in its config."""
    path = registry_file("crema==0.2.0", "crema/models/chord/model.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = nn.GRU.from_keras(path, ["bidirectional_1", "bidirectional_2"])
    weights, hard = vledge.load_weights(path), (HARD_GATE, TANH)
    x = want = frames(72)
    for n in (1, 2):
        group = f"bidirectional_{n}/bidirectional_{n}"
        forward, backward = (
            raw(weights, f"{group}/{way}_gru_{n}") for way in ("forward", "backward")
        )
        ways = (
            defined("gru_reset_before", forward, want, hard),
            defined("gru_reset_before", backward, want[:, ::-1], hard)[:, ::-1],
        )
        want = np.concatenate(ways, axis=2)
    np.testing.assert_allclose(layer(x)[0], want, rtol=0, atol=2e-5)


def test_textgenrnn():
    """Weights of CuDNNLSTM: read rightly, the model knows what English looks like."""
    folder = "textgenrnn"
    path = registry_file("textgenrnn==1.5.0", f"{folder}/textgenrnn_weights.hdf5")
    vocabulary = json.loads(
        registry_file("textgenrnn==1.5.0", f"{folder}/textgenrnn_vocab.json").read_text()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (
            nn.LSTM.from_keras(path, name, go_backwards=False) for name in ("rnn_1", "rnn_2")
        )
    w = vledge.load_weights(path)
    text = "What do you think of the new movie that came out last week?"
    codes = [vocabulary["<s>"], *(vocabulary[letter] for letter in text)]
    windows = np.zeros((len(text), 40), int)
    for place, window in enumerate(windows):
        seen = codes[max(0, place - 39) : place + 1]
        window[-len(seen) :] = seen
    x = w["embedding/embedding/embeddings:0"][windows]
    below, _ = first(x)
    above, _ = second(below)
    joined = np.concatenate([x, below, above], axis=2)
    attention = np.exp(joined @ w["attention/attention/attention_W:0"])
    context = (joined * attention / attention.sum(axis=1, keepdims=True)).sum(axis=1)
    logits = context @ w["output/output/kernel:0"] + w["output/output/bias:0"]
    surprise = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(text)), codes[1:]]
    assert surprise.mean() < 1  # nats a letter; 1.4 by hard_sigmoid gates, 47 by the other layout
