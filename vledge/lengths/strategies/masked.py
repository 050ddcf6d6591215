"""The masked strategy: a boolean mask with holes anywhere, as in Keras.

A masked step carries the state through, so the steps that are not masked form a shorter sequence:
those run packed, side by side, and their outputs go back to their places. A mask that leaves out
nothing but the steps behind each sequence's end is lengths: it runs as a padded batch does. TF 1's
``dynamic_rnn`` is the mask of lengths with zeros past them: ``lengths=…, strategy="masked",
semantics="tf1"``.
"""

from __future__ import annotations

from typing import Final

from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch
from vledge.lengths.strategies.packed import packed, packed_work
from vledge.lengths.strategies.padded import padded_work
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead, Work, padding_share
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State

__all__ = ["MASKED"]


def masked(stack: Stack, batch: Batch, hx: State | None) -> tuple[Output, State]:
    """Run what is not masked; both directions."""
    if isinstance(batch, PaddedBatch):
        batch = MaskedBatch(batch.data, batch.valid(), batch.batch_first)
    if not isinstance(batch, MaskedBatch):
        raise ValueError(
            'strategy="masked" runs a padded array with a mask or with lengths; a PackedSequence '
            "and a list of sequences have no masked steps"
        )
    if batch.begins:
        output, state = stack.run_padded(batch.data, batch.lengths, hx, batch.batch_first)
        return output, state
    return packed(stack, batch, hx)


def _work(case: Case, shape: LayerShape) -> Work:
    if case.form == "masked":
        return packed_work(case, shape)
    done = padded_work(case, shape)  # its mask has no holes
    return Work(done.runs, done.peak + 2 * case.rectangle)


def _reason(case: Case, done: Work) -> str:
    return f"{padding_share(case)} of the steps are masked; the others run packed"


MASKED: Final = Strategy(
    "masked",
    masked,
    _work,
    _reason,
    overheads={
        "padded": Overhead(5.59e-05, 0.0, 1.28e-08, 0.0, 0.0),
        "masked": Overhead(6.01e-05, 3.81e-07, 3.48e-08, 0.0, 5.66e-11),
    },
    whole=True,
    natural_for=("masked",),
    refused=dict.fromkeys(("list", "packed"), "sequences without padding have no masked steps"),
)
