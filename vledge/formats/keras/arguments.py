"""The arguments of a Keras layer, in Keras' words: said by its description, by the caller, assumed.

What is not run is refused here, by these words.
Source: keras.src.layers.rnn, Keras 3.15; keras.layers.recurrent, Keras 2.2.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.keras.activation import activation, default_gate
from vledge.formats.keras.config import CELLS, Arguments
from vledge.formats.keras.layers import Cell, Layer
from vledge.formats.keras.weights import is_cudnn, resets_after

__all__ = ["ARGUMENTS", "Told", "difference", "told"]

#: what a caller may say of a layer
ARGUMENTS: Final = (
    "activation",
    "recurrent_activation",
    "reset_after",
    "go_backwards",
    "merge_mode",
)
#: an argument → its value, activations as vledge.nn takes them
Told = dict[str, Any]


def told(
    layer: Layer, kind: str, said: Mapping[str, Any], version: str | None
) -> tuple[list[Told], list[str]]:
    """The arguments of each cell of a layer, and which of them were assumed."""
    where = f"layer {layer.name!r} ({layer.class_name})"
    if kind == "RNN" and (wrong := {"recurrent_activation", "reset_after"} & said.keys()):
        raise TypeError(f"{where} has no {' and no '.join(sorted(wrong))}")
    if len(layer.cells) == 2 and len(layer.cells["forward"]) > 1:
        raise UnsupportedError(
            f"{where}: each of its directions is a stack of cells, which no vledge.nn.{kind} is"
        )
    if layer.description is not None:
        return _by_description(layer, kind, said, version, where), []
    own, assumed = _without(layer, kind, said, version, where)
    return [own] * len(layer.cells["forward"]), assumed


def difference(one: Told, other: Told) -> str:
    """The arguments in which two cells differ, for messages."""
    return ", ".join(
        f"{name}={value!r}, not {other.get(name)!r}"
        for name, value in one.items()
        if value != other.get(name)
    )


# ---- layers that the model's config describes


def _by_description(
    layer: Layer, kind: str, said: Mapping[str, Any], version: str | None, where: str
) -> list[Told]:
    described = layer.described()
    assert layer.description is not None
    if described.keys() != layer.cells.keys():
        raise FormatError(f"{where}: the file has weights of {' and '.join(layer.cells)} only")
    merge_mode = layer.description.config.get("merge_mode")
    if "backward" in described and merge_mode != "concat":
        raise UnsupportedError(f"{where}: merge_mode={merge_mode!r}, not 'concat'")
    found = {}
    for direction, stack in described.items():
        cells = layer.cells[direction]
        if len(stack) != len(cells):
            raise FormatError(
                f"{where}: the file has weights of {len(cells)} of {len(stack)} cells"
            )
        found[direction] = [
            _of_cell(cell, one, kind, direction, version, where)
            for cell, one in zip(cells, stack, strict=True)
        ]
    for one, other in zip(found["forward"], found.get("backward", ()), strict=False):
        if one != other:
            raise UnsupportedError(
                f"{where}: its directions differ, backward has {difference(other, one)}"
            )
    for one in found["forward"]:
        _agree(said, {**one, "go_backwards": False, "merge_mode": "concat"}, version, where)
    return found["forward"]


def _agree(said: Mapping[str, Any], own: Told, version: str | None, where: str) -> None:
    """ValueError if the caller says something else than the file."""
    for name, value in said.items():
        if name.endswith("activation"):
            value = activation(value, version, f"{where}: {name}")
        if name in own and value != own[name]:
            raise ValueError(f"{where} has {name}={own[name]!r}, not {said[name]!r}")


def _of_cell(
    cell: Cell, one: Arguments, kind: str, direction: str, version: str | None, where: str
) -> Told:
    """What a description asks for; UnsupportedError for what is not run."""
    if CELLS.get(one.class_name) != kind:
        raise UnsupportedError(f"{where}: a class {one.class_name!r} is not run as {kind}")
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
    layer: Layer, kind: str, said: Mapping[str, Any], version: str | None, where: str
) -> tuple[Told, list[str]]:
    cells = [cell for stack in layer.cells.values() for cell in stack]
    own: Told = {"time_major": False}
    assumed: list[str] = []

    def taken(name: str, default: Any, why: str = "") -> Any:
        if name in said:
            return said[name]
        assumed.append(f"{name}={default!r}" + (f" ({why})" if why else ""))
        return default

    if kind == "RNN":
        if "activation" not in said:
            raise ValueError(f"{where}: the file does not tell activation: say activation=")
        chosen = {"activation": said["activation"]}
    elif is_cudnn(cells[0], kind):  # made for one pair of activations
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
    if taken("go_backwards", False):
        raise UnsupportedError(
            f"{where}: go_backwards=True; vledge.nn.{kind} has no layer that is only reverse"
        )
    if "backward" in layer.cells and (merge_mode := taken("merge_mode", "concat")) != "concat":
        raise UnsupportedError(f"{where}: merge_mode={merge_mode!r}, not 'concat'")
    if kind == "GRU":
        forms = {resets_after(cell) for cell in cells}
        if len(forms) > 1:
            raise FormatError(f"{where}: some of its cells have reset_after=True, some have not")
        (form,) = forms
        if form is None and "reset_after" not in said:
            raise ValueError(f"{where}: the file does not tell reset_after: say reset_after=")
        own["reset_after"] = bool(said["reset_after"]) if form is None else form
        _agree({n: v for n, v in said.items() if n == "reset_after"}, own, version, where)
    return own, assumed
