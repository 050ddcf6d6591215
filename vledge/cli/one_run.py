"""One run's inputs: ``--input`` and ``--random`` of ``vledge run``, ``profile`` and ``inspect``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np

from vledge.cli.given_inputs import usual
from vledge.graph.session import InferenceSession
from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.validation.recording.random_inputs import Random, parse_random, random_inputs
from vledge.validation.reference.axes import axes_from_symbols
from vledge.validation.running.lengths import lengths_input

__all__ = ["add_input_argument", "add_one_run_arguments", "given_arrays", "one_run"]

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
        for each in usual(model, given | (infos.keys() - asked), ONE_SEQUENCE)
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
