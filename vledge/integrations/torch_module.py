"""A torch module as a function of plain tensors, and inputs of many sizes for it."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch.nn.utils import parametrize
from torch.nn.utils import rnn as packing

from vledge.errors import UnsupportedError
from vledge.validation.reference.bundle import Axes

__all__ = [
    "Flat",
    "Sized",
    "doubled",
    "evaluating",
    "in_double",
    "input_axes",
    "run",
    "sized_inputs",
    "unparametrized",
]


class Flat(torch.nn.Module):
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
        self.arguments: tuple[object, ...] = (example_inputs,) if lone else tuple(example_inputs)
        layers = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]
        self.batch_first = bool(layers and layers[0].batch_first)
        self.recurrent = layers
        self.bare = isinstance(module, torch.nn.RNNBase)
        self.packed = any(isinstance(a, packing.PackedSequence) for a in self.arguments)
        self.examples = self._named()
        dtypes = {t.dtype for t in (*self.examples.values(), *module.parameters())}
        if torch.bfloat16 in dtypes:
            raise UnsupportedError(
                "the module or its inputs are bfloat16, which neither ONNX Runtime's recurrent "
                "operators nor NumPy have: module.float() and float32 inputs lose nothing"
            )
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
        tensors: dict[str, torch.Tensor] = {}
        for place, argument in enumerate(self.arguments):
            name = names[place] if place < len(names) else f"input_{place}"
            if self.bare and place == 0:
                name = "x"
            if isinstance(argument, packing.PackedSequence):
                tensors[name], tensors["lengths"] = packing.pad_packed_sequence(
                    argument, self.batch_first
                )
            elif isinstance(argument, (tuple, list)):
                own = states if self.bare else [f"{name}_{i}" for i in range(len(argument))]
                tensors |= dict(zip(own, argument, strict=True))
            elif isinstance(argument, torch.Tensor):
                tensors[states[0] if self.bare and place else name] = argument
            else:
                raise TypeError(
                    f"example_inputs[{place}] is {type(argument).__name__}, expected tensors, "
                    "tuples of tensors or a PackedSequence"
                )
        return {name: tensor.detach().cpu() for name, tensor in tensors.items()}

    def _lengths_place(self) -> int:
        place = 0
        for argument in self.arguments:
            if isinstance(argument, packing.PackedSequence):
                return place + 1
            place += len(argument) if isinstance(argument, (tuple, list)) else 1
        raise AssertionError

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        left = list(tensors)
        arguments: list[object] = []
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

    def _tensors(self, result: object, steps: int | None) -> list[torch.Tensor]:
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


@dataclass
class Sized:
    """The inputs of one run, and its sizes."""

    inputs: dict[str, torch.Tensor]
    batch: int
    steps: int
    lengths: torch.Tensor | None = None


def input_axes(flat: Flat, given: Mapping[str, Mapping[int, str]] | None) -> dict[str, Axes]:
    """Batch and time of each input: as given, or as they usually are."""
    if given is not None:
        unknown = [name for name in given if name not in flat.examples]
        if unknown:
            raise ValueError(f"dynamic_axes names {unknown[0]!r}; inputs: {list(flat.examples)}")
        return {name: {key: axis for axis, key in own.items()} for name, own in given.items()}
    by_input: dict[str, Axes] = {}
    order = ("batch", "time") if flat.batch_first else ("time", "batch")
    if not flat.recurrent:
        order = ("batch", "time")
    batch = None
    for name, tensor in flat.examples.items():
        if batch is None:
            if tensor.ndim < 2:
                raise ValueError(f"input {name!r} has no batch: say which by dynamic_axes")
            by_input[name] = {key: axis for axis, key in enumerate(order)}
            batch = tensor.shape[by_input[name]["batch"]]
        elif tensor.ndim == 1 and tensor.shape[0] == batch:
            by_input[name] = {"batch": 0}
        elif tensor.ndim == 3 and tensor.shape[1] == batch:
            by_input[name] = {"batch": 1}
        elif tensor.ndim:
            raise ValueError(
                f"input {name!r} of shape {list(tensor.shape)}: say by dynamic_axes which of its "
                'axes are "batch" and "time"'
            )
    return by_input


def sized_inputs(
    flat: Flat, axes: dict[str, Axes], dynamic_lengths: bool, seed: int
) -> list[Sized]:
    """The examples, and random inputs of other sizes."""
    generator = torch.Generator().manual_seed(seed)
    lengths_name = _lengths_name(flat)
    first, own = next((n, a) for n, a in axes.items() if "batch" in a)
    batch = flat.examples[first].shape[own["batch"]]
    timed = next(((n, a["time"]) for n, a in axes.items() if "time" in a), None)
    steps = flat.examples[timed[0]].shape[timed[1]] if timed else 0
    sizes = [(1, steps), (batch + 2, max(2, steps // 2)), (3, steps + 7), (2, 3 * steps + 1)]
    cases = [Sized(flat.examples, batch, steps, flat.examples.get(lengths_name))]
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
        cases.append(Sized(inputs, other, length, inputs.get(lengths_name)))
    return cases


def _lengths_name(flat: Flat) -> str:
    """The input that holds lengths: a vector of whole numbers, one for each sequence."""
    if flat.packed:
        return flat.lengths_name
    vectors = [
        name
        for name, tensor in flat.examples.items()
        if tensor.ndim == 1 and not tensor.is_floating_point() and "len" in name.lower()
    ]
    return vectors[0] if vectors else ""


@contextlib.contextmanager
def evaluating(flat: Flat) -> Iterator[None]:
    """Have all parts of the module in ``eval()``, and each in its own mode after.

    ``flat`` itself, too: torch's exporter puts its mode, once done, upon all that is inside.
    """
    modes = {part: part.training for part in flat.module.modules()}
    flat.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def run(flat: Flat, inputs: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        return [tensor.detach().numpy() for tensor in flat(*inputs.values())]


def in_double(flat: Flat) -> Flat:
    return _around(flat, copy.deepcopy(flat.module).double())


def unparametrized(flat: Flat) -> Flat:
    """The same with every parametrised weight as the plain weight that it comes to.

    torch's exporter knows few of the functions that parametrisations are made of.
    """
    if not any(map(parametrize.is_parametrized, flat.module.modules())):
        return flat
    module = copy.deepcopy(flat.module)
    for part in list(module.modules()):
        if not parametrize.is_parametrized(part):
            continue
        parametrized = cast(torch.nn.ModuleDict, part.parametrizations)
        with torch.no_grad():
            values = {name: torch.nn.Parameter(getattr(part, name)) for name in parametrized}
        # remove_parametrizations() would change the class, which is the original module's, too
        part.__class__ = parametrize.type_before_parametrizations(part)
        del part.parametrizations
        for name, value in values.items():
            setattr(part, name, value)
    return _around(flat, module)


def _around(flat: Flat, module: torch.nn.Module) -> Flat:
    other = copy.copy(flat)
    other._modules = {"module": module}
    other.recurrent = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]
    return other


def doubled(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}
