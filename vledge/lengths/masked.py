"""The masked strategy: a boolean mask with holes anywhere, as in Keras.

A masked step carries the state through, so the steps that are not masked form a shorter sequence:
those run packed, side by side, and their outputs go back to their places. TF 1's ``dynamic_rnn`` is
the mask of lengths with zeros past them: ``lengths=…, strategy="masked", semantics="tf1"``.
"""

from __future__ import annotations

from typing import Any

from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch
from vledge.lengths.packed import packed
from vledge.nn.recurrent import RecurrentBase

__all__ = ["masked"]


def masked(layer: RecurrentBase, batch: Batch, hx: Any) -> tuple[Any, Any]:
    """Run what is not masked; both directions."""
    if isinstance(batch, PaddedBatch):
        batch = MaskedBatch(batch.data, batch.valid(), batch.batch_first)
    if not isinstance(batch, MaskedBatch):
        raise ValueError(
            'strategy="masked" runs a padded array with a mask or with lengths; a PackedSequence '
            "and a list of sequences have no masked steps"
        )
    return packed(layer, batch, hx)
