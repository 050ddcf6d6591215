"""Which axis of a value is the batch's and which is time's, by the names that the model gives."""

from __future__ import annotations

import re

from vledge.model.definition import ValueInfo

__all__ = ["axes_from_symbols"]

_BATCH = re.compile(r"batch|^[nb]$", re.IGNORECASE)
_TIME = re.compile(r"time|seq|len|step|frame|^t$", re.IGNORECASE)


def axes_from_symbols(info: ValueInfo) -> dict[str, int]:
    """``"batch"`` and ``"time"``, each where a variable axis has a name that says so."""
    axes: dict[str, int] = {}
    for axis, size in enumerate(info.shape or ()):
        if isinstance(size, str):
            for key, pattern in (("batch", _BATCH), ("time", _TIME)):
                if pattern.search(size) and key not in axes:
                    axes[key] = axis
                    break
    return axes
