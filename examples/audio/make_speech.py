"""Make the two recordings beside this file with Debian's espeak-ng: `python make_speech.py`.

16 kHz, 16 bit, mono, each with a little room noise and some silence at either end.
"""

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

RATE = 16_000
SPOKEN = {
    "station.wav": ("en-gb", "Good morning. The gate closes in ten minutes. Please walk now."),
    "weather.wav": ("en-us+f3", "Rain in the west, with sunny spells after lunch. That is all."),
}


def spoken(voice: str, text: str) -> np.ndarray:
    """What espeak-ng says, resampled to 16 kHz and with silence around it: [samples] in ±1."""
    command = ["espeak-ng", "-v", voice, "-s", "145", "-g", "3", "--stdout", text]
    audio = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(audio)) as stream:
        rate = stream.getframerate()
        frames = stream.readframes(len(audio))  # the length that the header claims is not real
    samples = np.frombuffer(frames, "<i2") / 32768
    samples = 0.8 * resample_poly(samples, RATE, rate)
    padded = np.pad(samples, (int(0.3 * RATE), int(0.2 * RATE)))
    return padded + np.random.default_rng(0).normal(0, 0.0015, len(padded))


if __name__ == "__main__":
    for name, (voice, text) in SPOKEN.items():
        pcm = np.round(np.clip(spoken(voice, text), -1, 1) * 32767).astype("<i2")
        with wave.open(str(Path(__file__).parent / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(pcm.tobytes())
        print(f"{name}: {len(pcm) / RATE:.1f} s")
