"""A reference bundle for an ONNX file, by onnxruntime.

The float32 values are onnxruntime's. It has no float64 recurrent operators, so that the float64
values are vledge's own: the same graph with every number doubled (``precision``). That is sound as
a yardstick of rounding, and no more: it is only used where it agrees with onnxruntime to one in a
hundred of the largest value, and refused otherwise, as one of the two must then be wrong.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from vledge._version import __version__
from vledge.errors import UnsupportedError, VledgeError, import_failure
from vledge.graph.plan import Plan
from vledge.graph.read import read_model
from vledge.graph.values import check_tensors_only
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Model
from vledge.recurrent.cells import OPERATORS
from vledge.validation.recording.spread import spread
from vledge.validation.reference.axes import axes_from_shapes
from vledge.validation.reference.bundle import Axes, Case, Reference
from vledge.validation.reference.compare import tolerance_of
from vledge.validation.reference.prints import prints_of, stored
from vledge.validation.reference.proof import weighed
from vledge.validation.reference.samples import INSIDE, sampled
from vledge.validation.running.layers import (
    exposed,
    layer_axes,
    layer_outputs,
    named_outputs,
)
from vledge.validation.running.lengths import lengths_input, required
from vledge.validation.running.precision import doubled, doubled_array
from vledge.validation.running.saturation import WHY, saturating_plan, unsaturated
from vledge.validation.running.values import computed, laid_open, runs

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["check_carry", "record"]

AGREEMENT = 1e-2
Arrays = dict[str, np.ndarray]


def record(
    path: str | os.PathLike[str],
    inputs: Iterable[Arrays],
    *,
    layers: bool = False,
    values: bool = False,
    axes: Mapping[str, Axes] | None = None,
    carry: Mapping[str, str] | None = None,
    seed: int | None = None,
) -> Reference:
    """Run an ONNX file by onnxruntime on each set of inputs.

    With ``layers`` the bundle has the values of recurrent nodes, with ``values`` samples of all
    that the main graph's nodes make. ``carry`` names states: the input of a run is the output of
    the run before. ``axes`` of inputs are those that the symbols name unless they are given.

    Raises MissingDependencyError without onnxruntime or onnx, VledgeError if onnxruntime and
    vledge's float64 do not agree, ValueError if almost any model would agree with the reference.
    """
    model = read_model(path)
    check_tensors_only(model.graph, "a reference")
    inside_names = computed(model) if values else []
    session = _session(path, layers, inside_names)
    carry = dict(carry or {})
    names = [info.name for info in model.graph.outputs]
    check_carry(model, carry)
    inside = [name for name in layer_outputs(model) if name not in names] if layers else []
    own = {n: axes_from_symbols(info) for n, info in required(model).items()}
    own |= axes or {}
    length_name = lengths_input(model)
    if length_name is not None and len(required(model)[length_name].shape or ()) == 1:
        own[length_name].setdefault("batch", 0)
    cases: list[Case] = []
    for arrays in inputs:
        arrays = dict(arrays)
        if cases:
            arrays |= {state: cases[-1].outputs[source] for state, source in carry.items()}
        try:
            results = session.run([*names, *inside], arrays)
        except Exception as error:
            # onnxruntime's exceptions have no public base class
            raise ValueError(f"onnxruntime: {str(error).strip().splitlines()[0]}") from error
        lengths = None
        if length_name is not None and "batch" in own.get(length_name, {}):
            lengths = _countable(np.asarray(arrays[length_name], np.int64), arrays, own)
        outputs = dict(zip([*names, *inside], results, strict=True))
        cases.append(Case(arrays, outputs, {}, lengths))
    if not cases:
        raise ValueError("there are no inputs to record")
    axes_of = {name: axes_ for name, axes_ in own.items() if axes_} | _output_axes(
        model, cases, own
    )
    if layers:
        axes_of |= layer_axes(model)
    loss = _add_exact(model, cases, layers)
    if loss:
        _check_integers(model, cases)
    by = "" if loss else f"vledge {__version__} in float64, which agrees with onnxruntime"
    versions = {
        "onnxruntime": _module("onnxruntime").__version__,
        "vledge": __version__,
        "python": platform.python_version(),
    }
    if model.producer_name:
        versions[model.producer_name] = model.producer_version
    reference = Reference(cases, versions, seed, inside, axes_of, carry, by, loss)
    reference.prints = prints_of(model)
    if values:
        _add_values(model, reference, session)
    everything = [*names, *inside]
    reference.spread = spread(
        reference,
        lambda _, case: dict(zip(everything, session.run(everything, case.inputs), strict=True)),
    )
    proof = weighed(reference, {name: tolerance_of(reference, name) for name in everything})
    if proof.nothing:
        raise ValueError(
            f"such a reference would prove nothing: {'; '.join(proof.nothing)}. Give other inputs"
        )
    return reference


def _countable(lengths: np.ndarray, arrays: Arrays, own: Mapping[str, Axes]) -> np.ndarray | None:
    """The lengths, where they are of the axes that are known; None if they count something else."""
    for name, array in arrays.items():
        axes = own.get(name, {})
        if "batch" in axes and array.shape[axes["batch"]] != lengths.size:
            return None
        if "time" in axes and array.shape[axes["time"]] < lengths.max(initial=0):
            return None
    return lengths.reshape(-1) if (lengths >= 0).all() else None


def check_carry(model: Model, carry: Mapping[str, str]) -> None:
    """ValueError where a state to carry is no input of the model, or its source no output."""
    outputs = [info.name for info in model.graph.outputs]
    for state, source in carry.items():
        if state not in required(model) or source not in outputs:
            raise ValueError(f"carry: there is no input {state!r} with an output {source!r}")


def _module(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise import_failure(error, name, f"recording needs {name}: pip install {name}") from error


def _add_values(model: Model, reference: Reference, session: onnxruntime.InferenceSession) -> None:
    """Samples of all values that nodes compute, where onnxruntime and vledge agree on them.

    They are float64 and vledge's, except in a quantized graph, whose values are onnxruntime's.
    """
    opened = laid_open(model, reference)
    held = stored(opened.graph)
    names = [name for name in computed(opened) if name not in held]
    shown = [info.name for info in session.get_outputs()]
    own = runs(opened, reference, names)
    for case, ours in zip(reference.cases, own, strict=True):
        theirs = dict(zip(shown, session.run(shown, case.inputs), strict=True))
        for name, array in ours.items():
            value = theirs.get(name, array)
            if not isinstance(value, np.ndarray) or array.dtype.kind not in "fiub":
                continue
            if _agree(value, array):
                kept = value if array.dtype == np.float32 else array
                case.inside[name] = sampled(kept, INSIDE)
    common = set.intersection(*(set(case.inside) for case in reference.cases))
    for case in reference.cases:
        case.inside = {name: case.inside[name] for name in names if name in common}


def _session(
    path: str | os.PathLike[str], layers: bool, values: list[str]
) -> onnxruntime.InferenceSession:
    """onnxruntime's session, with the recurrent nodes' values among its outputs if asked for, and
    with those named."""
    runtime, onnx = _module("onnxruntime"), _module("onnx")
    options = runtime.SessionOptions()
    # its idle threads spin, on the CPUs that the runs to compare with are given
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    proto = onnx.load(os.fspath(path))
    shifted = unsaturated(proto)
    if not layers and not values and not shifted:
        return runtime.InferenceSession(os.fspath(path), options, providers=providers)
    present = {info.name for info in proto.graph.output}
    for node in proto.graph.node if layers else ():
        if node.op_type in OPERATORS and node.domain in ("", "ai.onnx"):
            outputs = named_outputs(list(node.output))
            del node.output[:]
            node.output.extend(outputs)
            for name in outputs:
                if name and name not in present:
                    proto.graph.output.append(onnx.ValueInfoProto(name=name))
                    present.add(name)
    made = {name for node in proto.graph.node for name in node.output}
    for name in values:
        if name in made - present:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
            present.add(name)
    return runtime.InferenceSession(proto.SerializeToString(), options, providers=providers)


def _output_axes(model: Model, cases: list[Case], own: Mapping[str, Axes]) -> dict[str, Axes]:
    """The outputs' axes: by their symbols, else by the sizes that the runs had."""

    def size(case: Case, key: str) -> int:
        sizes = (a.shape[own[n][key]] for n, a in case.inputs.items() if key in own.get(n, {}))
        return next(sizes, -1)

    batches, steps = ([size(case, key) for case in cases] for key in ("batch", "time"))
    axes_of = {}
    for info in model.graph.outputs:
        shapes = [case.outputs[info.name].shape for case in cases]
        axes = axes_from_shapes(shapes, batches, steps)
        for key, axis in axes_from_symbols(info).items():
            sizes = {"batch": batches, "time": steps}[key]
            if axis not in axes.values() and [shape[axis] for shape in shapes] == sizes:
                axes.setdefault(key, axis)
        if axes:
            axes_of[info.name] = axes
    return axes_of


