"""The padded strategy: the batch stays a rectangle in memory, nothing is packed.

The kernel skips rows that have ended, so the padding costs memory and no products; its output is
zero, and a final state is the one at the sequence's own end. What layers hand on to one another has
no padding.
"""

from __future__ import annotations

from typing import Final

from vledge.lengths.batch import Batch
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import (
    Case,
    Overhead,
    Work,
    back_nbytes,
    padding_share,
    step_nbytes,
)
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State

__all__ = ["PADDED", "padded_work"]


def padded(stack: Stack, batch: Batch, hx: State | None) -> tuple[Output, State]:
    """Run the rectangle; both directions."""
    data, batch_first = batch.padded()
    output, state = stack.run_padded(data, batch.lengths, hx, batch_first)
    return batch.from_padded(output), state


def padded_work(case: Case, shape: LayerShape) -> Work:
    """One call on the rectangle, of which no padding is run."""
    into, out, _ = step_nbytes(shape)
    between = case.total * out if shape.num_layers > 1 else 0  # packed
    if case.form == "padded":
        return Work([case.lengths], case.rectangle * out + between)
    cells = int(case.lengths[0]) * len(case.lengths)
    peak = cells * (into + out) + max(between, back_nbytes(case, shape))
    return Work([case.lengths], peak)


def _reason(case: Case, done: Work) -> str:
    if case.total == case.rectangle:
        return "all lengths are equal: there is nothing to pack"
    return f"{padding_share(case)} of the rectangle is padding, which takes memory and is not run"


PADDED: Final = Strategy(
    "padded",
    padded,
    padded_work,
    _reason,
    overheads={
        "list": Overhead(2.95e-05, 1.4e-06, 0.0, 0.0, 0.0),
        "padded": Overhead(1.08e-05, 0.0, 0.0, 0.0, 0.0),
        "packed": Overhead(3.3e-05, 0.0, 0.0, 0.0, 0.0),
        "masked": Overhead(5.66e-05, 3.62e-06, 1.61e-08, 3.82e-11, 0.0),
    },
    whole=True,
    natural_for=("padded",),
)
