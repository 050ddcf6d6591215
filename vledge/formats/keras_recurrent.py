"""Keras' recurrent layers out of its files, in torch's names, layout and order of gates.

Keras holds ``kernel [I, G*H]``, ``recurrent_kernel [H, G*H]`` and ``bias``, with the gates
i, f, c, o of an LSTM and z, r, h of a GRU. Torch's matrices are their transposes, with the gates
i, f, g, o and r, z, n. A GRU with ``reset_after=True`` has two rows of bias, torch's ``bias_ih``
and ``bias_hh``; elsewhere there is one.
Source: keras.src.layers.rnn, Keras 3.15.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.keras_file import KerasModel, read_model

__all__ = ["layer_weights"]

KINDS: Final = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
GATES: Final = {"LSTM": 4, "GRU": 3, "RNN": 1}
GATE_ORDER: Final = {"LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2), "RNN": (0,)}  # Keras' place of torch's
VARIABLES: Final = ("kernel", "recurrent_kernel", "bias")
MAX_NESTING: Final = 32

_BOTH: Final = ("forward", "backward")
_DIRECTIONS = re.compile(r"(forward|backward)_(.+)")
_CELL = re.compile(r"(.*_)?cell(_\d+)?")


@dataclass(frozen=True)
class Layer:
    """A recurrent layer of a file: where it is, and the weights of its one or two directions."""

    path: str  #: its group in the file
    name: str  #: the name that the model's author knows it by
    cells: dict[str, dict[str, np.ndarray]]  #: by direction, forward and backward

    def kind(self) -> str:
        """LSTM, GRU or RNN, by the shapes of the weights; FormatError if they make none."""
        for cell in self.cells.values():
            for kind, gates in GATES.items():
                recurrent = cell.get("recurrent_kernel", np.empty(0))
                if recurrent.ndim == 2 and recurrent.shape[1] == gates * recurrent.shape[0]:
                    return kind
        shapes = {name: a.shape for cell in self.cells.values() for name, a in cell.items()}
        raise FormatError(f"layer {self.name!r} is no LSTM, GRU or SimpleRNN: it has {shapes}")


@dataclass(frozen=True)
class Description:
    """What the model's config says of a layer: its class and its arguments."""

    group: str  #: where Keras 3 puts its weights
    path: tuple[str, ...]  #: its name, behind those of the models that it is nested in
    class_name: str
    config: Mapping[str, Any]


