"""Which recurrent layers a Keras file holds: its weights put together to cells, stacks, directions.

Keras 3 numbers a cell's variables and puts them where its objects are, ``…/cell/vars/0``; Keras 2's
layout names them, ``lstm/lstm/lstm_cell/kernel:0``, and what stands between depends on its version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.keras.config import CELLS, Arguments, Description, arguments
from vledge.formats.keras.file import KerasModel
from vledge.recurrent.cells import KINDS, OPERATORS

__all__ = ["Cell", "Layer", "layers"]

VARIABLES: Final = ("kernel", "recurrent_kernel", "bias")

_NUMBERED = re.compile(r"(?:(?P<layer>.+)/)?cell(?:/cells/(?P<cell>[^/]+))?/vars/(?P<number>\d+)")
# What a cell or layer of the author's own has beside those: an LSTM has nothing there.
_MORE = re.compile(r"(?:(?P<layer>.+?)/)?(?P<more>cell/(?!vars/|cells/[^/]+/vars/).+|vars/\d+)")
_NAMED = re.compile(rf"(?P<group>.+)/(?P<name>{'|'.join(VARIABLES)})(?:_(?P<number>\d+))?(?::\d+)?")
# Keras 1 has a matrix a gate: lstm_1/lstm_1_W_i, and lstm_1_U_i, lstm_1_b_i
_BY_GATE = re.compile(r"(?P<cell>.+)_(?P<part>[WUb])(?:_(?P<gate>[ifcozrh]))?(?::\d+)?")
_PARTS: Final = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}
_GATES_OF_KERAS_1: Final = ("ifco", "zrh", " ")
_CELL = re.compile(
    r"(?P<layer>.+?/.+?)/(?:stacked_rnn_cells(?:_\d+)?/[^/]+|(?:[^/]*_)?cell(?:_\d+)?)"
)


@dataclass(frozen=True)
class Cell:
    """The weights of one cell, by Keras' names."""

    path: str
    name: str
    arrays: dict[str, np.ndarray]

    def kind(self) -> str | None:
        """LSTM, GRU or RNN by the shapes; None if they make none of these."""
        kernel, recurrent = (self.arrays.get(name) for name in VARIABLES[:2])
        if kernel is None or recurrent is None or not self.arrays.keys() <= {*VARIABLES}:
            return None
        for kind in reversed(OPERATORS):
            rows = len(KINDS[kind].gates) * recurrent.shape[0] if recurrent.ndim == 2 else 0
            if rows and recurrent.shape[1] == rows and kernel.shape == (*kernel.shape[:1], rows):
                return kind
        return None

    @property
    def units(self) -> int:
        """The width of the state."""
        return int(self.arrays["recurrent_kernel"].shape[0])


@dataclass(frozen=True)
class Layer:
    """A recurrent layer of a file, ConvLSTMs and cells of the author's own among them."""

    path: str  #: its group in the file
    name: str  #: the name that the model's author knows it by
    around: tuple[str, ...]  #: names of the wrappers and models that it is in
    cells: dict[str, list[Cell]]  #: by direction, from the first of a stack to the last
    description: Description | None  #: what the model's config says of it
    place: int | None = None  #: of a cell that is taken out of a stack, which is described
    problem: str = ""  #: what is wrong with it, for whoever asks for it

    def described(self) -> dict[str, list[Arguments]]:
        """What the config says of its cells, by direction; nothing if it says nothing."""
        if self.description is None or self.problem:
            return {}
        stacks = arguments(self.description)
        if self.place is None:
            return stacks
        return {way: stack[self.place : self.place + 1] for way, stack in stacks.items()}

    def by_cells(self) -> list[Layer]:
        """The cells of a stack of one direction, as layers of their own."""
        stack = self.cells["forward"]
        if len(stack) == 1 or len(self.cells) > 1:
            return []
        return [
            Layer(cell.path, cell.name, (), {"forward": [cell]}, self.description, place)
            for place, cell in enumerate(stack)
        ]

    @property
    def class_name(self) -> str:
        """What Keras calls it, as far as the file tells."""
        if self.description is not None:
            return self.description.class_name
        kind = self.kind()
        return {ours: keras for keras, ours in CELLS.items()}.get(kind or "", "a layer")

    def kinds(self) -> dict[str, list[str | None]]:
        """LSTM, GRU or RNN of each cell, by direction, as its shapes and, where there is one, its
        description say; None where they make none of these, or contradict each other."""
        if self.problem:
            return {}
        stacks, kinds = self.described(), {}
        for way, cells in self.cells.items():
            own = [cell.kind() for cell in cells]
            said = [CELLS.get(one.class_name) for one in stacks.get(way, [])]
            pairs = zip_longest(own, said[: len(own)] or own)
            kinds[way] = [shaped if shaped == named else None for shaped, named in pairs]
        return kinds

    def kind(self) -> str | None:
        """The kind of all of its cells; None where they differ, or are none of ours."""
        kinds = {kind for stack in self.kinds().values() for kind in stack}
        return kinds.pop() if len(kinds) == 1 else None

    def fits(self) -> bool:
        """Whether it is described, with the sizes of its weights and no other kind."""
        stacks = self.described()
        for way, cells in self.cells.items():
            stack = stacks.get(way, [])
            sizes = [(cell.units, "bias" in cell.arrays) for cell in cells if cell.kind()]
            if len(stack) != len(cells) or (
                sizes and sizes != [(one.units, one.use_bias) for one in stack]
            ):
                return False
            kinds = [
                CELLS.get(one.class_name, cell.kind())
                for one, cell in zip(stack, cells, strict=True)
            ]
            if sizes and kinds != [cell.kind() for cell in cells]:
                return False
        return stacks.keys() == self.cells.keys()

    def shapes(self) -> str:
        """For messages."""
        cells = [cell for stack in self.cells.values() for cell in stack]
        return ", ".join(f"{n} {a.shape}" for cell in cells for n, a in cell.arrays.items())


