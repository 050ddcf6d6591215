"""The commands that take a recurrent layer, on Keras' files."""

import numpy as np
import pytest

from tests.golden.keras.make import HERE
from tests.peers import peer
from vledge import nn
from vledge.cli import main

peer("h5py")

MODEL = str(HERE / "model.keras")


def test_inspect(capsys):
    assert main(["inspect", MODEL]) == 0
    text = capsys.readouterr().out
    for line in (
        "forward (layers/lstm): LSTM 3 -> 4, 512 B",
        "both (layers/bidirectional): LSTM 3 -> 2, bidirectional, 384 B",
        "bare (layers/gru_1): GRU 3 -> 3, no bias, reset_after=False, 216 B",
        "plain (layers/simple_rnn): RNN 3 -> 4, activation='relu', 128 B",
        "first (layers/sequential/layers/lstm): LSTM 3 -> 2, 192 B",
    ):
        assert line in text


def test_many(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "y.npz"
    command = ["many", MODEL, str(tmp_path / "x.npy"), "--output", str(out), "--layer", "after"]
    assert main(command) == 0
    want = nn.GRU.from_keras(MODEL, "after")(x[None])[0][0]
    (got,) = np.load(out).values()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_plan(capsys, tmp_path):
    (tmp_path / "lengths.txt").write_text("3 4 9")
    command = ["plan", str(tmp_path / "lengths.txt"), "--model", MODEL]
    assert main([*command, "--layer", "both"]) == 0
    assert "packed" in capsys.readouterr().out
    assert main([*command, "--layer", "nobody"]) != 0
    assert "'both'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [None, "nobody"])
def test_which_layer_is_meant(capsys, tmp_path, name):
    np.save(tmp_path / "x.npy", np.zeros((6, 3), "f4"))
    layer = [] if name is None else ["--layer", name]
    assert main(["many", MODEL, str(tmp_path / "x.npy"), *layer]) != 0
    error = capsys.readouterr().err
    told = "several recurrent layers, say which: --layer " if name is None else "no recurrent layer"
    assert told in error
    assert "'forward'" in error
