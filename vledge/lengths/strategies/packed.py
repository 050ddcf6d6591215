"""The packed strategy: only real steps are stored, longest sequence first, as in torch.

A list of sequences is run where each of them lies: nothing is copied to be packed.
"""

from __future__ import annotations

from typing import Final

from vledge.lengths.batch import Batch, ListBatch
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead, Work, padding_share, step_nbytes
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State

__all__ = ["PACKED", "packed", "packed_work", "places_nbytes"]


def packed(stack: Stack, batch: Batch, hx: State | None) -> tuple[Output, State]:
    """Pack, run, unpack; both directions."""
    if isinstance(batch, ListBatch):
        return stack.run_list(batch.data, batch.lengths, hx)
    output, state = stack.run(batch.packed(), hx)
    return batch.from_packed(output), state


def packed_work(case: Case, shape: LayerShape) -> Work:
    """One call on what is real."""
    into, out, held = step_nbytes(shape)
    if case.form in ("list", "packed"):
        return Work([case.lengths], case.total * held)
    peak = max(case.total * (into + held), (case.total + case.rectangle) * out)
    return Work([case.lengths], peak + (places_nbytes(case) if case.form == "masked" else 0))


def places_nbytes(case: Case) -> int:
    """Where each packed row of a mask is from: integers for each step, and the mask's sort."""
    return case.total * 32 + case.rectangle * 8


def _reason(case: Case, done: Work) -> str:
    if case.total == case.rectangle:
        return "no padding to leave out"
    return f"{padding_share(case)} of the padded work is padding"


PACKED: Final = Strategy(
    "packed",
    packed,
    packed_work,
    _reason,
    overheads={
        "list": Overhead(5.71e-06, 2.08e-07, 0.0, 0.0, 0.0),
        "padded": Overhead(5.31e-05, 0.0, 0.0, 0.0, 0.0),
        "packed": Overhead(1.19e-05, 1.44e-08, 0.0, 0.0, 0.0),
        "masked": Overhead(6.45e-05, 5.15e-07, 3.83e-08, 0.0, 5.85e-11),
    },
    whole=True,
    natural_for=("packed", "list"),
)
