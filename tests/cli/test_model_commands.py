"""convert, run and inspect on whole models."""

import json
from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.graph.models import model_bytes, node
from tests.graph.test_recurrent import UNSORTED, make_inputs, make_model

JAPANESE_VOWELS = Path(__file__).parents[2] / "models" / "japanese_vowels" / "model.onnx"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def lstm(tmp_path):
    """A model's file, what to feed it, and what comes out."""
    inputs = make_inputs("LSTM", "bidirectional", lengths=UNSORTED)
    model, feed = make_model("LSTM", inputs, {"direction": "bidirectional"})
    (tmp_path / "model.onnx").write_bytes(model)
    for name, array in feed.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path, feed, vledge.InferenceSession(model).run(None, feed)


def test_convert_then_run(lstm, vledge_command):
    folder, _, expected = lstm
    status, out, err = vledge_command("convert", folder / "model.onnx", folder / "m.safetensors")
    assert (status, err) == (0, "")
    assert out.startswith(f"{folder}/m.safetensors: 1 node, ")
    feed = ["--input", f"X={folder}/X.npy", "--input", f"sequence_lens={folder}/sequence_lens.npy"]
    targets = ["--output", f"Y_c={folder}/c.npy", "--output", f"{folder}/y.npy"]
    status, out, err = vledge_command("run", folder / "m.safetensors", *feed, *targets)
    assert (status, err) == (0, "")
    assert "7x2x5x9  float32" in out
    np.testing.assert_array_equal(np.load(folder / "y.npy"), expected[0])
    np.testing.assert_array_equal(np.load(folder / "c.npy"), expected[2])


def test_run_takes_numbers_and_repeats(tmp_path, vledge_command):
    nodes = [node("Mul", ["x", "factor"], ["y"])]
    model = model_bytes(nodes, {"x": X, "factor": np.array(1, np.float32)}, ["y"])
    (tmp_path / "model.onnx").write_bytes(model)
    np.save(tmp_path / "x.npy", X)
    command = ["run", tmp_path / "model.onnx", "--input", f"x={tmp_path}/x.npy"]
    status, out, _ = vledge_command(*command, "--input", "factor=2.5", "--repeats", 3)
    assert status == 0
    assert "0 to 12.5" in out
    assert "3 runs: best " in out
    for wrong, message in {
        ("--input", "z=1"): "no input 'z': it has ['x', 'factor']",
        ("--input", "factor=many"): "there is no file many",
        ("--input", "factor=2", "--output", "q=y.npy"): "no output named 'q'",
        ("--input", "factor=2", "--output", "a.npy", "--output", "b.npy"): "only 1 output",
        ("--repeats", "0"): "--repeats must be at least 1",
        (): "nothing is given for 'factor' ",
    }.items():
        status, out, err = vledge_command(*command, *wrong)
        assert (status, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1


def test_convert_refuses_what_cannot_run(tmp_path, vledge_command):
    model = model_bytes([node("Frobnicate", ["x"], ["y"], name="n")], {"x": X}, ["y"])
    (tmp_path / "model.onnx").write_bytes(model)
    command = ["convert", tmp_path / "model.onnx", tmp_path / "m.safetensors"]
    status, _, err = vledge_command(*command)
    assert status == 1
    assert "node 'n' (Frobnicate): the operator is not supported" in err
    assert not (tmp_path / "m.safetensors").exists()
    status, _, err = vledge_command(*command, "--force")
    assert status == 0
    assert "warning: the model cannot run here" in err
    assert (tmp_path / "m.safetensors").exists()
    status, _, err = vledge_command("convert", tmp_path / "model.onnx", tmp_path / "model.onnx")
    assert status == 1
    assert "is the model itself" in err
    assert (tmp_path / "model.onnx").read_bytes() == model


def test_inspect_a_model(tmp_path, vledge_command):
    status, out, _ = vledge_command("inspect", JAPANESE_VOWELS)
    assert status == 0
    assert "operator set ai.onnx 17" in out
    assert "x        tensor(float)  [B, T, 12]" in out
    assert "rnn: GRU 12 -> 48, bidirectional, lengths given, linear_before_reset=1" in out
    assert "cannot run" not in out
    vledge_command("convert", JAPANESE_VOWELS, tmp_path / "m.safetensors")
    converted = vledge_command("inspect", tmp_path / "m.safetensors")[1]
    assert converted.replace(str(tmp_path / "m.safetensors"), str(JAPANESE_VOWELS)) == out
    status, out, _ = vledge_command("inspect", "--json", JAPANESE_VOWELS)
    report = json.loads(out)
    assert status == 0
    assert report["inputs"][0] == {"name": "x", "type": "tensor(float)", "shape": ["B", "T", 12]}
    assert report["operators"]["GRU"] == {"nodes": 1, "planned": 1}
    assert report["recurrent_nodes"][0]["hidden_size"] == 48
    assert report["unsupported"] == []


def test_inspect_says_what_cannot_run(tmp_path, vledge_command):
    nodes = [node("Frobnicate", ["x"], ["f"], name="n"), node("Neg", ["f"], ["y"])]
    (tmp_path / "model.onnx").write_bytes(model_bytes(nodes, {"x": X}, ["y"]))
    status, out, _ = vledge_command("inspect", tmp_path / "model.onnx")
    assert status == 0
    assert "cannot run: node 'n' (Frobnicate): the operator is not supported" in out
    assert "--fallback reference of `vledge run` may run these" in out
