"""Who computes the input projection of layers: the kernels' own tiles, or scipy's BLAS.

The tiles do by default: measured, they are not slower than OpenBLAS (``python -m
benchmarks.kernels``), they keep their weights packed, and their results do not depend on the number
of rows or threads. BLAS is there for CPUs that it knows better than our tiles do.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["select", "selected"]

PROJECTIONS: Final = ("tile", "blas")

_selected = ""


def select(name: str | None = None) -> str:
    """Choose for layers packed from now on: "tile" (the default) or "blas"."""
    global _selected
    name = name or "tile"
    if name not in PROJECTIONS:
        raise ValueError(f"projection {name!r} is not one of {', '.join(PROJECTIONS)}")
    _selected = name
    return name


def selected() -> str:
    """The choice in force; at first that of the environment variable VLEDGE_PROJECTION."""
    if not _selected:
        try:
            select(os.environ.get("VLEDGE_PROJECTION"))
        except ValueError as error:
            raise ValueError(f"environment variable VLEDGE_PROJECTION: {error}") from None
    return _selected
