"""One run's inputs: ``--input``, ``--set`` and ``--random`` of ``vledge run`` and others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from vledge.cli.given_inputs import add_set_argument, set_numbers, usual
from vledge.cli.input_files import array_from
from vledge.cli.numpy_file import NpzFile, opened
from vledge.graph.session import NodeArg
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.validation.recording.random_inputs import Random, parse_random, random_inputs
from vledge.validation.running.lengths import lengths_input

__all__ = ["add_input_argument", "add_one_run_arguments", "given_arrays", "one_run"]

# What stands for an axis that the file leaves open, in one run that nobody has given sizes for.
ONE_SEQUENCE, STEPS = 1, 100


class Runnable(Protocol):
    """What says which inputs it takes: a session, or a layer by itself."""

    def get_inputs(self) -> list[NodeArg]:
        """Those that a run needs."""

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Those that it may be given."""


def add_one_run_arguments(parser: argparse.ArgumentParser, unasked: bool = True) -> None:
    """Declare what one run's inputs are; where not ``unasked``, random ones are asked for."""
    add_input_argument(parser)
    usual_sizes = f"batch {ONE_SEQUENCE}, {STEPS} steps, where the file leaves these open"
    if unasked:
        more = f"Floats of which nothing is said are random: {usual_sizes}"
    else:
        more = f"Without NAME=SHAPE all floats that are not given: {usual_sizes}"
    parser.add_argument(
        "--random",
        action="append",
        default=[],
        nargs="?",
        const="",
        metavar="NAME=SHAPE",
        help=f"a random input: x=1x300x40; whole numbers: ids=1x60:5000. {more}",
    )


def add_input_argument(parser: argparse.ArgumentParser) -> None:
    """Declare an input's own array."""
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="an input's array from a .npy, .npz, .csv or .wav file, or a number: sr=16000; once "
        "for each input. A .npz file without a name gives the inputs of its arrays' names",
    )
    add_set_argument(parser)


def given_arrays(arguments: argparse.Namespace, session: Runnable) -> dict[str, np.ndarray]:
    """What ``--input`` and ``--set`` say, of the types that the model declares."""
    numbers = {text.partition("=")[0] for text in arguments.set}
    feed = _of_files(arguments.input, session, numbers)
    inputs = [*session.get_inputs(), *session.get_overridable_initializers()]
    for text in arguments.set:
        ((name, number),) = set_numbers([text], inputs).items()
        if name in feed:
            raise ValueError(f"--set {text}: {name!r} is given twice")
        feed[name] = number
    return feed


def _of_files(texts: Sequence[str], session: Runnable, others: set[str]) -> dict[str, np.ndarray]:
    """What ``--input`` says; ``others`` are given otherwise."""
    needed = session.get_inputs()
    declared = {info.name: info for info in [*needed, *session.get_overridable_initializers()]}
    feed: dict[str, np.ndarray] = {}
    named = others | {text.partition("=")[0] for text in texts if "=" in text}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            left = [info.name for info in needed if info.name not in named]
            feed |= _unnamed(text, declared, left)
            continue
        if name not in declared:
            raise ValueError(
                f"--input {text}: the model has no input {name!r}: it has {list(declared)}"
            )
        feed[name] = array_from(value, declared[name], f"--input {text}")
    return feed


def _unnamed(path: str, declared: dict[str, NodeArg], needed: list[str]) -> dict[str, np.ndarray]:
    """A file without an input's name: the arrays of a .npz file, or the only input there is."""
    option = f"--input {path}"
    with open(path, "rb") as file:
        archive = file.read(2) == b"PK"
    loaded = opened(path) if archive else None
    if isinstance(loaded, NpzFile):
        with loaded:
            names = loaded.files
        if set(names) <= set(declared):
            return {name: array_from(path, declared[name], option) for name in names}
    if len(needed) != 1:
        raise ValueError(f"{option}: which input is it? NAME=FILE, with a name of {list(declared)}")
    return {needed[0]: array_from(path, declared[needed[0]], option)}


def one_run(
    arguments: argparse.Namespace, model: Model, session: Runnable
) -> dict[str, np.ndarray]:
    """The inputs of one run: given ones, and random ones of the sizes given, or of usual ones."""
    feed = given_arrays(arguments, session)
    infos = {info.name: info for info in model.graph.inputs}
    wanted = [parse_random(text) for text in arguments.random if text]
    for random in wanted:
        if random.name in feed or random.name not in infos:
            raise ValueError(
                f"--random {random.name}=...: expected an input of the model's without --input or "
                f"--set, of {list(infos)}"
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
