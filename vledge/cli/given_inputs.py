"""What a model is run on: the options of commands that say so, and the arrays that they mean.

``vledge record`` and ``validate`` take several runs' inputs, ``vledge run``, ``profile`` and
``inspect --memory`` those of one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np

from vledge.formats import holds_graph
from vledge.formats.element_types import DTYPES
from vledge.formats.graph_definition import Model, ValueInfo
from vledge.graph.session import InferenceSession, read_model
from vledge.validation.axes import axes_from_symbols, lengths_input
from vledge.validation.bundle import Reference
from vledge.validation.record import Random, check_carry, parse_random, random_inputs, record

__all__ = [
    "add_input_argument",
    "add_input_arguments",
    "add_one_run_arguments",
    "given_arrays",
    "live_reference",
    "one_run",
]

BATCH = 3
# What stands for an axis that the file leaves open, in one run that nobody has given sizes for.
ONE_SEQUENCE, STEPS = 1, 100


def add_one_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what one run's inputs are."""
    add_input_argument(parser)
    parser.add_argument(
        "--random",
        action="append",
        default=[],
        metavar="NAME=SHAPE",
        help="a random input: x=1x300x40; whole numbers: ids=1x60:5000. Floats of which nothing is "
        f"said are random: batch {ONE_SEQUENCE}, {STEPS} steps, where the file leaves these open",
    )


def add_input_argument(parser: argparse.ArgumentParser) -> None:
    """Declare an input's own array."""
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="an input's array from a .npy file, or a number: sr=16000; once for each input",
    )


def given_arrays(texts: Sequence[str], session: InferenceSession) -> dict[str, np.ndarray]:
    """What ``--input`` says, of the types that the model declares."""
    declared = {info.name: info.type for info in session.get_inputs()}
    declared |= {info.name: info.type for info in session.get_overridable_initializers()}
    feed = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in declared:
            raise ValueError(f"--input {text}: expected NAME=FILE with a name of {list(declared)}")
        feed[name] = _array(value, declared[name], text)
    return feed


def one_run(
    arguments: argparse.Namespace, model: Model, session: InferenceSession
) -> dict[str, np.ndarray]:
    """The inputs of one run: given ones, and random ones of the sizes given, or of usual ones."""
    feed = given_arrays(arguments.input, session)
    infos = {info.name: info for info in model.graph.inputs}
    wanted = [parse_random(text) for text in arguments.random]
    for random in wanted:
        if random.name in feed or random.name not in infos:
            raise ValueError(
                f"--random {random.name}=...: expected an input of the model's without --input, of "
                f"{list(infos)}"
            )
        if None in random.shape:
            raise ValueError(
                f"--random {random.name}=...: give all sizes, one run has no open axis"
            )
    asked = {info.name for info in session.get_inputs()}
    given = {*feed, *(random.name for random in wanted)}
    wanted += [
        Random(each.name, tuple(STEPS if n is None else n for n in each.shape), each.high)
        for each in _usual(model, given | (infos.keys() - asked), ONE_SEQUENCE)
    ]
    lengths = lengths_input(model)
    if lengths in asked and lengths not in given:
        feed[lengths] = _full_lengths(infos, lengths, feed, wanted)
    (arrays,), _ = random_inputs(model, wanted, feed, 1, 0)
    return arrays


def _full_lengths(
    infos: dict[str, ValueInfo], lengths: str, feed: dict[str, np.ndarray], wanted: list[Random]
) -> np.ndarray:
    """As long as the time axis of an input that has one, for each of its batch."""
    shapes = {name: array.shape for name, array in feed.items()}
    for name, shape in [*shapes.items(), *((each.name, each.shape) for each in wanted)]:
        axes = axes_from_symbols(infos[name])
        if "time" in axes and "batch" in axes:
            steps, batch = shape[axes["time"]], shape[axes["batch"]]
            return np.full(batch or 0, steps, DTYPES[infos[lengths].type])
    raise ValueError(f"input {lengths!r} holds sequences' lengths: give it by --input")


