"""Each command on each kind of file: it works, or says what to do instead."""
# ruff: noqa: E501

import json
import shutil

import numpy as np
import pytest

import vledge
from tests.peers import peer
from tests.streaming.test_layers import frames, loaded
from vledge import nn
from vledge.cli import main

onnx = peer("onnx")
h5py = peer("h5py")

T, INPUT, HIDDEN = 7, 3, 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same LSTM as weights of several formats, as a graph, as vledge's own file, as Keras'."""
    from tests.streaming.test_sessions import built
    from vledge.shipped import japanese_vowels

    folder = tmp_path_factory.mktemp("files")
    lstm = loaded(nn.LSTM(INPUT, HIDDEN))
    state = lstm.state_dict()
    vledge.save_weights(folder / "weights.safetensors", {f"rnn.{n}": a for n, a in state.items()})
    np.savez(folder / "weights.npz", **state)

    def onnxs(array, axis):  # i, f, g, o to ONNX's i, o, f, c
        i, f, g, o = np.split(array, 4, axis)
        return np.concatenate([i, o, f, g], axis)

    arrays = {
        "w": onnxs(state["weight_ih_l0"], 0)[None],
        "r": onnxs(state["weight_hh_l0"], 0)[None],
        "b": np.concatenate([onnxs(state[f"bias_{k}_l0"], 0) for k in ("ih", "hh")])[None],
    }
    node = ("LSTM", ["x", "w", "r", "b"], ["Y"], {"hidden_size": HIDDEN})
    initializers = [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    model = built([node], initializers, {"x": ["T", "B", INPUT]}, {"Y": ["T", 1, "B", HIDDEN]})
    (folder / "graph.onnx").write_bytes(model)
    assert main(["convert", str(folder / "graph.onnx"), str(folder / "own.safetensors")]) == 0
    _keras(folder / "layers.weights.h5", state)
    shutil.copy(japanese_vowels.folder() / "model.pt", folder / "both_ways.pt")
    return folder, lstm


def _keras(path, state):
    """As Keras 3 writes one LSTM's weights: kernels transposed, one bias, gates i, f, c, o."""
    with h5py.File(path, "w") as file:
        variables = file.create_group("layers/lstm/cell/vars")
        variables["0"] = state["weight_ih_l0"].T
        variables["1"] = state["weight_hh_l0"].T
        variables["2"] = state["bias_ih_l0"] + state["bias_hh_l0"]


LAYERS = [
    "weights.safetensors",
    "weights.npz",
    "graph.onnx",
    "own.safetensors",
    "layers.weights.h5",
]


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_run(files, capsys, tmp_path, name):
    folder, lstm = files
    x = frames((T, 1, INPUT))
    np.save(tmp_path / "x.npy", x.swapaxes(0, 1) if "h5" in name else x)
    output = tmp_path / "y.npy"
    files_given = ["--input", tmp_path / "x.npy", "--output", output]
    assert run(capsys, "run", folder / name, *files_given)[0] == 0
    got, expected = np.load(output), lstm(x)[0]
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=0, atol=1e-6)
    assert run(capsys, "run", folder / name, "--random")[0] == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_stream(files, capsys, tmp_path, name):
    folder, lstm = files
    x = frames((T, INPUT))
    (tmp_path / "x.csv").write_text("\n".join(",".join(map(repr, row.tolist())) for row in x))
    status, out, err = run(capsys, "stream", folder / name, "--input", tmp_path / "x.csv",
                           "--output", tmp_path / "y.csv")  # fmt: skip
    assert (status, out, err) == (0, "", "")
    got = np.loadtxt(tmp_path / "y.csv", delimiter=",")
    np.testing.assert_allclose(got, lstm(x[:, None])[0][:, 0], rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_many_plan_bench_and_inspect(files, capsys, tmp_path, name):
    folder, lstm = files
    np.savez(tmp_path / "some.npz", a=frames((5, INPUT)), b=frames((2, INPUT)))
    output = tmp_path / "out.npz"
    assert run(capsys, "many", folder / name, tmp_path / "some.npz", "--output", output)[0] == 0
    np.testing.assert_allclose(np.load(output)["a"], lstm(frames((5, INPUT)))[0], rtol=0, atol=1e-6)
    (tmp_path / "lengths.txt").write_text("3 4 5")
    status, out, _ = run(capsys, "plan", tmp_path / "lengths.txt", "--model", folder / name)
    assert (status, "LSTM 3 to 4" in out) == (0, True)
    options = ["--steps", "20", "--engines", "vledge", "--idle-only", "--json"]
    status, out, _ = run(capsys, "bench", folder / name, *options)
    assert (status, json.loads(out)["model"].startswith("LSTM 3 -> 4")) == (0, True)
    status, out, _ = run(capsys, "inspect", folder / name)
    assert (status, "LSTM" in out) == (0, True)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_convert(files, capsys, tmp_path, name):
    folder, lstm = files
    made = tmp_path / "made.safetensors"
    status, out, _ = run(capsys, "convert", folder / name, made)
    assert status == 0
    assert str(made) in out
    x = frames((T, INPUT))
    np.save(tmp_path / "x.npy", x[:, None])
    assert (
        run(capsys, "run", made, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")[0]
        == 0
    )
    expected = lstm(x[:, None])[0]
    got = np.load(tmp_path / "y.npy").reshape(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["profile", "weights.npz"], "is for whole models: `vledge bench "),
        (["run", "weights.npz"], "nothing is given for 'x' [time, batch, 3] of tensor(float): --input x=FILE, or --random"),
        (["run", "graph.onnx"], "nothing is given for 'x' [T, B, 3] of tensor(float): --input x=FILE, or --random"),
        (["run", "graph.onnx", "--input", "y=1"], "--input y=1: the model has no input 'y': it has ['x']"),
        (["run", "graph.onnx", "--input", "x=none.npy"], "--input x=none.npy: there is no file none.npy"),
        (["run", "weights.npz", "--only", "y"], "--only is for whole models, and a layer runs by itself"),
        (["convert", "weights.npz", "out.safetensors", "--only", "y"], "--only and --force are for graphs"),
        (["stream", "both_ways.pt"], "with --lookahead N it begins N frames ahead"),
        (["bench", "both_ways.pt"], "and this is GRU(12, 48, bidirectional=True"),
        (["stream", "weights.npz", "--layer", "rnn"], "there is no recurrent layer 'rnn'; --layer has these: ''"),
        (["stream", "graph.onnx", "--layer", "none"], "there is no recurrent layer 'none'; --layer has these: 'LSTM_0'"),
        (["stream", "graph.onnx", "--layer", "LSTM_0", "--hop", "4"], "--hop is for whole models"),
        (["record", "own.safetensors"], "is vledge's own file: onnxruntime needs the ONNX file"),
    ],
)  # fmt: skip
def test_what_cannot_be_names_the_next_step(files, capsys, monkeypatch, arguments, message):
    folder, _ = files
    monkeypatch.chdir(folder)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert message in err.splitlines()[-1]


