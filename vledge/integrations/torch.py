"""torch modules as vledge models, with the proof that they are the same: `export` and `recorded`.

The graph comes from torch's TorchScript-based ONNX exporter, which keeps batch and time variable in
every recurrent layer (docs/guides/exporting.md); the truth comes from the module itself, in float32
and float64, on the examples and on batch sizes and lengths that they did not have.
"""

from __future__ import annotations

import io
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vledge._version import __version__
from vledge.errors import UnsupportedError, VledgeError, import_failure
from vledge.formats import vledge_model
from vledge.formats.file_name import check_name
from vledge.formats.onnx import model as onnx_model
from vledge.graph.passes.program import captured
from vledge.model.definition import Model
from vledge.progress import Bar
from vledge.validation.recording.record import check_carry
from vledge.validation.recording.spread import spread
from vledge.validation.reference import bundle
from vledge.validation.reference.axes import axes_from_shapes
from vledge.validation.reference.bundle import Axes, Case, Reference
from vledge.validation.reference.prints import prints_of
from vledge.validation.validate import Report, validate

try:
    import torch
    from torch.nn.utils import rnn as packing
except ImportError as error:
    raise import_failure(error, "torch", "vledge.export needs torch: pip install torch") from error

from vledge.integrations.torch_bare import bare
from vledge.integrations.torch_layers import add_layers, layer_values
from vledge.integrations.torch_module import (
    Flat,
    Sized,
    doubled,
    evaluating,
    in_double,
    input_axes,
    run,
    sized_inputs,
    unparametrized,
)

__all__ = ["export", "recorded"]

STAGES = 3  # before the model is run in every way, which counts for itself


