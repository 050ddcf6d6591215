"""Matrices rounded to bytes with a scale for each column, as ONNX's integer operators take them."""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.pieces import PIECE, spans

__all__ = ["rounded_columns"]

_LARGEST: Final = 127
_PAIR: Final = 128  # 255 * 128 fits in 16 bits


def rounded_columns(w: np.ndarray, pairs: bool) -> tuple[np.ndarray, np.ndarray]:
    """``w [K, N]`` as int8, and the scale of each column; of ``pairs`` no two neighbours along K
    are more than 128 together.

    Raises ValueError for what is NaN or infinite.
    """
    values, scales = np.empty(w.shape, np.int8), np.empty(w.shape[1], np.float32)
    for some in spans(w.shape[1], PIECE // max(len(w), 1)):
        values[:, some], scales[some] = _rounded(w[:, some], pairs)
    return values, scales


def _rounded(w: np.ndarray, pairs: bool) -> tuple[np.ndarray, np.ndarray]:
    if not np.isfinite(w).all():
        raise ValueError("weights that are NaN or infinite cannot be stored small")
    scale = np.abs(w).max(0, initial=0) / _LARGEST
    if pairs:
        whole = np.zeros((-(-len(w) // 2) * 2, w.shape[1]))
        whole[: len(w)] = w
        sums = np.abs(whole[::2] + whole[1::2]).max(0, initial=0)
        scale = np.maximum(scale, sums / (_PAIR - 1))  # each of the two may be rounded up by a half
    scale = scale.astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    return np.clip(np.rint(w / scale), -_LARGEST, _LARGEST).astype(np.int8), scale
