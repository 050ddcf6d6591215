"""Speech for the tests of real models: more than a minute of it, made of the repository's clips."""

import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

__all__ = ["RECORDINGS", "RECORDING_RATE", "read_recording", "spoken_minute"]

RECORDINGS = sorted((Path(__file__).parents[2] / "examples" / "audio").glob("*.wav"))
RECORDING_RATE = 16_000


def read_recording(path: Path) -> np.ndarray:
    """One of RECORDINGS as float32 samples in ±1."""
    with wave.open(str(path), "rb") as stream:
        assert stream.getframerate() == RECORDING_RATE
        frames = stream.readframes(stream.getnframes())
    return np.frombuffer(frames, "<i2").astype(np.float32) / 32768


def spoken_minute(rate: int) -> np.ndarray:
    """At least 60 s of speech in several voices, tempos, levels and noises, with pauses.

    Each repetition of a recording is played at another speed, which moves its pitch too.
    """
    rng = np.random.default_rng(20)
    parts: list[np.ndarray] = []
    speeds = ((1, 1), (9, 10), (8, 7), (11, 10), (5, 6), (1, 1))
    for i, (up, down) in enumerate(speeds):
        for path in RECORDINGS:
            part = resample_poly(read_recording(path), up * rate, down * RECORDING_RATE)
            noise = rng.normal(0, 0.0005 * 3**i, len(part))  # from a quiet room to a loud one
            parts += [rng.uniform(0.2, 1) * part + noise, rng.normal(0, 0.001, rate // 2)]
    minute = np.clip(np.concatenate(parts), -1, 1).astype(np.float32)
    assert len(minute) >= 60 * rate
    return minute
