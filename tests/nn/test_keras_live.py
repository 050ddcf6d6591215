"""Every wrapping and activation of Keras, in each of its files, against Keras' own outputs."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

import vledge
from tests.nn.keras_zoo import ACTIVATIONS, UNEQUAL, WRAPPED
from tests.peers import peer
from vledge import nn
from vledge.cli import main
from vledge.errors import UnsupportedError
from vledge.formats.keras.recurrent import recurrent_layers

peer("h5py")

CLASSES = {"LSTM": nn.LSTM, "GRU": nn.GRU}
# name → class, its argument, its group in a file of weights
PLACES = {
    "lstm": (nn.LSTM, "activation", "layers/lstm"),
    "gru": (nn.GRU, "activation", "layers/gru"),
    "rnn": (nn.RNN, "activation", "layers/simple_rnn"),
    "lstm_gates": (nn.LSTM, "recurrent_activation", "layers/lstm_1"),
    "gru_gates": (nn.GRU, "recurrent_activation", "layers/gru_1"),
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERAS_BACKEND", "torch")
        peer("torch")
        peer("keras")
        subprocess.run([sys.executable, "-m", "tests.nn.keras_zoo", str(folder)], check=True)
    return folder, np.load(folder / "expected.npz")


def run(layer, x):
    """x [..., T, 3], more axes than a batch being TimeDistributed's."""
    output = layer(x.reshape(-1, *x.shape[-2:]))[0]
    return output.reshape(*x.shape[:-1], output.shape[-1])


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("file", ["wrapped.keras", "wrapped.h5", "config="])
def test_wrapped(zoo, file, name):
    folder, expected = zoo
    kind, asked = WRAPPED[name]
    options = {}
    if file == "config=":
        file, options = "alone/wrapped.weights.h5", {"config": folder / "wrapped.keras"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = CLASSES[kind].from_keras(folder / file, asked or name, **options)
    x = expected["many" if name.startswith("td") else "x"]
    np.testing.assert_allclose(run(layer, x), expected[f"wrapped.{name}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", UNEQUAL)
@pytest.mark.parametrize("file", ["unequal.keras", "unequal.h5", "config="])
def test_unequal(zoo, file, name):
    """Layers, cells and directions that no one layer of torch's form can hold."""
    folder, expected = zoo
    kind, asked, made = UNEQUAL[name]
    options = {}
    if file == "config=":
        file, options = "alone/unequal.weights.h5", {"config": folder / "unequal.keras"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = getattr(nn, kind).from_keras(folder / file, asked or name, **options)
    assert isinstance(layer, getattr(nn, made) if kind != "RecurrentStack" else nn.RecurrentStack)
    x = expected["many" if name == "timed" else "x"]
    np.testing.assert_allclose(run(layer, x), expected[f"unequal.{name}"], rtol=0, atol=2e-6)
    if not layer.backwards:
        rows = x.reshape(-1, *x.shape[-2:])
        stream = layer.stream(batch=len(rows))
        got = np.stack([stream.step(rows[:, t]) for t in range(rows.shape[1])], 1)
        np.testing.assert_allclose(got, layer(rows)[0], rtol=0, atol=1e-6)


def test_unequal_layers_on_masks_and_their_states(zoo):
    folder, expected = zoo
    x, mask = expected["x"], expected["mask"]
    for file in ("masked.keras", "masked.h5"):
        grow = nn.LSTM.from_keras(folder / file, "masked_grow")
        output, states = grow(x, mask=mask)
        made = {"masked_grow": output}
        for number, (h, c) in enumerate(states):
            made |= {f"h_{number}": h[0], f"c_{number}": c[0]}
        sides = nn.GRU.from_keras(folder / file, "masked_sides")
        made["masked_sides"] = sides(x, mask=mask)[0]
        for name, got in made.items():
            np.testing.assert_allclose(got, expected[f"masked.{name}"], rtol=0, atol=2e-6)


def test_inspection_says_what_unequal_layers_become(zoo, capsys):
    folder, _ = zoo
    path = folder / "unequal.keras"
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    for line in (
        "grow (layers/rnn): LSTM 3 -> 4 -> 6 -> 2, 1.9 kB, nn.LSTM.from_keras makes it a Recurr",
        "activation='tanh' and 'relu' and 'tanh', recurrent_activation='sigmoid' and 'sigmoid' an",
        "mixed (layers/rnn_2): RNN of LSTM, GRU, RNN 3 -> 4 -> 4 -> 3, activation='tanh' and 'tan",
        "kB, nn.RecurrentStack.from_keras makes it a RecurrentStack",
        "sides (layers/bidirectional_2): LSTM 3 -> 4 forward, 6 backward, bidirectional, 1.5 kB, ",
    ):
        assert line in text
    for file, options in (
        ("unequal.keras", {}),
        ("unequal.h5", {}),
        ("alone/unequal.weights.h5", {"config": path}),
    ):
        for one in recurrent_layers(folder / file):
            if one.refused:  # without config=, a stack of cells of three kinds
                assert "say config=" in one.refused
                continue
            loader = getattr(nn, one.kind or "RecurrentStack")
            layer = loader.from_keras(folder / file, one.path, **options)
            assert layer.input_size == one.input_size
            assert layer.bidirectional == one.bidirectional
            if one.arguments is not None:  # what an undescribed layer becomes may depend on them
                assert type(layer).__name__ == one.loads_as


def test_commands_run_unequal_layers(zoo, tmp_path, capsys):
    folder, expected = zoo
    path, x = str(folder / "unequal.keras"), expected["x"][0]
    np.save(tmp_path / "x.npy", x)
    out = str(tmp_path / "y.npz")
    command = ["many", path, str(tmp_path / "x.npy"), "--output", out, "--last", "--layer"]
    assert main([*command, "sides"]) == 0  # the backward direction's last step is step 0
    want = expected["unequal.sides"][0]
    want = np.concatenate([want[-1, :4], want[0, 4:]])
    np.testing.assert_allclose(np.load(out)["x"], want, rtol=0, atol=2e-6)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    assert main(["stream", path, "--prefix", "mixed", "--input", str(tmp_path / "x.csv")]) == 0
    got = np.loadtxt(capsys.readouterr().out.splitlines()[-len(x) :], delimiter=",")
    np.testing.assert_allclose(got, expected["unequal.mixed"][0], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file", ["{}.keras", "{}.h5", "alone/{}.weights.h5"])
def test_activated(zoo, file, place, name):
    folder, expected = zoo
    cls, argument, group = PLACES[place]
    options = {}
    if "alone" in file:
        own = {"activation": "tanh", "recurrent_activation": "sigmoid"} if cls != nn.RNN else {}
        options = {**own, "go_backwards": False, argument: name}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = cls.from_keras(folder / file.format(name), group if options else place, **options)
    want = expected[f"{name}.{place}"]
    size = max(1, np.abs(want).max())
    output, _ = layer(expected["x"][:, :4])
    np.testing.assert_allclose(output, want, rtol=0, atol=2e-6 * size)


def test_the_two_hard_sigmoids(zoo):
    folder, expected = zoo
    file = folder / "alone/hard_sigmoid.weights.h5"
    asked = {"layer": "layers/lstm_1", "activation": "tanh", "go_backwards": False}
    for gate, near in (
        ("hard_sigmoid", True),
        (("hard_sigmoid", 1 / 6, 0.5), True),
        (("hard_sigmoid", 0.2, 0.5), False),
    ):
        layer = nn.LSTM.from_keras(file, **asked, recurrent_activation=gate)
        off = np.abs(layer(expected["x"][:, :4])[0] - expected["hard_sigmoid.lstm_gates"]).max()
        assert (off < 2e-6) == near


def test_nobody_else_stands_in_the_way(zoo):
    """A ConvLSTM2D is refused where it is asked for, and nowhere else."""
    folder, _ = zoo
    for file in ("wrapped.keras", "wrapped.h5", "alone/wrapped.weights.h5"):
        with pytest.raises(UnsupportedError, match=r"no LSTM, GRU or SimpleRNN.*\(3, 3, 1, 16\)"):
            nn.LSTM.from_keras(folder / file, "images_lstm")


def test_inspection_sees_what_there_is(zoo, capsys):
    folder, _ = zoo
    assert main(["inspect", str(folder / "wrapped.keras")]) == 0
    text = capsys.readouterr().out
    assert "plain (layers/lstm): LSTM 3 -> 4, 512 B" in text
    assert "stack (layers/rnn): LSTM 3 -> 4 -> 4, 1.1 kB" in text
    assert "inbi (layers/time_distributed_1/layer): GRU 3 -> 3, bidirectional, 576 B" in text
    assert "images_lstm (layers/conv_lstm2d): ConvLSTM2D 1 -> 4, 2.9 kB, from_keras refuses" in text
    assert main(["inspect", "--json", str(folder / "hard_sigmoid.h5")]) == 0
    layers = {one["name"]: one for one in json.loads(capsys.readouterr().out)["recurrent_layers"]}
    assert layers.keys() == PLACES.keys()
    assert layers["gru_gates"]["arguments"]["recurrent_activation"] == ["hard_sigmoid", 1 / 6, 0.5]
    assert not layers["gru_gates"]["arguments"]["reset_after"]
    assert main(["inspect", str(folder / "alone/relu.weights.h5")]) == 0
    assert "lstm (layers/lstm): LSTM 3 -> 3, 336 B, its arguments are not told" in (
        capsys.readouterr().out
    )
    # each name that is listed is one that from_keras takes, or says why not
    for summary in recurrent_layers(folder / "wrapped.keras"):
        for name in (summary.name, summary.path):
            if summary.refused:
                continue
            layer = getattr(nn, summary.kind).from_keras(folder / "wrapped.keras", name)
            assert (layer.input_size, layer.hidden_size, layer.num_layers) == (
                summary.input_size,
                summary.hidden_size[0],
                len(summary.hidden_size),
            )


EXPORT = """
import sys, keras
model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, return_sequences=True)])
model.predict(keras.ops.zeros((2, 5, 3)), verbose=0)
model.export(sys.argv[1], format="onnx", verbose=False)
"""


def test_keras_exports_of_torchs_backend_have_one_step(tmp_path, monkeypatch):
    """The guide says so, and has to be changed when it is true no longer."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for name in ("torch", "keras", "onnxscript"):
        peer(name)
    path = tmp_path / "model.onnx"
    subprocess.run([sys.executable, "-c", EXPORT, str(path)], check=True, capture_output=True)
    x = np.zeros((2, 5, 3), np.float32)
    ours, theirs = (maker.InferenceSession(path) for maker in (vledge, peer("onnxruntime")))
    feed = {ours.get_inputs()[0].name: x}
    assert ours.run(None, feed)[0].shape == theirs.run(None, feed)[0].shape == (2, 1, 4)
