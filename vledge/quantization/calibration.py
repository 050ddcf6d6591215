"""Rounding with data: what a layer is given says which rounding errors matter.

Of each matrix the inputs' second moments are known from the float layer's run. Columns are rounded
one after another, and each one's error is made up for by those that are still to come, as far as
the inputs go together; what is left of the mean goes into the biases.

Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", Algorithm 1, with the scales of each block fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from vledge.nn import Linear
from vledge.nn.recurrent.base import RecurrentBase
from vledge.nn.recurrent.cells import CellBase
from vledge.packing import pack_sequence
from vledge.recurrent.stack import Stack
from vledge.small_matrix import FORMS, SmallMatrix, Weight, rounded, scales_for

__all__ = ["calibrated", "calibrated_rows", "rounded_for"]

# Of the mean second moment, added to each input's own: columns that hardly ever move stay put.
DAMPING = 0.01


def calibrated(
    layer: RecurrentBase, sequences: Sequence[np.ndarray], storage: str
) -> dict[str, np.ndarray]:
    """The layer's state with small weights, rounded for ``sequences`` ([L, input_size] each).

    Weights of a projection, whose input no one sees, are rounded to the nearest.
    """
    state: dict[str, Weight] = dict(layer.state_dict())
    packed = pack_sequence(
        [np.asarray(one, np.float32) for one in sequences if len(one)], enforce_sorted=False
    )
    width = layer.shape.width
    for number, directions in enumerate(layer.stack.layers):
        output, _ = Stack([directions]).run(packed)
        for place, direction in enumerate(directions):
            suffix = f"_l{number}{'_reverse' if place else ''}"
            hidden = output.data[:, place * width : (place + 1) * width]
            for part, seen in (("ih", packed.data), ("hh", hidden)):
                # there the last rows multiply what the reset gate leaves of h
                gated = part == "hh" and direction.cell == "gru_reset_before"
                kept = layer.hidden_size if gated else 0
                _round(state, f"{part}{suffix}", seen, storage, kept)
            projection = f"weight_hr{suffix}"
            if projection in state:
                state[projection] = rounded(np.asarray(state[projection]), storage)
        packed = output
    return cast("dict[str, np.ndarray]", state)


def calibrated_rows(
    layer: CellBase | Linear, seen: Sequence[tuple[np.ndarray, ...]], storage: str
) -> dict[str, np.ndarray]:
    """A cell's or a Linear's state with small weights, rounded for the rows that each of its
    matrices was multiplied with."""
    state: dict[str, Weight] = dict(layer.state_dict())
    rows = [np.concatenate(parts) for parts in zip(*seen, strict=True)]
    for part, own in zip(("ih", "hh") if isinstance(layer, CellBase) else ("",), rows, strict=True):
        _round(state, part, own, storage, 0)
    return cast("dict[str, np.ndarray]", state)


def _round(state: dict[str, Weight], part: str, seen: np.ndarray, storage: str, kept: int) -> None:
    """One matrix of a state, and its bias but for the last ``kept`` numbers, in place."""
    name, bias = (f"{kind}_{part}" if part else kind for kind in ("weight", "bias"))
    matrix = np.asarray(state[name], np.float64)
    if matrix.ndim != 2:
        return
    small = rounded_for(matrix, seen.astype(np.float64), storage)
    state[name] = small
    if bias not in state or not len(seen):
        return
    left = (matrix - np.asarray(small, np.float64)) @ seen.mean(axis=0)
    left[len(left) - kept :] = 0
    state[bias] = (np.asarray(state[bias]) + left).astype(np.float32)


def rounded_for(matrix: np.ndarray, seen: np.ndarray, storage: str) -> SmallMatrix:
    """``[rows, columns]`` rounded so that products with rows of ``seen`` [n, columns] keep close.

    ``int16`` is rounded to the nearest: what data could save there is below float32's own error.
    """
    form = FORMS[storage]
    if form.total is not None:
        return rounded(matrix, storage)
    scales = scales_for(matrix, storage)
    columns = matrix.shape[1]
    moments = seen.T @ seen / max(len(seen), 1)
    ridge = DAMPING * moments.trace() / max(columns, 1)
    if not np.isfinite(ridge) or ridge <= 0:  # nothing was seen, or no numbers
        return rounded(matrix, storage)
    inverse = np.linalg.inv(moments + ridge * np.eye(columns))
    spread = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left = np.array(matrix, np.float64)
    values = np.zeros(matrix.shape, np.int64)
    for column in range(columns):
        scale = scales[:, column // form.block].astype(np.float64)
        wanted = left[:, column] / np.where(scale > 0, scale, 1)
        low, high = np.full(len(wanted), -form.largest), np.full(len(wanted), form.largest)
        if form.pair is not None and column % 2:
            low = np.maximum(low, -form.pair - values[:, column - 1])
            high = np.minimum(high, form.pair - values[:, column - 1])
        q = np.where(scale > 0, np.clip(np.rint(wanted), low, high), 0)
        values[:, column] = q
        error = (left[:, column] - q * scale) / spread[column, column]
        left[:, column + 1 :] -= error[:, None] * spread[column, column + 1 :]
    return SmallMatrix(values.astype(form.dtype), scales, storage)
