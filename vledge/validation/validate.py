"""Run a model in every way against its reference: is it the model that was trained?"""

from __future__ import annotations

import hashlib
import html
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from vledge.budget import Limits
from vledge.formats import check_known
from vledge.graph.session import InferenceSession
from vledge.machine.system import describe
from vledge.model.definition import Model
from vledge.shown import html_table, listed
from vledge.validation.diagnosis.diagnose import Diagnosis, diagnose
from vledge.validation.reference import bundle
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.compare import Comparison, Tolerance, compare, real, tolerance_of
from vledge.validation.reference.proof import SCATTERS, weighed
from vledge.validation.running.layers import exposed, layer_outputs
from vledge.validation.running.lengths import lengths_input
from vledge.validation.running.model_file import read_any_model, storages
from vledge.validation.running.paths import Path, available_paths, run, selected

__all__ = ["Report", "Run", "validate"]

Progress = Callable[[int, int, str], None]


@dataclass(repr=False)
class Run:
    """One path over all cases."""

    path: Path
    seconds: float
    comparisons: list[Comparison]
    error: str = ""  #: what the model raised

    def __repr__(self) -> str:
        verdict = "passed" if self.passed else f"failed {self.error}".rstrip()
        return f"Run({self.path}: {verdict}, {self.seconds * 1e3:.1f} ms)"

    @property
    def passed(self) -> bool:
        return not self.error and all(comparison.passed for comparison in self.comparisons)


@dataclass(repr=False)
class Report:
    """What was run, and how it came out."""

    model: str
    reference: str
    made_by: dict[str, str]
    machine: dict[str, str]
    cases: int
    lengths: list[int]
    layers: list[str]
    runs: list[Run]
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  #: strategy → why it was not run
    diagnosis: Diagnosis | None = None
    errors: dict[str, np.ndarray] = field(default_factory=dict)  #: of the first run, by output
    step: str = "time step"  #: what errors over time are counted by
    unproven: list[str] = field(default_factory=list)  #: why to pass would be no proof
    date: str = ""  #: when it was run, UTC
    checksum: str = ""  #: of the model's file, "sha256:…"; empty for a model that is no file

    @property
    def passed(self) -> bool:
        """Whether every run agrees with the reference."""
        return all(run.passed for run in self.runs)

    @property
    def proven(self) -> bool:
        """Whether every run agrees, with a reference that another model would not agree with."""
        return self.passed and not self.unproven

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return "passed" if self.proven else "no proof" if self.passed else "failed"

    def __repr__(self) -> str:
        failed = sum(not run.passed for run in self.runs)
        why = self.diagnosis.summary if self.diagnosis else "; ".join(self.unproven)
        worst = (
            f"{comparison.name} {comparison.absolute:.1e} of {comparison.tolerance.absolute:.1e}"
            for comparison, _ in sorted(self.worst(), key=lambda pair: pair[0].passed)
        )
        lines = [
            f"Report: {self.verdict}: {self.model} against {self.reference}",
            f"  {failed or 'none'} of {len(self.runs)} ways of running failed, {self.cases} cases",
            f"  largest errors: {listed(worst)}",
        ]
        return "\n".join([*lines, f"  {why}"] if why else lines)

    def _repr_html_(self) -> str:
        """The outputs as a table under the verdict, for notebooks."""
        lines = [
            (
                comparison.name,
                "passed" if comparison.passed else "failed",
                f"{comparison.absolute:.2e}",
                f"{comparison.tolerance.absolute:.2e}",
                str(path),
                comparison.problem,
            )
            for comparison, path in self.worst()
        ]
        heads = ("output", "", "largest error", "tolerance", "worst way", "")
        first, *others = html.escape(repr(self)).split("\n")
        told = "".join(f"<br>{line}" for line in others if "largest errors" not in line)
        return f"<p><b>{first}</b>{told}</p>{html_table(heads, lines)}"

    def worst(self) -> list[tuple[Comparison, Path]]:
        """Each value's worst comparison over all runs, and where that was."""
        worst: dict[str, tuple[Comparison, Path]] = {}
        for one in self.runs:
            for comparison in one.comparisons:
                before = worst.get(comparison.name)
                if before is None or _badness(comparison) > _badness(before[0]):
                    worst[comparison.name] = comparison, one.path
        return list(worst.values())

    def as_json(self) -> dict[str, object]:
        """Plain numbers and texts, for ``json.dumps``."""
        return {
            "model": self.model,
            "reference": self.reference,
            "passed": self.passed,
            "proven": self.proven,
            "unproven": self.unproven,
            "date": self.date,
            "checksum": self.checksum,
            "made_by": self.made_by,
            "machine": self.machine,
            "cases": self.cases,
            "notes": self.notes,
            "left_out": self.left_out,
            "outputs": [
                {**_as_json_fields(comparison), "worst_path": str(path)}
                for comparison, path in self.worst()
            ],
            "runs": [
                {
                    **asdict(one.path),
                    "seconds": one.seconds,
                    "passed": one.passed,
                    "error": one.error,
                    "largest_error": {c.name: _finite(c.absolute) for c in one.comparisons},
                }
                for one in self.runs
            ],
            "diagnosis": None if self.diagnosis is None else asdict(self.diagnosis),
        }


