"""What a model's layers are given while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from vledge.nn import Linear, Module
from vledge.nn.recurrent.base import RecurrentBase
from vledge.nn.recurrent.cells import CellBase
from vledge.packing import is_packed, unpack_sequence, validated

__all__ = ["Watchable", "called", "inputs_of"]

Watchable = RecurrentBase | CellBase | Linear


def called(model: Module, arguments: object) -> object:
    """The model's answer to one of the inputs: a plain tuple is its positional arguments."""
    return model(*arguments) if type(arguments) is tuple else model(arguments)


def inputs_of(
    model: Module, layers: Mapping[str, Watchable], inputs: Sequence[object]
) -> dict[str, list[tuple[np.ndarray, ...]]]:
    """What every named layer was called with: of a recurrent one the sequences, [L, input_size], of
    a cell the rows of its input and its hidden state, of a Linear those of its input."""
    seen: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in layers}
    twins: dict[int, Module] = {
        id(layer): _watched(layer, seen[name]) for name, layer in layers.items()
    }

    def twin(module: Module) -> Module:
        if id(module) not in twins:
            own = {name: twin(child) for name, child in module.named_children()}
            twins[id(module)] = module.with_children(own) if own else module
        return twins[id(module)]

    watched = twin(model)
    for one in inputs:
        called(watched, one)
    return seen


def _watched(layer: Watchable, seen: list[tuple[np.ndarray, ...]]) -> Module:
    """The layer, which keeps what it is called with."""

    run: Callable[..., object] = type(layer).__call__

    def call(self: Watchable, input: object, *rest: object, **options: object) -> object:
        if isinstance(self, RecurrentBase):
            own = _sequences(self, input, options.get("lengths"), options.get("mask"))
            seen.extend((one,) for one in own)
        elif isinstance(self, CellBase):
            state: Any = rest[0] if rest else options.get("hx")
            x, hidden = _rows(input), state[0] if isinstance(state, (tuple, list)) else state
            zeros = np.zeros((len(x), self.hidden_size), np.float32)
            seen.append((x, zeros if hidden is None else _rows(hidden)))
        else:
            parts = input if isinstance(input, (list, tuple)) else [input]
            seen.extend((_rows(part),) for part in parts)
        return run(self, input, *rest, **options)

    twin = copy(layer)
    watching = type(type(layer).__name__, (type(layer),), {"__call__": call})
    object.__setattr__(twin, "__class__", watching)  # a Module's own would take it for a weight
    return twin


def _rows(x: object) -> np.ndarray:
    array = np.array(x, np.float32)  # not what the caller may write to later
    return array.reshape(-1, array.shape[-1])


def _sequences(
    layer: RecurrentBase, input: object, lengths: object, mask: object
) -> list[np.ndarray]:
    if is_packed(input):
        return list(unpack_sequence(validated(input)))
    if isinstance(input, (list, tuple)):
        return [np.asarray(one) for one in input]
    batch = np.asarray(input)
    if batch.ndim == 2:
        return [batch]
    rows = batch if layer.batch_first else batch.swapaxes(0, 1)
    if mask is not None:
        return [row[on] for row, on in zip(rows, np.asarray(mask, bool), strict=True)]
    ends = [rows.shape[1]] * len(rows) if lengths is None else np.asarray(lengths).tolist()
    return [row[:end] for row, end in zip(rows, ends, strict=True)]
