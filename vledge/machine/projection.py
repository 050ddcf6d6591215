"""Who computes the input projection of layers: the kernels' own tiles, or scipy's BLAS.

The tiles do, unless ``vledge calibrate`` has measured that on this machine scipy's BLAS is clearly
quicker for a layer's sizes. They keep their weights packed, and their results do not depend on the
number of rows or threads; BLAS is there for CPUs that it knows better than our tiles do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from vledge.machine.cache_folder import is_measured

__all__ = ["CLEARLY", "Product", "chosen", "measured", "select", "selected"]

PROJECTIONS: Final = ("auto", "tile", "blas")

#: BLAS has to take no more than so many times what the tiles take.
CLEARLY: Final = 0.95

_selected = ""


class Product(NamedTuple):
    """What `vledge calibrate` has found for one size."""

    itemsize: int  #: of a number
    depth: int  #: the layer's input_size
    columns: int  #: its gates' units
    blas: float  #: scipy's BLAS's time over the tiles'


def select(name: str | None = None) -> str:
    """Choose for layers packed from now on: "auto" (the default), "tile" or "blas"."""
    global _selected
    name = name or "auto"
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


def measured() -> Sequence[Product]:
    """What `vledge calibrate` has found on this machine; nothing where it has not run, or where it
    has found no scipy."""
    if not is_measured():
        return ()
    from vledge.planning.store import costs

    return costs().products


def chosen(itemsize: int, depth: int, columns: int) -> str:
    """ "tile" or "blas" for a layer of these sizes: under "auto" what was quicker at the nearest
    size that was measured."""
    if selected() != "auto":
        return selected()
    alike = [one for one in measured() if one.itemsize == itemsize]
    if not alike:
        return "tile"

    def distance(one: Product) -> float:
        return math.hypot(
            math.log(max(depth, 1) / one.depth), math.log(max(columns, 1) / one.columns)
        )

    return "blas" if min(alike, key=distance).blas <= CLEARLY else "tile"