def layers(model: KerasModel, described: list[Description]) -> list[Layer]:
    """Every recurrent layer of the file, with both of its directions."""
    by_path = {**_by_gates(model), **_named(model)} if model.legacy else _numbered(model)
    result = []
    pairs = _pairs(model, by_path, described)
    for forward, backward in pairs:
        outer = forward.rpartition("/")[0]
        alone = sum(path.startswith(f"{outer}/") for path, _ in pairs) == 1
        both = {"forward": by_path.pop(forward), "backward": by_path.pop(backward)}
        result.append(_layer(model, outer if alone else forward, both, described))
    result += [
        _layer(model, path, {"forward": cells}, described) for path, cells in by_path.items()
    ]
    order = {one.path: place for place, one in enumerate(described)}  # the model's, not the file's
    last = len(order)
    result.sort(key=lambda one: order.get(one.description.path, last) if one.description else last)
    return result


def _pairs(
    model: KerasModel, by_path: Mapping[str, object], described: list[Description]
) -> list[tuple[str, str]]:
    """The paths of the two directions of each Bidirectional."""
    pairs = []
    for path in by_path:
        outer, _, last = path.rpartition("/")
        if outer and last.startswith("forward_") and (model.legacy or last == "forward_layer"):
            pairs.append((path, f"{outer}/backward_{last.removeprefix('forward_')}"))
        # one that was given both of its layers has their own names in a legacy file
        for one in described if model.legacy and outer else ():
            match one.config:
                case {
                    "layer": {"config": {"name": str(forward)}},
                    "backward_layer": {"config": {"name": str(backward)}},
                } if last in (forward, f"forward_{forward}"):
                    pairs += [(path, f"{outer}/{backward}"), (path, f"{outer}/backward_{backward}")]
    taken: set[str] = set()
    result = []
    for pair in pairs:
        if len({*pair}) == 2 and by_path.keys() >= {*pair} and not taken & {*pair}:
            taken |= {*pair}
            result.append(pair)
    return result


def _layer(
    model: KerasModel, path: str, cells: dict[str, list[Cell]], described: list[Description]
) -> Layer:
    parts = path.split("/")
    name = model.names.get(path, parts[-1])
    outer = ["/".join(parts[:end]) for end in range(1, len(parts))]
    around = {*parts} if model.legacy else {model.names.get(group, "") for group in outer}
    description, problem = None, ""
    try:
        description = _description(model, path, described)
        stacks = {} if description is None else arguments(description)
        cells = {way: _ordered(stack, stacks.get(way, []), name) for way, stack in cells.items()}
    except (FormatError, UnsupportedError) as error:
        problem = str(error)
    if description is not None:
        name = description.path[-1]
        around |= {*description.path}
    around -= {name, ""}
    return Layer(path, name, tuple(sorted(around)), cells, description, None, problem)


# ---- the cells of a file


def _numbered(model: KerasModel) -> dict[str, list[Cell]]:
    """Keras 3's layout: layer → its cells."""
    by_layer: dict[str, dict[str, Cell]] = {}
    for path, array in model.weights.items():
        match = _NUMBERED.fullmatch(path)
        if match:
            group = path.rpartition("/vars/")[0]
            name = match["cell"] or model.names.get(group, "cell")
            cell = Cell(group, model.names.get(group, name), {})
            number = int(match["number"])
            variable = VARIABLES[number] if number < len(VARIABLES) else match["number"]
            cells = by_layer.setdefault(match["layer"] or "", {})
            cells.setdefault(group, cell).arrays[variable] = array
    for path, array in model.weights.items():
        match = _MORE.fullmatch(path)
        if match and (match["layer"] or "") in by_layer and "seed_generator" not in path:
            next(iter(by_layer[match["layer"] or ""].values())).arrays[match["more"]] = array
    return {
        layer: list(cells.values())
        for layer, cells in by_layer.items()
        if all("recurrent_kernel" in cell.arrays for cell in cells.values())
    }