def _badness(comparison: Comparison) -> tuple[bool, bool, float]:
    return bool(comparison.problem), not comparison.passed, comparison.absolute


def _as_json_fields(comparison: Comparison) -> dict[str, object]:
    return {
        "name": comparison.name,
        "passed": comparison.passed,
        "absolute": _finite(comparison.absolute),
        "relative": _finite(comparison.relative),
        "rms": _finite(comparison.rms),
        "ulp": _finite(comparison.ulp),
        "of_reference_error": _finite(comparison.of_own_error),
        "tolerance": comparison.tolerance.absolute,
        "why": comparison.tolerance.why,
        "worst": comparison.worst,
        "same_answer": comparison.same_answer,
        "problem": comparison.problem,
    }


def _finite(value: float | None) -> float | str | None:
    """JSON has no infinity."""
    return value if value is None or np.isfinite(value) else str(value)


def validate(
    model: str | os.PathLike[str] | Model,
    reference: str | os.PathLike[str] | Reference | None = None,
    *,
    tolerance: float | None = None,
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> Report:
    """Run a model in every way that this machine has, and compare with its reference.

    Parameters
    ----------
    model : a file with a graph, or with the weights of a recurrent layer; or a graph that was read
    reference : a bundle or its file; by default the file beside the model
    tolerance : largest absolute error for every output, in place of the rule (`tolerance_of`)
    progress : called with (runs done, runs in all, what runs next)
    limits : what reading each of the files may cost, and running the model

    Raises FormatError and UnsupportedError for files that cannot be read or run, ValueError if the
    bundle's inputs are not the model's.
    """
    named = isinstance(model, (str, os.PathLike))
    model_name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else "model"
    where = "given"
    if reference is None:
        if not named:
            raise ValueError("a model that is no file needs a reference")
        check_known(model_name)  # a missing model is told before a missing reference
        reference = bundle.reference_path(model_name)
        if not os.path.exists(reference):
            raise FileNotFoundError(
                f"there is no reference bundle {reference}: make it by `vledge record` or "
                "vledge.export, or say where it is, reference=FILE"
            )
    if not isinstance(reference, Reference):
        where = os.fspath(reference)
        reference = bundle.read(reference, limits)
    graph_model = model
    if not isinstance(graph_model, Model):
        graph_model = read_any_model(model_name, reference, limits)
    reference, notes = _fitted(graph_model, reference)
    names = [*reference.outputs(), *reference.layers]
    small = storages(graph_model)
    tolerances = {name: tolerance_of(reference, name, tolerance, small) for name in names}
    proof = weighed(reference, tolerances, _unsaid_lengths(graph_model, reference))
    notes += proof.little
    notes += [f"{name}: {SCATTERS}" for name in reference.layers if tolerances[name].loose]
    paths, left_out = available_paths(graph_model, reference)
    report = Report(
        model_name,
        where,
        reference.made_by,
        describe(),
        len(reference.cases),
        _lengths(reference),
        reference.layers,
        [],
        notes,
        left_out,
        step="run of the stream" if reference.step_by_step() else "time step",
        unproven=proof.missing,
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        checksum=_checksum(model_name) if named and os.path.isfile(model_name) else "",
    )
    sessions: dict[tuple[str, str], InferenceSession] = {}
    for number, path in enumerate(paths):
        if progress:
            progress(number, len(paths), str(path))
        with selected(path):
            key = path.isa, path.projection
            if key not in sessions:  # one at a time: weights take memory
                sessions = {key: InferenceSession(exposed(graph_model))}
            one, results = _run(sessions[key], path, reference, tolerances)
        report.runs.append(one)
        if not report.errors:
            report.errors = _errors(reference, results)
    if small:
        told = ", ".join(f"{one.name} {one.rms:.1e}" for one, _ in report.worst())
        report.notes.append(f"weights are {', '.join(small)}: rms error of all values' rms: {told}")
    if not report.passed:
        if progress:
            progress(len(paths), len(paths), "looking for the mistake")
        report.diagnosis = diagnose(graph_model, reference, tolerances)
    if progress:
        progress(len(paths), len(paths), "")
    return report


def _checksum(path: str) -> str:
    """The SHA-256 of a file, which says of two machines whether they have the same model."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _run(
    session: InferenceSession,
    path: Path,
    reference: Reference,
    tolerances: dict[str, Tolerance],
) -> tuple[Run, dict[str, list[np.ndarray]]]:
    results: dict[str, list[np.ndarray]] = {name: [] for name in tolerances}
    start = time.perf_counter()
    try:
        for case in reference.cases:
            for name, array in run(session, path.strategy, case, reference).items():
                results[name].append(array)
    except ValueError as error:
        # sizes that do not go together deep in a graph: the model is another one
        return Run(path, time.perf_counter() - start, [], str(error)), {}
    seconds = time.perf_counter() - start
    comparisons = [
        compare(reference, name, results[name], tolerance) for name, tolerance in tolerances.items()
    ]
    return Run(path, seconds, comparisons), results


def _fitted(model: Model, reference: Reference) -> tuple[Reference, list[str]]:
    """The part of the bundle that the model has, and notes on what cannot be compared."""
    notes = []
    case = reference.cases[0]
    known = {info.name for info in model.graph.inputs}
    inputs = [name for name in known if name not in model.graph.initializers]
    missing = sorted(name for name in inputs if name not in case.inputs)
    if missing:
        raise ValueError(
            f"the model has the input {missing[0]!r}, which the reference does not have: "
            f"it has {list(case.inputs)}"
        )
    unused = [name for name in case.inputs if name not in known]
    if unused:
        notes.append(f"the model has no input {', '.join(unused)}, which the reference gives")
    outputs = {info.name for info in model.graph.outputs}
    absent = [name for name in reference.outputs() if name not in outputs]
    if absent:
        raise ValueError(
            f"the model has no output {absent[0]!r}, which the reference has: it has "
            f"{sorted(outputs)}"
        )
    inside = set(layer_outputs(model)) | outputs
    lost = [name for name in reference.layers if name not in inside]
    if lost:
        notes.append(f"layers of the reference that the model does not have: {', '.join(lost)}")
        reference = reference.without(lost)
    if reference.loss:
        notes.append(f"no float64 values: {reference.loss}")
    return reference, notes


def _unsaid_lengths(model: Model, reference: Reference) -> list[np.ndarray | None] | None:
    """The lengths that a bundle gives as an input without saying so; None where it does say so."""
    if any(case.lengths is not None for case in reference.cases):
        return None
    name = lengths_input(model)
    return [case.inputs.get(name) for case in reference.cases] if name else None


def _lengths(reference: Reference) -> list[int]:
    lengths: list[int] = []
    for case in reference.cases:
        if case.lengths is not None:
            lengths += case.lengths.tolist()
            continue
        for name, array in case.inputs.items():
            axes = reference.axes.get(name, {})
            if "time" in axes:
                count = array.shape[axes["batch"]] if "batch" in axes else 1
                lengths += [array.shape[axes["time"]]] * count
                break
    return lengths


def _errors(reference: Reference, results: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """All errors of the float outputs of one run, flat, for a histogram."""
    errors = {}
    for name, arrays in results.items():
        parts = []
        for case, array in zip(reference.cases, arrays, strict=True):
            expected = case.truth(name)
            if expected.dtype.kind == "f" and array.shape == expected.shape:
                error = np.abs(array.astype(np.float64) - expected)
                parts.append(error[real(case, reference, name)])
        if parts:
            errors[name] = np.concatenate(parts)
    return errors
