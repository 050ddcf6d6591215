"""Which axis of a value is the batch's and which is time's, read off shapes and symbols."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vledge.model.definition import ValueInfo
from vledge.validation.reference.bundle import Axes

__all__ = ["axes_from_shapes", "axes_from_symbols"]

_BATCH = re.compile(r"batch|^[nb]$", re.IGNORECASE)
_TIME = re.compile(r"time|seq|len|step|frame|^t$", re.IGNORECASE)


def axes_from_symbols(info: ValueInfo) -> Axes:
    """By the names that the model gives its variable axes."""
    found: Axes = {}
    for axis, size in enumerate(info.shape or ()):
        if isinstance(size, str):
            for key, pattern in (("batch", _BATCH), ("time", _TIME)):
                if pattern.search(size) and key not in found:
                    found[key] = axis
                    break
    return found


def axes_from_shapes(
    shapes: Sequence[tuple[int, ...]], batches: Sequence[int], steps: Sequence[int]
) -> Axes:
    """By which axis has the size of the batch, and which that of time, in every run.

    An axis is only taken for one if its size differed between runs, as the sizes did.
    """
    found: Axes = {}
    if len({len(shape) for shape in shapes}) != 1:
        return found
    for key, sizes in (("batch", batches), ("time", steps)):
        for axis in range(len(shapes[0])):
            own = [shape[axis] for shape in shapes]
            if len(set(own)) > 1 and own == list(sizes) and axis not in found.values():
                found[key] = axis
                break
    return found
