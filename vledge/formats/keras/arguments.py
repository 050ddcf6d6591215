"""The arguments of a Keras layer, in Keras' words: said by its description, by the caller, assumed.

What is not run is refused here, by these words.
Source: keras.src.layers.rnn, Keras 3.15; keras.layers.recurrent, Keras 2.2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.json_text import Json
from vledge.formats.keras.activation import Written, activation, default_gate
from vledge.formats.keras.config import Arguments
from vledge.formats.keras.layers import Cell, Layer
from vledge.formats.keras.weights import is_cudnn, resets_after

__all__ = ["ARGUMENTS", "Told", "told"]

#: what a caller may say of a layer
ARGUMENTS: Final = (
    "activation",
    "recurrent_activation",
    "reset_after",
    "go_backwards",
    "merge_mode",
)
#: an argument → its value, activations as vledge.nn takes them
Told: TypeAlias = "dict[str, Json | Written]"


def told(
    layer: Layer, said: Mapping[str, Json], version: str | None
) -> tuple[dict[str, list[Told]], list[str]]:
    """The arguments of each cell of a layer, by direction, and which of them were assumed.

    The layer's `kinds` must all be known.
    """
    where = f"layer {layer.name!r} ({layer.class_name})"
    kinds = {kind for stack in layer.kinds().values() for kind in stack}
    if kinds == {"RNN"} and (wrong := {"recurrent_activation", "reset_after"} & said.keys()):
        raise TypeError(f"{where} has no {' and no '.join(sorted(wrong))}")
    if layer.description is not None:
        return _by_description(layer, said, version, where), []
    return _without(layer, said, version, where)


# ---- layers that the model's config describes


def _by_description(
    layer: Layer, said: Mapping[str, Json], version: str | None, where: str
) -> dict[str, list[Told]]:
    described = layer.described()
    assert layer.description is not None
    if described.keys() != layer.cells.keys():
        raise FormatError(f"{where}: the file has weights of {' and '.join(layer.cells)} only")
    merge_mode = layer.description.config.get("merge_mode")
    if "backward" in described and merge_mode != "concat":
        raise UnsupportedError(f"{where}: merge_mode={merge_mode!r}, not 'concat'")
    by_direction, kinds = {}, layer.kinds()
    for direction, stack in described.items():
        cells = layer.cells[direction]
        if len(stack) != len(cells):
            raise FormatError(
                f"{where}: the file has weights of {len(cells)} of {len(stack)} cells"
            )
        by_direction[direction] = [
            _of_cell(cell, one, kind, direction, version, where)
            for cell, one, kind in zip(cells, stack, kinds[direction], strict=True)
        ]
    for own in (one for stack in by_direction.values() for one in stack):
        _agree(said, {**own, "go_backwards": False, "merge_mode": "concat"}, version, where)
    return by_direction


def _agree(said: Mapping[str, Json], own: Told, version: str | None, where: str) -> None:
    """ValueError if the caller says something else than the file."""
    for name, value in said.items():
        if name.endswith("activation"):
            given: Json | Written = activation(value, version, f"{where}: {name}")
        else:
            given = value
        if name in own and given != own[name]:
            raise ValueError(f"{where} has {name}={own[name]!r}, not {said[name]!r}")


def _of_cell(
    cell: Cell, one: Arguments, kind: str | None, direction: str, version: str | None, where: str
) -> Told:
    """What a description asks for; UnsupportedError for what is not run."""
    if one.go_backwards != (direction == "backward"):
        raise UnsupportedError(
            f"{where}: go_backwards={one.go_backwards} in the {direction} direction; "
            f"vledge.nn.{kind} has no layer that is only reverse"
        )
    if (one.units, one.use_bias) != (cell.units, "bias" in cell.arrays):
        raise FormatError(
            f"{where}: units={one.units}, use_bias={one.use_bias} do not agree with its weights, "
            f"{ {name: array.shape for name, array in cell.arrays.items()} }"
        )
    own: Told = {"time_major": one.time_major}
    own["activation"] = activation(one.activation, version, f"{where}: activation")
    if kind != "RNN":
        gate = one.recurrent_activation
        own["recurrent_activation"] = activation(gate, version, f"{where}: recurrent_activation")
    if kind == "GRU":
        own["reset_after"] = one.reset_after
        if resets_after(cell) not in (None, one.reset_after):
            raise FormatError(
                f"{where}: reset_after={one.reset_after} does not agree with its bias"
            )
    return own


# ---- layers that nothing describes


def _without(
    layer: Layer, said: Mapping[str, Json], version: str | None, where: str
) -> tuple[dict[str, list[Told]], list[str]]:
    assumed: list[str] = []

    def taken(name: str, default: Json, why: str = "") -> Json:
        if name in said:
            return said[name]
        guess = f"{name}={default!r}" + (f" ({why})" if why else "")
        if guess not in assumed:
            assumed.append(guess)
        return default

    def of_cell(cell: Cell, kind: str | None) -> Told:
        own: Told = {"time_major": False}
        if kind == "RNN":
            if "activation" not in said:
                raise ValueError(f"{where}: the file does not tell activation: say activation=")
            chosen = {"activation": said["activation"]}
        elif is_cudnn(cell, kind or ""):  # made for one pair of activations
            chosen = {
                "activation": said.get("activation", "tanh"),
                "recurrent_activation": said.get("recurrent_activation", "sigmoid"),
            }
        else:
            chosen = {
                "activation": taken("activation", "tanh"),
                "recurrent_activation": taken("recurrent_activation", *default_gate(version)),
            }
        for name, value in chosen.items():
            own[name] = activation(value, version, f"{where}: {name}")
        if kind == "GRU":
            form = resets_after(cell)
            if form is None and "reset_after" not in said:
                raise ValueError(f"{where}: the file does not tell reset_after: say reset_after=")
            own["reset_after"] = bool(said["reset_after"]) if form is None else form
            _agree({n: v for n, v in said.items() if n == "reset_after"}, own, version, where)
        return own

    kinds = layer.kinds()
    told = {
        way: [of_cell(cell, kind) for cell, kind in zip(cells, kinds[way], strict=True)]
        for way, cells in layer.cells.items()
    }
    if taken("go_backwards", False):
        raise UnsupportedError(
            f"{where}: go_backwards=True; vledge.nn has no layer that is only reverse"
        )
    if "backward" in layer.cells and (merge_mode := taken("merge_mode", "concat")) != "concat":
        raise UnsupportedError(f"{where}: merge_mode={merge_mode!r}, not 'concat'")
    return told, assumed
