"""NumPy's Fourier transforms, and those of long signals in parts: Ctrl-C is heard between two.

A length that has factors goes by shorter transforms of both ("four steps": Bailey, "FFTs in
external or hierarchical memory", 1990), a prime one by a convolution of a length that has
(Bluestein, 1970).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

import numpy as np

from vledge.pieces import PIECE, copy_into, in_pieces, spans

_LONG: Final = 1 << 19  # that NumPy takes some 20 ms for


def transform(kind: str, signal: np.ndarray, size: int | None, axis: int = -1) -> np.ndarray:
    """``numpy.fft.fft``, ``ifft``, ``rfft`` or ``irfft``, by its name."""
    n = signal.shape[axis] if size is None else size
    if kind == "irfft" and size is None:
        n = 2 * (n - 1)
    if n < _LONG or signal.size == 0:
        return np.asarray(getattr(np.fft, kind)(signal, size, axis))
    signals = np.moveaxis(signal, axis, -1)
    rows = signals.reshape(-1, signals.shape[-1])
    results = np.stack([_of_one(kind, row, n) for row in rows])
    return np.moveaxis(results.reshape(*signals.shape[:-1], -1), -1, axis)


def _of_one(kind: str, signal: np.ndarray, n: int) -> np.ndarray:
    z = np.zeros(n, np.result_type(signal.dtype, np.complex64))
    used = n // 2 + 1 if kind == "irfft" else n
    given = signal[:used]
    copy_into(z[: len(given)], given)
    if kind == "irfft":  # the rest are conjugates, those that are their own are real
        middle = (n + 1) // 2
        z[0] = z[0].real
        if n % 2 == 0:
            z[middle] = z[middle].real
        copy_into(z[n - middle + 1 :], in_pieces(np.conj)(z[1:middle])[::-1])
    inverse = kind in ("ifft", "irfft")
    result = _transformed(z, 1 if inverse else -1)
    if inverse:
        result = in_pieces(partial(np.multiply, z.real.dtype.type(1 / n)))(result)
    if kind == "rfft":
        return result[: n // 2 + 1]
    return result.real if kind == "irfft" else result


def _transformed(z: np.ndarray, sign: int) -> np.ndarray:
    """sum of z[j] exp(sign 2 pi i j k / n); z is written over."""
    n = len(z)
    if n < _LONG:
        return _short(z, sign, 0)
    rows = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
    if rows == 1:
        return _by_convolution(z, sign)
    a = z.reshape(rows, -1)  # j = row * columns + column, k = k_row + k_column * rows
    columns = a.shape[1]
    for some in spans(columns, PIECE // rows):
        turns = np.arange(rows)[:, None] * np.arange(some.start, some.stop) / n
        a[:, some] = _short(a[:, some], sign, 0) * np.exp(sign * 2j * np.pi * turns)
    height = max(PIECE // columns, 1)
    for begin in range(0, rows, height):
        some = slice(begin, begin + height)
        a[some] = _transformed(a[begin], sign) if height == 1 else _short(a[some], sign, 1)
    result = np.empty((columns, rows), z.dtype)
    copy_into(result, a.T)
    return result.reshape(-1)


def _short(z: np.ndarray, sign: int, axis: int) -> np.ndarray:
    return np.fft.fft(z, axis=axis) if sign < 0 else np.fft.ifft(z, axis=axis, norm="forward")


def _by_convolution(z: np.ndarray, sign: int) -> np.ndarray:
    """j k = (j^2 + k^2 - (k - j)^2) / 2: chirps times z, with a chirp, times a chirp."""
    n = len(z)
    longer = 1 << (2 * n - 1).bit_length()
    chirp = in_pieces(lambda j: np.exp(sign * 1j * np.pi / n * (j * j % (2 * n))))(np.arange(n))
    back = in_pieces(np.conj)(chirp)
    around = np.zeros(longer, np.complex128)
    copy_into(around[:n], back)
    copy_into(around[longer - n + 1 :], back[:0:-1])
    padded = np.zeros(longer, np.complex128)
    multiplied = in_pieces(np.multiply)
    copy_into(padded[:n], multiplied(z, chirp))
    product = multiplied(_transformed(padded, -1), _transformed(around, -1))
    convolved = _transformed(product, 1)[:n]
    result = in_pieces(lambda y, c: (y * c / longer).astype(z.dtype))(convolved, chirp)
    return np.asarray(result)
