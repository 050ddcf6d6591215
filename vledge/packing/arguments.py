"""What the functions on packed and padded sequences are given, as arrays: checked here, once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from vledge.array_like import ArrayLike, array_of

__all__ = [
    "NUMBERS",
    "PackingError",
    "alike",
    "integers",
    "inverse_of",
    "numeric",
    "padding_of",
    "whole_lengths",
]

NUMBERS: Final = "biufc"  #: kinds of dtypes whose elements can be moved as bytes
_INT64_MAX: Final = 2**63 - 1


class PackingError(ValueError, RuntimeError):
    """Arguments that do not make a packed sequence: a ValueError, and torch's RuntimeError too."""


def numeric(given: ArrayLike, name: str) -> np.ndarray:
    """What was given as an array of numbers of any kind."""
    array = array_of(given, name)
    if array.dtype.kind not in NUMBERS:
        raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    return array


def integers(given: ArrayLike, name: str) -> np.ndarray:
    """What was given as int64."""
    array = array_of(given, name)
    if array.size and array.dtype.kind not in "iu":
        raise PackingError(f"{name} must hold integers, got dtype {array.dtype}")
    if array.size and array.dtype.kind == "u" and int(array.max()) > _INT64_MAX:
        raise PackingError(f"{name} holds {int(array.max())}, which is no int64")
    return array.astype(np.int64, copy=False)


def whole_lengths(given: ArrayLike) -> np.ndarray:
    """int64 [B]; fractions are cut off."""
    lengths = array_of(given, "lengths")
    if lengths.ndim != 1:
        raise PackingError(
            f"'lengths' argument should be a 1D CPU int64 tensor, but got {lengths.ndim}D "
            f"{lengths.dtype}"
        )
    if lengths.size and lengths.dtype.kind not in "biuf":
        raise TypeError(f"lengths must be integers, got dtype {lengths.dtype}")
    beyond = ~(np.abs(lengths.astype(np.float64)) < 2.0**63)
    if beyond.any():
        b = int(np.argmax(beyond))
        raise PackingError(f"lengths[{b}] is {lengths[b]}, which is no int64")
    return lengths.astype(np.int64)


def inverse_of(permutation: np.ndarray, name: str) -> np.ndarray:
    if permutation.ndim != 1:
        raise PackingError(f"{name} must be 1-D, got {permutation.ndim}-D")
    count = len(permutation)
    outside = (permutation < 0) | (permutation >= count)
    if outside.any():
        i = int(np.argmax(outside))
        raise PackingError(f"{name}[{i}] is {permutation[i]}, expected 0 to {count - 1}")
    inverse = np.full(count, -1, np.int64)
    inverse[permutation] = np.arange(count)
    if count and inverse.min() < 0:
        raise PackingError(f"{name} is not a permutation: {int(np.argmin(inverse))} is missing")
    return inverse


def alike(sequences: Iterable[ArrayLike]) -> list[np.ndarray]:
    """The sequences as arrays of the first one's dtype and trailing shape."""
    if not isinstance(sequences, Iterable):
        raise PackingError(
            f"Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    arrays = [numeric(s, f"sequences[{i}]") for i, s in enumerate(sequences)]
    if not arrays:
        raise PackingError("received an empty list of sequences")
    for i, array in enumerate(arrays):
        if array.ndim < 1:
            raise PackingError(f"sequences[{i}] has no dimensions, expected [L, *]")
        if array.shape[1:] != arrays[0].shape[1:]:
            raise PackingError(
                f"sequences[{i}] has shape {array.shape}, which differs from sequences[0]'s "
                f"{arrays[0].shape} in more than the length"
            )
    dtype = arrays[0].dtype
    return [a if a.dtype == dtype else a.astype(dtype) for a in arrays]


def padding_of(value: complex | np.generic, like: np.ndarray, wrap: bool) -> np.ndarray:
    """The padding value as a 0-d array of the array's dtype."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (int, float, complex)):
        raise TypeError(f"padding_value must be a number, got {type(value).__name__}")
    padding = _converted(value, like.dtype, wrap)
    if padding is None:
        raise PackingError(f"padding_value {value!r} cannot be converted to {like.dtype}")
    return padding


def _converted(value: int | float | complex, dtype: np.dtype, wrap: bool) -> np.ndarray | None:
    """The value in a dtype by torch's rules for numbers, None if the dtype cannot hold it.

    A fraction is cut off for integers; with ``wrap`` a negative integer wraps around in an
    unsigned dtype.
    """
    if dtype.kind == "b":
        return np.array(bool(value))
    if isinstance(value, complex):
        if dtype.kind == "c":
            return _within(value, dtype)
        if value.imag:
            return None
        value = value.real
    if dtype.kind in "iu":
        if value != value or value in (np.inf, -np.inf):
            return None
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if dtype.kind == "u" and wrap and isinstance(value, int):
            low = -high
        if not low <= value <= high:
            return None
        return np.array(int(value) % 2**64, np.uint64).astype(dtype)
    return _within(value, dtype)


def _within(value: complex, dtype: np.dtype) -> np.ndarray | None:
    """The value in a floating dtype, None where a finite part is beyond its largest."""
    limit = float(np.finfo(dtype).max)
    parts = (value.real, value.imag)
    if any(abs(part) > limit and abs(part) != np.inf for part in parts):
        return None
    return np.array(value, dtype)
