"""The command line as its user meets it: output, exit status, one line for an error."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import vledge
from vledge.cli import main
from vledge.cli.table import size
from vledge.formats import vledge_model
from vledge.layer_file import load_layer
from vledge.progress import Bar
from vledge.shipped import japanese_vowels


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_demo_passes_and_says_its_numbers(capsys):
    status, out, _ = run(capsys, "demo", "--repeats", "2")
    assert status == 0
    assert "370 of 370" in out
    assert "97.84% (at least 97%)" in out
    assert "padding avoided       47.0% of 10,730 steps" in out
    assert "ways of running against torch 2.13.0" in out
    assert "times that, the median of 2 pairs" in out
    assert out.isascii()


def test_demo_ends_with_commands_that_run(capsys, monkeypatch):
    """Pasted into a shell at the place where the demo ran."""
    monkeypatch.setattr(sys, "argv", ["demo"])
    _, out, _ = run(capsys, "demo", "--repeats", "1")
    before, _, then = out.partition("\n\nNext:\n")
    assert before.endswith("passed")
    command = next(line for line in then.splitlines() if "validate" in line)
    words = command.split("  ")[1]
    if words.startswith("vledge"):
        words = f"{sys.executable} -m {words}"
    done = subprocess.run(words.split(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("passed\n")


def test_demo_fails_when_the_model_is_not_the_one_that_was_recorded(capsys, monkeypatch, tmp_path):
    folder = japanese_vowels.folder()
    model = vledge_model.read(folder / "classifier.safetensors")
    constants = model.graph.initializers
    (name,) = (name for name, array in constants.items() if array.shape == (9,))
    constants[name] = constants[name] + np.float32(0.001)
    vledge_model.write(tmp_path / "classifier.safetensors", model)
    for path in ("model.pt", "test.npz", "classifier.reference.safetensors"):
        (tmp_path / path).write_bytes((folder / path).read_bytes())
    monkeypatch.setattr(japanese_vowels, "folder", lambda: tmp_path)
    status, out, _ = run(capsys, "demo", "--repeats", "1")
    assert status == 1
    assert out.endswith("FAILED: a number is out of tolerance\n")


def test_the_shipped_classifier_is_the_shipped_weights():
    test = japanese_vowels.load_test_set()
    lengths = np.array([len(s) for s in test.series])
    session = vledge.InferenceSession(japanese_vowels.folder() / "classifier.safetensors")
    x = vledge.pad_sequence(test.series, batch_first=True)
    names = [value.name for value in session.get_inputs()]
    (logits,) = session.run(None, dict(zip(names, (x, lengths), strict=True)))
    np.testing.assert_allclose(logits, test.logits, atol=1e-5)


def test_demo_fails_when_a_number_is_out_of_tolerance(capsys, monkeypatch, tmp_path):
    weights = dict(vledge.load_weights(japanese_vowels.folder() / "model.pt"))
    weights["out.bias"] = weights["out.bias"] + np.float32(0.001)
    vledge.save_weights(tmp_path / "other.safetensors", weights)
    real_load = japanese_vowels.load
    monkeypatch.setattr(
        japanese_vowels, "load", lambda path: real_load(tmp_path / "other.safetensors")
    )
    status, out, _ = run(capsys, "demo", "--repeats", "1")
    assert status == 1
    assert "FAILED: a number is out of tolerance" in out


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_shipped_weights_are_the_same_in_every_format(name):
    test = japanese_vowels.load_test_set()
    logits = japanese_vowels.load(japanese_vowels.folder() / name)(test.packed())
    np.testing.assert_allclose(logits, test.logits, atol=1e-5)
    assert (logits.argmax(1) == test.labels).mean() >= 0.97
    assert len(test.series) == len(test.labels) == 370


def test_shipped_onnx_file_is_the_same_model():
    onnxruntime = pytest.importorskip("onnxruntime")
    test = japanese_vowels.load_test_set()
    lengths = np.array([len(s) for s in test.series])
    session = onnxruntime.InferenceSession(
        japanese_vowels.folder() / "model.onnx", providers=["CPUExecutionProvider"]
    )
    feed = {"x": vledge.pad_sequence(test.series, batch_first=True), "lengths": lengths}
    np.testing.assert_allclose(session.run(None, feed)[0], test.logits, atol=1e-5)


def test_inspect_lists_tensors_and_layers(capsys):
    path = str(japanese_vowels.folder() / "model.pt")
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "10 tensors, 75 kB" in out
    assert "rnn.weight_ih_l0          144x12  float32" in out
    assert "rnn.: GRU 12 -> 48, bidirectional" in out
    status, out, _ = run(capsys, "inspect", "--json", path)
    report = json.loads(out)
    assert status == 0
    assert report["tensors"][0]["shape"] == [144, 12]
    assert report["recurrent_layers"][0]["hidden_size"] == 48


def test_inspect_says_what_it_left_out(capsys, tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.LSTM(3, 4)
    optimizer = torch.optim.Adam(model.parameters())
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, tmp_path / "training.pt")
    status, out, _ = run(capsys, "inspect", str(tmp_path / "training.pt"))
    assert status == 0
    assert "LSTM 3 -> 4" in out
    assert "not read: optimizer: " in out


def test_inspect_says_what_weights_are_made_of(capsys, tmp_path):
    w = np.ones((16, 4), "f4")
    weights = {
        "n_averaged": np.array(3),
        "module.rnn._orig_mod.weight_ih_l0": np.ones((16, 3), "f4"),
        "module.rnn._orig_mod.weight_hh_l0_g": np.ones((16, 1), "f4"),
        "module.rnn._orig_mod.weight_hh_l0_v": w,
        "module.head.parametrizations.weight.original": w,
        "module.tail.weight": w,
        "tail.weight": 2 * w,
    }
    path = str(tmp_path / "model.safetensors")
    vledge.save_weights(path, weights)
    status, out, _ = run(capsys, "inspect", path)
    assert status == 0
    assert "rnn.: LSTM 3 -> 4" in out
    assert (
        "folded: rnn.weight_hh_l0: weight norm of module.rnn._orig_mod.weight_hh_l0_g, module.rnn."
    ) in out
    assert "refused: 'head.weight' is only there as 'head.parametrizations.weight.original'" in out
    both = {"refused: 'module.tail.weight' and 'tail.weight' claim", "'tail.weight' and 'module."}
    assert any(text in out for text in both)
    assert "left out: n_averaged: how many models" in out
    status, out, _ = run(capsys, "inspect", "--json", path)
    report = json.loads(out)
    assert report["folded"]["rnn.weight_hh_l0"]["by"] == "weight norm"
    assert set(report["refused"]) == {"head.weight", "tail.weight"}


def test_info_says_what_was_chosen(capsys):
    status, out, _ = run(capsys, "info")
    assert status == 0
    for word in ("instruction sets", "chosen", "threads", "blas"):
        assert word in out
    status, out, _ = run(capsys, "info", "--json")
    assert json.loads(out)["vledge"] == vledge.__version__


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"hello, this is not a model", "vledge: error: ")],
)
def test_an_error_is_one_line_and_status_1(capsys, tmp_path, content, message):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    status, out, err = run(capsys, "inspect", str(path))
    assert (status, out) == (1, "")
    assert err.startswith("vledge: error: ")
    assert message in err
    assert "model.pt" in err
    assert err.count("\n") == 1
    with pytest.raises((OSError, vledge.VledgeError)):
        main(["--debug", "inspect", str(path)])


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["nothing"], 2), (["--help"], 0)])
def test_wrong_command_lines(capsys, arguments, status):
    assert main(arguments) == status


def test_a_closed_pipe_is_no_error():
    path = str(japanese_vowels.folder() / "model.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "vledge", "inspect", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0
    assert errors == b""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_any_name_is_shown_on_an_ascii_terminal(tmp_path, options):
    vledge.save_weights(tmp_path / "model.safetensors", {"schl\u00fcssel": np.zeros(3, "f4")})
    done = subprocess.run(
        [sys.executable, "-m", "vledge", "inspect", *options, tmp_path / "model.safetensors"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert (b"schl\\u00fcssel" if options else b"schl\\xfcssel") in done.stdout


def test_sub_commands_are_imported_when_asked_for():
    code = (
        "import sys; from vledge.cli import main; main(['--version']);"
        "assert 'vledge.cli.demo' not in sys.modules and 'vledge.formats' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"vledge {vledge.__version__}\n"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (102_053, "102 kB")]
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.fixture
def series(tmp_path):
    """Some of the shipped test set's series as a .npz file and a folder of .npy files."""
    chosen = japanese_vowels.load_test_set().series[:10]
    np.savez(tmp_path / "some.npz", **{f"s{i}": s for i, s in enumerate(chosen[:6])})
    (tmp_path / "folder").mkdir()
    for i, s in enumerate(chosen[6:], 6):
        np.save(tmp_path / "folder" / f"s{i}.npy", s)
    return tmp_path, {f"s{i}": s for i, s in enumerate(chosen)}


