"""Fourier transforms and what audio front ends add to them: DFT, STFT, MelWeightMatrix.

Complex numbers are ONNX's: a last axis of 2, or of 1 for real numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge._ext.room import ask
from vledge.graph.operators.generation import target_dtype
from vledge.graph.operators.long_transform import transform
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import in_slices, other_axes

#: NumPy's transform of a length with a large prime factor goes by one of twice the length, with
#: tables and scratch that no allocator of arrays counts: bytes a number of the length, measured.
_SCRATCH: Final = 128


def _complex(x: np.ndarray) -> np.ndarray:
    """[…, 2] → complex […]; [..., 1] → real […]."""
    if x.shape[-1] == 1:
        return x[..., 0]
    if x.shape[-1] != 2:
        raise ValueError(f"the last axis has {x.shape[-1]} numbers, expected 1 or 2 (complex)")
    return x[..., 0] + np.complex64(1j).astype(np.result_type(x.dtype, np.complex64)) * x[..., 1]


def _pairs(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.stack((x.real, x.imag), axis=-1).astype(dtype, copy=False)


def _dft(
    x: np.ndarray, length: np.ndarray | None, axis: int, inverse: int, onesided: int
) -> np.ndarray:
    axis = axis + x.ndim if axis < 0 else axis
    if not 0 <= axis < x.ndim - 1:
        raise ValueError(f"axis is {axis}, expected one of the first {x.ndim - 1} axes")
    size = None if length is None else int(length.item())
    ask(_SCRATCH * (x.shape[axis] if size is None else max(size, 0)))

    def transformed(some: np.ndarray) -> np.ndarray:
        signal = _complex(some)
        if onesided and inverse:
            return transform("irfft", signal, size, axis)[..., None].astype(x.dtype, copy=False)
        if onesided:
            if signal.dtype.kind == "c":
                raise ValueError("onesided=1 needs a real input, this one is complex")
            return _pairs(transform("rfft", signal, size, axis), x.dtype)
        return _pairs(transform("ifft" if inverse else "fft", signal, size, axis), x.dtype)

    return in_slices(transformed, x, other_axes(x.ndim, axis, -1))


@operator("DFT", since=17, until=19)
def dft_by_attribute(
    x: np.ndarray,
    dft_length: np.ndarray | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> np.ndarray:
    return _dft(x, dft_length, axis, inverse, onesided)


@operator("DFT", since=20)
def dft(
    x: np.ndarray,
    dft_length: np.ndarray | None = None,
    axis: np.ndarray | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> np.ndarray:
    return _dft(x, dft_length, -2 if axis is None else int(axis.item()), inverse, onesided)


@operator("STFT", since=17)
def stft(
    signal: np.ndarray,
    frame_step: np.ndarray,
    window: np.ndarray | None = None,
    frame_length: np.ndarray | None = None,
    *,
    onesided: int = 1,
) -> np.ndarray:
    """signal [B, L, 1 or 2], or [B, L] as torch's exporter writes it → [B, frames, bins, 2]."""
    if signal.ndim not in (2, 3):
        raise ValueError(f"signal has the shape {signal.shape}, expected [B, L, 1 or 2] or [B, L]")
    samples = signal if signal.ndim == 2 else _complex(signal)
    step = int(frame_step.item())
    length = samples.shape[1]
    if frame_length is not None:
        length = int(frame_length.item())
    elif window is not None:
        length = window.shape[0]
    if window is not None and window.shape != (length,):
        raise ValueError(f"window has the shape {window.shape}, expected ({length},): frame_length")
    if step < 1 or not 1 <= length <= samples.shape[1]:
        raise ValueError(
            f"frame_step is {step} and frame_length {length}, expected a step from 1, and frames "
            f"of 1 to {samples.shape[1]} samples, which the signal has"
        )
    count = (samples.shape[1] - length) // step + 1
    ask(_SCRATCH * length)
    samples = np.ascontiguousarray(samples)
    row, sample = samples.strides
    frames = np.ndarray(
        (len(samples), count, length), samples.dtype, samples, 0, (row, step * sample, sample)
    )
    if onesided and frames.dtype.kind == "c":
        raise ValueError("onesided=1 needs a real signal, this one is complex")
    kind = "rfft" if onesided else "fft"

    def transformed(some: np.ndarray) -> np.ndarray:
        windowed = some if window is None else some * window
        return _pairs(transform(kind, windowed, None), signal.dtype)

    return in_slices(transformed, frames, (0, 1))


@prepared_operator("MelWeightMatrix", since=17)
def mel_weight_matrix(context: Context, *, output_datatype: int = 1) -> Callable[..., np.ndarray]:
    """Triangles of height 1, equally wide on the mel scale 2595 log10(1 + f / 700)."""
    dtype = target_dtype(output_datatype, "output_datatype")

    def run(
        num_mel_bins: np.ndarray,
        dft_length: np.ndarray,
        sample_rate: np.ndarray,
        lower_edge_hertz: np.ndarray,
        upper_edge_hertz: np.ndarray,
    ) -> np.ndarray:
        bins, length = int(num_mel_bins.item()), int(dft_length.item())
        edges = np.array([lower_edge_hertz.item(), upper_edge_hertz.item()])
        low, high = 2595 * np.log10(1 + edges / 700)
        # the specification's own definition has steps of an (n + 2)th, not of an (n + 1)th
        mels = low + np.arange(bins + 2) * ((high - low) / (bins + 2))
        hertz = 700 * (10 ** (mels / 2595) - 1)
        corners = ((length + 1) * hertz // int(sample_rate.item())).astype(np.int64)
        left, centre, right = corners[:-2], corners[1:-1], corners[2:]
        place = np.arange(length // 2 + 1)[:, None]
        rising = (place - left) / np.maximum(centre - left, 1)
        falling = (right - place) / np.maximum(right - centre, 1)
        weights = np.where(place < centre, rising.clip(0), falling.clip(0))
        return np.where(place == centre, 1, weights).astype(dtype)

    return run
