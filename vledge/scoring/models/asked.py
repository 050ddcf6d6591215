"""What a Scorer is asked for: the model that runs, its input and its outputs, by their names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from vledge.formats import holds_graph
from vledge.graph.session import read_model
from vledge.layer_file import load_layer
from vledge.model.definition import Model
from vledge.nn.recurrent import RecurrentBase
from vledge.scoring.models.layer_runner import LayerRunner
from vledge.scoring.models.session_runner import SessionRunner
from vledge.scoring.tables.outputs import Output

__all__ = ["Names", "Runner", "input_of", "outputs_of", "runner_of"]

Names = str | Sequence[str]
Runner = LayerRunner | SessionRunner


def input_of(given: Names | Mapping[str, Names] | None) -> tuple[str | None, list[str] | None]:
    """The input's name, if it is said, and its columns."""
    name = None
    if isinstance(given, Mapping):
        if len(given) != 1:
            raise ValueError(
                f"input names {list(given)}: one input takes the sequences, the others a number "
                "each, fixed={'name': number}"
            )
        ((name, given),) = given.items()
    if given is None:
        return name, None
    columns = [given] if isinstance(given, str) else list(given)
    if not columns or not all(isinstance(column, str) and column for column in columns):
        raise ValueError(f"input is {given!r}, expected the name of a column, or several")
    return name, columns


def runner_of(
    model: str | os.PathLike[str] | RecurrentBase | Model,
    name: str | None,
    layer: str | None,
    fixed: Mapping[str, float] | None,
    time_first: bool,
) -> Runner:
    """What runs the model."""
    if isinstance(model, Model):
        return SessionRunner(model, name, fixed, time_first)
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if layer is None and holds_graph(path):
            return SessionRunner(read_model(path), name, fixed, time_first)
        model = load_layer(path, layer)
    if not hasattr(model, "direction_sizes"):
        raise TypeError(
            f"model is a {type(model).__name__}, expected a file, a recurrent layer, or the Model "
            "that vledge.graph.session.read_model gives"
        )
    if name not in (None, "x"):
        raise ValueError(f"a recurrent layer's input is named 'x', and not {name!r}")
    if fixed:
        raise ValueError(f"a recurrent layer has no inputs {list(fixed)} to be given a number")
    return LayerRunner(model)


def outputs_of(given: Names | Mapping[str, str] | None, runner: Runner) -> dict[str, Output]:
    """Column → output."""
    every = runner.outputs()
    if given is None:
        given = [next(iter(every))]
    elif isinstance(given, str):
        given = [given]
    pairs = given if isinstance(given, Mapping) else {name: name for name in given}
    for name in pairs.values():
        if name not in every:
            raise ValueError(f"the model has no output {name!r}: it has {list(every)}")
    if not pairs:
        raise ValueError("outputs is empty: name at least one")
    return {column: every[name] for column, name in pairs.items()}