def _add_exact(model: Model, cases: list[Case], layers: bool) -> str:
    """Fill in the float64 values; the reason if there can be none."""
    try:
        plan_model = doubled(exposed(model) if layers else model)
        plan = Plan(plan_model, {})
    except UnsupportedError as error:
        return str(error).splitlines()[0]
    names = [info.name for info in plan_model.graph.outputs]
    for case in cases:
        given = {name: doubled_array(np.asarray(a)) for name, a in case.inputs.items()}
        try:
            with np.errstate(all="ignore"):
                results = plan.run(*(given[name] for name in plan.inputs))
        except (VledgeError, ValueError, TypeError) as error:
            for one in cases:
                one.exact = {}
            return f"the graph does not run in float64: {error}"
        for name, exact in zip(names, results, strict=True):
            value = case.outputs.get(name)
            if value is None or exact.dtype != np.float64:
                continue
            if value.dtype not in (np.float16, np.float32):
                continue
            if not _agree(value, exact):
                raise VledgeError(
                    f"onnxruntime's {name!r} and vledge's float64 values differ by more than "
                    f"{AGREEMENT:.0%} of the largest: one of the two is wrong, and no reference "
                    "is written"
                )
            case.exact[name] = exact
    return ""


def _check_integers(model: Model, cases: list[Case]) -> None:
    """VledgeError where onnxruntime's values of a quantized graph are not those of exact sums."""
    try:
        exact, saturating = Plan(model, {}), saturating_plan(model)
    except UnsupportedError:  # validate says what vledge cannot run
        return
    names = [info.name for info in model.graph.outputs]
    for case in cases:
        given = [np.asarray(case.inputs[name]) for name in exact.inputs]
        for name, array in zip(names, exact.run(*given), strict=True):
            value = case.outputs[name]
            if _agree(value, array):
                continue
            wrong = "one of the two is wrong"
            if saturating is not None:
                nearer = saturating.run(*given)[names.index(name)]
                if _distance(value, nearer) < 0.1 * _distance(value, array):
                    wrong = (
                        f"this machine's onnxruntime is at fault, it has {WHY}; with VNNI, with "
                        "uint8 weights or with reduce_range its sums are exact"
                    )
            raise VledgeError(
                f"onnxruntime's {name!r} and vledge's, with exact sums of integers, differ by more "
                f"than {AGREEMENT:.0%} of the largest: {wrong}. No reference is written"
            )


def _distance(value: np.ndarray, other: np.ndarray) -> float:
    if value.shape != other.shape:
        return float("inf")
    return float(np.abs(value.astype(np.float64) - other).max(initial=0))


def _agree(value: np.ndarray, exact: np.ndarray) -> bool:
    if value.shape != exact.shape:
        return False
    if exact.dtype.kind not in "fiub":
        return bool((value == exact).all())
    finite = np.isfinite(exact)
    if not np.array_equal(finite, np.isfinite(value)):
        return False
    value, exact = value[finite].astype(np.float64), exact[finite].astype(np.float64)
    error = np.abs(value - exact).max(initial=0)
    return bool(error <= AGREEMENT * np.abs(exact).max(initial=0) + 1e-6)
