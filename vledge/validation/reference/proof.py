"""What a reference can prove: a model that agrees with it may still be another one.

Agreement says nothing where almost any model would agree: where there is nothing to run on, where
the outputs do not depend on the inputs, or where the tolerance is as wide as the outputs are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.reference.compare import Tolerance, real

__all__ = ["SCATTERS", "Proof", "weighed"]

# Of the sequences: with as many of at most one step, nearly nothing runs over time. `vledge record`
# draws a length of 1 for one sequence a run, which is half of two, and must not be refused.
NEARLY_ALL = 0.75
WIDE = 0.1  # of an output's range
SCATTERS = (
    "the reference's own results scatter so widely that to agree with them proves little "
    "(dropout or noise that is on, or a model that amplifies every rounding)"
)


@dataclass
class Proof:
    """Why a reference proves nothing, and what else of the model it leaves open."""

    nothing: list[str] = field(default_factory=list)  #: other inputs would mend it
    wide: list[str] = field(default_factory=list)  #: tolerances that let other models pass
    little: list[str] = field(default_factory=list)  #: what is open beside what is proven

    @property
    def missing(self) -> list[str]:
        """Why to agree with the reference is no proof; empty where it is one."""
        return [*self.nothing, *self.wide]


def weighed(
    reference: Reference,
    tolerances: Mapping[str, Tolerance],
    lengths: list[np.ndarray | None] | None = None,
) -> Proof:
    """What a reference leaves unproven, at these tolerances.

    ``lengths`` are those of each case where the reference itself does not have them.
    """
    proof = Proof()
    _of_inputs(reference, lengths or [case.lengths for case in reference.cases], proof)
    _of_outputs(reference, tolerances, proof)
    return proof


def _of_inputs(reference: Reference, lengths: list[np.ndarray | None], proof: Proof) -> None:
    cases = reference.cases
    arrays = {name: [case.inputs[name] for case in cases] for name in cases[0].inputs}
    floats = {
        name: own
        for name, own in arrays.items()
        if own[0].dtype.kind == "f" and name not in reference.carry
    }
    if floats:
        if all(not np.isfinite(a).all() for own in floats.values() for a in own):
            proof.nothing.append("every run has inputs that are not finite")
        elif not any(a.any() for own in floats.values() for a in own):
            names = ", ".join(floats)
            proof.nothing.append(f"all inputs are 0 ({names}): no input's weight is used")
        else:
            proof.little += [
                f"the input {name} is 0 in all runs" for name, own in floats.items() if _zero(own)
            ]
    steps = _steps(reference)
    known = [own for own in lengths if own is not None]
    if known:
        every = np.concatenate([own.reshape(-1) for own in known])
        short = float((every <= 1).mean()) if every.size else 1.0
        if (steps is None or steps > 1) and short >= NEARLY_ALL:
            proof.nothing.append(
                f"{int((every <= 1).sum())} of {every.size} sequences have at most one step: "
                "nothing is carried over time in them"
            )
    if steps == 1 and not reference.carry:
        proof.little.append("every run has one step: nothing is carried over time from it")
    if len(cases) == 1:
        proof.little.append("there is one run only")
    elif not proof.nothing and all(_same(own) for own in arrays.values()):
        proof.nothing.append(f"all {len(cases)} runs have the same inputs")


def _zero(arrays: list[np.ndarray]) -> bool:
    return any(a.size for a in arrays) and not any(a.any() for a in arrays)


def _same(arrays: list[np.ndarray]) -> bool:
    return all(np.array_equal(arrays[0], array) for array in arrays[1:])


def _steps(reference: Reference) -> int | None:
    """The most steps of any run, by the axes of time that are known; None if none is."""
    sizes = [
        array.shape[reference.axes[name]["time"]]
        for case in reference.cases
        for name, array in case.inputs.items()
        if "time" in reference.axes.get(name, {})
    ]
    return max(sizes, default=None)


def _of_outputs(reference: Reference, tolerances: Mapping[str, Tolerance], proof: Proof) -> None:
    idle: list[str] = []
    names = reference.outputs()
    for name in names:
        values = [case.outputs[name][real(case, reference, name)] for case in reference.cases]
        every = np.concatenate([v.reshape(-1) for v in values])
        if not every.size:
            idle.append(f"{name} has no values")
            continue
        if every.dtype.kind == "f":
            finite = np.isfinite(every)
            if not finite.any():
                idle.append(f"{name} has no finite value")
                continue
            if not finite.all():
                proof.little.append(
                    f"{int((~finite).sum())} of {every.size} values of {name} are not finite"
                )
            tolerance = tolerances[name]
            if tolerance.loose:
                proof.wide.append(f"{name}: {SCATTERS}")
                continue
            extent = float(np.ptp(every[finite])) or float(np.abs(every[finite]).max())
            if tolerance.absolute > WIDE * extent > 0:
                idle.append(
                    f"{name} is within {extent:.1e} everywhere, its tolerance is "
                    f"{tolerance.absolute:.1e}"
                )
                continue
        if _answers_alike(reference, name, tolerances[name]):
            idle.append(f"{name} is the same whatever the input is")
    if len(idle) == len(names):
        proof.nothing += idle
    else:
        proof.little += idle


def _answers_alike(reference: Reference, name: str, tolerance: Tolerance) -> bool:
    """Whether an output stays the same over at least two sequences or runs of different inputs."""
    axis = reference.axes.get(name, {}).get("batch")
    time = reference.axes.get(name, {}).get("time")
    samples: list[np.ndarray] = []
    for case in reference.cases:
        array = case.outputs[name]
        rows = [array] if axis is None else np.split(array, array.shape[axis], axis)
        for number, row in enumerate(rows):
            steps = _length(case, number) if axis is not None else None
            if time is not None and steps is not None:
                row = np.take(row, np.arange(min(steps, row.shape[time])), time)
            samples.append(row)
    shapes = [row.shape for row in samples]
    if len({len(shape) for shape in shapes}) != 1:
        return False
    common = tuple(slice(min(sizes)) for sizes in zip(*shapes, strict=True))
    parts = [row[common] for row in samples]
    if len(parts) < 2 or not parts[0].size:
        return False
    first = parts[0]
    if first.dtype.kind != "f":
        return all(np.array_equal(first, part) for part in parts[1:])
    apart = max(float(np.nan_to_num(np.abs(part - first)).max()) for part in parts[1:])
    return apart <= tolerance.absolute


def _length(case: Case, sequence: int) -> int | None:
    return None if case.lengths is None else int(case.lengths[sequence])
