"""How far results are from the reference, where it is worst, and how far they may be.

The yardstick is the reference's own float32 error: how far the framework's float32 results are from
the same model in float64, as recorded and with inputs moved by one unit in the last place
(``spread``). A model that was carried over rightly is off by about as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from vledge.validation.reference.bundle import Axes, Case, Reference

__all__ = ["Comparison", "Tolerance", "compare", "real", "tolerance_of"]

FACTOR = 8  # of the reference's own worst error: another order of summation, no fused products
ULPS = 16  # of the largest value, for where the reference happened to be exact
LOOSE = 1e-2  # of the largest value
WITHOUT_EXACT = 1e-4  # of the largest value, where no float64 values say how large errors are


class Bound(NamedTuple):
    """How far small weights may move an output."""

    largest: float  #: error, of the largest value
    rms: float  #: root of the mean squared error, of that of the values


#: By what weights are stored as: above what `python -m benchmarks.quantization --accuracy` finds
#: with trained layers, whose outputs are up to 1 (Silero's LSTM: 8.7e-2, 1.2e-1 and 1.2e-3).
SMALL: Final = {
    "int16": Bound(2e-3, 1e-3),
    "int8": Bound(0.1, 0.05),
    "int8-fast": Bound(0.15, 0.08),
    "int8-dynamic": Bound(0.15, 0.1),
    "int8-dynamic-7": Bound(0.15, 0.1),
}


@dataclass(frozen=True)
class Tolerance:
    """The largest absolute error that passes, and why it is that."""

    absolute: float
    why: str
    own_error: float | None  #: the reference's float32 error, None where it is not known
    loose: bool = False  #: above a hundredth of the largest value, by the rule: proves little
    rms: float | None = None  #: of the values' own: what small weights may do to them


@dataclass
class Comparison:
    """One value of all cases of one run, against the reference."""

    name: str
    tolerance: Tolerance
    absolute: float = 0.0  #: largest absolute error
    relative: float = 0.0  #: largest relative error of values above 1 % of the largest
    rms: float = 0.0  #: root of the mean squared error, of that of the values
    ulp: float = 0.0  #: largest error in units in the last place of the largest value
    worst: dict[str, int] = field(default_factory=dict)  #: case, sequence, time of it
    same_answer: tuple[int, int] | None = None  #: argmax the same, of how many
    problem: str = ""  #: another shape or dtype
    over_time: list[float] = field(default_factory=list)  #: largest error at each step

    @property
    def passed(self) -> bool:
        """Written so that NaN fails."""
        most = self.tolerance.rms
        close = self.absolute <= self.tolerance.absolute and (most is None or self.rms <= most)
        return not self.problem and bool(close)

    @property
    def of_own_error(self) -> float | None:
        """The error in units of the reference's own float32 error."""
        own = self.tolerance.own_error
        return self.absolute / own if own else None


def tolerance_of(
    reference: Reference, name: str, given: float | None = None, small: Sequence[str] = ()
) -> Tolerance:
    """The tolerance of an output over all cases; ``given`` replaces the rule. ``small`` is what the
    model's weights are stored as, where that is small: the bound is then theirs."""
    largest, own, exact = 0.0, reference.spread.get(name, 0.0), True
    for case in reference.cases:
        chosen = real(case, reference, name)
        values = case.outputs[name][chosen]
        if values.dtype.kind not in "f":
            return Tolerance(0.0, f"{values.dtype} values must be the same", None)
        finite = np.isfinite(values)
        values = values[finite]  # of an infinite one every error would be a small part
        largest = max(largest, float(np.abs(values).max(initial=0)))
        if name in case.exact:
            error = np.abs(values - case.exact[name][chosen][finite])
            own = max(own, float(error.max(initial=0)))
        else:
            exact = False
    if given is not None:
        return Tolerance(given, "as asked for", own if exact else None)
    if small:
        bound = max(SMALL[storage] for storage in small)
        why = (
            f"{', '.join(small)} weights: {bound.largest:g} of the largest value, and of all "
            f"together {bound.rms:g} (rms)"
        )
        return Tolerance(bound.largest * largest, why, own if exact else None, rms=bound.rms)
    if not exact:
        why = f"{WITHOUT_EXACT:g} of the largest value: the bundle has no float64 values"
        return Tolerance(WITHOUT_EXACT * largest, why, None)
    floor = ULPS * float(np.finfo(np.float32).eps) * largest
    half = values.dtype == np.float16
    own_error = f"the reference's own {'float16' if half else 'float32'} error {own:.1e}"
    unit = "float32 ULP" if half else "ULP"
    why = f"{FACTOR} x {own_error} + {ULPS} {unit} of {largest:.2g}"
    absolute = FACTOR * own + floor
    return Tolerance(absolute, why, own, absolute > LOOSE * largest > 0)