def test_a_layer_of_keras_that_weights_do_not_tell_is_not_converted(capsys, tmp_path):
    from pathlib import Path

    keras = Path(__file__).parents[1] / "golden" / "keras" / "model.keras"
    status, _, err = run(capsys, "convert", keras, tmp_path / "made.safetensors")
    assert status == 1
    assert "reset_after=False" in err
    assert "nn.GRU.from_keras(path, 'before')" in err


@pytest.mark.parametrize("form", ["csv", "npz", "wav"])
def test_inputs_of_other_files(files, capsys, tmp_path, form):
    from tests.cli.test_audio import wav_bytes

    folder, lstm = files
    x = frames((T, INPUT)).clip(-1, 1)
    path = tmp_path / f"x.{form}"
    model, y = folder / "graph.onnx", tmp_path / "y.npy"
    if form == "csv":
        path.write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in x))
    elif form == "npz":
        np.savez(path, x=x[:, None])
    else:
        model = folder / "wide.onnx"
        from tests.streaming.test_sessions import built

        sum_of = ("ReduceSum", ["x"], ["y"], {})
        model.write_bytes(built([sum_of], [], {"x": ["B", 1, "S"]}, {"y": [1, 1, 1]}))
        path.write_bytes(wav_bytes(3, 32, x.astype("<f4").tobytes()))
    status, _, err = run(capsys, "run", model, "--input", path, "--output", y)
    assert status == 0, err
    expected = x.sum() if form == "wav" else lstm(x[:, None])[0][:, None]
    np.testing.assert_allclose(np.load(y).squeeze(), expected.squeeze(), rtol=0, atol=1e-5)


def test_a_layers_states_may_be_given(files, capsys, tmp_path):
    folder, lstm = files
    x, h, c = frames((T, 1, INPUT)), np.ones((1, 1, HIDDEN), "f4"), np.zeros((1, 1, HIDDEN), "f4")
    np.savez(tmp_path / "all.npz", x=x, h_0=h, c_0=c)
    output = ["--output", f"h_n={tmp_path / 'h.npy'}"]
    weights = folder / "weights.npz"
    assert run(capsys, "run", weights, "--input", tmp_path / "all.npz", *output)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "h.npy"), lstm(x, (h, c))[1][0])
    np.savez(tmp_path / "some.npz", x=x, h_0=h)
    status, _, err = run(capsys, "run", weights, "--input", tmp_path / "some.npz")
    assert (status, "h_0 and c_0 are given together or not at all" in err) == (1, True)
