"""Frames out of a pipe or a file: CSV lines, raw PCM, WAV; what is left over at the end is told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, Final

import numpy as np

from vledge.cli.audio import RAW, Wav, scaled, wav_of

__all__ = ["FORMATS", "FrameReader", "is_number", "numbers_of"]

FORMATS: Final = ("csv", "wav", *RAW)


class FrameReader:
    """Frames of ``size`` numbers each, float64 from text, else float32; integers as they are.

    ``form`` is one of FORMATS, or None to tell WAV from CSV by the first bytes. Samples are scaled
    to within -1 and 1 unless the model takes ``integers``. ``left`` is then a sentence on an
    incomplete last frame, or empty.
    """

    def __init__(
        self, source: IO[bytes], name: str, form: str | None, size: int, integers: bool = False
    ) -> None:
        self._source: IO[bytes] = _peekable(source)
        self._name, self._size, self._integers = name, size, integers
        self.left = ""
        self.wav: Wav | None = None
        if form is None:
            form = "wav" if self._source.peek(4)[:4] in (b"RIFF", b"RF64") else "csv"  # type: ignore[attr-defined]
        self.form = form
        if form == "wav":
            self.wav = wav_of(self._source, name)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._lines() if self.form == "csv" else self._samples()

    def _samples(self) -> Iterator[np.ndarray]:
        wav = self.wav
        one = RAW[self.form].itemsize if wav is None else wav.frame_bytes
        remaining = None if wav is None else wav.size
        whole = one * self._size
        while True:
            wanted = whole if remaining is None else min(whole, remaining)
            data = self._source.read(wanted)
            if len(data) < whole:
                if data:
                    self.left = (
                        f"the input ends within a frame: {len(data)} bytes of {whole} are left over"
                    )
                return
            if remaining is not None:
                remaining -= whole
            if wav is not None:
                yield wav.samples(data)
            else:
                samples = np.frombuffer(data, RAW[self.form])
                yield samples if self._integers else scaled(samples)

    def _lines(self) -> Iterator[np.ndarray]:
        for number, line in enumerate(self._source, 1):
            cells = _cells(line, self._name, number)
            if not cells or (number == 1 and not any(map(is_number, cells))):
                continue  # an empty line; a header
            if len(cells) < self._size and not line.endswith(b"\n"):
                self.left = (
                    f"the input ends within a frame: line {number} has {len(cells)} numbers of "
                    f"{self._size}"
                )
                return
            if len(cells) != self._size:
                raise ValueError(
                    f"{self._name}: line {number} has {len(cells)} numbers, expected {self._size}"
                )
            yield numbers_of(cells, self._name, number)


def _cells(line: bytes, name: str, number: int) -> list[str]:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(
            f"{name}: line {number} is no text: samples need --format {', '.join(FORMATS[1:])}"
        )
    return text.replace(",", " ").replace(";", " ").split()


def numbers_of(cells: list[str], name: str, number: int) -> np.ndarray:
    """The numbers of a line; ValueError, with the place, for a cell that is none."""
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        raise ValueError(f"{name}: line {number}: {error}") from None


def is_number(cell: str) -> bool:
    """Whether a cell of text is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _peekable(source: IO[bytes]) -> IO[bytes]:
    return source if hasattr(source, "peek") else io.BufferedReader(source)  # type: ignore[type-var]