def layer_weights(
    path: str | os.PathLike[str], kind: str, layer: str | Sequence[str] | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """torch's weights of a layer, or of several as one stack, and the options of the layer.

    ``kind`` is LSTM, GRU or RNN. ``layer`` is a layer's name, a list of them from the first layer
    to the last, or None for the only one of this kind. An option that the file does not tell is
    None: ``nonlinearity`` in a file of weights alone, ``reset_after`` if there is no bias either.
    """
    try:
        model = read_model(path)
        descriptions = list(_descriptions(model.config, "", ())) if model.config else []
        arrays: dict[str, np.ndarray] = {}
        options: dict[str, Any] = {}
        for number, chosen in enumerate(_chosen(list(_layers(model)), kind, layer)):
            own = _converted(arrays, number, chosen, kind)
            if model.config is not None:
                own.update(_described(chosen, kind, _description(model, chosen, descriptions)))
            if number and options != own:
                raise UnsupportedError(
                    f"layer {chosen.name!r} differs from the layer before it in {own}"
                )
            options = own
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from None
    return arrays, options


# ---- which layers there are


def _layers(model: KerasModel) -> Iterator[Layer]:
    """The recurrent layers, each with both of its directions."""
    cells: dict[str, dict[str, np.ndarray]] = {}
    for path, array in model.weights.items():
        group, _, name = path.rpartition("/")
        if model.legacy:
            cells.setdefault(group, {})[name.partition(":")[0]] = array
        elif re.fullmatch(r"(.*/)?cell/vars", group) and name in ("0", "1", "2"):
            cells.setdefault(group.removesuffix("/vars"), {})[VARIABLES[int(name)]] = array
    found: dict[str, dict[str, np.ndarray]] = {}
    for group, cell in cells.items():
        if "recurrent_kernel" in cell:
            path = _without_cell(group) if model.legacy else group.rpartition("/")[0]
            if path in found:
                raise FormatError(f"{path!r} holds several recurrent layers in one")
            found[path] = cell
    pairs: dict[str, dict[str, str]] = {}
    for path in found:
        outer, _, last = path.rpartition("/")
        match = _DIRECTIONS.fullmatch(last)
        if outer and match and (model.legacy or match[2] == "layer"):
            pairs.setdefault(outer, {})[match[1]] = path
    for path, directions in pairs.items():
        if len(directions) == 2:
            both = {direction: found.pop(directions[direction]) for direction in _BOTH}
            yield Layer(path, model.names.get(path, path.rpartition("/")[2]), both)
    for path, cell in found.items():
        yield Layer(path, model.names.get(path, path.rpartition("/")[2]), {"forward": cell})


def _without_cell(group: str) -> str:
    """The layer of a legacy file's group: newer ones have the cell's name behind the layer's."""
    outer, _, last = group.rpartition("/")
    # The first part of a path is the layer that Keras files its weights under, and no part of it.
    return outer if "/" in outer and _CELL.fullmatch(last) else group


def _chosen(layers: list[Layer], kind: str, wanted: str | Sequence[str] | None) -> list[Layer]:
    listed = ", ".join(f"{layer.name!r} ({layer.path})" for layer in layers) or "none"
    if wanted is None:
        found = [layer for layer in layers if layer.kind() == kind]
        if len(found) != 1:
            raise ValueError(
                f"the file has {len(found)} layers of kind {kind}: name one of its recurrent "
                f"layers, {listed}"
            )
        return found
    chosen = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        matching = [layer for layer in layers if name in (layer.name, layer.path)]
        if len(matching) != 1:
            problem = "no" if not matching else "more than one"
            raise ValueError(
                f"the file has {problem} recurrent layer named {name!r}; it has {listed}"
            )
        if matching[0].kind() != kind:
            raise ValueError(f"layer {name!r} is of kind {matching[0].kind()}, not {kind}")
        chosen += matching
    return chosen


# ---- weights


def _converted(
    arrays: dict[str, np.ndarray], number: int, layer: Layer, kind: str
) -> dict[str, Any]:
    """Add a layer's weights under torch's names; what their shapes say of it."""
    reset_after = []
    for direction, cell in layer.cells.items():
        suffix = f"l{number}" + ("_reverse" if direction == "backward" else "")
        where = f"layer {layer.name!r}, {direction}: "
        hidden_size = cell["recurrent_kernel"].shape[0]
        rows = GATES[kind] * hidden_size
        kernel = cell.get("kernel", np.empty(0))
        _expect(where + "kernel", kernel, (kernel.shape[0], rows))
        _expect(where + "recurrent_kernel", cell["recurrent_kernel"], (hidden_size, rows))
        arrays[f"weight_ih_{suffix}"] = _rows(kernel, kind)
        arrays[f"weight_hh_{suffix}"] = _rows(cell["recurrent_kernel"], kind)
        bias = cell.get("bias")
        if bias is not None:
            two = kind == "GRU" and bias.ndim == 2
            _expect(where + "bias", bias, (2, rows) if two else (rows,))
            arrays[f"bias_ih_{suffix}"] = _rows(bias[0] if two else bias, kind)
            arrays[f"bias_hh_{suffix}"] = _rows(bias[1] if two else np.zeros_like(bias), kind)
            reset_after.append(two)
    if kind == "RNN":
        return {"nonlinearity": None}
    if kind == "LSTM":
        return {}
    if len(set(reset_after)) > 1:
        raise FormatError(f"layer {layer.name!r} has reset_after in one direction only")
    return {"reset_after": reset_after[0] if reset_after else None}


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype.kind != "f":
        raise FormatError(f"{name} is {array.dtype} {array.shape}, expected floats {shape}")


def _rows(array: np.ndarray, kind: str) -> np.ndarray:
    """``[..., G*H]`` in Keras' order of gates -> ``[G*H, ...]`` in torch's."""
    gates = array.T.reshape(GATES[kind], -1, *array.shape[:-1])
    return np.ascontiguousarray(gates[list(GATE_ORDER[kind])]).reshape(array.T.shape)


# ---- the model's description


def _descriptions(model: Any, group: str, path: tuple[str, ...]) -> Iterator[Description]:
    """The layers of a Sequential or Functional model, and those of models nested in it."""
    if len(path) > MAX_NESTING:
        raise FormatError(f"models nested deeper than {MAX_NESTING}")
    match model:
        case {"config": {"layers": list(layers)}} | {"config": list(layers)}:
            pass
        case _:
            return  # a class of the author's own: what it calls its layers is in its code
    counts: dict[str, int] = {}
    for layer in layers:
        match layer:
            case {"class_name": str(class_name), "config": (dict() | list()) as config}:
                pass
            case _:
                raise FormatError("the model's description has a layer without class and config")
        snake = _snake_case(class_name)
        count = counts[snake] = counts.get(snake, -1) + 1
        own_group = f"{group}layers/{snake}" + (f"_{count}" if count else "")
        name = config.get("name") if isinstance(config, dict) else layer.get("name")
        own_path = (*path, str(name))
        custom = layer.get("registered_name")
        if isinstance(config, dict) and "layers" not in config:
            yield Description(own_group, own_path, custom or class_name, config)
        yield from _descriptions(layer, f"{own_group}/", own_path)


def _snake_case(name: str) -> str:
    """As keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _description(model: KerasModel, layer: Layer, descriptions: list[Description]) -> Description:
    parts = tuple(layer.path.split("/"))
    group = layer.path.replace("_layer_checkpoint_dependencies", "layers")  # Keras 2.12 and 2.13
    matching = [
        one
        for one in descriptions
        if (parts[-len(one.path) :] == one.path if model.legacy else one.group == group)
    ]
    if not matching:
        raise UnsupportedError(
            f"layer {layer.name!r} is not described in the model's config, so that its activations "
            "are not known; a file of weights alone (save_weights) is read as one with Keras' "
            "defaults"
        )
    return max(matching, key=lambda one: len(one.path))


def _described(layer: Layer, kind: str, description: Description) -> dict[str, Any]:
    """The options that a layer's description asks for; UnsupportedError for what is not run."""
    where = f"layer {layer.name!r} ({description.class_name})"
    config = description.config
    if description.class_name != "Bidirectional":
        if "backward" in layer.cells:
            raise FormatError(f"{where} has weights of two directions")
        return _one_direction(where, kind, description.class_name, config, layer, "forward")
    if config.get("merge_mode") != "concat":
        raise UnsupportedError(f"{where}: merge_mode={config.get('merge_mode')!r}, not 'concat'")
    found = []
    for direction, key in (("forward", "layer"), ("backward", "backward_layer")):
        match config.get(key):
            case {"class_name": str(name), "config": dict(inner), **entry}:
                own_class = str(entry.get("registered_name") or name)
                found.append(_one_direction(where, kind, own_class, inner, layer, direction))
            case None if direction == "backward":  # Keras 2 wrote it only if it was given
                found.append(found[0])
            case _:
                raise FormatError(f"{where}: {key} is not described")
    if found[0] != found[1]:
        raise UnsupportedError(f"{where}: its directions differ: {found[0]} and {found[1]}")
    return found[0]


def _one_direction(
    where: str,
    kind: str,
    class_name: str,
    config: Mapping[str, Any],
    layer: Layer,
    direction: str,
) -> dict[str, Any]:
    backwards = bool(config.get("go_backwards"))
    match class_name, config.get("cell"):
        case "RNN", {"class_name": str(cell_class), "config": dict(inner), **cell}:
            class_name = str(cell.get("registered_name") or cell_class).removesuffix("Cell")
            config = inner
    if KINDS.get(class_name) != kind:
        raise UnsupportedError(f"{where}: a class {class_name!r} is not run as {kind}")
    if backwards != (direction == "backward"):
        raise UnsupportedError(
            f"{where}: go_backwards={backwards} in the {direction} direction; vledge.nn.{kind} has "
            "no layer that is only reverse"
        )
    weights = layer.cells.get(direction, {})
    if not weights:
        raise FormatError(f"{where}: no weights of the {direction} direction")
    units, use_bias = config.get("units"), config.get("use_bias")
    if (units, use_bias) != (weights["recurrent_kernel"].shape[0], "bias" in weights):
        raise FormatError(
            f"{where}: units={units}, use_bias={use_bias} do not agree with its weights, "
            f"{ {name: array.shape for name, array in weights.items()} }"
        )
    activation = config.get("activation")
    if activation not in (("tanh", "relu") if kind == "RNN" else ("tanh",)):
        raise UnsupportedError(f"{where}: activation={activation!r} is not run")
    if kind == "RNN":
        return {"nonlinearity": activation}
    gate = config.get("recurrent_activation")
    if gate != "sigmoid":
        raise UnsupportedError(f"{where}: recurrent_activation={gate!r}, not 'sigmoid'")
    if kind == "LSTM":
        return {}
    reset_after = bool(config.get("reset_after", False))  # Keras before 2.2 had no other form
    if "bias" in weights and (weights["bias"].ndim == 2) != reset_after:
        raise FormatError(f"{where}: reset_after={reset_after} does not agree with its bias")
    return {"reset_after": reset_after}
