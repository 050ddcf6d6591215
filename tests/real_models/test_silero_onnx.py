"""Silero's ONNX files on more than a minute of speech, frame by frame against onnxruntime."""

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import resample_poly

import vledge
from tests.peers import peer
from tests.real_models.speech import RECORDINGS, read_recording, spoken_minute
from tests.registry import registry_file

onnxruntime = peer("onnxruntime")

PACKAGE = "silero-vad==6.2.3"
TOLERANCE = 1e-4


def silero_file(name: str) -> Path:
    return registry_file(PACKAGE, f"silero_vad/data/{name}")


def both_sessions(name: str):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = str(silero_file(name))
    return vledge.InferenceSession(path), onnxruntime.InferenceSession(path, options)


def framed(audio: np.ndarray, frame: int) -> np.ndarray:
    """Frames with an eighth of a frame of context before each: [frames, 9/8 frame]."""
    context = frame // 8
    count = len(audio) // frame
    padded = np.pad(audio[: count * frame], (context, 0))
    windows = np.lib.stride_tricks.sliding_window_view(padded, frame + context)
    return np.ascontiguousarray(windows[::frame])


def probabilities(session, frames: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Each frame's probability, the state carried from frame to frame; and the last state."""
    constant = {"sr": np.array(rate)} if len(session.get_inputs()) == 3 else {}
    state = np.zeros((2, 1, 128), np.float32)
    out = np.empty(len(frames), np.float32)
    for i, frame in enumerate(frames):
        inputs = {"input": frame[None], "state": state, **constant}
        probability, state = session.run(None, inputs)
        assert probability.shape == (1, 1)
        out[i] = probability[0, 0]
    return out, state


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("silero_vad.onnx", 16_000),
        ("silero_vad.onnx", 8_000),
        ("silero_vad_op18_ifless.onnx", 16_000),
        ("silero_vad_op18_ifless.onnx", 8_000),
        ("silero_vad_16k_op15.onnx", 16_000),
        ("silero_vad_openvino_16k.onnx", 16_000),
        ("silero_vad_half.onnx", 16_000),
    ],
)
def test_each_frame_matches_onnxruntime(name, rate):
    """Nested If, two networks in one file, LSTM nodes or decomposed cells, opsets 15 to 18."""
    ours, theirs = both_sessions(name)
    frames = framed(spoken_minute(rate), 512 * rate // 16_000)
    expected, expected_state = probabilities(theirs, frames, rate)
    actual, state = probabilities(ours, frames, rate)
    assert 0.3 < np.mean(expected > 0.5) < 0.95, "the test's speech should sound like speech"
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(state, expected_state, rtol=TOLERANCE, atol=TOLERANCE)


def test_whole_sequences_match_onnxruntime():
    """The batched file: many frames in one run, the LSTM's state carried between runs."""
    ours, theirs = both_sessions("silero_vad_16k_sequence.onnx")
    frames = framed(spoken_minute(16_000), 512)
    h = c = expected_h = expected_c = np.zeros((1, 1, 128), np.float32)
    for block in np.array_split(frames, (1, 513, 1025, 1100)):
        inputs = {"input": block, "h": expected_h, "c": expected_c}
        expected, expected_h, expected_c = theirs.run(["speech_probs", "hn", "cn"], inputs)
        actual, h, c = ours.run(["speech_probs", "hn", "cn"], {"input": block, "h": h, "c": c})
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(h, expected_h, rtol=TOLERANCE, atol=TOLERANCE)
        np.testing.assert_allclose(c, expected_c, rtol=TOLERANCE, atol=TOLERANCE)


def test_fresh_speech_matches_onnxruntime():
    """Other sentences, spoken now, where espeak-ng is installed."""
    text = "Whoever is listening, count with me: one, two, three, four. That was all, goodbye."
    parts = []
    for voice in ("en-us", "de+f2", "fr", "en-gb+f4", "es"):
        command = ["espeak-ng", "-v", voice, "-g", "5", "--stdout", text]
        try:
            said = subprocess.run(command, capture_output=True, check=True).stdout
        except FileNotFoundError:
            pytest.skip("espeak-ng is not installed (apt-get install espeak-ng)")
        with wave.open(io.BytesIO(said)) as stream:
            rate = stream.getframerate()
            samples = np.frombuffer(stream.readframes(len(said)), "<i2")
        parts.append(resample_poly(samples / 32768, 16_000, rate).astype(np.float32))
    ours, theirs = both_sessions("silero_vad.onnx")
    frames = framed(np.concatenate(parts), 512)
    expected, _ = probabilities(theirs, frames, 16_000)
    actual, _ = probabilities(ours, frames, 16_000)
    assert np.mean(expected > 0.5) > 0.3
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture
def voice_activity(example):
    return example("voice_activity")


@pytest.mark.parametrize(
    ("rate", "dtype"),
    [(8_000, "uint8"), (16_000, "int16"), (22_050, "float32"), (44_100, "int32"), (48_000, "f8")],
)
def test_example_reads_a_wav_of_any_rate(voice_activity, tmp_path, rate, dtype):
    audio = read_recording(RECORDINGS[0])
    resampled = np.clip(resample_poly(audio, rate, 16_000), -0.99, 0.99)
    if np.dtype(dtype).kind == "f":
        samples = resampled.astype(dtype)
    elif dtype == "uint8":
        samples = np.round(resampled * 127 + 128).astype(dtype)
    else:
        samples = (resampled * np.iinfo(dtype).max).astype(dtype)
    stereo = np.stack([samples, samples], axis=1)
    wavfile.write(tmp_path / "speech.wav", rate, stereo)
    read = voice_activity.read_wav(tmp_path / "speech.wav")
    assert read.dtype == np.float32
    assert abs(len(read) - len(audio)) <= 2
    spoken = [
        [(round(start, 1), round(end, 1)) for start, end in voice_activity.speech_segments(p)]
        for p in (
            voice_activity.speech_probabilities(
                vledge.InferenceSession(str(silero_file("silero_vad.onnx"))), samples_of
            )
            for samples_of in (audio, read)
        )
    ]
    assert len(spoken[0]) == len(spoken[1]) >= 2
    np.testing.assert_allclose(spoken[0], spoken[1], atol=0.2)


def test_example_finds_segments_by_hysteresis(voice_activity):
    """Frames of 32 ms: a short dip does not end a segment, a short burst does not make one."""
    probabilities = np.zeros(100, np.float32)
    probabilities[10:40] = 0.9
    probabilities[20:23] = 0.1  # 96 ms, less than the pause that ends a segment
    probabilities[30:36] = 0.4  # above threshold - 0.15
    probabilities[60:65] = 0.9  # 160 ms, less than the shortest segment
    probabilities[90:] = 0.9  # speech until the end
    segments = voice_activity.speech_segments(probabilities)
    np.testing.assert_allclose(segments, [(0.32, 1.28), (2.88, 3.2)])


def test_example_runs_from_the_command_line(run_example, tmp_path):
    peer("matplotlib")
    picture = tmp_path / "speech.png"
    model = silero_file("silero_vad.onnx")
    *segments, summary = run_example("voice_activity", "--model", model, "--plot", picture)
    assert len(segments) >= 2
    assert summary.endswith(f"{len(segments)} segments")
    assert picture.read_bytes().startswith(b"\x89PNG")
