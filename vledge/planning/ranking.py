"""``plan``: the strategies for sequences of given lengths, ranked, with a reason for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vledge.array_like import array_of
from vledge.machine import threads as thread_settings
from vledge.planning.costs import Costs
from vledge.planning.shapes import LayerShape, shapes_of
from vledge.planning.store import costs as current_costs
from vledge.planning.work import FORMS, OPTIONS, Case, Work, every_step, left_out, work
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
        raise KeyError(strategy)


def plan(
    lengths: Any,
    model_or_layer: Any,
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
    missing = left_out(form, any(shape.bidirectional or shape.reverse for shape in shapes))
    ranking = [planner.predict(name) for name in OPTIONS if name not in missing]
    _no_quicker_than_what_it_is(ranking, longest)
    natural = "packed" if form == "list" else form
    ranking.sort(
        key=lambda p: (
            not p.fits,
            p.seconds * (1 - TIE * (p.strategy == natural)) if p.fits else p.peak_bytes,
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
    """One window that holds all steps is ``padded`` by a detour, whatever the costs' errors say."""
    padded = next((one for one in ranking if one.strategy == "padded"), None)
    for i, one in enumerate(ranking):
        if padded and one.strategy == "streaming" and one.options["window"] >= longest:
            ranking[i] = replace(one, seconds=max(one.seconds, padded.seconds))


@dataclass
class _Planner:
    case: Case
    shapes: tuple[LayerShape, ...]
    threads: int
    memory_limit: int | None
    costs: Costs

    def predict(self, strategy: str) -> Prediction:
        """With the first options that fit, or the last that there are."""
        for options in OPTIONS[strategy]:
            done = [work(strategy, self.case, shape, options) for shape in self.shapes]
            peak = max(one.peak for one in done)
            fits = self.memory_limit is None or peak <= self.memory_limit
            if fits:
                break
        reason = _REASONS[strategy](self.case, done[0])
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
            f"lengths unknown: {_share(self.case)} of the work is on padding",
        )


def _share(case: Case) -> str:
    return f"{1 - case.total / case.rectangle:.0%}".replace("%", " %")


def _why_padded(case: Case, done: Work) -> str:
    if case.total == case.rectangle:
        return "all lengths are equal: there is nothing to pack"
    return f"{_share(case)} of the rectangle is padding, which takes memory and is not run"


def _why_packed(case: Case, done: Work) -> str:
    if case.total == case.rectangle:
        return "no padding to leave out"
    return f"{_share(case)} of the padded work is padding"


def _why_masked(case: Case, done: Work) -> str:
    return f"{_share(case)} of the steps are masked; the others run packed"


def _why_bucketed(case: Case, done: Work) -> str:
    most = max(len(run) for run in done.runs)
    batches = "1 batch" if len(done.runs) == 1 else f"{len(done.runs)} batches"
    return f"{batches} of at most {most} sequences of like length"


def _why_lanes(case: Case, done: Work) -> str:
    rows = max(len(run) for run in done.runs)
    rounds = "1 round" if len(done.runs) == 1 else f"{len(done.runs)} rounds"
    return f"{rows} rows kept full in {rounds}"


def _why_streaming(case: Case, done: Work) -> str:
    windows = "1 window" if len(done.runs) == 1 else f"{len(done.runs)} windows"
    return f"{windows} one after another, a window's working memory at a time"


_REASONS: dict[str, Callable[[Case, Work], str]] = {
    "padded": _why_padded,
    "packed": _why_packed,
    "masked": _why_masked,
    "bucketed": _why_bucketed,
    "lanes": _why_lanes,
    "streaming": _why_streaming,
}
