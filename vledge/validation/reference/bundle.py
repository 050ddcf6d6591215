"""The reference bundle: what a model's own framework computed, in one safetensors file.

Tensors are named ``case/kind/value``: case a number from 0, kind ``input``, ``output`` (as the
framework computed it in float32), ``exact`` (in float64), ``inside`` (the sample of a value inside
of the model) or ``lengths``; and ``weights/kind/tensor`` for the prints of the model's weights.
What they mean is JSON in the metadata under ``vledge.reference``. A bundle is data from a stranger:
every name, type and shape is checked when it is read.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import numpy as np

from vledge.budget import Budget, Limits
from vledge.errors import FormatError, reading
from vledge.formats import safetensors_file
from vledge.formats.json_text import Json, parsed
from vledge.formats.source import open_source
from vledge.shown import listed
from vledge.validation.reference.prints import Print
from vledge.validation.reference.samples import INSIDE, WEIGHTS, Sample, count_of

__all__ = ["Axes", "Case", "Reference", "read", "reference_path", "versions", "write"]

VERSION: Final = 2  # 1 had no prints and no values inside
KEY: Final = "vledge.reference"
MAX_CASES: Final = 10_000
AXES: Final = ("batch", "time")
_NAME: Final = re.compile(r"(\d{1,5})/(?:(input|output|exact|inside)/(.+)|(lengths))", re.DOTALL)
_PRINT: Final = re.compile(r"weights/(sample|sums\d{1,2})/(.+)", re.DOTALL)

Axes = dict[str, int]  # "batch" and "time" → the axis of an array, each where there is one


@dataclass(repr=False)
class Case:
    """One run of the model: arrays by name."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]  #: of the model, and of its layers
    exact: dict[str, np.ndarray] = field(default_factory=dict)  #: outputs in float64; some or none
    lengths: np.ndarray | None = None  #: [B] int64, where sequences have padding behind them
    inside: dict[str, Sample] = field(default_factory=dict)  #: values of the graph, float64

    def __repr__(self) -> str:
        names = (f"{n} {list(a.shape)}" for n, a in {**self.inputs, **self.outputs}.items())
        return f"Case({listed(names)})"

    def truth(self, name: str) -> np.ndarray:
        """An output in float64 if there is one, but where the framework itself overflowed."""
        value, exact = self.outputs[name], self.exact.get(name)
        return value if exact is None else np.where(np.isfinite(value), exact, value)


@dataclass(repr=False)
class Reference:
    """All runs, and what is known of them."""

    cases: list[Case]
    made_by: dict[str, str]  #: package → version
    seed: int | None = None  #: of random inputs
    layers: list[str] = field(default_factory=list)  #: outputs that are inside of the model
    axes: dict[str, Axes] = field(default_factory=dict)  #: value → its axes of batch and time
    carry: dict[str, str] = field(default_factory=dict)  #: state input → the output it comes from
    exact_by: str = ""  #: what computed the float64 values
    loss: str = ""  #: why there are no float64 values, where there are none
    #: value → its largest float32 error when inputs are moved by one unit in the last place
    spread: dict[str, float] = field(default_factory=dict)
    prints: dict[str, Print] = field(default_factory=dict)  #: of the model's weights

    def __post_init__(self) -> None:
        if not self.cases:
            raise ValueError("cases is empty: a reference is of one run and more")

    def __repr__(self) -> str:
        return (
            f"Reference({len(self.cases)} cases by {versions(self.made_by)}: "
            f"{listed(self.outputs())}; {len(self.layers)} values of layers)"
        )

    def outputs(self) -> list[str]:
        """The model's own outputs, without its layers'."""
        layers = set(self.layers)
        return [name for name in self.cases[0].outputs if name not in layers]

    def step_by_step(self) -> bool:
        """Whether each case is one step of a stream: states carried, no axis of time."""
        return bool(self.carry) and not any("time" in axes for axes in self.axes.values())

    def without(self, layers: list[str]) -> Reference:
        """The same without some of its layers."""
        cases = [
            replace(
                case,
                outputs={n: a for n, a in case.outputs.items() if n not in layers},
                exact={n: a for n, a in case.exact.items() if n not in layers},
            )
            for case in self.cases
        ]
        return replace(self, cases=cases, layers=[n for n in self.layers if n not in layers])


def versions(made_by: dict[str, str]) -> str:
    """What made a reference, as people read it."""
    return ", ".join(f"{name} {version}".strip() for name, version in made_by.items())


def reference_path(model: str | os.PathLike[str]) -> str:
    """Where a model's bundle is looked for: ``a.onnx`` → ``a.reference.safetensors``."""
    return os.path.splitext(os.fspath(model))[0] + ".reference.safetensors"