def _named(model: KerasModel) -> dict[str, list[Cell]]:
    """Keras 2's layout: layer → its cells."""
    groups: dict[tuple[str, str], Cell] = {}
    for path, array in model.weights.items():
        match = _NAMED.fullmatch(path)
        if match:
            group, number = match["group"], match["number"] or ""
            name = group.rpartition("/")[2] + (f"_{number}" if number else "")
            cell = groups.setdefault((group, number), Cell(group, name, {}))
            cell.arrays[match["name"]] = array
    for path, array in model.weights.items():
        group, _, name = path.rpartition("/")
        if not _NAMED.fullmatch(path):
            for (own, _), cell in groups.items():
                if own == group:  # a cell of the author's own has more than these
                    cell.arrays[name] = array
    by_layer: dict[str, list[Cell]] = {}
    for (group, _), cell in sorted(groups.items(), key=lambda entry: int(entry[0][1] or 0)):
        if "recurrent_kernel" in cell.arrays:
            # the first part of a path is the layer that Keras files its weights under
            match = _CELL.fullmatch(group)
            by_layer.setdefault(match["layer"] if match else group, []).append(cell)
    return by_layer


def _by_gates(model: KerasModel) -> dict[str, list[Cell]]:
    """Keras 1's layout: layer → its cell, with the gates' matrices put together."""
    if not (model.version or "").startswith("1."):
        return {}
    parts: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    for path, array in model.weights.items():
        match = _BY_GATE.fullmatch(path)
        if match:
            variable = _PARTS[match["part"]], match["gate"] or " "
            parts.setdefault(match["cell"], {})[variable] = array
    by_path = {}
    for path, held in parts.items():
        for gates in _GATES_OF_KERAS_1:
            if held.keys() != {(name, gate) for name in VARIABLES for gate in gates}:
                continue
            arrays = {}
            for name in VARIABLES:
                blocks = [held[name, gate] for gate in gates]
                if len({block.shape for block in blocks}) == 1 and blocks[0].ndim:
                    arrays[name] = np.concatenate(blocks, axis=-1)
            by_path[path] = [Cell(path, path.rpartition("/")[2], arrays)]
    return {path: cells for path, cells in by_path.items() if "recurrent_kernel" in cells[0].arrays}


def _ordered(cells: list[Cell], described: list[Arguments], layer: str) -> list[Cell]:
    """The cells of a stack as its description has them, or by their numbers."""
    names = [str(one.name) for one in described]
    by_name = {cell.name: cell for cell in cells}
    if len(cells) > 1 and sorted(by_name) == sorted(names):
        return [by_name[name] for name in names]
    return _in_turn(cells, layer)


def _in_turn(cells: list[Cell], layer: str) -> list[Cell]:
    """The cells of a stack by the numbers that Keras gives them."""
    if len({cell.path for cell in cells}) == 1:
        return cells  # one group, whose variables were numbered
    numbered = []
    for cell in cells:
        base, number = _split_number(cell.path.rpartition("/")[2])
        numbered.append((base, number, cell))
    if len({base for base, _, _ in numbered}) > 1:
        listed = ", ".join(repr(cell.name) for cell in cells)
        raise UnsupportedError(
            f"layer {layer!r} is a stack of the cells {listed}, whose order the file does not "
            "tell: say config="
        )
    return [cell for _, _, cell in sorted(numbered, key=lambda entry: entry[1])]


def _split_number(name: str) -> tuple[str, int]:
    base, _, number = name.rpartition("_")
    return (base, int(number)) if base and number.isdecimal() else (name, 0)


# ---- the layer that a description means


def _description(model: KerasModel, path: str, described: list[Description]) -> Description | None:
    if not model.legacy:
        group = path.replace("_layer_checkpoint_dependencies", "layers")  # Keras 2.12 and 2.13
        return next((one for one in described if one.group == group), None)
    # Keras 2 files all that is in a layer of the model under its name; what follows depends on the
    # version: names of wrappers and nested models may be left out, a cell's may be there.
    matching = [one for one in described if f"{path}/".startswith(f"{one.path[0]}/")]
    longest = max((len(one.path[0]) for one in matching), default=0)
    matching = [one for one in matching if len(one.path[0]) == longest]
    parts = path[longest:].split("/")
    for better in (
        lambda one: one.path[-1] == parts[-1],
        lambda one: one.path[-1] in parts[1:],
        lambda one: one.class_name in {*CELLS, "RNN", "Bidirectional"},
        lambda one: [name for name in one.path[1:] if name in parts] == list(one.path[1:]),
    ):
        matching = list(filter(better, matching)) or matching
    if len(matching) > 1:
        listed = ", ".join(repr("/".join(one.path)) for one in matching)
        raise FormatError(f"{path!r} may be any of the layers {listed} of the model's config")
    return matching[0] if matching else None
