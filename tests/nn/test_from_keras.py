"""Recurrent layers out of Keras' files against Keras' own outputs: golden ones, and live."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.golden.keras.make import FILES, HERE, LAYERS
from tests.peers import peer
from vledge import nn
from vledge.errors import FormatError, UnsupportedError

peer("h5py")

CLASSES = {"LSTM": nn.LSTM, "GRU": nn.GRU, "SimpleRNN": nn.RNN}


def options(file, name):
    """What a file of weights alone does not tell."""
    arguments = LAYERS[name][1]
    if file != "alone.weights.h5":
        return {}
    said = {"activation": arguments.get("activation", "tanh"), "go_backwards": False}
    if LAYERS[name][0] != "SimpleRNN":
        said["recurrent_activation"] = "sigmoid"
    if LAYERS[name][2]:
        said["merge_mode"] = "concat"
    if not arguments.get("use_bias", True):
        said["reset_after"] = arguments["reset_after"]
    return said


def check_file(folder, file, tmp_path):
    expected = np.load(folder / "expected.npz")
    if file == "model.weights.h5":  # what lies beside it would tell what it does not
        folder = Path(shutil.copy(folder / file, tmp_path / "alone.weights.h5")).parent
        file = "alone.weights.h5"
    x = expected["x"]
    for name, (kind, arguments, bidirectional) in LAYERS.items():
        where = {"model.keras": name, "model.h5": name}.get(file) or group(name)
        layer = CLASSES[kind].from_keras(folder / file, where, **options(file, name))
        assert layer.batch_first
        assert layer.bidirectional == bidirectional
        assert layer.hidden_size == arguments["units"]
        want = expected[f"output.{name}"]
        np.testing.assert_allclose(layer(x)[0], want, rtol=0, atol=2e-6, err_msg=name)
    names = ["first", "second"] if file != "alone.weights.h5" else NESTED
    layer = nn.LSTM.from_keras(folder / file, names, **options(file, "forward"))
    assert layer.num_layers == 2
    np.testing.assert_allclose(layer(x)[0], expected["output.nested"], rtol=0, atol=2e-6)


NESTED = ["layers/sequential/layers/lstm", "layers/sequential/layers/lstm_1"]


def group(name):
    """Keras 3 counts the layers of a class where it has no names."""
    kind, _, bidirectional = LAYERS[name]
    key = (
        {"SimpleRNN": "simple_rnn"}.get(kind, kind.lower())
        if not bidirectional
        else "bidirectional"
    )
    alike = [
        n for n, (k, _, b) in LAYERS.items() if b == bidirectional and (bidirectional or k == kind)
    ]
    place = alike.index(name)
    return f"layers/{key}" + (f"_{place}" if place else "")


@pytest.mark.parametrize("file", FILES)
def test_golden(file, tmp_path):
    check_file(HERE, file, tmp_path)


def test_live(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    peer("torch")
    peer("keras")
    subprocess.run(
        [sys.executable, "-m", "tests.golden.keras.make", str(tmp_path), "11"],
        check=True,
    )
    (tmp_path / "alone").mkdir()
    for file in FILES:
        check_file(tmp_path, file, tmp_path / "alone")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_gru_that_resets_before(bidirectional, dtype):
    """``reset_after=False`` is the ONNX operator's default form, to the bit of its kernel."""
    layer = nn.GRU(3, 7, bidirectional=bidirectional, reset_after=False, dtype=dtype)
    assert "reset_after=False" in repr(layer)
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes(layer).items()}
    layer.load_state_dict(state)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    x = rng.standard_normal((5, 2, 3)).astype(dtype)
    w = {n: a.astype(np.float64) for n, a in state.items()}
    h, outputs = np.zeros((2, 7)), []
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    for x_t in x:
        i_r, i_z, i_n = np.split(x_t @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, axis=1)
        w_r, w_z, w_n = np.split(w["weight_hh_l0"], 3)
        b_r, b_z, b_n = np.split(w["bias_hh_l0"], 3)
        r, z = sigmoid(i_r + h @ w_r.T + b_r), sigmoid(i_z + h @ w_z.T + b_z)
        n = np.tanh(i_n + (r * h) @ w_n.T + b_n)
        h = (1 - z) * n + z * h
        outputs.append(h)
    got = layer(x)[0][..., :7]
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, np.stack(outputs), rtol=0, atol=tolerance)


