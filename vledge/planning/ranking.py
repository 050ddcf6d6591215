"""``plan``: the strategies for sequences of given lengths, ranked, with a reason for each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of
from vledge.lengths.strategies import STRATEGIES, natural
from vledge.lengths.strategies.work import FORMS, Case, Work, every_step, padding_share
from vledge.machine import threads as thread_settings
from vledge.planning.costs import Costs
from vledge.planning.shapes import shapes_of
from vledge.planning.store import costs as current_costs
from vledge.planning.work import left_out, work
from vledge.recurrent.shape import LayerShape
from vledge.shown import html_table, listed

__all__ = ["Plan", "Prediction", "plan"]


#: The share by which another strategy must be faster than the one that runs the form as it is:
#: predictions are no better than that.
TIE = 0.05


@dataclass(frozen=True)
class Prediction:
    """What a strategy is predicted to take."""

    strategy: str
    options: dict[str, int]  #: to be given beside ``strategy=``
    real: int  #: multiply-adds of steps with data
    wasted: int  #: multiply-adds of padding
    seconds: float
    peak_bytes: int  #: at the most beyond the input, the output included
    fits: bool  #: within the memory limit
    reason: str


@dataclass(frozen=True, repr=False)
class Plan:
    """The strategies, best first: those within the memory limit by their time, a tie going to the
    one that runs the form as it is, then the others by their memory."""

    ranking: tuple[Prediction, ...]
    left_out: dict[str, str]  #: strategies that cannot run this, and why
    rectangle: Prediction  #: for comparison: padding where nobody tells the lengths
    lengths: np.ndarray = field(repr=False)
    shapes: tuple[LayerShape, ...]
    form: str
    threads: int
    memory_limit: int | None
    source: str  #: of the constants

    def __repr__(self) -> str:
        first, *others = self.ranking
        options = "".join(f", {name}={value}" for name, value in first.options.items())
        rest = listed((f"{one.strategy} {one.seconds * 1e3:.3g} ms" for one in others), 6)
        return "\n".join(
            [
                f"Plan: {first.strategy}{options}, {first.seconds * 1e3:.3g} ms, "
                f"{first.peak_bytes:,} bytes: {first.reason}",
                f"  {len(self.lengths):,} sequences, {int(self.lengths.sum()):,} steps, longest "
                f"{int(self.lengths.max()):,}: {self.padding:.0%} padding",
                f"  then {rest or 'nothing else'}; left out: {listed(self.left_out) or 'nothing'}",
                f"  {self.threads} thread(s), as {self.form}; constants {self.source}",
            ]
        )

    def _repr_html_(self) -> str:
        """The ranking as a table, for notebooks."""
        heads = ("strategy", "options", "ms", "peak bytes", "fits", "why")
        lines = [
            (
                one.strategy,
                ", ".join(f"{name} {value}" for name, value in one.options.items()),
                f"{one.seconds * 1e3:.3g}",
                f"{one.peak_bytes:,}",
                "yes" if one.fits else "no",
                one.reason,
            )
            for one in self.ranking
        ]
        lines += [(name, "", "", "", "left out", why) for name, why in self.left_out.items()]
        return html_table(heads, lines)

    @property
    def best(self) -> Prediction:
        """The first of the ranking.

        Raises MemoryError where no strategy stays within the memory limit.
        """
        first = self.ranking[0]
        if not first.fits:
            raise MemoryError(
                f"no strategy runs these lengths within memory_limit={self.memory_limit:,} bytes; "
                f"the least is {first.peak_bytes:,} by {first.strategy}, and the output alone "
                f"takes {self.output_bytes:,}"
            )
        return first

    @property
    def output_bytes(self) -> int:
        """What the output's real steps take."""
        return int(self.lengths.sum()) * max(s.output_size * s.itemsize for s in self.shapes)

    @property
    def padding(self) -> float:
        """The share of the padded batch that is padding."""
        return self.rectangle.wasted / (self.rectangle.wasted + self.rectangle.real)

    def __getitem__(self, strategy: str) -> Prediction:
        for prediction in self.ranking:
            if prediction.strategy == strategy:
                return prediction
        raise KeyError(
            f"no strategy {strategy!r} in this plan: there are "
            f"{[prediction.strategy for prediction in self.ranking]}"
        )


