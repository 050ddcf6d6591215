"""torch modules as vledge models, with the proof that they are the same: `export` and `recorded`.

The graph comes from torch's TorchScript-based ONNX exporter, which keeps batch and time variable in
every recurrent layer (docs/exporting.md); the truth comes from the module itself, in float32 and
float64, on the examples and on batch sizes and lengths that they did not have.
"""

from __future__ import annotations

import copy
import inspect
import io
import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vledge._version import __version__
from vledge.errors import MissingDependencyError, UnsupportedError, VledgeError
from vledge.formats import onnx_model, vledge_model
from vledge.formats.graph_definition import Model
from vledge.graph.passes.program import captured
from vledge.validation import bundle
from vledge.validation.axes import axes_from_shapes
from vledge.validation.bundle import Axes, Case, Reference
from vledge.validation.layers import is_recurrent, layer_axes, named_outputs
from vledge.validation.validate import Report, validate

try:
    import torch
    from torch.nn.utils import rnn as packing
except ImportError as error:
    raise MissingDependencyError("vledge.export needs torch: pip install torch") from error

__all__ = ["export", "recorded"]


def export(
    module: torch.nn.Module,
    example_inputs: Any,
    path: str | os.PathLike[str],
    *,
    dynamic_lengths: bool = True,
    layers: bool = False,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Report:
    """Write a torch module as a vledge model, and its reference bundle beside it.

    Parameters
    ----------
    module : run in ``eval()``, on the CPU; its mode is put back
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
    seed : of the inputs that the examples did not have

    Returns the report of the validation that was run before anything was written.

    Raises UnsupportedError for a module that the exporter refuses (an LSTM with ``proj_size``, code
    that no graph can hold), VledgeError with the diagnosis if the model is not the module.
    """
    flat = _Flat(module, example_inputs, input_names, output_names)
    was_training = module.training
    module.eval()
    try:
        axes = _input_axes(flat, dynamic_axes)
        cases = _cases(flat, axes, dynamic_lengths, seed)
        reference = _observed(flat, cases, axes, seed)
        model = _converted(flat, cases[0], reference.axes, dynamic_lengths)
        if layers:
            _add_layers(flat, model, cases, reference)
    finally:
        module.train(was_training)
    report = validate(model, reference)
    if not report.passed:
        why = report.diagnosis.summary if report.diagnosis else ""
        raise VledgeError(f"the exported graph does not compute what the module does: {why}")
    report.model = os.fspath(path)
    report.reference = bundle.reference_path(path)
    vledge_model.write(path, model)
    bundle.write(report.reference, reference)
    return report


def recorded(
    module: torch.nn.Module,
    example_inputs: Any,
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
    flat = _Flat(module, example_inputs, input_names, output_names)
    was_training = module.training
    module.eval()
    try:
        axes = _input_axes(flat, dynamic_axes)
        cases = _cases(flat, axes, dynamic_lengths, seed)
        reference = _observed(flat, cases, axes, seed)
        if model is not None:
            _add_layers(flat, model, cases, reference)
    finally:
        module.train(was_training)
    return reference


class _Flat(torch.nn.Module):
    """A module as a function of plain tensors: tuples unpacked, packed sequences padded."""

    def __init__(
        self,
        module: torch.nn.Module,
        example_inputs: Any,
        input_names: Sequence[str] | None,
        output_names: Sequence[str] | None,
    ) -> None:
        super().__init__()
        self.module = module
        lone = isinstance(example_inputs, (torch.Tensor, packing.PackedSequence))
        self.arguments: tuple[Any, ...] = (example_inputs,) if lone else tuple(example_inputs)
        layers = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]
        self.batch_first = bool(layers and layers[0].batch_first)
        self.recurrent = layers
        self.bare = isinstance(module, torch.nn.RNNBase)
        self.packed = any(isinstance(a, packing.PackedSequence) for a in self.arguments)
        self.examples = self._named()
        if input_names is not None:
            if len(input_names) != len(self.examples):
                raise ValueError(
                    f"input_names has {len(input_names)} names, the module takes "
                    f"{len(self.examples)} tensors: {list(self.examples)}"
                )
            self.examples = dict(zip(input_names, self.examples.values(), strict=True))
        self.kept: list[packing.PackedSequence] = []
        self.lengths_name = list(self.examples)[self._lengths_place()] if self.packed else ""
        self.output_names = None if output_names is None else list(output_names)

    def _named(self) -> dict[str, torch.Tensor]:
        names = [p.name for p in inspect.signature(self.module.forward).parameters.values()]
        states = ["h_0", "c_0"] if isinstance(self.module, torch.nn.LSTM) else ["h_0"]
        found: dict[str, torch.Tensor] = {}
        for place, argument in enumerate(self.arguments):
            name = names[place] if place < len(names) else f"input_{place}"
            if self.bare and place == 0:
                name = "x"
            if isinstance(argument, packing.PackedSequence):
                found[name], found["lengths"] = packing.pad_packed_sequence(
                    argument, self.batch_first
                )
            elif isinstance(argument, (tuple, list)):
                own = states if self.bare else [f"{name}_{i}" for i in range(len(argument))]
                found |= dict(zip(own, argument, strict=True))
            elif isinstance(argument, torch.Tensor):
                found[states[0] if self.bare and place else name] = argument
            else:
                raise TypeError(
                    f"example_inputs[{place}] is {type(argument).__name__}, expected tensors, "
                    "tuples of tensors or a PackedSequence"
                )
        return {name: tensor.detach().cpu() for name, tensor in found.items()}

    def _lengths_place(self) -> int:
        place = 0
        for argument in self.arguments:
            if isinstance(argument, packing.PackedSequence):
                return place + 1
            place += len(argument) if isinstance(argument, (tuple, list)) else 1
        raise AssertionError

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        left = list(tensors)
        arguments: list[Any] = []
        steps = None
        for argument in self.arguments:
            if isinstance(argument, packing.PackedSequence):
                x, lengths = left.pop(0), left.pop(0)
                steps = x.shape[1 if self.batch_first else 0]
                # ONNX's nodes take lengths in any order: the graph needs no sorting, and has none
                # if it is made from sequences that are in order
                in_order = torch.onnx.is_in_onnx_export()
                arguments.append(
                    packing.pack_padded_sequence(x, lengths, self.batch_first, in_order)
                )
            elif isinstance(argument, (tuple, list)):
                arguments.append(tuple(left.pop(0) for _ in argument))
            else:
                arguments.append(left.pop(0))
        results = self._tensors(self.module(*arguments), steps)
        # the exporter trips over packed sequences that nobody uses: they are outputs, for a while
        kept = [self._tensors(packed, steps)[0] for packed in self.kept]
        return *results, *kept

    def _tensors(self, result: Any, steps: int | None) -> list[torch.Tensor]:
        if isinstance(result, packing.PackedSequence):
            padded, _ = packing.pad_packed_sequence(result, self.batch_first, total_length=steps)
            return [padded]
        if isinstance(result, torch.Tensor):
            return [result]
        if isinstance(result, Mapping):
            result = list(result.values())
        if isinstance(result, (tuple, list)):
            return [tensor for item in result for tensor in self._tensors(item, steps)]
        if result is None:
            return []
        raise UnsupportedError(f"the module returns a {type(result).__name__}, expected tensors")

    def named_outputs(self, count: int) -> list[str]:
        """The names of that many outputs."""
        if self.output_names is not None:
            if len(self.output_names) != count:
                raise ValueError(
                    f"output_names has {len(self.output_names)} names, the module has {count} "
                    "outputs"
                )
            return self.output_names
        if self.bare:
            return ["output", "h_n", "c_n"][:count]
        return ["output", *(f"output_{i}" for i in range(1, count))]


def _input_axes(flat: _Flat, given: Mapping[str, Mapping[int, str]] | None) -> dict[str, Axes]:
    """Batch and time of each input: as given, or as they usually are."""
    if given is not None:
        unknown = [name for name in given if name not in flat.examples]
        if unknown:
            raise ValueError(f"dynamic_axes names {unknown[0]!r}; inputs: {list(flat.examples)}")
        return {name: {key: axis for axis, key in own.items()} for name, own in given.items()}
    found: dict[str, Axes] = {}
    order = ("batch", "time") if flat.batch_first else ("time", "batch")
    if not flat.recurrent:
        order = ("batch", "time")
    batch = None
    for name, tensor in flat.examples.items():
        if batch is None:
            if tensor.ndim < 2:
                raise ValueError(f"input {name!r} has no batch: say which by dynamic_axes")
            found[name] = {key: axis for axis, key in enumerate(order)}
            batch = tensor.shape[found[name]["batch"]]
        elif tensor.ndim == 1 and tensor.shape[0] == batch:
            found[name] = {"batch": 0}
        elif tensor.ndim == 3 and tensor.shape[1] == batch:
            found[name] = {"batch": 1}
        elif tensor.ndim:
            raise ValueError(
                f"input {name!r} of shape {list(tensor.shape)}: say by dynamic_axes which of its "
                'axes are "batch" and "time"'
            )
    return found


@dataclass
class _Sized:
    """The inputs of one run, and its sizes."""

    inputs: dict[str, torch.Tensor]
    batch: int
    steps: int
    lengths: torch.Tensor | None = None
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def _lengths_name(flat: _Flat) -> str:
    """The input that holds lengths: a vector of whole numbers, one for each sequence."""
    if flat.packed:
        return flat.lengths_name
    vectors = [
        name
        for name, tensor in flat.examples.items()
        if tensor.ndim == 1 and not tensor.is_floating_point() and "len" in name.lower()
    ]
    return vectors[0] if vectors else ""


def _cases(flat: _Flat, axes: dict[str, Axes], dynamic_lengths: bool, seed: int) -> list[_Sized]:
    """The examples, and random inputs of other sizes."""
    generator = torch.Generator().manual_seed(seed)
    lengths_name = _lengths_name(flat)
    first, own = next((n, a) for n, a in axes.items() if "batch" in a)
    batch = flat.examples[first].shape[own["batch"]]
    timed = next(((n, a["time"]) for n, a in axes.items() if "time" in a), None)
    steps = flat.examples[timed[0]].shape[timed[1]] if timed else 0
    sizes = [(1, steps), (batch + 2, max(2, steps // 2)), (3, steps + 7), (2, 3 * steps + 1)]
    cases = [_Sized(flat.examples, batch, steps, flat.examples.get(lengths_name))]
    for other, length in sizes:
        length = length if dynamic_lengths else steps
        inputs = {}
        for name, example in flat.examples.items():
            shape = list(example.shape)
            for key, size in (("batch", other), ("time", length)):
                if key in axes.get(name, {}):
                    shape[axes[name][key]] = size
            if name == lengths_name:
                made = torch.randint(1, length + 1, shape, generator=generator)
                made[int(torch.randint(other, (1,), generator=generator))] = length
            elif example.ndim == 0:
                made = example
            elif example.is_floating_point():
                noise = torch.randn(shape, generator=generator)
                spread = example.std() if example.numel() > 1 else torch.tensor(1.0)
                made = example.mean() + spread * noise
            else:
                index = torch.randint(example.numel(), shape, generator=generator)
                made = example.reshape(-1)[index]
            inputs[name] = made.to(example.dtype)
        cases.append(_Sized(inputs, other, length, inputs.get(lengths_name)))
    return cases


def _observed(flat: _Flat, cases: list[_Sized], axes: dict[str, Axes], seed: int) -> Reference:
    """What the module computes, in float32 and float64."""
    single = [_run(flat, case.inputs) for case in cases]
    loss = ""
    try:
        exact = [_run(_in_double(flat), _doubled(case.inputs)) for case in cases]
    except (RuntimeError, TypeError) as error:
        exact, loss = [], f"the module does not run in float64: {str(error).splitlines()[0]}"
    names = flat.named_outputs(len(single[0]))
    batches, steps = [case.batch for case in cases], [case.steps for case in cases]
    found = dict(axes)
    for place, name in enumerate(names):
        if name in flat.examples:
            raise ValueError(f"{name!r} is an input and an output: name them otherwise")
        shapes = [result[place].shape for result in single]
        found[name] = axes_from_shapes(shapes, batches, steps)
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
    return Reference(made, versions, seed, [], found, {}, by, loss)


def _run(flat: _Flat, inputs: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        return [tensor.detach().numpy() for tensor in flat(*inputs.values())]


def _in_double(flat: _Flat) -> _Flat:
    doubled = copy.copy(flat)
    doubled._modules = {"module": copy.deepcopy(flat.module).double()}
    layers = doubled.module.modules()
    doubled.recurrent = [m for m in layers if isinstance(m, torch.nn.RNNBase)]
    return doubled


def _doubled(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}


def _converted(flat: _Flat, case: _Sized, axes: dict[str, Axes], dynamic_lengths: bool) -> Model:
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

    def keep(module: Any, arguments: Any, result: Any) -> None:
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
        raise MissingDependencyError("vledge.export needs onnx: pip install onnx") from error
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
    graph.outputs = [info for info in graph.outputs if info.name in outputs]
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed |= {name for name in node.inputs if name}
            needed |= {name for inner in node.subgraphs() for name in captured(inner)}
    graph.nodes = [node for node in graph.nodes if needed & set(node.outputs)]
    graph.initializers = {n: a for n, a in graph.initializers.items() if n in needed}


def _add_layers(flat: _Flat, model: Model, cases: list[_Sized], reference: Reference) -> None:
    """Record every recurrent layer's outputs under the names that they have in the graph."""
    nodes = [node for node in model.graph.nodes if is_recurrent(node)]
    names = [named_outputs(node.outputs) for node in nodes]
    for precise in (False, True):
        if precise and reference.loss:
            continue
        runner = _in_double(flat) if precise else flat
        for case, recorded_case in zip(cases, reference.cases, strict=True):
            inputs = _doubled(case.inputs) if precise else case.inputs
            made = _layers(runner, inputs, case.steps)
            if len(made) != len(nodes):
                raise UnsupportedError(
                    f"the module runs {len(made)} recurrent layers, its graph has {len(nodes)} "
                    "recurrent nodes: export without layers"
                )
            target = recorded_case.exact if precise else recorded_case.outputs
            for outputs, values in zip(names, made, strict=True):
                own = zip(outputs, values, strict=False)
                target |= {name: array for name, array in own if name}
    reference.layers = [name for outputs in names for name in outputs if name]
    reference.axes |= layer_axes(model)


def _layers(
    flat: _Flat, inputs: Mapping[str, torch.Tensor], steps: int
) -> list[tuple[np.ndarray, ...]]:
    """(Y [T, D, B, H], Y_h [D, B, H], Y_c) of each layer of each recurrent module, as they ran."""
    calls: list[tuple[torch.nn.RNNBase, tuple[Any, ...], dict[str, Any]]] = []

    def note(module: Any, arguments: Any, named: Any, result: Any) -> None:
        calls.append((module, arguments, named))

    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in flat.recurrent]
    try:
        _run(flat, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    with torch.no_grad():
        for module, arguments, named in calls:
            x, hx, *_ = (*arguments, *named.values(), None)
            if isinstance(x, torch.Tensor):
                if x.ndim == 2:
                    raise UnsupportedError("layers of a module that runs without a batch")
                x = x.transpose(0, 1) if module.batch_first else x
            elif x.sorted_indices is not None and not flat.packed:
                raise UnsupportedError(
                    "the module packs with enforce_sorted=False, so that its graph's layers have "
                    "the sequences in another order: export without layers, or give a "
                    "PackedSequence among example_inputs"
                )
            for number in range(module.num_layers):
                layer, states = _one_layer(module, hx, number)
                x, final = layer(x, states)
                found.append(_in_onnx_layout(x, final, layer, steps))
    return found


def _one_layer(module: torch.nn.RNNBase, hx: Any, number: int) -> tuple[torch.nn.RNNBase, Any]:
    """One layer of a stack as a module of its own, and its rows of the initial state."""
    directions = 2 if module.bidirectional else 1
    width = module.input_size if number == 0 else directions * module.hidden_size
    options = {"nonlinearity": module.nonlinearity} if isinstance(module, torch.nn.RNN) else {}
    kind: Any = type(module)
    layer = kind(
        width,
        module.hidden_size,
        bias=module.bias,
        bidirectional=module.bidirectional,
        dtype=module.weight_ih_l0.dtype,
        **options,
    ).eval()
    for name in list(layer._parameters):
        source = getattr(module, name.replace("_l0", f"_l{number}"))
        getattr(layer, name).copy_(source)
    if hx is None:
        return layer, None
    rows = slice(number * directions, (number + 1) * directions)
    return layer, tuple(s[rows] for s in hx) if isinstance(hx, tuple) else hx[rows]


def _in_onnx_layout(
    x: Any, final: Any, layer: torch.nn.RNNBase, steps: int
) -> tuple[np.ndarray, ...]:
    if isinstance(x, packing.PackedSequence):
        x, _ = packing.pad_packed_sequence(x, total_length=steps or None)
    y = x.reshape(*x.shape[:2], -1, layer.hidden_size).permute(0, 2, 1, 3)
    states = final if isinstance(final, tuple) else (final,)
    return tuple(tensor.contiguous().numpy() for tensor in (y, *states))