def shapes(layer):
    return {name: shape for name, (shape, *_) in layer._declared.items()}


@pytest.mark.parametrize(
    ("cls", "arguments", "error", "message"),
    [
        (nn.LSTM, {}, ValueError, "4 layers of kind LSTM: name one"),
        (nn.LSTM, {"layer": "lost"}, ValueError, "no recurrent layer named 'lost'"),
        (nn.LSTM, {"layer": "after"}, ValueError, "'after' is of kind GRU"),
        (
            nn.GRU,
            {"layer": "after", "reset_after": False},
            ValueError,
            "has reset_after=True, not False",
        ),
        (nn.RNN, {"nonlinearity": "tanh"}, ValueError, "has activation='relu', not 'tanh'"),
        (nn.IndRNN, {}, ValueError, "0 layers of kind IndRNN"),
        (nn.LSTM, {"layer": ["first", "forward"]}, ValueError, "'forward' takes 3 features, lay"),
        (nn.LSTM, {"layer": ["second", "both"]}, ValueError, "'both' takes 3 features, layer 's"),
        (nn.LSTM, {"layer": []}, ValueError, "no layer is named"),
        (nn.RNN, {"layer": "plain", "reset_after": True}, TypeError, "has no reset_after"),
        (nn.LSTM, {"layer": "both", "merge_mode": "sum"}, ValueError, "has merge_mode='concat'"),
        (nn.LSTM, {"layer": "both", "go_backwards": True}, ValueError, "has go_backwards=False"),
    ],
)
def test_refusals(cls, arguments, error, message):
    with pytest.raises(error, match=message):
        cls.from_keras(HERE / "model.keras", **arguments)


def test_weights_alone_must_be_helped(tmp_path):
    shutil.copy(HERE / "model.weights.h5", tmp_path)
    with pytest.raises(ValueError, match="does not tell activation: say activation="):
        nn.RNN.from_keras(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match="does not tell reset_after: say reset_after="):
        nn.GRU.from_keras(tmp_path / "model.weights.h5", "bare", activation="tanh")
    with pytest.raises(FormatError, match=r"expected.npz: a file of Keras was expected"):
        nn.LSTM.from_keras(HERE / "expected.npz")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("forward", {"activation": "softmax"}, "activation='softmax' is not run"),
        (
            "forward",
            {"recurrent_activation": {"class_name": "function", "config": "mine"}},
            "recurrent_activation='mine' is not run",
        ),
        ("forward", {"go_backwards": True}, "go_backwards=True"),
        ("both", {"merge_mode": "sum"}, "merge_mode='sum'"),
    ],
)
def test_what_the_description_asks_and_is_not_run(name, change, message, tmp_path):
    path = tmp_path / "changed.keras"
    with zipfile.ZipFile(HERE / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            content = old.read(member)
            if member == "config.json":
                config = json.loads(content)
                (entry,) = [e for e in config["config"]["layers"] if e["config"]["name"] == name]
                assert change.keys() <= entry["config"].keys()
                entry["config"].update(change)
                content = json.dumps(config)
            new.writestr(member, content)
    with pytest.raises(UnsupportedError, match=message):
        nn.LSTM.from_keras(path, name)


def test_a_file_of_nothing_is_refused(tmp_path):
    (tmp_path / "no.h5").write_bytes(Path(__file__).read_bytes())
    with pytest.raises(FormatError, match=r"no\.h5"):
        nn.LSTM.from_keras(tmp_path / "no.h5")
