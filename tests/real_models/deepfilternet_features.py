"""DeepFilterNet3's input features in plain NumPy, frame by frame as the definition reads.

Definition: Schröter et al., "DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement",
2023 (arXiv 2305.08227), with the sizes and constants of the model's config.ini: 48 kHz, windows of
960 samples every 480, 32 bands, 96 complex bins, and running normalisation with a time constant
of one second.
"""

import numpy as np

__all__ = ["deepfilternet_features", "erb_widths"]

RATE, WINDOW, HOP = 48_000, 960, 480
BANDS, COMPLEX_BINS, NARROWEST = 32, 96, 2
DECAY = np.exp(-HOP / RATE)  # per frame


def erb_widths() -> np.ndarray:
    """How many bins of the 481 each of the 32 bands has, narrow to wide (Glasberg and Moore)."""

    def hertz(erb: float) -> float:
        return 24.7 * 9.265 * (np.exp(erb / 9.265) - 1)

    top = 9.265 * np.log1p(RATE / 2 / (24.7 * 9.265))
    widths = np.zeros(BANDS, int)
    start = owed = 0  # bins lent to bands that would have been too narrow
    for band in range(BANDS):
        end = round(hertz(top * (band + 1) / BANDS) * WINDOW / RATE)
        width = end - start - owed
        owed = max(0, NARROWEST - width)
        widths[band] = max(width, NARROWEST)
        start = end
    widths[-1] += WINDOW // 2 + 1 - widths.sum()
    return widths


def deepfilternet_features(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """feat_erb [1, 1, frames, 32] and feat_spec [1, 2, frames, 96] of samples at 48 kHz."""
    # Vorbis's window, whose squares at half overlap add up to one
    window = np.sin(np.pi / 2 * np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW) ** 2)
    padded = np.pad(audio.astype(np.float64), (HOP, 0))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * window) * (2 * HOP / WINDOW**2)

    edges = np.concatenate(([0], np.cumsum(erb_widths())))
    power = np.add.reduceat(np.abs(spectrum) ** 2, edges[:-1], axis=1) / np.diff(edges)
    decibels = 10 * np.log10(power + 1e-10)
    bins = spectrum[:, :COMPLEX_BINS]
    mean = np.linspace(-60, -90, BANDS)  # the averages start at typical values
    magnitude = np.linspace(0.001, 0.0001, COMPLEX_BINS)
    bands_out, bins_out = np.empty_like(decibels), np.empty_like(bins)
    for t in range(len(frames)):
        mean = (1 - DECAY) * decibels[t] + DECAY * mean
        magnitude = (1 - DECAY) * np.abs(bins[t]) + DECAY * magnitude
        bands_out[t] = (decibels[t] - mean) / 40
        bins_out[t] = bins[t] / np.sqrt(magnitude)
    parts = np.stack([bins_out.real, bins_out.imag])
    return bands_out[None, None].astype(np.float32), parts[None].astype(np.float32)
