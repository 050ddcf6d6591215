"""What Keras' description of a model says of its layers: their classes, names and arguments.

Models and wrappers are looked into, whatever they are called and however deep. No class is looked
up. Source: keras.src.saving.saving_lib (where weights are put) and serialization_lib, Keras 3.15.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from vledge.budget import Budget
from vledge.errors import FormatError
from vledge.formats import json_text
from vledge.formats.json_text import Json, JsonObject

__all__ = ["Arguments", "Description", "arguments", "descriptions", "parsed", "version_of"]

STEP_OF_CHARACTERS: Final = 20  # of a description, that what is looked for in it takes
MAX_NESTING: Final = 32
MAX_NAME_LENGTH: Final = 200  # of a class or an argument

CELLS: Final = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
_CUDNN: Final = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}  # tanh and sigmoid, and no other
_WHOLE: Final = {*CELLS, *_CUDNN, "RNN", "Bidirectional"}  # what is in them are their parts


@dataclass(frozen=True)
class Description:
    """A layer that has no layers of its own to look into, Bidirectional and RNN included."""

    group: str  #: where Keras 3 puts its weights
    path: tuple[str, ...]  #: its name, behind those of the models and wrappers that it is in
    class_name: str
    config: Mapping[str, Json]


@dataclass(frozen=True)
class Arguments:
    """What one cell of a recurrent layer was made with."""

    class_name: str  #: LSTM, GRU, SimpleRNN, or what no layer here is
    name: Json
    units: Json
    use_bias: Json
    activation: Json
    recurrent_activation: Json
    reset_after: bool
    go_backwards: bool
    time_major: bool


def parsed(text: str | bytes | None, budget: Budget) -> JsonObject | None:
    """The JSON text of a model's description; FormatError if it is none."""
    if text is None:
        return None
    config = json_text.parsed(text, budget, "the model's description")
    budget.step(len(text) // STEP_OF_CHARACTERS, "the model's description")
    if not isinstance(config, dict):
        raise FormatError("the model's description is JSON, but no object")
    return config


def version_of(config: Mapping[str, Json]) -> str | None:
    """The version of Keras that wrote a description; "2" or "3" where only its words show it."""
    said = config.get("keras_version")  # Model.to_json until Keras 3
    if isinstance(said, str):
        return said
    text = json.dumps(config)
    if '"DTypePolicy"' in text or '"batch_shape"' in text:
        return "3"
    return "2" if '"batch_input_shape"' in text else None


def descriptions(model: Mapping[str, Json]) -> list[Description]:
    """The layers of a Sequential or Functional model; none of a class of the author's own, which
    calls its layers what its code says. A description is Model.to_json's or Model.get_config's."""
    return list(_inside(model if "config" in model else {"config": dict(model)}, "", ()))


def _inside(entry: Mapping[str, Json], group: str, path: tuple[str, ...]) -> Iterator[Description]:
    """What stands among the arguments of a model or wrapper."""
    if len(path) > MAX_NESTING:
        raise FormatError(f"models nested deeper than {MAX_NESTING}")
    config = entry.get("config")
    given = {"layers": config} if isinstance(config, list) else config  # Sequential until Keras 2.2
    for key, value in given.items() if isinstance(given, dict) else ():
        if len(key) > MAX_NAME_LENGTH:
            continue
        if key == "layers" and isinstance(value, list) and not all(map(_is_entry, value)):
            raise FormatError("the model's description has a layer without class and config")
        if isinstance(value, list):
            counts: dict[str, int] = {}
            for one in value:
                if not _is_entry(one):
                    continue
                snake = _snake_case(str(one["class_name"]))
                count = counts[snake] = counts.get(snake, -1) + 1
                number = f"_{count}" if count else ""
                yield from _one(one, f"{group}{key}/{snake}{number}", path)
        elif _is_entry(value) and key != "dtype":
            yield from _one(value, group + key, path)


def _is_entry(value: Json) -> TypeGuard[JsonObject]:
    match value:
        case {"class_name": str(name), "config": dict() | list()}:
            return len(name) <= MAX_NAME_LENGTH
    return False


def _one(entry: Mapping[str, Json], group: str, path: tuple[str, ...]) -> Iterator[Description]:
    config = entry["config"]
    name = config.get("name") if isinstance(config, dict) else None
    name = entry.get("name") if name is None else name
    if name is None and isinstance(config, dict) and "layers" not in config:
        return  # an initializer, a constraint, a policy
    own_path = (*path, str(name))
    class_name = _class(entry)
    inner = [] if class_name in _WHOLE else list(_inside(entry, f"{group}/", own_path))
    if inner or not isinstance(config, dict):
        yield from inner
    else:
        yield Description(group, own_path, class_name, config)


def _class(entry: Mapping[str, Json]) -> str:
    """The class's name; one of the author's own is told by where Keras 3 says that it is from."""
    name, module = str(entry["class_name"]), entry.get("module")
    own = entry.get("registered_name") or name
    if isinstance(module, str) and module.partition(".")[0] not in ("keras", "tf_keras"):
        return f"{module}.{name}"
    return str(own)


def _snake_case(name: str) -> str:
    """As keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def arguments(description: Description) -> dict[str, list[Arguments]]:
    """By direction, forward and backward, the cells from the first to the last."""
    if description.class_name != "Bidirectional":
        return {"forward": list(_cells(description.class_name, description.config))}
    cells: dict[str, list[Arguments]] = {}
    for direction, key in (("forward", "layer"), ("backward", "backward_layer")):
        entry = description.config.get(key)
        if entry is None and direction == "backward":  # Keras 2 wrote it only if it was given
            cells[direction] = [_turned(cell) for cell in cells["forward"]]
        elif _is_entry(entry) and isinstance(entry["config"], dict):
            cells[direction] = list(_cells(_class(entry), entry["config"]))
        else:
            raise FormatError(f"{description.path[-1]!r} (Bidirectional): {key} is not described")
    return cells


def _turned(cell: Arguments) -> Arguments:
    return Arguments(**{**vars(cell), "go_backwards": not cell.go_backwards})


def _cells(class_name: str, config: Mapping[str, Json]) -> Iterator[Arguments]:
    cell = config.get("cell")
    if class_name != "RNN" or not _is_entry(cell):
        yield _arguments(class_name, config, config)
        return
    inner = cell["config"].get("cells") if isinstance(cell["config"], dict) else None
    stacked = _class(cell) == "StackedRNNCells"
    for one in inner if stacked and isinstance(inner, list) else [cell]:
        if not _is_entry(one) or not isinstance(one["config"], dict):
            raise FormatError(f"{config.get('name')!r} (RNN): a cell without class and config")
        name = _class(one)
        plain = name.removesuffix("Cell")
        yield _arguments(plain if plain in CELLS else name, one["config"], config)


def _arguments(class_name: str, cell: Mapping[str, Json], layer: Mapping[str, Json]) -> Arguments:
    cudnn = class_name in _CUDNN
    return Arguments(
        _CUDNN.get(class_name, class_name),
        cell.get("name"),
        cell.get("units", cell.get("output_dim")),  # Keras 1's word
        True if cudnn else cell.get("use_bias", True),
        "tanh" if cudnn else cell.get("activation", "tanh"),
        "sigmoid" if cudnn else cell.get("recurrent_activation", cell.get("inner_activation")),
        # Keras before 2.1.3 had no other form
        bool(cell.get("reset_after", class_name == "CuDNNGRU")),
        bool(layer.get("go_backwards")),
        bool(layer.get("time_major")),
    )
