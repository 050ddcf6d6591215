"""What a model's recurrent layers are given while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy

import numpy as np

from vledge.nn import Module
from vledge.nn.recurrent.base import RecurrentBase
from vledge.packing import is_packed, unpack_sequence, validated

__all__ = ["called", "inputs_of"]


def called(model: Module, arguments: object) -> object:
    """The model's answer to one of the inputs: a plain tuple is its positional arguments."""
    return model(*arguments) if type(arguments) is tuple else model(arguments)


def inputs_of(
    model: Module, layers: Mapping[str, RecurrentBase], inputs: Sequence[object]
) -> dict[str, list[np.ndarray]]:
    """The sequences, [L, input_size] each, that every named layer was called with."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in layers}
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


def _watched(layer: RecurrentBase, seen: list[np.ndarray]) -> Module:
    """The layer, which keeps what it is called with."""

    run: Callable[..., object] = type(layer).__call__

    def call(self: RecurrentBase, input: object, *rest: object, **options: object) -> object:
        seen.extend(_sequences(self, input, options.get("lengths"), options.get("mask")))
        return run(self, input, *rest, **options)

    twin = copy(layer)
    watching = type(type(layer).__name__, (type(layer),), {"__call__": call})
    object.__setattr__(twin, "__class__", watching)  # a Module's own would take it for a weight
    return twin


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