def write(path: str | os.PathLike[str], reference: Reference) -> None:
    """Write the bundle, whole or not at all."""
    tensors: dict[str, np.ndarray] = {}
    for number, case in enumerate(reference.cases):
        kinds = {"input": case.inputs, "output": case.outputs, "exact": case.exact}
        for kind, arrays in kinds.items():
            for name, array in arrays.items():
                tensors[f"{number}/{kind}/{name}"] = array
        if case.lengths is not None:
            tensors[f"{number}/lengths"] = np.asarray(case.lengths, np.int64)
        for name, sample in case.inside.items():
            tensors[f"{number}/inside/{name}"] = sample.numbers
    for name, known in reference.prints.items():
        tensors[f"weights/sample/{name}"] = known.sample.numbers
        for axis, sums in known.profiles.items():
            tensors[f"weights/sums{axis}/{name}"] = sums
    description = {
        "version": VERSION,
        "cases": len(reference.cases),
        "made_by": reference.made_by,
        "seed": reference.seed,
        "layers": reference.layers,
        "axes": reference.axes,
        "carry": reference.carry,
        "exact_by": reference.exact_by,
        "loss": reference.loss,
        "spread": reference.spread,
        "inside": [
            {name: sample.shape for name, sample in case.inside.items()} for case in reference.cases
        ],
        "weights": {
            name: {"checksum": p.checksum, "dtype": p.dtype, "shape": p.sample.shape}
            for name, p in reference.prints.items()
        },
    }
    text = json.dumps(description, ensure_ascii=True, separators=(",", ":"))
    safetensors_file.write(path, tensors, {KEY: text})


def read(path: str | os.PathLike[str], limits: Limits | None = None) -> Reference:
    """Read a bundle that `write` wrote.

    FormatError, naming the file, where it is damaged or contradicts itself; OSError as ``open``.
    """
    with reading(os.fspath(path)):
        source = open_source(path, limits)
        tensors, skipped, metadata = safetensors_file.read_all(source)
        if KEY not in metadata:
            raise FormatError("no reference bundle: made by `vledge record` or `vledge.export`")
        if skipped:
            raise FormatError(f"tensor {next(iter(skipped))!r} is {next(iter(skipped.values()))}")
        return _reference(tensors, metadata[KEY], source.budget)


def _reference(tensors: dict[str, np.ndarray], text: str, budget: Budget) -> Reference:
    fields = _typed(parsed(text, budget, "the description"), dict, "the description")
    if fields.get("version") not in range(1, VERSION + 1):
        raise FormatError(
            f"the bundle is of version {fields.get('version')!r}; this vledge reads 1 to {VERSION}"
        )
    count = _typed(fields.get("cases"), int, "cases")
    if not 1 <= count <= MAX_CASES:
        raise FormatError(f"cases is {count}, expected 1 to {MAX_CASES:,}")
    seed = fields.get("seed")
    reference = Reference(
        [Case({}, {}) for _ in range(count)],
        _texts(fields.get("made_by"), "made_by"),
        None if seed is None else _typed(seed, int, "seed"),
        [_typed(n, str, "a layer") for n in _typed(fields.get("layers"), list, "layers")],
        {
            name: _axes(axes, name)
            for name, axes in _typed(fields.get("axes"), dict, "axes").items()
        },
        _texts(fields.get("carry"), "carry"),
        _typed(fields.get("exact_by"), str, "exact_by"),
        _typed(fields.get("loss"), str, "loss"),
        _errors(fields.get("spread")),
    )
    reference.prints = _prints(fields.get("weights", {}), tensors)
    inside = _typed(fields.get("inside", [{} for _ in range(count)]), list, "inside")
    for number, (case, shapes) in enumerate(zip(reference.cases, inside, strict=False)):
        for name, shape in _typed(shapes, dict, "inside").items():
            array = tensors.pop(f"{number}/inside/{name}", None)
            case.inside[name] = _sample(array, shape, INSIDE, f"case {number}: {name!r}")
    for name, array in tensors.items():
        if _PRINT.fullmatch(name):
            raise FormatError(f"tensor {name!r} is the print of no tensor that the bundle names")
        parts = _NAME.fullmatch(name)
        if parts is None or parts[2] == "inside" or int(parts[1]) >= count:
            raise FormatError(f"tensor {name!r} belongs to no case")
        case = reference.cases[int(parts[1])]
        if parts[4]:
            case.lengths = array
        else:
            kinds = {"input": case.inputs, "output": case.outputs, "exact": case.exact}
            kinds[parts[2]][parts[3]] = array
    for number, case in enumerate(reference.cases):
        _check(case, reference, f"case {number}")
    if len(inside) != count:
        raise FormatError(f"inside is of {len(inside)} cases, there are {count}")
    return reference


