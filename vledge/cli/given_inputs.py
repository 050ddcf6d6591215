"""The options of ``vledge record`` and ``vledge validate`` that say what a model is run on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np

from vledge.cli.graph_file import check_torchs_names
from vledge.cli.numpy_file import NpzFile, member_of, opened
from vledge.formats import holds_graph
from vledge.graph.session import NodeArg, describe_input, read_model
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.validation.recording.random_inputs import Random, parse_random, random_inputs
from vledge.validation.recording.record import check_carry, record
from vledge.validation.reference.bundle import Reference
from vledge.validation.running.lengths import lengths_input

__all__ = [
    "add_input_arguments",
    "add_set_argument",
    "live_reference",
    "pair",
    "set_numbers",
    "usual",
]

BATCH = 3


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the reference's framework is to be run on."""
    parser.add_argument(
        "--inputs", nargs="+", default=[], metavar="FILE.npz", help="arrays by name, a file a run"
    )
    parser.add_argument(
        "--random",
        action="append",
        default=[],
        nargs="?",
        const="",
        metavar="NAME=SHAPE",
        help="a random input: x=8x?x40, ? being time; whole numbers: ids=8x?:5000. Floats of "
        f"which nothing is said are random: batch {BATCH}, where the file leaves it open",
    )
    add_set_argument(parser)
    parser.add_argument("--runs", type=int, default=4, help="runs on random inputs (4)")
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (0)")
    parser.add_argument(
        "--carry",
        action="append",
        default=[],
        metavar="INPUT=OUTPUT",
        help="a state: this input of a run is that output of the run before",
    )


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the inputs that are one number each."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an input that is one number, once for each: sr=16000",
    )


def set_numbers(texts: Sequence[str], inputs: Sequence[NodeArg]) -> dict[str, np.ndarray]:
    """What ``--set`` says, of the types that the model declares."""
    types = {info.name: info.type.removeprefix("tensor(").removesuffix(")") for info in inputs}
    fixed = {}
    for text in texts:
        name, number = pair(text, "--set", "NAME=NUMBER")
        if name not in types:
            raise ValueError(f"--set {text}: the model has no input {name!r}: it has {list(types)}")
        dtype = DTYPES.get(types[name])
        if dtype is None:
            raise ValueError(f"--set {text}: the input is {types[name]}, not a number")
        fixed[name] = _number(number, dtype, text)
    return fixed


def live_reference(
    arguments: argparse.Namespace, framework: str, layers: bool, values: bool
) -> Reference:
    """What the framework computes for the model, on the inputs that the command line names."""
    path = arguments.model
    if framework == "torch":
        if holds_graph(path):
            raise ValueError(
                f"{path} holds a graph, which torch cannot run: compare an ONNX file with "
                "onnxruntime, or export the module by vledge.export"
            )
        check_torchs_names(path, arguments.command)
        from vledge.integrations.torch_reference import recorded_layer

        return recorded_layer(path, seed=arguments.seed)
    if not holds_graph(path):
        raise ValueError(f"{path} holds weights but no graph: onnxruntime needs an ONNX file")
    with open(path, "rb") as file:
        if file.read(9)[8:] == b"{":
            raise ValueError(f"{path} is vledge's own file: onnxruntime needs the ONNX file")
    model = read_model(path)
    carry = dict(pair(text, "--carry", "INPUT=OUTPUT") for text in arguments.carry)
    check_carry(model, carry)
    if arguments.inputs:
        if arguments.random or arguments.set:
            raise ValueError("--inputs and --random are two ways to say the same: take one")
        arrays = map(_arrays, arguments.inputs)
        return record(path, arrays, layers=layers, values=values, carry=carry)
    if arguments.runs < 1:
        raise ValueError(f"--runs must be at least 1, got {arguments.runs}")
    infos = {info.name: info for info in model.graph.inputs}
    fixed = set_numbers(arguments.set, [describe_input(info) for info in model.graph.inputs])
    wanted = [parse_random(text) for text in arguments.random if text]
    for state in carry.keys() - fixed.keys() - {random.name for random in wanted}:
        fixed[state] = _zeros(infos[state], wanted, infos)
    wanted += usual(model, {random.name for random in wanted} | set(fixed))
    inputs, axes = random_inputs(model, wanted, fixed, arguments.runs, arguments.seed)
    seed = arguments.seed
    return record(path, inputs, layers=layers, values=values, axes=axes, carry=carry, seed=seed)


def usual(model: Model, given: set[str], batch: int = BATCH) -> list[Random]:
    """Random inputs for what nothing is said of, where the model declares their axes."""
    lengths = lengths_input(model)
    inputs = []
    for info in model.graph.inputs:
        if info.name in given or info.name == lengths or info.name in model.graph.initializers:
            continue
        axes = axes_from_symbols(info)
        sizes: list[int | None] = []
        for axis, size in enumerate(info.shape or ()):
            if isinstance(size, int):
                sizes.append(size)
            elif axes.get("time") == axis:
                sizes.append(None)
            elif axes.get("batch") == axis:
                sizes.append(batch)
            else:
                shown = ", ".join(str(size or "?") for size in info.shape or ())
                raise ValueError(
                    f"input {info.name!r} has the shape [{shown}]: give its sizes, "
                    f"--random {info.name}=..."
                )
        dtype = DTYPES.get(info.type)
        if not sizes or dtype is None or dtype.kind != "f":
            raise ValueError(
                f"input {info.name!r} is {info.type}: say what it is by --random, --set or --inputs"
            )
        inputs.append(Random(info.name, tuple(sizes)))
    return inputs


def _zeros(info: ValueInfo, wanted: list[Random], infos: dict[str, ValueInfo]) -> np.ndarray:
    """A state to begin with; its open axes are as long as the batch of the random inputs."""
    batch = 1
    for random in wanted:
        axes = axes_from_symbols(infos[random.name]) if random.name in infos else {}
        if "batch" in axes:
            batch = random.shape[axes["batch"]] or batch
    shape = [size if isinstance(size, int) else batch for size in info.shape or ()]
    return np.zeros(shape, DTYPES[info.type])


def _arrays(path: str) -> dict[str, np.ndarray]:
    file = opened(path)
    if not isinstance(file, NpzFile):
        raise ValueError(f"{os.fspath(path)} is no .npz file")
    with file:
        return {name: member_of(file, name, path) for name in file.files}


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """The two halves of an option's value."""
    name, separator, value = text.partition("=")
    if not (separator and name and value):
        raise ValueError(f"{option} {text}: expected {form}")
    return name, value


def _number(text: str, dtype: np.dtype, where: str) -> np.ndarray:
    try:
        return np.asarray(float(text) if dtype.kind == "f" else int(text), dtype)
    except ValueError:
        raise ValueError(f"--set {where}: expected a number") from None