def plan(
    lengths: ArrayLike,
    model_or_layer: object,
    *,
    threads: int | None = None,
    memory_limit: int | None = None,
    form: str = "list",
    steps: int | None = None,
    costs: Costs | None = None,
) -> Plan:
    """Predict what each strategy takes for sequences of these lengths, and rank them.

    Parameters
    ----------
    lengths : integers [B]
        Empty sequences cost nothing and are left out.
    model_or_layer : LSTM, GRU, RNN or IndRNN, or a Module that holds some
        Only its sizes are looked at; weights need not be loaded. Layers of a Module are added up.
    threads : int, optional
        Default: :func:`vledge.get_num_threads`.
    memory_limit : int, optional
        Bytes that a call may take beyond its input, its output included.
    form : "list", "padded", "packed" or "masked"
        How the batch comes and goes back: ways to another form cost time, too.
    steps : int, optional
        T of a padded array; the longest length if not given.
    costs : Costs, optional
        The constants: what ``vledge calibrate`` has measured, or the built-in ones.

    Raises
    ------
    TypeError, ValueError
        Lengths that are no integers from 0 or all 0, a model without a recurrent layer, numbers
        below 1, an unknown form, or steps below the longest length.
    """
    shapes = shapes_of(model_or_layer)
    lengths = array_of(lengths, "lengths")
    if lengths.ndim == 1 and not lengths.size:
        raise ValueError("there are no lengths to plan for")
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers [B], got {lengths.ndim}-D {lengths.dtype}")
    if lengths.min() < 0:
        place = int(lengths.argmin())
        raise ValueError(f"lengths[{place}] is {lengths[place]}: lengths are whole numbers from 0")
    if not lengths.any():
        raise ValueError("all lengths are 0: there is nothing to run")
    threads = thread_settings.get_num_threads() if threads is None else threads
    for name, value in (("threads", threads), ("memory_limit", memory_limit)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, expected one of " + ", ".join(map(repr, FORMS)))
    longest = int(lengths.max())
    if steps is not None and steps < longest:
        raise ValueError(f"steps is {steps}, below the longest length, {longest}")
    falling = np.sort(lengths[lengths > 0].astype(np.int64))[::-1].copy()
    case = Case(falling, form, longest if steps is None else steps)
    planner = _Planner(case, shapes, threads, memory_limit, costs or current_costs())
    missing = left_out(form, any(shape.backwards for shape in shapes))
    ranking = [planner.predict(name) for name in STRATEGIES if name not in missing]
    _no_quicker_than_what_it_is(ranking, longest)
    as_it_is = natural(form).name
    ranking.sort(
        key=lambda p: (
            not p.fits,
            p.seconds * (1 - TIE * (p.strategy == as_it_is)) if p.fits else p.peak_bytes,
        )
    )
    return Plan(
        tuple(ranking),
        missing,
        planner.rectangle(),
        lengths,
        shapes,
        form,
        threads,
        memory_limit,
        planner.costs.source,
    )


def _no_quicker_than_what_it_is(ranking: list[Prediction], longest: int) -> None:
    """A strategy that is another one by a detour takes no less, whatever the costs' errors say."""
    seconds = {one.strategy: one.seconds for one in ranking}
    for i, one in enumerate(ranking):
        same_as = STRATEGIES[one.strategy].same_as
        same = None if same_as is None else same_as(longest, one.options)
        if same in seconds:
            ranking[i] = replace(one, seconds=max(one.seconds, seconds[same]))


@dataclass
class _Planner:
    case: Case
    shapes: tuple[LayerShape, ...]
    threads: int
    memory_limit: int | None
    costs: Costs

    def predict(self, strategy: str) -> Prediction:
        """With the first options that fit, or the last that there are."""
        for options in STRATEGIES[strategy].options:
            done = [work(strategy, self.case, shape, options) for shape in self.shapes]
            peak = max(one.peak for one in done)
            fits = self.memory_limit is None or peak <= self.memory_limit
            if fits:
                break
        reason = STRATEGIES[strategy].reason(self.case, done[0])
        if not fits:
            reason = f"over the limit of {self.memory_limit:,} bytes; {reason}"
        real = self.case.total * sum(shape.multiply_adds for shape in self.shapes)
        return Prediction(
            strategy,
            dict(options),
            real,
            0,
            self.seconds(strategy, self.case, done),
            peak,
            fits,
            reason,
        )

    def seconds(self, strategy: str, case: Case, done: list[Work]) -> float:
        """Of all layers."""
        return sum(
            self.costs.seconds(strategy, case, shape, one, self.threads)
            for shape, one in zip(self.shapes, done, strict=True)
        )

    def rectangle(self) -> Prediction:
        """The padded batch with every row run to its end."""
        whole = every_step(self.case)
        done = [work("padded", whole, shape, {}) for shape in self.shapes]
        each = sum(shape.multiply_adds for shape in self.shapes)
        padding = self.case.rectangle - self.case.total
        return Prediction(
            "rectangle",
            {},
            self.case.total * each,
            padding * each,
            self.seconds("padded", whole, done),
            max(one.peak for one in done),
            True,
            f"lengths unknown: {padding_share(self.case)} of the work is on padding",
        )
