"""README's line of live audio, with a WAV file in the microphone's place and Silero's own file."""

import subprocess
import sys

import numpy as np
import pytest

from tests.peers import peer
from tests.real_models.speech import RECORDINGS, read_recording
from tests.real_models.test_silero_onnx import both_sessions, framed, probabilities, silero_file

onnxruntime = peer("onnxruntime")

OPTIONS = ["--set", "sr=16000", "--hop", "512", "--context", "64"]


def streamed(name, *options, **popen):
    command = [sys.executable, "-m", "vledge", "stream", silero_file(name), *options]
    done = subprocess.run(command, capture_output=True, **popen)
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), float), done.stderr.decode()


@pytest.fixture(scope="module")
def expected():
    """onnxruntime's probability of each frame."""
    frames = framed(read_recording(RECORDINGS[0]), 512)
    return probabilities(both_sessions("silero_vad.onnx")[1], frames, 16_000)[0]


def test_a_wav_file(expected):
    got, err = streamed("silero_vad.onnx", *OPTIONS, "--input", RECORDINGS[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert "are left over, and were not run" in err
    assert 0.1 < np.mean(got > 0.5) < 0.95


def test_raw_samples_through_a_pipe(expected):
    """What arecord -t raw -f S16_LE writes."""
    samples = np.round(read_recording(RECORDINGS[0]) * 32768).astype("<i2")
    got, _ = streamed("silero_vad.onnx", *OPTIONS, "--format", "int16", input=samples.tobytes())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_a_wav_through_a_pipe_goes_on_with_a_state(expected, tmp_path):
    data = RECORDINGS[0].read_bytes()
    header, samples = data[:44], data[44:]
    state = ["--state", tmp_path / "state.safetensors"]
    parts = [samples[: 40 * 1024], samples[40 * 1024 :]]
    got = [streamed("silero_vad.onnx", *OPTIONS, *state, input=header + p)[0] for p in parts]
    np.testing.assert_allclose(np.concatenate(got), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["silero_vad_16k_op15.onnx", "silero_vad_half.onnx"])
def test_files_that_know_their_rate(name):
    frames = framed(read_recording(RECORDINGS[0]), 512)
    ours, theirs = both_sessions(name)
    rate = OPTIONS[:2] if len(ours.get_inputs()) == 3 else []
    expected = probabilities(theirs, frames, 16_000)[0]
    got, _ = streamed(name, *OPTIONS[2:], *rate, "--input", RECORDINGS[0])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (OPTIONS[2:], "give it a value, --set sr=NUMBER"),
        (OPTIONS[:2], "takes a window of samples, --hop 512 (and --context 64 where"),
        (
            ["--set", "sr=8000", "--hop", "256", "--context", "32"],
            "has 16000 samples a second, and --set sr=8000",
        ),
    ],
)
def test_what_is_missing_is_named_by_its_option(options, message):
    command = [sys.executable, "-m", "vledge", "stream", silero_file("silero_vad.onnx"), *options]
    done = subprocess.run([*command, "--input", RECORDINGS[0]], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
