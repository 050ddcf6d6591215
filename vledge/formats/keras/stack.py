"""Keras layers one upon another, as layers of torch's form: one, or as many as it takes.

One layer of torch's has one kind, one width and one set of arguments. Keras' stacks and the two
directions of a Bidirectional are bound to none of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vledge.errors import FormatError
from vledge.formats.json_text import Json
from vledge.formats.keras.arguments import Told, told
from vledge.formats.keras.layers import Cell, Layer
from vledge.formats.keras.weights import converted

__all__ = ["BothWays", "LayerWeights", "are_one", "check_sizes", "levels"]


class LayerWeights(NamedTuple):
    """A layer of torch's form, of one direction or of two that are alike."""

    kind: str  #: LSTM, GRU or RNN
    weights: dict[str, np.ndarray]  #: by torch's names, ``weight_ih_l0``, …
    arguments: Told  #: in Keras' words


class BothWays(NamedTuple):
    """A Bidirectional whose two directions are not alike, or are stacks of cells."""

    forward: list[LayerWeights]
    backward: list[LayerWeights]


class _Part(NamedTuple):
    """One cell of one direction."""

    kind: str
    arrays: dict[str, np.ndarray]  #: by torch's names, less the number of the layer
    arguments: Told

    @property
    def units(self) -> int:
        return int(self.arrays["weight_hh"].shape[1])

    def alone(self) -> LayerWeights:
        weights = {f"{name}_l0": array for name, array in self.arrays.items()}
        return LayerWeights(self.kind, weights, self.arguments)


_Ways = dict[str, list[_Part]]  # by direction, from the first cell to the last


def levels(
    chosen: Sequence[Layer], said: Mapping[str, Json], version: str | None
) -> tuple[list[LayerWeights | BothWays], list[str]]:
    """Keras layers, the first below: a single level where one layer of torch's is all of them.

    Beside them the arguments that were assumed. Raises ValueError for layers whose sizes do not
    follow one another, FormatError and UnsupportedError for what is wrong with one of them.
    """
    layers: list[_Ways] = []
    assumed: list[str] = []
    for layer in chosen:
        ways, guessed = _parts(layer, said, version)
        layers.append(ways)
        assumed += [guess for guess in guessed if guess not in assumed]
    _check_sizes([_sizes(layer) for layer in chosen])
    if _alike(layers):
        return [_merged(layers)], assumed
    return [level for ways in layers for level in _levels(ways)], assumed


def are_one(layers: Sequence[Mapping[str, Sequence[object]]]) -> bool:
    """Whether one layer of torch's can be all of these: by direction, what tells each cell's form.

    They must be of one kind, width, number of directions and set of arguments.
    """
    if len({len(ways) for ways in layers}) > 1:
        return False
    if len(layers[0]) == 2 and any(len(ways["forward"]) > 1 for ways in layers):
        return False  # each direction runs by itself to the end of its stack
    first, *others = [cell for ways in layers for cells in ways.values() for cell in cells]
    return all(other == first for other in others)


def _parts(layer: Layer, said: Mapping[str, Json], version: str | None) -> tuple[_Ways, list[str]]:
    arguments, assumed = told(layer, said, version)
    kinds = layer.kinds()
    ways: _Ways = {}
    for way, cells in layer.cells.items():
        ways[way] = []
        for cell, kind, own in zip(cells, kinds[way], arguments[way], strict=True):
            assert kind is not None  # it is checked before
            arrays = converted(cell, kind, f"{_where(layer, cell)}, {way}")
            ways[way].append(_Part(kind, arrays, own))
    return ways, assumed


def check_sizes(layer: Layer) -> None:
    """ValueError where a cell does not take what the one below it gives; FormatError where two
    directions do not take the same."""
    _check_sizes([_sizes(layer)])


class _Size(NamedTuple):
    where: str
    inputs: int
    units: int


def _sizes(layer: Layer) -> dict[str, list[_Size]]:
    return {
        way: [
            _Size(_where(layer, cell), cell.arrays["kernel"].shape[0], cell.units) for cell in cells
        ]
        for way, cells in layer.cells.items()
    }


def _where(layer: Layer, cell: Cell) -> str:
    one_of = f", cell {cell.name!r} ({cell.path})" if len(layer.cells["forward"]) > 1 else ""
    return f"layer {layer.name!r}{one_of}"


def _check_sizes(layers: Sequence[Mapping[str, Sequence[_Size]]]) -> None:
    given, below = None, ""
    for ways in layers:
        inputs = {way: sizes[0].inputs for way, sizes in ways.items()}
        first = ways["forward"][0]
        if len({*inputs.values()}) > 1:
            raise FormatError(
                f"{first.where}: forward takes {first.inputs} features, backward "
                f"{inputs['backward']}"
            )
        if given not in (None, first.inputs):
            raise ValueError(f"{first.where} takes {first.inputs} features, {below} gives {given}")
        for sizes in ways.values():
            for one, other in pairwise(sizes):
                if other.inputs != one.units:
                    raise ValueError(
                        f"{other.where} takes {other.inputs} features, {one.where} gives "
                        f"{one.units}"
                    )
        given = sum(sizes[-1].units for sizes in ways.values())
        below = ways["forward"][-1].where


def _alike(layers: Sequence[_Ways]) -> bool:
    return are_one(
        [
            {
                way: [(one.kind, one.units, one.arguments) for one in parts]
                for way, parts in w.items()
            }
            for w in layers
        ]
    )


def _merged(layers: Sequence[_Ways]) -> LayerWeights:
    """As one layer of torch's; what has no bias gets one of zeros where others have one."""
    stack = [level for ways in layers for level in zip(*ways.values(), strict=True)]
    first = stack[0][0]
    biased = any("bias_ih" in part.arrays for level in stack for part in level)
    weights: dict[str, np.ndarray] = {}
    for number, level in enumerate(stack):
        for part, suffix in zip(level, ("", "_reverse"), strict=False):
            arrays = part.arrays
            if biased and "bias_ih" not in arrays:  # torch's layers have all of them, or none
                zeros = np.zeros(len(arrays["weight_hh"]), arrays["weight_hh"].dtype)
                arrays = {**arrays, "bias_ih": zeros, "bias_hh": zeros}
            weights |= {f"{name}_l{number}{suffix}": array for name, array in arrays.items()}
    return LayerWeights(first.kind, weights, first.arguments)


def _levels(ways: _Ways) -> list[LayerWeights | BothWays]:
    """Of one Keras layer: a level for each cell of one direction, or one for two directions."""
    if len(ways) == 1:
        return [part.alone() for part in ways["forward"]]
    if _alike([ways]):
        return [_merged([ways])]
    return [BothWays(*([part.alone() for part in parts] for parts in ways.values()))]
