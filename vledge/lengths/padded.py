"""The padded strategy: the batch stays a rectangle in memory, nothing is packed.

The kernel skips rows that have ended, so the padding costs memory and no products; its output is
zero, and a final state is the one at the sequence's own end.
"""

from __future__ import annotations

from typing import Any

from vledge.lengths.batch import Batch
from vledge.nn.recurrent import RecurrentBase

__all__ = ["padded"]


def padded(layer: RecurrentBase, batch: Batch, hx: Any) -> tuple[Any, Any]:
    """Run the rectangle; both directions."""
    data, batch_first = batch.padded()
    output, state = layer.run_padded(data, batch.lengths, hx, batch_first)
    return batch.from_padded(output), state
