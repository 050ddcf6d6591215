"""``.npy`` and ``.npz`` files that options name, read by NumPy, whose errors name the file here."""

from __future__ import annotations

import os

import numpy as np
from numpy.lib.npyio import NpzFile

from vledge.errors import reading

__all__ = ["NpzFile", "array_of", "member_of", "opened"]


def opened(path: str | os.PathLike[str]) -> np.ndarray | NpzFile:
    """The array of a ``.npy`` file, or an ``.npz`` archive, of which nothing is read yet."""
    with reading(os.fspath(path)):
        loaded: np.ndarray | NpzFile = np.load(path, allow_pickle=False)
    return loaded


def array_of(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a ``.npy`` file; ValueError for an archive."""
    loaded = opened(path)
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"{os.fspath(path)} is an archive of arrays, expected one .npy array")
    return loaded


def member_of(archive: NpzFile, name: str, path: str | os.PathLike[str]) -> np.ndarray:
    """One array of an archive."""
    with reading(f"{os.fspath(path)}: {name!r}"):
        return np.asarray(archive[name])
