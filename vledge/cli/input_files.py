"""An input's array out of a file: .npy, .npz, CSV, WAV; or a number.

NumPy's files say their own shape and dtype and are taken as they are. Text and sound do not: they
take the type that the model declares, and the axes that they lack, the batch's first, of size 1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from vledge.cli.audio import read_wav
from vledge.cli.frames import is_number, numbers_of
from vledge.cli.numpy_file import NpzFile, member_of, opened
from vledge.graph.session import NodeArg
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import ValueInfo
from vledge.model.element_types import DTYPES

__all__ = ["array_from", "read_csv"]


def array_from(value: str, info: NodeArg, text: str) -> np.ndarray:
    """The array of a file, or the number, that ``text``, the option, gives an input."""
    if not os.path.exists(value):
        return _number(value, info, text)
    if value.lower().endswith(".csv"):
        return _fitted(read_csv(value), info)
    with open(value, "rb") as file:
        start = file.read(4)
    if start in (b"RIFF", b"RF64"):
        return _fitted(read_wav(value)[0], info)
    if not start.startswith((b"\x93NUM", b"PK")):
        raise ValueError(f"{text}: expected .npy, .npz, .csv or .wav, begins with {start!r}")
    loaded = opened(value)
    if not isinstance(loaded, NpzFile):
        return loaded
    with loaded:
        if info.name in loaded.files:
            return member_of(loaded, info.name, value)
        if len(loaded.files) == 1:
            return member_of(loaded, loaded.files[0], value)
        raise ValueError(f"{text}: it has {loaded.files}, expected {info.name!r} or a single array")


def read_csv(path: str) -> np.ndarray:
    """Lines of as many numbers each, after a header or none: float64 [lines, numbers]."""
    rows: list[np.ndarray] = []
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            cells = line.replace(",", " ").replace(";", " ").split()
            if not cells or (number == 1 and not any(map(is_number, cells))):
                continue
            rows.append(numbers_of(cells, path, number))
            if len(rows[-1]) != len(rows[0]):
                raise ValueError(
                    f"{path}: line {number} has {len(cells)} numbers, expected {len(rows[0])}"
                )
    if not rows:
        raise ValueError(f"{path} holds no numbers")
    return np.stack(rows)


def _fitted(array: np.ndarray, info: NodeArg) -> np.ndarray:
    """Of the model's type and number of axes."""
    shape: Sequence[int | str | None] = info.shape
    if array.ndim == 2 and array.shape[1] == 1 and len(shape) < 2:
        array = array[:, 0]
    if shape and array.ndim < len(shape):
        told = axes_from_symbols(ValueInfo(info.name, "", tuple(shape)))
        batch = told.get("batch", 1 if told.get("time") == 0 else 0)
        array = np.expand_dims(array, min(batch, array.ndim))
    while shape and array.ndim < len(shape):
        array = array[:, np.newaxis] if array.ndim > 1 else array[np.newaxis]
    return array.astype(DTYPES.get(_element(info), array.dtype))


def _number(value: str, info: NodeArg, text: str) -> np.ndarray:
    kind = _element(info)
    try:
        number = float(value) if kind in ("float", "double", "float16", "bfloat16") else int(value)
    except ValueError:
        raise ValueError(f"{text}: there is no file {value}") from None
    array = np.asarray(number, DTYPES.get(kind))
    return array.reshape([1] * len(info.shape)) if info.shape else array


def _element(info: NodeArg) -> str:
    return info.type.removeprefix("tensor(").removesuffix(")")
