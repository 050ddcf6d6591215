"""Print where in a WAV file somebody speaks, with the Silero voice activity detector.

    pip install --no-deps silero-vad        # the model file; its package's torch is not needed
    python examples/voice_activity.py       # a short recording from this repository
    python examples/voice_activity.py meeting.wav --plot meeting.png

Needs vledge[onnx], --plot also vledge[plot]. The WAV may have any sample rate and number of
channels; it is mixed down and resampled to the model's 16 kHz. The model sees 32 ms at a time and
carries its LSTM's state from frame to frame, so the same loop works on a live microphone.
"""

import argparse
import importlib.util
import sys
from math import gcd
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

import vledge

RATE = 16_000
FRAME = 512  # samples that the model judges at a time
CONTEXT = 64  # samples of the frame before, which it wants to see in front of them


def read_wav(path: Path) -> np.ndarray:
    """A WAV file as mono float32 samples in ±1 at 16 kHz: [samples]."""
    rate, samples = wavfile.read(path)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    common = gcd(RATE, rate)
    return resample_poly(samples, RATE // common, rate // common).astype(np.float32)


def speech_probabilities(session: vledge.InferenceSession, audio: np.ndarray) -> np.ndarray:
    """The model's probability of speech for each frame of 32 ms: [frames]."""
    frames = -(-len(audio) // FRAME)
    padded = np.zeros(CONTEXT + frames * FRAME, np.float32)
    padded[CONTEXT : CONTEXT + len(audio)] = audio
    state = np.zeros((2, 1, 128), np.float32)
    rate = np.array(RATE)
    probabilities = np.empty(frames, np.float32)
    for i in range(frames):
        window = padded[None, i * FRAME : (i + 1) * FRAME + CONTEXT]
        probability, state = session.run(None, {"input": window, "state": state, "sr": rate})
        probabilities[i] = probability[0, 0]
    return probabilities


def speech_segments(
    probabilities: np.ndarray,
    threshold: float = 0.5,
    min_speech: float = 0.25,
    min_silence: float = 0.1,
) -> list[tuple[float, float]]:
    """Start and end, in seconds, of each stretch of speech.

    Speech begins at ``threshold`` and goes on until the probability stays 0.15 below it for
    ``min_silence`` seconds; what is shorter than ``min_speech`` seconds is dropped.
    """
    second = RATE / FRAME
    segments: list[tuple[float, float]] = []
    start = quiet_since = None
    silence = [0.0] * (2 + int(min_silence * second))  # after the end: it closes the last segment
    for i, probability in enumerate([*probabilities, *silence]):
        if probability >= threshold:
            start = i if start is None else start
            quiet_since = None
        elif start is not None and probability < threshold - 0.15:
            quiet_since = i if quiet_since is None else quiet_since
            if i - quiet_since >= min_silence * second:
                if quiet_since - start >= min_speech * second:
                    segments.append((start / second, quiet_since / second))
                start = quiet_since = None
    return segments


def plot(
    path: Path, audio: np.ndarray, probabilities: np.ndarray, segments: list[tuple[float, float]]
) -> None:
    """Draw the waveform with the segments shaded, and the probability below it."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install vledge[plot]")
    figure = Figure(figsize=(12, 4), layout="constrained")
    wave, probability = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    wave.plot(np.arange(len(audio)) / RATE, audio, linewidth=0.5, color="0.3")
    for start, end in segments:
        wave.axvspan(start, end, color="tab:green", alpha=0.25)
    wave.set_ylabel("waveform, speech shaded")
    probability.plot((np.arange(len(probabilities)) + 0.5) * FRAME / RATE, probabilities)
    probability.set(xlabel="seconds", ylabel="P(speech)", ylim=(-0.05, 1.05))
    figure.savefig(path)


def packaged_model() -> Path:
    """silero_vad.onnx of the installed silero-vad package, which is not imported."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        sys.exit("no model: pip install --no-deps silero-vad, or give --model silero_vad.onnx")
    return Path(package.submodule_search_locations[0]) / "data" / "silero_vad.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    recording = Path(__file__).parent / "audio" / "station.wav"
    parser.add_argument("wav", type=Path, nargs="?", default=recording)
    parser.add_argument("--model", type=Path, help="silero_vad.onnx (default: the package's)")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw waveform and segments")
    arguments = parser.parse_args()
    session = vledge.InferenceSession(str(arguments.model or packaged_model()))
    audio = read_wav(arguments.wav)
    probabilities = speech_probabilities(session, audio)
    segments = speech_segments(probabilities, arguments.threshold)
    for start, end in segments:
        print(f"{start:8.2f} s  to {end:8.2f} s")
    spoken = sum(end - start for start, end in segments)
    print(f"{spoken:.1f} s of speech in {len(audio) / RATE:.1f} s, {len(segments)} segments")
    if arguments.plot:
        plot(arguments.plot, audio, probabilities, segments)


if __name__ == "__main__":
    main()
