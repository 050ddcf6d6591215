"""The packed strategy: only real steps are stored, longest sequence first, as in torch."""

from __future__ import annotations

from typing import Final

from vledge.lengths.batch import Batch
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead, Work, padding_share, step_nbytes
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State

__all__ = ["PACKED", "packed", "packed_work", "places_nbytes"]


def packed(stack: Stack, batch: Batch, hx: State | None) -> tuple[Output, State]:
    """Pack, run, unpack; both directions."""
    output, state = stack.run(batch.packed(), hx)
    return batch.from_packed(output), state


def packed_work(case: Case, shape: LayerShape) -> Work:
    """One call on what is real."""
    into, out, held = step_nbytes(shape)
    if case.form == "packed":
        return Work([case.lengths], case.total * held)
    back = case.total if case.form == "list" else case.rectangle
    peak = max(case.total * (into + held), (case.total + back) * out)
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
        "list": Overhead(5.99e-05, 3.44e-06, 0.0, 0.0, 8.78e-12),
        "padded": Overhead(7.52e-05, 0.0, 0.0, 0.0, 0.0),
        "packed": Overhead(1.37e-05, 8.76e-09, 0.0, 0.0, 0.0),
        "masked": Overhead(6.8e-05, 3.52e-07, 3.82e-08, 0.0, 6.07e-11),
    },
    whole=True,
    natural_for=("packed", "list"),
)
