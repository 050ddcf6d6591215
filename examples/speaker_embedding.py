"""Tell voices apart: 256-number speaker embeddings by Resemblyzer's LSTM, and their similarity.

    pip install --no-deps resemblyzer           # the checkpoint; its package is not imported
    python examples/speaker_embedding.py        # two voices from this repository, two clips each
    python examples/speaker_embedding.py anna.wav bert.wav anna2.wav

Needs vledge alone. The network is a class as it would be written for torch, with another import,
and loads a checkpoint of 2019 (torch's old file layout, with an optimiser's state in it).
Similarities are cosines: of one speaker mostly above 0.8, of two speakers below.
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
from vledge import nn

RATE = 16_000
WINDOW, HOP, MELS = 400, 160, 40  # 25 ms and 10 ms
CLIP_FRAMES = 160  # the network was trained on clips of 1.6 s
CLIP_STEP = 77  # 1.3 clips a second, as the package cuts them


class SpeakerEncoder(nn.Module):
    """Mel frames to a unit vector that depends on who speaks.

    Input [clips, frames, 40] or a PackedSequence of such clips, output [clips, 256].
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.relu = nn.ReLU()

    def forward(self, mels):
        _, (hidden, _) = self.lstm(mels)
        raw = self.relu(self.linear(hidden[-1]))
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    @classmethod
    def from_checkpoint(cls, path: Path) -> "SpeakerEncoder":
        weights = vledge.load_weights(path, key="model_state")
        encoder = cls()
        # similarity_weight and similarity_bias belong to the training loss
        encoder.load_state_dict({k: v for k, v in weights.items() if "similarity" not in k})
        return encoder


def read_wav(path: Path) -> np.ndarray:
    """A 16-bit WAV file as mono float32 at 16 kHz, no quieter than -30 dB: [samples]."""
    rate, samples = wavfile.read(path)
    if samples.dtype != np.int16:
        sys.exit(f"{path}: expected 16-bit samples, got {samples.dtype}")
    audio = samples.astype(np.float32) / 32768
    if audio.ndim == 2:
        audio = audio.mean(axis=1)
    common = gcd(RATE, rate)
    audio = resample_poly(audio, RATE // common, rate // common)
    loudness = np.sqrt(np.mean(audio**2))
    return audio * max(1.0, 10 ** (-30 / 20) / max(loudness, 1e-9))


def mel_filters() -> np.ndarray:
    """Triangles of equal area, evenly spaced on Slaney's mel scale: [40, 201]."""
    # the scale: linear to 1 kHz (15 mels), then 27 mels for each factor of 6.4
    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, MELS + 2)
    hertz = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    low, middle, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
    return np.maximum(triangles, 0) * 2 / (high - low)


def mel_spectrogram(audio: np.ndarray) -> np.ndarray:
    """Power (not its logarithm) in 40 mel bands every 10 ms: [frames, 40], float32."""
    padded = np.pad(audio, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    return (power @ mel_filters().T).astype(np.float32)


def embed(encoder: SpeakerEncoder, audio: np.ndarray) -> np.ndarray:
    """One unit vector for a recording: the mean of its clips', [256]."""
    mels = mel_spectrogram(audio)
    starts = range(0, max(1, len(mels) - CLIP_FRAMES // 4), CLIP_STEP)
    # the last clips are shorter: packed, they run at their own length, on no padding
    clips = vledge.pack_sequence(
        [mels[start : start + CLIP_FRAMES] for start in starts], enforce_sorted=False
    )
    mean = encoder(clips).mean(axis=0)
    return mean / np.linalg.norm(mean)


def packaged_checkpoint() -> Path:
    """pretrained.pt of the installed Resemblyzer package, which is not imported."""
    package = importlib.util.find_spec("resemblyzer")
    if package is None or not package.submodule_search_locations:
        sys.exit("no model: pip install --no-deps resemblyzer, or give --model pretrained.pt")
    return Path(package.submodule_search_locations[0]) / "pretrained.pt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wav", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, help="pretrained.pt (default: the package's)")
    arguments = parser.parse_args()
    clips: dict[str, np.ndarray] = {path.name: read_wav(path) for path in arguments.wav}
    if not clips:
        for name in ("station", "weather"):
            audio = read_wav(Path(__file__).parent / "audio" / f"{name}.wav")
            clips[f"{name}, 1st half"], clips[f"{name}, 2nd half"] = np.array_split(audio, 2)
    encoder = SpeakerEncoder.from_checkpoint(arguments.model or packaged_checkpoint())
    embeddings = np.stack([embed(encoder, audio) for audio in clips.values()])
    width = max(len(name) for name in clips)
    for name, row in zip(clips, embeddings @ embeddings.T, strict=True):
        print(f"{name:{width}}  " + "  ".join(f"{cosine:.3f}" for cosine in row))


if __name__ == "__main__":
    main()
