"""A layer's weights by their names → the direction that runs them, and directions → their stack.

Most are floats or small integers, which `Direction` lays out for the kernels. Those of torch's
dynamically quantised layers run with bytes as torch runs them, where torch has such a layer: an
LSTM or GRU of its own activations, without a projection. In others they are the floats that they
stand for, and so they are where not all of a stack's weights are of this kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vledge._ext.weights import Direction
from vledge.recurrent.nonlinearity import Nonlinearity
from vledge.recurrent.stack import Stack
from vledge.small_matrix import SmallMatrix, is_dynamic

if TYPE_CHECKING:
    from vledge.recurrent.dynamic import DynamicDirection

__all__ = ["direction_of", "stack_of"]

_CELLS: Final = ("lstm", "gru")


def direction_of(
    cell: str,
    weights: Mapping[str, Any],
    reverse: bool = False,
    activations: tuple[Nonlinearity, ...] | None = None,
) -> Direction | DynamicDirection:
    """One direction of a layer. ValueError where the weights are not those of one."""
    dynamic = {name: one for name, one in weights.items() if is_dynamic(one)}
    if not dynamic:
        return Direction(cell, **weights, reverse=reverse, activations=activations)
    storages = {one.storage for one in dynamic.values() if isinstance(one, SmallMatrix)}
    fits = cell in _CELLS and activations is None and len(storages) == 1
    if fits and dynamic.keys() == {"weight_ih", "weight_hh"} and "weight_hr" not in weights:
        from vledge.recurrent.dynamic import DynamicDirection

        return DynamicDirection(cell, **weights, reverse=reverse)
    floats = {name: np.asarray(one) for name, one in dynamic.items()}
    return direction_of(cell, {**weights, **floats}, reverse, activations)


def stack_of(layers: Sequence[Sequence[Any]]) -> Stack:
    """The stack of directions. ValueError where they do not make one."""
    every = [one for directions in layers for one in directions]
    if all(isinstance(one, Direction) for one in every):
        return Stack(layers)
    if any(isinstance(one, Direction) for one in every) or len({o.storage for o in every}) > 1:
        return Stack([[_of_floats(one) for one in directions] for directions in layers])
    from vledge.recurrent.dynamic import DynamicStack

    return DynamicStack(layers)


def _of_floats(direction: Direction | DynamicDirection) -> Direction:
    if isinstance(direction, Direction):
        return direction
    return Direction(
        direction.cell,
        direction.weight_ih(),
        direction.weight_hh(),
        direction.bias_ih(),
        direction.bias_hh(),
        reverse=direction.reverse,
    )
