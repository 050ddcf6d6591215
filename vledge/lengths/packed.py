"""The packed strategy: only real steps are stored, longest sequence first, as in torch."""

from __future__ import annotations

from typing import Any

from vledge.lengths.batch import Batch
from vledge.nn.recurrent import RecurrentBase

__all__ = ["packed"]


def packed(layer: RecurrentBase, batch: Batch, hx: Any) -> tuple[Any, Any]:
    """Pack, run, unpack; both directions."""
    output, state = layer.forward(batch.packed(), hx)
    return batch.from_packed(output), state
