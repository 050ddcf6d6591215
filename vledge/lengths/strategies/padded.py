"""The padded strategy: the batch stays a rectangle in memory, nothing is packed.

The kernel skips rows that have ended, so the padding costs memory and no products; its output is
zero, and a final state is the one at the sequence's own end.
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

__all__ = ["PADDED"]


def padded(stack: Stack, batch: Batch, hx: State | None) -> tuple[Output, State]:
    """Run the rectangle; both directions."""
    data, batch_first = batch.padded()
    output, state = stack.run_padded(data, batch.lengths, hx, batch_first)
    return batch.from_padded(output), state


def _work(case: Case, shape: LayerShape) -> Work:
    into, out, held = step_nbytes(shape)
    if case.form == "padded":
        return Work([case.lengths], case.rectangle * held)
    cells = int(case.lengths[0]) * len(case.lengths)
    peak = max(cells * (into + held), cells * (into + out) + back_nbytes(case, shape))
    return Work([case.lengths], peak)


def _reason(case: Case, done: Work) -> str:
    if case.total == case.rectangle:
        return "all lengths are equal: there is nothing to pack"
    return f"{padding_share(case)} of the rectangle is padding, which takes memory and is not run"


PADDED: Final = Strategy(
    "padded",
    padded,
    _work,
    _reason,
    overheads={
        "list": Overhead(4.21e-05, 1.77e-06, 0.0, 0.0, 0.0),
        "padded": Overhead(2.06e-05, 0.0, 2.22e-09, 0.0, 0.0),
        "packed": Overhead(6.47e-05, 0.0, 0.0, 0.0, 0.0),
        "masked": Overhead(6.6e-05, 3.59e-06, 1.91e-08, 7.3e-11, 0.0),
    },
    whole=True,
    natural_for=("padded",),
)