def real(case: Case, reference: Reference, name: str) -> np.ndarray:
    """Which elements of an output count: not those past a sequence's length."""
    array = case.outputs.get(name)
    assert array is not None
    axes = reference.axes.get(name, {})
    if case.lengths is None or "time" not in axes or "batch" not in axes:
        return np.ones(array.shape, bool)
    time = np.arange(array.shape[axes["time"]])
    mask = time[:, None] < case.lengths  # [T, B]
    if axes["time"] > axes["batch"]:
        mask = mask.T
    shape = [1] * array.ndim
    for key in ("time", "batch"):
        shape[axes[key]] = array.shape[axes[key]]
    return np.broadcast_to(mask.reshape(shape), array.shape)


def compare(
    reference: Reference,
    name: str,
    results: list[np.ndarray],
    tolerance: Tolerance,
) -> Comparison:
    """A value of every case against the reference's float64 value, or its float32 one."""
    comparison = Comparison(name, tolerance)
    axes = reference.axes.get(name, {})
    same = rows = 0
    squares = [0.0, 0.0]  # of errors and of values
    answers = name not in reference.layers
    for number, (case, result) in enumerate(zip(reference.cases, results, strict=True)):
        expected = case.truth(name)
        if result.shape != expected.shape:
            comparison.problem = f"shape {list(result.shape)}, expected {list(expected.shape)}"
            comparison.worst = {"case": number}
            return comparison
        if not result.size:
            continue
        chosen = real(case, reference, name)
        if expected.dtype.kind not in "fiub":
            wrong = (result != expected) & chosen
            error = wrong.astype(np.float64)
        else:
            with np.errstate(invalid="ignore"):  # inf - inf
                difference = result.astype(np.float64) - expected.astype(np.float64)
            error = np.asarray(np.abs(difference))  # of a scalar, too
            error[~np.isfinite(expected) & (result == expected)] = 0
            error[np.isnan(expected) & np.isnan(result)] = 0
            error = np.asarray(np.where(chosen, error, 0))
            error[np.isnan(error)] = np.inf
        worst = float(error.max())
        if expected.dtype.kind == "f":
            values = np.where(chosen & np.isfinite(expected), expected, 0).astype(np.float64)
            squares[0] += float(np.sum(error * error))
            squares[1] += float(np.sum(values * values))
        if reference.step_by_step():
            comparison.over_time.append(worst)
        _over_time(comparison.over_time, error, axes)
        if worst > comparison.absolute or not comparison.worst:
            comparison.absolute = worst
            place = np.unravel_index(int(error.argmax()), error.shape)
            comparison.worst = {"case": number}
            if "batch" in axes:
                comparison.worst["sequence"] = int(place[axes["batch"]])
            if "time" in axes:
                comparison.worst["time"] = int(place[axes["time"]])
        if expected.dtype.kind == "f":
            size = np.abs(np.where(chosen & np.isfinite(expected), expected, 0))
            large = size > 0.01 * size.max()  # near 0 a relative error says nothing
            if large.any():
                comparison.relative = max(
                    comparison.relative, float((error[large] / size[large]).max())
                )
            if size.max() > 0:
                half = case.outputs[name].dtype == np.float16
                unit = np.spacing((np.float16 if half else np.float32)(size.max()))
                comparison.ulp = max(comparison.ulp, worst / float(unit))
            if answers and _has_classes(expected, axes):
                agree = result.argmax(-1) == expected.argmax(-1)
                same += int(agree[chosen[..., 0]].sum())
                rows += int(chosen[..., 0].sum())
    comparison.rms = float(np.sqrt(squares[0] / squares[1])) if squares[1] else 0.0
    if rows:
        comparison.same_answer = same, rows
    return comparison


def _has_classes(array: np.ndarray, axes: Axes) -> bool:
    """Whether its last axis may be that of classes: of each sequence, or of each of its steps."""
    if array.ndim < 2 or array.shape[-1] < 2:
        return False
    return (array.ndim == 2 and "time" not in axes) or {*axes.values()} == {*range(array.ndim - 1)}


def _over_time(steps: list[float], error: np.ndarray, axes: Axes) -> None:
    """The largest error at each time step, over all cases."""
    if "time" not in axes:
        return
    others = tuple(axis for axis in range(error.ndim) if axis != axes["time"])
    for time, worst in enumerate(error.max(axis=others)):
        if time < len(steps):
            steps[time] = max(steps[time], float(worst))
        else:
            steps.append(float(worst))
