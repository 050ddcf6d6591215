"""Inputs that are lists: axes, shapes, sizes, scales. What onnxruntime takes for one is one here.

It takes a scalar for a list of one in Expand, Unsqueeze, Resize, Upsample, CenterCropPad and
Compress, and in no other operator; Squeeze and Slice take it here, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["integers", "numbers"]


def integers(array: np.ndarray, name: str, *, scalar: bool = False) -> list[int]:
    """The list that an input holds; ValueError, with the input's name, if it holds none."""
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} has the dtype {array.dtype}, expected integers")
    return _listed(array, name, scalar)


def numbers(array: np.ndarray, name: str, *, scalar: bool = False) -> list[float]:
    """The same for numbers of any type."""
    return _listed(array, name, scalar)


def _listed(array: np.ndarray, name: str, scalar: bool) -> list[Any]:
    if array.ndim == 1:
        return array.tolist()
    if array.ndim == 0 and scalar:
        return [array.item()]
    shape = "a scalar" if array.ndim == 0 else f"an array of the shape {array.shape}"
    raise ValueError(f"{name} has the shape {shape}, expected a list: one axis")
