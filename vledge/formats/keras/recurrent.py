"""A recurrent layer out of a Keras file, with all that `vledge.nn` must know to be it.

What the file's own description says holds; where it has none, what one beside it says; then what
the caller says. What nobody says is taken to be Keras' default, and a warning names it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.keras.arguments import ARGUMENTS, Told, difference, told
from vledge.formats.keras.beside import neighbours
from vledge.formats.keras.config import descriptions, version_of
from vledge.formats.keras.file import KerasModel, read_config, read_model
from vledge.formats.keras.layers import Layer, layers
from vledge.formats.keras.weights import converted

__all__ = ["ARGUMENTS", "RecurrentSummary", "layer_weights", "recurrent_layers"]

Config = str | os.PathLike[str] | Mapping[str, Any]


def layer_weights(
    path: str | os.PathLike[str],
    kind: str,
    layer: str | Sequence[str] | None,
    said: Mapping[str, Any],
    config: Config | None = None,
) -> tuple[dict[str, np.ndarray], Told]:
    """torch's weights of a layer, or of several as one stack, and its arguments in Keras' words.

    ``kind`` is LSTM, GRU or RNN. ``layer`` is a layer's name, a list of them from the first layer
    to the last, or None for the only one of this kind. ``said`` are some of ``ARGUMENTS``;
    ``config`` is the model's description, or a file that has one. The arguments of the result are
    activation, recurrent_activation and reset_after, as far as the kind has them, and time_major.
    """
    file = os.fspath(path)
    try:
        found, version, notes = _read(path, config)
        chosen = _chosen(found, kind, layer)
        if config is not None and (lost := [one for one in chosen if one.description is None]):
            raise FormatError(f"config does not describe {_listed(lost)}")
        arrays, arguments, assumed = _stack(chosen, kind, said, version)
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{file}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if assumed:
        names = ", ".join(repr(one.name) for one in chosen)
        notes.append(
            f"weights alone do not tell the arguments of {names}, taken are {', '.join(assumed)}. "
            "Say what you know, or config=, the model's JSON or .keras file"
        )
    if notes:
        warnings.warn(f"{file}: {'; '.join(notes)}", stacklevel=3)
    return arrays, arguments


class RecurrentSummary(NamedTuple):
    """A recurrent layer of a Keras file."""

    kind: str | None  #: LSTM, GRU or RNN; None for what no layer here is
    name: str
    path: str  #: its group in the file, another name for it
    class_name: str
    input_size: int
    hidden_size: list[int]  #: units, from the first of a stack of cells to the last
    bidirectional: bool
    bias: bool
    nbytes: int
    arguments: Told | None  #: None where the file, or a config beside it, does not tell them
    refused: str  #: why `from_keras` refuses it, or ""


def recurrent_layers(path: str | os.PathLike[str]) -> list[RecurrentSummary]:
    """The recurrent layers of a file, those that no layer here can be among them."""
    try:
        found, version, _ = _read(path, None)
        return [_summary(layer, version) for layer in found]
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def _summary(layer: Layer, version: str | None) -> RecurrentSummary:
    kind, stack = layer.kind(), layer.cells["forward"]
    arguments, refused = None, ""
    try:
        if layer.problem:
            refused = layer.problem
        elif kind is None:
            refused = f"no LSTM, GRU or SimpleRNN, it has {layer.shapes()}"
        elif layer.description is not None:
            (arguments, *_), _ = told(layer, kind, {}, version)
    except (FormatError, UnsupportedError) as error:
        refused = str(error).removeprefix(f"layer {layer.name!r} ({layer.class_name}): ")
    kernel, bias = stack[0].arrays.get("kernel", np.empty(0)), "bias" in stack[0].arrays
    sizes = [
        array.nbytes for cells in layer.cells.values() for c in cells for array in c.arrays.values()
    ]
    return RecurrentSummary(
        kind,
        layer.name,
        layer.path,
        layer.class_name,
        # a ConvLSTM's channels stand last but one, too
        kernel.shape[-2] if kernel.ndim > 1 else 0,
        [
            cell.arrays["recurrent_kernel"].shape[-2]
            for cell in stack
            if cell.arrays["recurrent_kernel"].ndim > 1
        ],
        len(layer.cells) == 2,
        bias,
        sum(sizes),
        arguments,
        refused,
    )


# ---- the model's description


def _read(
    path: str | os.PathLike[str], config: Config | None
) -> tuple[list[Layer], str | None, list[str]]:
    """The recurrent layers, the Keras that they are of, and what a caller should know of it."""
    model = read_model(path)
    if config is not None:
        if isinstance(config, Mapping):
            return *_described(model, config, None), []
        try:
            return *_described(model, *read_config(config)), []
        except FormatError as error:
            raise FormatError(f"config {os.fspath(config)!r}: {error}") from None
    if model.config is not None:
        return *_described(model, model.config, model.version), []
    return _beside(path, model)


def _described(
    model: KerasModel, config: Mapping[str, Any], version: str | None
) -> tuple[list[Layer], str | None]:
    version = version or version_of(config) or model.version
    return layers(model, descriptions(config)), version


def _beside(
    path: str | os.PathLike[str], model: KerasModel
) -> tuple[list[Layer], str | None, list[str]]:
    """By the description beside the file that fits it: the one of its name, or the only one."""
    alone = layers(model, [])
    fitting = []
    for neighbour in neighbours(path):
        try:
            found, version = _described(model, neighbour.config, neighbour.version)
        except (FormatError, UnsupportedError):
            continue
        if found and all(layer.fits() for layer in found):
            fitting.append((neighbour, found, version))
    own = [entry for entry in fitting if entry[0].belongs] or fitting
    if len(own) == 1:
        neighbour, found, version = own[0]
        note = f"the layers' arguments are those of {neighbour.name} beside it"
        return found, version, [] if neighbour.belongs else [note]
    names = " and ".join(neighbour.name for neighbour, _, _ in own)
    return alone, model.version, [f"{names} beside it may both be its config"] if own else []


# ---- which layers are meant


def _chosen(found: list[Layer], kind: str, wanted: str | Sequence[str] | None) -> list[Layer]:
    if wanted is None:
        fitting = [layer for layer in found if layer.kind() == kind]
        if len(fitting) != 1:
            raise ValueError(
                f"the file has {len(fitting)} layers of kind {kind}: name one of its recurrent "
                f"layers, {_listed(found)}"
            )
        return fitting
    chosen = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        one = _by_name(found, name)
        if one.problem:
            raise UnsupportedError(f"layer {name!r}: {one.problem}")
        if one.kind() is None:
            raise UnsupportedError(
                f"layer {name!r} ({one.class_name}) is no LSTM, GRU or SimpleRNN: it has "
                f"{one.shapes()}"
            )
        if one.kind() != kind:
            raise ValueError(f"layer {name!r} is of kind {one.kind()}, not {kind}")
        chosen.append(one)
    if not chosen:
        raise ValueError(f"no layer is named; the file has {_listed(found)}")
    return chosen


def _by_name(found: list[Layer], name: str) -> Layer:
    """By its path or its own name, else by the name of what it is in; or a cell of a stack."""
    cells = [cell for layer in found for cell in layer.by_cells()]
    for matching in (
        [layer for layer in [*found, *cells] if layer.path == name],
        [layer for layer in found if layer.name == name],
        [layer for layer in found if name in layer.around],
        [cell for cell in cells if cell.name == name],
    ):
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise ValueError(
                f"the file has more than one recurrent layer named {name!r}, {_listed(matching)}: "
                "name one by its path"
            )
    raise ValueError(f"the file has no recurrent layer named {name!r}; it has {_listed(found)}")


def _listed(found: list[Layer]) -> str:
    listed = [f"{layer.name!r} ({layer.class_name}, {layer.path})" for layer in found]
    return ", ".join(listed) or "none"


# ---- several as one


def _stack(
    chosen: list[Layer], kind: str, said: Mapping[str, Any], version: str | None
) -> tuple[dict[str, np.ndarray], Told, list[str]]:
    """Weights and arguments of layers one upon another, and which arguments were assumed."""
    parts: list[dict[str, np.ndarray]] = []
    names: list[str] = []
    arguments: Told = {}
    assumed: list[str] = []
    for layer in chosen:
        each, guessed = told(layer, kind, said, version)
        assumed += [guess for guess in guessed if guess not in assumed]
        if len(layer.cells) != len(chosen[0].cells):
            raise UnsupportedError(
                f"{_listed([chosen[0], layer])} are no stack of one vledge.nn.{kind}: one has two "
                f"directions. {_ALONE}"
            )
        for index, own in enumerate(each):
            cell = layer.cells["forward"][index]
            where = f"layer {layer.name!r}"
            if len(each) > 1:
                where += f", cell {cell.name!r} ({cell.path})"
            if arguments and own != arguments:
                raise UnsupportedError(
                    f"{where} differs from {names[0]}: {difference(own, arguments)}. {_ALONE}"
                )
            arguments = own
            for direction, cells in layer.cells.items():
                parts.append(converted(cells[index], kind, f"{where}, {direction}"))
            names.append(where)
    directions = len(chosen[0].cells)
    _check_sizes(parts, names, directions, kind)
    arrays: dict[str, np.ndarray] = {}
    biased = any("bias_ih" in part for part in parts)
    for number, part in enumerate(parts):
        layer_number, backward = divmod(number, directions)
        if biased and "bias_ih" not in part:  # torch's layers have all of them, or none
            zeros = np.zeros(len(part["weight_hh"]), part["weight_hh"].dtype)
            part.update(bias_ih=zeros, bias_hh=zeros)
        suffix = f"_l{layer_number}" + ("_reverse" if backward else "")
        arrays.update({name + suffix: array for name, array in part.items()})
    return arrays, arguments, assumed


_ALONE = (
    "Load each by from_keras with its own name or path, and run the one's output through the next"
)


def _check_sizes(
    parts: list[dict[str, np.ndarray]], names: list[str], directions: int, kind: str
) -> None:
    """UnsupportedError for widths that one layer of `vledge.nn` cannot have, ValueError for those
    that do not follow one another."""
    sizes = [(part["weight_ih"].shape[1], part["weight_hh"].shape[1]) for part in parts]
    for number, (inputs, units) in enumerate(sizes):
        name, first = names[number // directions], sizes[number - number % directions]
        if (inputs, units) != first:
            raise UnsupportedError(
                f"{name}: forward takes {first[0]} features and has {first[1]} units, backward "
                f"takes {inputs} and has {units}"
            )
        below = number // directions - 1
        if below >= 0 and inputs != (given := directions * sizes[below * directions][1]):
            raise ValueError(f"{name} takes {inputs} features, {names[below]} gives {given}")
        if units != sizes[0][1]:
            raise UnsupportedError(
                f"{name} has {units} units, {names[0]} has {sizes[0][1]}: the layers of one "
                f"vledge.nn.{kind} are of one width. {_ALONE}"
            )
