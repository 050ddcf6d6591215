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

from vledge.nn.recurrent.base import RecurrentBase
from vledge.packing import pack_sequence
from vledge.recurrent.stack import Stack
from vledge.small_matrix import FORMS, SmallMatrix, Weight, rounded, scales_for

__all__ = ["calibrated", "rounded_for"]

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
                name = f"weight_{part}{suffix}"
                matrix = np.asarray(state[name], np.float64)
                if matrix.ndim != 2:
                    continue
                small = rounded_for(matrix, seen.astype(np.float64), storage)
                state[name] = small
                bias = f"bias_{part}{suffix}"
                if bias not in state:
                    continue
                left = (matrix - np.asarray(small, np.float64)) @ seen.mean(axis=0)
                if part == "hh" and direction.cell == "gru_reset_before":
                    left[2 * layer.hidden_size :] = 0  # multiplies what the reset gate leaves of h
                state[bias] = (np.asarray(state[bias]) + left).astype(np.float32)
            projection = f"weight_hr{suffix}"
            if projection in state:
                state[projection] = rounded(np.asarray(state[projection]), storage)
        packed = output
    return cast("dict[str, np.ndarray]", state)


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
