"""`vledge stream --state`: how live input ends, and that the state is there afterwards."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import vledge
from tests.streaming.test_layers import frames, loaded
from vledge import nn
from vledge.cli import main
from vledge.shipped import japanese_vowels

FRAMES = 9


@pytest.fixture
def lstm(tmp_path):
    """(weights in a file, frames, where the state goes)."""
    path = tmp_path / "lstm.safetensors"
    vledge.save_weights(path, loaded(nn.LSTM(3, 4)).state_dict())
    return path, frames((FRAMES, 3)), tmp_path / "state.safetensors"


def after(path, x):
    """The state after these frames."""
    stream = nn.LSTM.from_weights(vledge.load_weights(path)).stream()
    for frame in x:
        stream.step(frame[None])
    return stream.state


def lines(x):
    return "".join(",".join(f"{v:.9g}" for v in row) + "\n" for row in x).encode()


def check(state, path, x):
    kept = vledge.load_weights(state)
    for name, array in after(path, x).items():
        np.testing.assert_allclose(kept[name], array, rtol=0, atol=1e-6)


def started(path, state, *options, on_interrupt=signal.SIG_DFL):
    """The command, whatever the shell that runs the tests does: background jobs ignore Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "vledge", "stream", path, "--state", state, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, on_interrupt),
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_input_is_awaited(lstm, number):
    path, x, state = lstm
    process = started(path, state)
    process.stdin.write(lines(x[:4]))
    process.stdin.flush()
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (128 + number, b"")
    check(state, path, x[:4])


def test_a_job_that_ignores_ctrl_c_goes_on(lstm):
    """As shells start what stands before &."""
    path, x, state = lstm
    process = started(path, state, on_interrupt=signal.SIG_IGN)
    process.stdin.write(lines(x[:4]))
    process.stdin.flush()
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(lines(x[4:]), timeout=30)
    assert (process.returncode, err) == (0, b"")
    check(state, path, x)


def test_a_reader_that_has_gone(lstm):
    """`| head -n 1`: the frames that came by then are in the state, and nothing is wrong."""
    path, x, state = lstm
    process = started(path, state)
    process.stdin.write(lines(x[:1]))
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.write(lines(x[1:2]))
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (process.returncode, process.stderr.read()) == (0, b"")
    check(state, path, x[:2])


@pytest.mark.parametrize(
    ("data", "options", "left"),
    [
        (lambda x: lines(x) + b"0.1,0.2", [], b"line 10 has 2 numbers of 3"),
        (
            lambda x: x.astype("<f4").tobytes() + b"123456",
            ["--format", "float32"],
            b"6 bytes of 12 are left over",
        ),
    ],
)
def test_a_part_of_a_frame_at_the_end_is_a_warning(lstm, data, options, left):
    path, x, state = lstm
    process = started(path, state, *options)
    out, err = process.communicate(data(x), timeout=30)
    assert process.returncode == 0
    assert err.startswith(b"vledge: warning: the input ends within a frame: ")
    assert left in err
    assert out.count(b"\n") == FRAMES
    check(state, path, x)


def test_a_line_that_is_wrong_loses_no_frame_before_it(lstm, capfdbinary):
    path, x, state = lstm
    process = started(path, state)
    _, err = process.communicate(lines(x[:5]) + b"1,2\n" + lines(x[5:]), timeout=30)
    assert process.returncode == 1
    assert b"line 6 has 2 numbers, expected 3" in err
    check(state, path, x[:5])


def test_signals_are_as_before_afterwards(lstm, tmp_path):
    path, x, state = lstm
    (tmp_path / "x.csv").write_bytes(lines(x))
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    options = ["--input", tmp_path / "x.csv", "--output", os.devnull, "--state", state]
    assert main(["stream", str(path), *map(str, options)]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("state.npz", "files named *.npz are NumPy's, and what is written is safetensors"),
        ("none/state.safetensors", "none/state.safetensors: No such file or directory"),
        (".", "is a folder; expected a file"),
    ],
)
def test_a_place_where_no_state_can_be_is_told_before_the_first_frame(lstm, place, told, capfd):
    path, x, state = lstm
    (state.parent / "x.csv").write_text(lines(x).decode())
    where = state.parent / place
    status = main(["stream", str(path), "--input", f"{state.parent}/x.csv", "--state", str(where)])
    out, err = capfd.readouterr()
    assert (status, out) == (1, "")
    assert told in err
    assert sorted(p.name for p in state.parent.iterdir()) == ["lstm.safetensors", "x.csv"]


def test_so_are_the_places_of_other_long_works_results(tmp_path, vledge_command):
    model = japanese_vowels.folder() / "model.safetensors"
    target = tmp_path / "none" / "o.safetensors"
    for command in (
        ["quantize", japanese_vowels.folder() / "model.pt", target],
        ["record", japanese_vowels.folder() / "model.pt", "--output", target],
        ["validate", model, "--html", target],
        ["profile", japanese_vowels.folder() / "classifier.safetensors", "--trace", target],
        ["bench", japanese_vowels.folder() / "model.pt", "--histogram", target],
    ):
        status, out, err = vledge_command(*command)
        assert (status, out) == (1, "")
        assert f"{target}: No such file or directory" in err