def export(
    module: torch.nn.Module,
    example_inputs: object,
    path: str | os.PathLike[str],
    *,
    dynamic_lengths: bool = True,
    layers: bool = False,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    carry: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Write a torch module as a vledge model, and its reference bundle beside it.

    Parameters
    ----------
    module : run in ``eval()``, on the CPU; the modes of all its parts are put back. What wraps it
        or its parts (torch.compile, DataParallel, AveragedModel, …) is left out of the graph, and
        parametrisations and other norms of weights are computed once, as part of the weights
    example_inputs : what ``module(*example_inputs)`` takes: a tensor or a tuple of tensors, of
        tuples of tensors such as ``(h_0, c_0)``, and of PackedSequences. A PackedSequence becomes
        two inputs of the model: padded data, in the layout of the module's recurrent layers, and
        ``lengths`` [B] int64.
    path : the model, ``*.safetensors``; the bundle is ``*.reference.safetensors``
    dynamic_lengths : whether the model takes sequences of any length; it always takes any batch
    layers : whether the bundle has the output of every recurrent layer, so that ``vledge validate``
        can say where an error begins
    dynamic_axes : input name → {axis: "batch" or "time"}, where they are not the usual ones: those
        of ``batch_first`` for the first tensor, the second axis of states, a vector of lengths
    input_names, output_names : by default those of ``forward``'s parameters, and ``output``,
        ``output_1``, …; of a bare LSTM ``x``, ``h_0``, ``c_0``, ``output``, ``h_n``, ``c_n``
    carry : state input → the output that it goes on from; the model is run in pieces of time, too
    seed : of the inputs that the examples did not have
    progress : whether to draw on stderr what is being done; None: where that is a terminal

    Returns the report of the validation that was run before anything was written.

    Raises UnsupportedError for a module that the exporter refuses (an LSTM with ``proj_size``, code
    that no graph can hold), VledgeError with the diagnosis if the model is not the module,
    ValueError for a path that promises another format (``"model.onnx"``).
    """
    check_name(path)
    bar = Bar(STAGES, erased=True, shown=progress)
    try:
        with (
            bare(module) as inner,
            evaluating(flat := Flat(inner, example_inputs, input_names, output_names)),
        ):
            axes = input_axes(flat, dynamic_axes)
            cases = sized_inputs(flat, axes, dynamic_lengths, seed)
            bar(0, label="running the module")
            reference = _observed(flat, cases, axes, seed)
            reference.carry = dict(carry or {})
            bar(1, label="writing the graph")
            model = _converted(unparametrized(flat), cases[0], reference.axes, dynamic_lengths)
            check_carry(model, reference.carry)
            bar(2, label="running the module again, to see how far its values scatter")
            _complete(flat, model if layers else None, cases, reference)
        report = validate(model, reference, progress=bar)
    finally:
        bar.close()
    if not report.passed:
        why = report.diagnosis.summary if report.diagnosis else ""
        raise VledgeError(f"the exported graph does not compute what the module does: {why}")
    report.model = os.fspath(path)
    report.reference = bundle.reference_path(path)
    reference.prints = prints_of(model)
    vledge_model.write(path, model)
    bundle.write(report.reference, reference)
    return report


def recorded(
    module: torch.nn.Module,
    example_inputs: object,
    model: Model | None = None,
    *,
    dynamic_lengths: bool = True,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Reference:
    """A reference of a torch module for a model that exists; arguments as `export`'s.

    With ``model``, the outputs of each of its recurrent layers are recorded, too.
    """
    with (
        bare(module) as inner,
        evaluating(flat := Flat(inner, example_inputs, input_names, output_names)),
    ):
        axes = input_axes(flat, dynamic_axes)
        cases = sized_inputs(flat, axes, dynamic_lengths, seed)
        reference = _observed(flat, cases, axes, seed)
        _complete(flat, model, cases, reference)
    return reference


def _complete(flat: Flat, model: Model | None, cases: list[Sized], reference: Reference) -> None:
    """Add the layers that the model names, and how far all values scatter."""
    if model is not None:
        add_layers(flat, model, cases, reference)

    def again(number: int, case: Case) -> dict[str, np.ndarray]:
        inputs = {name: torch.from_numpy(array) for name, array in case.inputs.items()}
        made = run(flat, inputs)
        values = dict(zip(flat.named_outputs(len(made)), made, strict=True))
        if model is not None:
            values |= layer_values(flat, model, inputs, cases[number].steps)
        return values

    reference.spread = spread(reference, again)


def _observed(flat: Flat, cases: list[Sized], axes: dict[str, Axes], seed: int) -> Reference:
    """What the module computes, in float32 and float64."""
    single = [run(flat, case.inputs) for case in cases]
    loss = ""
    try:
        exact = [run(in_double(flat), doubled(case.inputs)) for case in cases]
    except (RuntimeError, TypeError) as error:
        exact, loss = [], f"the module does not run in float64: {str(error).splitlines()[0]}"
    names = flat.named_outputs(len(single[0]))
    batches, steps = [case.batch for case in cases], [case.steps for case in cases]
    observed = dict(axes)
    for place, name in enumerate(names):
        if name in flat.examples:
            raise ValueError(f"{name!r} is an input and an output: name them otherwise")
        shapes = [result[place].shape for result in single]
        observed[name] = axes_from_shapes(shapes, batches, steps)
    made = []
    for number, case in enumerate(cases):
        values = {
            name: array
            for name, array in zip(names, exact[number] if exact else [], strict=False)
            if array.dtype == np.float64
        }
        lengths = None if case.lengths is None else case.lengths.numpy().astype(np.int64)
        inputs = {name: tensor.numpy() for name, tensor in case.inputs.items()}
        outputs = dict(zip(names, single[number], strict=True))
        made.append(Case(inputs, outputs, values, lengths))
    versions = {
        "torch": torch.__version__,
        "vledge": __version__,
        "python": platform.python_version(),
    }
    by = "" if loss else f"torch {torch.__version__} in float64"
    return Reference(made, versions, seed, [], observed, {}, by, loss)


def _converted(flat: Flat, case: Sized, axes: dict[str, Axes], dynamic_lengths: bool) -> Model:
    """The module's graph, by torch's exporter."""
    names = list(case.inputs)
    outputs = [name for name in axes if name not in names]
    variable = ("batch", "time") if dynamic_lengths else ("batch",)
    dynamic = {
        name: {axis: key for key, axis in own.items() if key in variable}
        for name, own in axes.items()
    }
    inputs = case.inputs
    if case.lengths is not None:
        order = torch.argsort(case.lengths, descending=True)
        inputs = {
            name: tensor.index_select(axes[name]["batch"], order)
            if "batch" in axes.get(name, {})
            else tensor
            for name, tensor in inputs.items()
        }
    file = io.BytesIO()

    def keep(module: torch.nn.Module, arguments: tuple[object, ...], result: Any) -> None:
        if isinstance(result[0], packing.PackedSequence):
            flat.kept.append(result[0])

    hooks = [module.register_forward_hook(keep) for module in flat.recurrent]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write: Any = torch.onnx.export  # its types know files by their path alone
            write(
                flat,
                tuple(inputs.values()),
                file,
                input_names=names,
                output_names=outputs,
                dynamic_axes={name: own for name, own in dynamic.items() if own},
                dynamo=False,
            )
    except ImportError as error:
        raise import_failure(error, "onnx", "vledge.export needs onnx: pip install onnx") from error
    except Exception as error:
        # the exporter has no common class for what it refuses
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedError(f"torch's exporter cannot write this module: {told}") from error
    finally:
        for hook in hooks:
            hook.remove()
        flat.kept = []
    model = onnx_model.read(file.getvalue())
    _keep_only(model, outputs)
    return model


def _keep_only(model: Model, outputs: list[str]) -> None:
    """Leave of the graph what these outputs need."""
    graph = model.graph
    by_name = {info.name: info for info in graph.outputs}
    graph.outputs = [by_name[name] for name in outputs]
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed |= {name for name in node.inputs if name}
            needed |= {name for inner in node.subgraphs() for name in captured(inner)}
    graph.nodes = [node for node in graph.nodes if needed & set(node.outputs)]
    graph.initializers = {n: a for n, a in graph.initializers.items() if n in needed}
