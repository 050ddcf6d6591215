"""`vledge stream`: raw frames and CSV lines through a pipe, outputs while the input is open."""

import io
import subprocess
import sys

import numpy as np
import pytest

import vledge
from tests.streaming.test_layers import frames, loaded
from vledge import nn
from vledge.cli import main

FRAMES = 9


@pytest.fixture
def lstm(tmp_path):
    """(weights in a file, frames, what comes out)."""
    layer = loaded(nn.LSTM(3, 4, 2))
    path = tmp_path / "lstm.safetensors"
    vledge.save_weights(path, layer.state_dict("encoder."))
    x = frames((FRAMES, 1, 3))
    return path, x[:, 0], layer(x)[0][:, 0]


@pytest.fixture
def command(monkeypatch, capfdbinary):
    def run(data, *arguments):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        stdout = io.TextIOWrapper(io.BytesIO(), write_through=True)
        monkeypatch.setattr(sys, "stdout", stdout)
        status = main(["stream", *map(str, arguments)])
        return status, stdout.buffer.getvalue(), capfdbinary.readouterr().err.decode()

    return run


def csv(array):
    return "".join(",".join(f"{v:.9g}" for v in row) + "\n" for row in array).encode()


def numbers(output):
    return np.array([[float(cell) for cell in line.split(",")] for line in output.decode().split()])


@pytest.mark.parametrize("separator", [b",", b" ", b", "])
def test_csv(lstm, command, separator):
    path, x, expected = lstm
    status, out, err = command(csv(x).replace(b",", separator), path, "--input", "-")
    assert (status, err) == (0, "")
    np.testing.assert_allclose(numbers(out), expected, rtol=0, atol=2e-6)


def test_raw_float32_both_ways(lstm, command):
    path, x, expected = lstm
    options = ["--format", "float32", "--output-format", "float32"]
    status, out, _ = command(x.astype("<f4").tobytes(), path, *options)
    assert status == 0
    got = np.frombuffer(out, "<f4").reshape(FRAMES, 4)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_raw_int16_is_scaled_to_one(lstm, command):
    path, x, _ = lstm
    samples = (x * 8000).astype("<i2")
    status, out, _ = command(samples.tobytes(), path, "--format", "int16")
    _, same, _ = command(csv(samples / 32768), path)
    assert status == 0
    np.testing.assert_allclose(numbers(out), numbers(same), rtol=0, atol=1e-6)


def test_state_is_kept_between_calls(lstm, command, tmp_path):
    path, x, expected = lstm
    state = tmp_path / "state.safetensors"
    parts = [command(csv(part), path, "--state", state)[1] for part in (x[:4], x[4:])]
    got = np.concatenate([numbers(part) for part in parts])
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


@pytest.fixture
def both_ways(tmp_path):
    """(weights in a file, frames, the outputs of each call with 3 frames ahead)."""
    layer = loaded(nn.GRU(3, 4, 2, bidirectional=True))
    path = tmp_path / "gru.safetensors"
    vledge.save_weights(path, layer.state_dict())
    x = frames((FRAMES, 1, 3))
    stream = layer.stream(lookahead=3)
    return path, x[:, 0], [*(stream.push(frame[None])[:, 0] for frame in x), stream.flush()[:, 0]]


def test_lookahead(both_ways, command):
    path, x, parts = both_ways
    status, out, err = command(csv(x), path, "--lookahead", 3)
    assert (status, err) == (0, "")
    np.testing.assert_allclose(numbers(out), np.concatenate(parts), rtol=0, atol=2e-6)
    status, _, err = command(csv(x), path)
    assert status == 1
    assert "with --lookahead N it begins N frames ahead" in err


def test_lookahead_goes_on_with_a_state(both_ways, command, tmp_path):
    path, x, parts = both_ways
    options = [path, "--lookahead", 3, "--state", tmp_path / "state.safetensors"]
    outs = [command(csv(part), *options)[1] for part in (x[:2], x[2:6], x[6:])]
    assert [len(out.split()) for out in outs] == [0, 3, 3]
    got = np.concatenate([numbers(out) for out in outs[1:]])
    np.testing.assert_allclose(got, np.concatenate(parts[:-1]), rtol=0, atol=2e-6)


def test_files_in_and_out(lstm, command, tmp_path):
    path, x, expected = lstm
    (tmp_path / "x.csv").write_bytes(csv(x))
    options = ["--input", tmp_path / "x.csv", "--output", tmp_path / "y.csv"]
    assert command(b"", path, *options)[:2] == (0, b"")
    got = numbers((tmp_path / "y.csv").read_bytes())
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_onnx_model(command, tmp_path):
    pytest.importorskip("onnx")
    from tests.streaming.test_sessions import FEATURES, hidden_state

    path = tmp_path / "gru.onnx"
    path.write_bytes(hidden_state("GRU"))
    x = frames((FRAMES, 1, FEATURES))
    (expected,) = vledge.InferenceSession(path).run(None, {"x": x})
    status, out, err = command(csv(x[:, 0]), path, "--time-axis", 0)
    assert (status, err) == (0, "")
    np.testing.assert_allclose(numbers(out), expected[:, 0, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"1,2,3\n1,2\n", [], "line 2 has 2 numbers, expected 3"),
        (b"1,2,x\n", [], "line 1: could not convert"),
        (b"\x00\x01\xff\x02", [], "line 1 is no text: samples need --format wav, float32, int16"),
        (b"1,2,3\n", ["--hop", "512"], "--hop is for whole models"),
        (b"", ["--prefix", "decoder"], "there is no recurrent layer 'decoder'"),
    ],
)
def test_wrong_input_is_told(lstm, command, data, options, message):
    path, _, _ = lstm
    status, _, err = command(data, path, *options)
    assert status == 1
    assert message in err


def test_outputs_come_while_the_input_is_open(lstm):
    """A line in, a line out, before the next one is written: what a live pipe needs."""
    path, x, expected = lstm
    with subprocess.Popen(
        [sys.executable, "-m", "vledge", "stream", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        for frame, wanted in zip(x[:3], expected, strict=False):
            process.stdin.write(csv([frame]))
            process.stdin.flush()
            got = numbers(process.stdout.readline())[0]
            np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6)
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0