def _array(value: str, declared: str, text: str) -> np.ndarray:
    """An array out of a file; or a number, of the type that the model declares."""
    if not os.path.exists(value):
        try:
            number = float(value) if "float" in declared or "double" in declared else int(value)
        except ValueError:
            raise ValueError(f"--input {text}: there is no file {value}") from None
        return np.asarray(number, DTYPES.get(declared.removeprefix("tensor(").removesuffix(")")))
    loaded = np.load(value, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"--input {text}: expected a .npy file with one array")
    return loaded


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the reference's framework is to be run on."""
    parser.add_argument(
        "--inputs", nargs="+", default=[], metavar="FILE.npz", help="arrays by name, a file a run"
    )
    parser.add_argument(
        "--random",
        action="append",
        default=[],
        metavar="NAME=SHAPE",
        help="a random input: x=8x?x40, ? being time; whole numbers: ids=8x?:5000",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="an input that is one number: sr=16000",
    )
    parser.add_argument("--runs", type=int, default=4, help="runs on random inputs (4)")
    parser.add_argument("--seed", type=int, default=0, help="of random inputs (0)")
    parser.add_argument(
        "--carry",
        action="append",
        default=[],
        metavar="INPUT=OUTPUT",
        help="a state: this input of a run is that output of the run before",
    )


def live_reference(arguments: argparse.Namespace, framework: str, layers: bool) -> Reference:
    """What the framework computes for the model, on the inputs that the command line names."""
    path = arguments.model
    if framework == "torch":
        if holds_graph(path):
            raise ValueError(
                f"{path} holds a graph, which torch cannot run: compare an ONNX file with "
                "onnxruntime, or export the module by vledge.export"
            )
        from vledge.validation.torch_layer import recorded_layer

        return recorded_layer(path, seed=arguments.seed)
    if not holds_graph(path):
        raise ValueError(f"{path} holds weights but no graph: onnxruntime needs an ONNX file")
    with open(path, "rb") as file:
        if file.read(9)[8:] == b"{":
            raise ValueError(f"{path} is vledge's own file: onnxruntime needs the ONNX file")
    model = read_model(path)
    carry = dict(_pair(text, "INPUT=OUTPUT") for text in arguments.carry)
    check_carry(model, carry)
    if arguments.inputs:
        if arguments.random or arguments.set:
            raise ValueError("--inputs and --random are two ways to say the same: take one")
        return record(path, map(_arrays, arguments.inputs), layers=layers, carry=carry)
    if arguments.runs < 1:
        raise ValueError(f"--runs must be at least 1, got {arguments.runs}")
    infos = {info.name: info for info in model.graph.inputs}
    fixed = {}
    for text in arguments.set:
        name, number = _pair(text, "NAME=NUMBER")
        if name not in infos:
            raise ValueError(f"the model has no input {name!r}: it has {list(infos)}")
        fixed[name] = _number(number, DTYPES[infos[name].type], text)
    wanted = [parse_random(text) for text in arguments.random]
    for state in carry.keys() - fixed.keys() - {random.name for random in wanted}:
        fixed[state] = _zeros(infos[state], wanted, infos)
    wanted += _usual(model, {random.name for random in wanted} | set(fixed))
    inputs, axes = random_inputs(model, wanted, fixed, arguments.runs, arguments.seed)
    return record(path, inputs, layers=layers, axes=axes, carry=carry, seed=arguments.seed)


def _usual(model: Model, given: set[str], batch: int = BATCH) -> list[Random]:
    """Random inputs for what nothing is said of, where the model declares their axes."""
    lengths = lengths_input(model)
    found = []
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
        found.append(Random(info.name, tuple(sizes)))
    return found


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
    with np.load(path, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(f"{os.fspath(path)} is no .npz file")
        return {name: file[name] for name in file.files}


def _pair(text: str, form: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (separator and name and value):
        raise ValueError(f"{text!r}: expected {form}")
    return name, value


def _number(text: str, dtype: np.dtype, where: str) -> np.ndarray:
    try:
        return np.asarray(float(text) if dtype.kind == "f" else int(text), dtype)
    except ValueError:
        raise ValueError(f"--set {where}: expected a number") from None