@pytest.mark.parametrize("last", [False, True])
def test_many_runs_and_writes_each_sequence(capsys, series, last):
    folder, sequences = series
    weights = japanese_vowels.folder() / "model.safetensors"
    options = ["--output", str(folder / "out.npz"), *(["--last"] if last else [])]
    status, out, err = run(
        capsys, "many", str(weights), str(folder / "some.npz"), str(folder / "folder"), *options
    )
    assert (status, err) == (0, "")
    steps = sum(map(len, sequences.values()))
    assert f"10 of {steps} steps" in out
    layer = vledge.nn.GRU.from_weights(vledge.load_weights(weights), "rnn.")
    with np.load(folder / "out.npz") as written:
        assert sorted(written.files) == sorted(sequences)
        for name, sequence in sequences.items():
            output, h_n = layer(sequence)
            want = h_n.reshape(-1) if last else output
            np.testing.assert_allclose(written[name], want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("asked", ["rnn", "rnn.", "module.rnn", "module.rnn._orig_mod."])
def test_a_wrapped_layer_is_found_by_either_name(capsys, series, asked):
    folder, _ = series
    weights, some = str(folder / "wrapped.safetensors"), str(folder / "some.npz")
    plain = vledge.load_weights(japanese_vowels.folder() / "model.pt")
    wrapped = {f"module.{name.replace('rnn.', 'rnn._orig_mod.')}": a for name, a in plain.items()}
    vledge.save_weights(weights, wrapped)
    assert run(capsys, "many", weights, some, "--layer", asked)[0] == 0
    (folder / "lengths.txt").write_text("3 4 5")
    lengths = str(folder / "lengths.txt")
    status, out, _ = run(capsys, "plan", lengths, "--model", weights, "--layer", asked)
    assert (status, "GRU 12 to 48" in out) == (0, True)
    assert load_layer(weights, asked).hidden_size == 48


def test_many_says_what_is_wrong(capsys, series):
    folder, _ = series
    weights, some = str(japanese_vowels.folder() / "model.pt"), str(folder / "some.npz")
    status, _, err = run(capsys, "many", weights, some, "--layer", "encoder")
    assert (status, err.count("\n")) == (1, 1)
    assert "there is no recurrent layer 'encoder'; --layer has these: 'rnn'" in err
    assert run(capsys, "many", weights, some, "--layer", "rnn")[0] == 0
    status, _, err = run(capsys, "many", weights, some, some)
    assert (status, "two sequences are named s0" in err) == (1, True)
    status, _, err = run(capsys, "many", weights, some, "--strategy", "lanes")
    assert (status, "cannot run the backward direction" in err) == (1, True)
    (folder / "nothing").mkdir()
    status, _, err = run(capsys, "many", weights, str(folder / "nothing"))
    assert (status, "no .npy or .npz files in" in err) == (1, True)


def test_progress_bar(capsys, monkeypatch):
    bar = Bar(40)
    bar(1)
    assert capsys.readouterr().err == ""
    assert bar.text(0) == "[" + "." * 30 + "] 0 of 40"
    assert bar.text(20) == "[" + "#" * 15 + "." * 15 + "] 20 of 40"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = Bar(1000)
    for done in range(1, 1001):
        bar(done)
    bar.close()
    text = capsys.readouterr().err
    assert text.endswith("\r[" + "#" * 30 + "] 1,000 of 1,000\n")
    assert text.count("\r") < 20
    bar = Bar(erased=True)
    bar(0, 8, "the first")
    bar(4, 8, "the second")
    bar.close()
    text = capsys.readouterr().err
    assert "] 0 of 8 the first\x1b[K\r[" in text
    assert text.endswith("] 4 of 8 the second\x1b[K\r\x1b[K")