def _check(case: Case, reference: Reference, where: str) -> None:
    """A case has what the others have, and its arrays go together."""
    first = reference.cases[0]
    if not case.outputs:
        raise FormatError(f"{where} has no outputs")
    for kind in ("inputs", "outputs", "exact"):
        if getattr(case, kind).keys() != getattr(first, kind).keys():
            raise FormatError(f"{where} has other {kind} than case 0")
    for state, source in reference.carry.items():
        if state not in case.inputs or source not in case.outputs:
            raise FormatError(f"{where} has no state {state!r} from {source!r}")
    missing = [name for name in reference.layers if name not in case.outputs]
    if missing:
        raise FormatError(f"{where} has no layer {missing[0]!r}")
    if not reference.outputs():
        raise FormatError(f"{where} has no outputs but layers")
    for name, array in case.exact.items():
        like = case.outputs.get(name)
        if like is None or array.dtype != np.float64 or array.shape != like.shape:
            raise FormatError(f"{where}: exact {name!r} is not the output in float64")
    for name, array in (*case.inputs.items(), *case.outputs.items()):
        axes = reference.axes.get(name, {})
        if any(axis >= array.ndim for axis in axes.values()):
            raise FormatError(f"{where}: {name!r} has the shape {array.shape}, its axes are {axes}")
    if case.lengths is None:
        return
    lengths = case.lengths
    if lengths.dtype != np.int64 or lengths.ndim != 1 or (lengths < 0).any():
        raise FormatError(f"{where}: lengths must be whole numbers from 0 in one axis")
    for name, array in (*case.inputs.items(), *case.outputs.items()):
        axes = reference.axes.get(name, {})
        sequences = array.shape[axes["batch"]] if "batch" in axes else len(lengths)
        steps = array.shape[axes["time"]] if "time" in axes else lengths.max(initial=0)
        if sequences != len(lengths) or steps < lengths.max(initial=0):
            raise FormatError(
                f"{where}: {name!r} has the shape {array.shape}, but there are {len(lengths)} "
                f"lengths to {lengths.max(initial=0)}"
            )


def _prints(value: Json, tensors: dict[str, np.ndarray]) -> dict[str, Print]:
    """Take the prints out of the tensors."""
    prints = {}
    for name, own in _typed(value, dict, "weights").items():
        what = f"the print of {name!r}"
        own = _typed(own, dict, what)
        sample = _sample(
            tensors.pop(f"weights/sample/{name}", None), own.get("shape"), WEIGHTS, what
        )
        profiles = {}
        for axis, size in enumerate(sample.shape):
            sums = tensors.pop(f"weights/sums{axis}/{name}", None)
            if sums is None:
                continue
            if sums.dtype != np.float64 or sums.shape != (size,):
                raise FormatError(f"{what} has sums of the shape {sums.shape}, expected ({size},)")
            profiles[axis] = sums
        checksum = _typed(own.get("checksum"), int, what)
        prints[name] = Print(checksum, _typed(own.get("dtype"), str, what), sample, profiles)
    return prints


def _sample(array: np.ndarray | None, shape: Json, most: int, what: str) -> Sample:
    sizes = tuple(_typed(size, int, what) for size in _typed(shape, list, what))
    if array is None or len(sizes) > 64 or any(size < 0 for size in sizes):
        raise FormatError(f"{what} has no elements, or the shape {sizes}")
    expected = count_of(math.prod(sizes), most)
    if array.shape != (expected,) or array.dtype != np.float64:
        raise FormatError(f"{what} has {array.shape} {array.dtype}, expected {expected} float64")
    return Sample(sizes, most, array)


def _axes(value: Json, name: str) -> Axes:
    axes: Axes = _typed(value, dict, f"the axes of {name!r}")
    for key, axis in axes.items():
        if key not in AXES or type(axis) is not int or not 0 <= axis < 64:
            raise FormatError(f"the axes of {name!r} are {axes!r:.60}")
    if len(set(axes.values())) != len(axes):
        raise FormatError(f"the axes of {name!r} are the same: {axes!r}")
    return axes


def _errors(value: Json) -> dict[str, float]:
    errors: dict[str, float] = _typed(value, dict, "spread")
    for name, error in errors.items():
        if not 0 <= _typed(error, float, f"the spread of {name!r}") < float("inf"):
            raise FormatError(f"the spread of {name!r} is {error}, expected a number from 0")
    return errors


def _texts(value: Json, what: str) -> dict[str, str]:
    return {key: _typed(item, str, what) for key, item in _typed(value, dict, what).items()}


_Kind = TypeVar("_Kind")


def _typed(value: Json, kind: type[_Kind], what: str) -> _Kind:
    if type(value) is not kind:
        raise FormatError(f"{what} is {value!r:.60}, expected {kind.__name__}")
    return value
