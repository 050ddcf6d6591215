"""What needs no plan: the best that any strategy could do, from a few sums.

Strategies that run all sequences in one call of the kernels differ in what is around it, which is
quickly told, and the one that runs the form as it is has the least of that. The others cut the
batch up, and can at the most save memory and steps that walk few rows: where even that is not worth
a plan, none is made.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

from vledge.lengths.strategies import STRATEGIES, natural
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead
from vledge.planning.costs import Costs, moved_nbytes
from vledge.planning.ranking import TIE
from vledge.planning.work import SCRATCH, left_out
from vledge.recurrent.shape import LayerShape

__all__ = ["PLANNING", "Guess", "Same", "without_a_plan"]

T = TypeVar("T")

#: Seconds that a plan takes (a server's core; six strategies): what saves less is not planned for.
PLANNING: Final = 1e-3


class _Rates(NamedTuple):
    """What does not depend on the lengths."""

    step: float  #: seconds of a walked step, all layers and directions, one thread
    row: float  #: and of each row of it
    #: strategies of one call of the kernels: each with its overhead and the share of the time
    #: of those before it that it has to stay below; the form's own is first
    whole: list[tuple[Strategy, Overhead, float]]
    others: Overhead  #: less than that of any strategy that cuts the batch up
    nbytes: int  #: of a step of a sequence, in and out
    out_nbytes: int  #: and out


class Guess(NamedTuple):
    """What is best without a plan."""

    strategy: str | None  #: None where it needs more memory than it may
    seconds: float  #: that it is predicted to take
    may_save: float  #: seconds that a plan could at the most


def without_a_plan(
    shape: LayerShape, case: Case, threads: int, constants: Costs, memory_limit: int | None
) -> Guess:
    """The best of the strategies that run the form in one call of the kernels, the form's own
    unless another one is clearly quicker; and what others could save."""
    rates = _rates(shape, case.form, threads, Same(constants))
    longest, count = int(case.lengths[0]), len(case.lengths)
    total, padding = case.total, case.rectangle - case.total
    kernels = rates.step * longest + rates.row * total
    least = kernels
    if threads > 1:
        # Each thread walks as far as its longest sequence, at the most all of them the longest.
        speed = 1 + constants.thread * (threads - 1)
        least = kernels / speed
        slices = min(threads // shape.directions or 1, count)
        if slices > 1:
            walked = (rates.step * slices * longest + rates.row * total) / speed
            kernels = max(walked, (rates.step + rates.row) * longest / shape.directions)

    moved, skipped = total * rates.nbytes, padding * rates.nbytes
    best, seconds, peak = None, float("inf"), 0
    for strategy, overhead, tolerance in rates.whole:
        takes = kernels + overhead.seconds(1, count, total, moved, skipped)
        if takes >= seconds * tolerance:
            continue  # memory makes it no less
        needs = strategy.work(case, shape).peak + SCRATCH
        takes += constants.memory_seconds(needs)
        if takes < seconds * tolerance:
            best, seconds, peak = strategy.name, takes, needs
    if memory_limit is not None and peak > memory_limit:
        best = None
    out = (case.rectangle if case.form in ("padded", "masked") else total) * rates.out_nbytes
    least += rates.others.seconds(1, count, total, moved, skipped)
    least += constants.memory_seconds(out)
    return Guess(best, seconds, seconds - least)


@dataclass(frozen=True, eq=False)
class Same(Generic[T]):
    """A value told apart by which one it is: constants hold dictionaries, which have no hash."""

    value: T

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(maxsize=256)
def _rates(shape: LayerShape, form: str, threads: int, constants: Same[Costs]) -> _Rates:
    costs = constants.value
    refused = left_out(form, shape.backwards)
    around = {name: costs.overheads[f"{form}.{name}"] for name in STRATEGIES if name not in refused}
    as_it_is = natural(form)
    whole = [one for one in STRATEGIES.values() if one.whole and one.name in around]
    whole.sort(key=lambda one: one is not as_it_is)
    others = [one for name, one in around.items() if not STRATEGIES[name].whole]
    return _Rates(
        *costs.rates(shape),
        [(one, around[one.name], 1.0 if one is as_it_is else 1 - TIE) for one in whole],
        _least(others),
        moved_nbytes(shape),
        shape.output_size * shape.itemsize,
    )


def _least(overheads: list[Overhead]) -> Overhead:
    """Constant by constant."""
    return Overhead(*(min(values) for values in zip(*map(astuple, overheads), strict=True)))
