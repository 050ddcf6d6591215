"""Recurrent layers out of a Keras file, with all that `vledge.nn` must know to be them.

What the file's own description says holds; where it has none, what one beside it says; then what
the caller says. What nobody says is taken to be Keras' default, and a warning names it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from vledge.budget import Limits
from vledge.errors import FormatError, UnsupportedError
from vledge.formats.json_text import Json
from vledge.formats.keras.arguments import ARGUMENTS, Told, told
from vledge.formats.keras.beside import neighbours
from vledge.formats.keras.config import descriptions, version_of
from vledge.formats.keras.file import KerasModel, read_config, read_model
from vledge.formats.keras.layers import Cell, Layer, layers
from vledge.formats.keras.stack import BothWays, LayerWeights, are_one, check_sizes, levels
from vledge.formats.keras.weights import resets_after

__all__ = ["ARGUMENTS", "RecurrentSummary", "layer_weights", "recurrent_layers"]

Config = str | os.PathLike[str] | Mapping[str, Json]


def layer_weights(
    path: str | os.PathLike[str],
    kind: str | None,
    layer: str | Sequence[str] | None,
    said: Mapping[str, Json],
    config: Config | None = None,
    limits: Limits | None = None,
) -> list[LayerWeights | BothWays]:
    """torch's weights of a layer, or of several one upon another, with the arguments of each.

    ``kind`` is LSTM, GRU or RNN, or None for any. ``layer`` is a layer's name, a list of them from
    the first layer to the last, or None for the only one of this kind. ``said`` are some of
    ``ARGUMENTS``; ``config`` is the model's description, or a file that has one; ``limits`` are
    each file's. The arguments of the result are activation, recurrent_activation and reset_after,
    as far as the kind has them, and time_major. One layer of torch's where that can be all of it,
    else one a layer or cell.
    """
    file = os.fspath(path)
    try:
        layers, version, notes = _read(path, config, limits)
        chosen = _chosen(layers, kind, layer)
        if config is not None and (lost := [one for one in chosen if one.description is None]):
            raise FormatError(f"config does not describe {_listed(lost)}")
        result, assumed = levels(chosen, said, version)
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
        warnings.warn(f"{file}: {'; '.join(notes)}", stacklevel=5)
    return result


class RecurrentSummary(NamedTuple):
    """A recurrent layer of a Keras file."""

    kind: str | None  #: LSTM, GRU or RNN; None for what is none of these, or a stack of several
    name: str
    path: str  #: its group in the file, another name for it
    class_name: str
    input_size: int
    hidden_size: list[int]  #: units, from the first of a stack of cells to the last
    backward_size: list[int]  #: the same of the direction that runs backwards, if there is one
    bidirectional: bool
    bias: bool
    nbytes: int
    #: what all of its cells have; None where the file, or a config beside it, does not tell them
    arguments: Told | None
    own_arguments: list[Told]  #: what else each has, in the order forward, backward
    refused: str  #: why `from_keras` refuses it, or ""
    cells: list[str]  #: the cells' kinds, where they differ, in the same order
    loads_as: str  #: the class of `vledge.nn` that its kind's `from_keras`, or RecurrentStack's,
    #: makes of it; "" where it is refused


def recurrent_layers(
    path: str | os.PathLike[str], limits: Limits | None = None
) -> list[RecurrentSummary]:
    """The recurrent layers of a file, those that no layer here can be among them."""
    try:
        layers, version, _ = _read(path, None, limits)
        return [_summary(layer, version) for layer in layers]
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None


def _summary(layer: Layer, version: str | None) -> RecurrentSummary:
    stack, kinds = layer.cells["forward"], layer.kinds()
    every = [kind for way in kinds.values() for kind in way]
    arguments: dict[str, list[Told]] = {}
    refused = layer.problem
    if not refused and None in every:
        refused = f"no LSTM, GRU or SimpleRNN, it has {layer.shapes()}"
    try:
        if not refused and layer.description is not None:
            arguments, _ = told(layer, {}, version)
        if not refused:
            check_sizes(layer)
    except (FormatError, UnsupportedError, ValueError) as error:
        refused = str(error).removeprefix(f"layer {layer.name!r} ({layer.class_name}): ")
    kernel, bias = stack[0].arrays.get("kernel", np.empty(0)), "bias" in stack[0].arrays
    nbytes = sum(
        array.nbytes for cells in layer.cells.values() for c in cells for array in c.arrays.values()
    )
    each = [one for way in arguments.values() for one in way]
    common = (
        {n: v for n, v in each[0].items() if all(v == one.get(n) for one in each)} if each else {}
    )
    return RecurrentSummary(
        kind=layer.kind(),
        name=layer.name,
        path=layer.path,
        class_name=layer.class_name,
        # a ConvLSTM's channels stand last but one, too
        input_size=kernel.shape[-2] if kernel.ndim > 1 else 0,
        hidden_size=_units(stack),
        backward_size=_units(layer.cells.get("backward", [])),
        bidirectional=len(layer.cells) == 2,
        bias=bias,
        nbytes=nbytes,
        arguments=common if arguments else None,
        own_arguments=[{n: v for n, v in one.items() if n not in common} for one in each]
        if any(one != common for one in each)
        else [],
        refused=refused,
        cells=[str(kind) for kind in every] if len({*every} - {None}) > 1 else [],
        loads_as="" if refused else _loads_as(layer, arguments),
    )


def _units(stack: list[Cell]) -> list[int]:
    recurrent = [cell.arrays["recurrent_kernel"] for cell in stack]
    return [array.shape[-2] for array in recurrent if array.ndim > 1]


def _loads_as(layer: Layer, arguments: Mapping[str, Sequence[Told]]) -> str:
    kind = layer.kind()
    if kind is None:
        return "RecurrentStack"
    forms = {
        way: list(
            zip_longest(
                _units(cells),
                [kind == "GRU" and resets_after(cell) for cell in cells],
                arguments.get(way, ()),
            )
        )
        for way, cells in layer.cells.items()
    }
    if are_one([forms]):
        return kind
    return "Bidirectional" if len(layer.cells) == 2 else "RecurrentStack"


# ---- the model's description


def _read(
    path: str | os.PathLike[str], config: Config | None, limits: Limits | None
) -> tuple[list[Layer], str | None, list[str]]:
    """The recurrent layers, the Keras that they are of, and what a caller should know of it."""
    model = read_model(path, limits)
    if config is not None:
        if isinstance(config, Mapping):
            return *_by_description(model, config, None), []
        try:
            return *_by_description(model, *read_config(config, limits)), []
        except FormatError as error:
            raise FormatError(f"config {os.fspath(config)!r}: {error}") from None
    if model.config is not None:
        return *_by_description(model, model.config, model.version), []
    return _beside(path, model)


def _by_description(
    model: KerasModel, config: Mapping[str, Json], version: str | None
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
            own_layers, version = _by_description(model, neighbour.config, neighbour.version)
        except (FormatError, UnsupportedError):
            continue
        if own_layers and all(layer.fits() for layer in own_layers):
            fitting.append((neighbour, own_layers, version))
    own = [entry for entry in fitting if entry[0].belongs] or fitting
    if len(own) == 1:
        neighbour, own_layers, version = own[0]
        note = f"the layers' arguments are those of {neighbour.name} beside it"
        return own_layers, version, [] if neighbour.belongs else [note]
    names = " and ".join(neighbour.name for neighbour, _, _ in own)
    return alone, model.version, [f"{names} beside it may both be its config"] if own else []


# ---- which layers are meant


def _chosen(
    layers: list[Layer], kind: str | None, wanted: str | Sequence[str] | None
) -> list[Layer]:
    if wanted is None:
        fitting = [layer for layer in layers if _is_of(layer, kind)]
        if len(fitting) != 1:
            of_kind = f"layers of kind {kind}" if kind else "recurrent layers"
            raise ValueError(
                f"the file has {len(fitting)} {of_kind}: name one of its recurrent layers, "
                f"{_listed(layers)}"
            )
        return fitting
    chosen = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        one = _by_name(layers, name)
        if one.problem:
            raise UnsupportedError(f"layer {name!r}: {one.problem}")
        kinds = sorted({str(of) for way in one.kinds().values() for of in way})
        if "None" in kinds:
            raise UnsupportedError(
                f"layer {name!r} ({one.class_name}) is no LSTM, GRU or SimpleRNN: it has "
                f"{one.shapes()}"
            )
        if kind is not None and kinds != [kind]:
            way_out = "" if len(kinds) == 1 else "; nn.RecurrentStack.from_keras takes it"
            raise ValueError(
                f"layer {name!r} is of kind {' and '.join(kinds)}, not {kind}{way_out}"
            )
        chosen.append(one)
    if not chosen:
        raise ValueError(f"no layer is named; the file has {_listed(layers)}")
    return chosen


def _is_of(layer: Layer, kind: str | None) -> bool:
    """Whether all of its cells are of this kind, or of any of ours."""
    kinds = {of for way in layer.kinds().values() for of in way}
    return kinds == {kind} if kind else bool(kinds) and None not in kinds


def _by_name(layers: list[Layer], name: str) -> Layer:
    """By its path or its own name, else by the name of what it is in; or a cell of a stack."""
    cells = [cell for layer in layers for cell in layer.by_cells()]
    for matching in (
        [layer for layer in [*layers, *cells] if layer.path == name],
        [layer for layer in layers if layer.name == name],
        [layer for layer in layers if name in layer.around],
        [cell for cell in cells if cell.name == name],
    ):
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise ValueError(
                f"the file has more than one recurrent layer named {name!r}, {_listed(matching)}: "
                "name one by its path"
            )
    raise ValueError(f"the file has no recurrent layer named {name!r}; it has {_listed(layers)}")


def _listed(layers: list[Layer]) -> str:
    listed = [f"{layer.name!r} ({layer.class_name}, {layer.path})" for layer in layers]
    return ", ".join(listed) or "none"
