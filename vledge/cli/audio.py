"""Sound as numbers: WAV files and raw PCM, from files and pipes, read as they come.

Integers are divided by their range, so that samples lie within -1 and 1; several channels are mixed
down. Nothing is resampled: who has another rate is told how to convert.
"""

from __future__ import annotations

import struct
from typing import IO, Final, NamedTuple

import numpy as np

__all__ = ["RAW", "Wav", "read_wav", "scaled", "wav_of"]

#: Formats of raw PCM, and the names that arecord and ffmpeg have for them.
RAW: Final[dict[str, np.dtype]] = {
    "float32": np.dtype("<f4"),  # FLOAT_LE, f32le
    "int16": np.dtype("<i2"),  # S16_LE, s16le
    "int32": np.dtype("<i4"),  # S32_LE, s32le
    "uint8": np.dtype("u1"),  # U8, u8
}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# What programs write for the length of what they do not know yet, and anything near it.
_UNKNOWN_SIZE: Final = 0x7FFF0000


class Wav(NamedTuple):
    """What a WAV header says, read up to the first sample."""

    rate: int
    channels: int
    dtype: np.dtype  #: of a sample as it lies in the file; of 24 bits, three bytes
    size: int | None  #: bytes of samples; None: until the input ends

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel."""
        return self.channels * self.dtype.itemsize

    def samples(self, data: bytes) -> np.ndarray:
        """Whole frames of bytes as float32 [n], mixed down."""
        if self.dtype.kind == "V":
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = scaled(wide.reshape(-1).view("<i4"))
        else:
            values = scaled(np.frombuffer(data, self.dtype))
        return values if self.channels == 1 else values.reshape(-1, self.channels).mean(1)


def scaled(samples: np.ndarray) -> np.ndarray:
    """Samples of any PCM format as float32 within -1 and 1."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)


def wav_of(source: IO[bytes], name: str) -> Wav:
    """The header of a WAV file or pipe, which is then at its first sample.

    Raises ValueError for what is no WAV of PCM or floats.
    """
    start = source.read(12)
    if start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        raise ValueError(f"{name} is no WAV file: it begins with {start[:12]!r}")
    described: tuple[int, int, int, int] | None = None
    while len(head := source.read(8)) == 8:
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"data":
            if described is None:
                raise ValueError(f"{name}: a WAV file whose samples come before their format")
            tag, channels, rate, bits = described
            dtype = _dtype(tag, bits)
            if dtype is None or not channels:
                raise ValueError(
                    f"{name}: a WAV file of format {tag:#x}, {bits} bits, {channels} channels, "
                    "expected PCM or floats: ffmpeg -i FILE -c:a pcm_s16le OUT.wav"
                )
            return Wav(rate, channels, dtype, size if 0 < size < _UNKNOWN_SIZE else None)
        body = source.read(size + size % 2)
        if kind == b"fmt " and len(body) >= 16:
            tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", body[:16])
            if tag == _EXTENSIBLE and len(body) >= 26:
                (tag,) = struct.unpack("<H", body[24:26])
            described = tag, channels, rate, bits
    raise ValueError(f"{name}: a WAV file without samples")


def _dtype(tag: int, bits: int) -> np.dtype | None:
    by_bits = {
        _FLOAT: {32: "<f4", 64: "<f8"},
        _PCM: {8: "u1", 16: "<i2", 24: "V3", 32: "<i4"},
    }
    name = by_bits.get(tag, {}).get(bits)
    return None if name is None else np.dtype(name)


def read_wav(path: str) -> tuple[np.ndarray, int]:
    """A whole file: float32 [samples], mixed down, and its rate."""
    with open(path, "rb") as file:
        wav = wav_of(file, path)
        data = file.read() if wav.size is None else file.read(wav.size)
    return wav.samples(data[: len(data) // wav.frame_bytes * wav.frame_bytes]), wav.rate
