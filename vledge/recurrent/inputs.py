"""What a stack may be given to run: the one check of features and dtype, in torch's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from vledge._ext.recurrent import plain_lengths
from vledge.array_like import array_of, native, wrong_dtype
from vledge.packing import PackedSequence
from vledge.recurrent.shape import LayerShape

__all__ = ["checked_features", "checked_packed", "checked_sequences"]


def checked_features(shape: LayerShape, input: np.ndarray, name: str) -> np.ndarray:
    """``[…, input_size]`` of the weights' dtype; ValueError or RuntimeError for anything else."""
    if input.dtype != shape.dtype:
        raise ValueError(wrong_dtype(name, input.dtype, shape.dtype))
    if input.ndim and input.shape[-1] != shape.input_size:
        raise RuntimeError(
            f"{name}.size(-1) must be equal to input_size. Expected {shape.input_size}, "
            f"got {input.shape[-1]}"
        )
    return input


def checked_packed(shape: LayerShape, packed: PackedSequence) -> PackedSequence:
    """A validated PackedSequence whose rows the stack takes; raises as above."""
    if packed.data.ndim != 2:
        raise RuntimeError(
            f"input must have 2 dimensions, got {packed.data.ndim}: a PackedSequence of "
            "[sum of lengths, features]"
        )
    data = checked_features(shape, native(packed.data), "input")
    return packed if data is packed.data else packed._replace(data=data)


def checked_sequences(
    shape: LayerShape, sequences: Sequence[ArrayLike]
) -> tuple[list[np.ndarray], np.ndarray]:
    """A list of sequences as arrays ``[L, input_size]`` of the weights' dtype, and their lengths.

    Raises ValueError, TypeError or RuntimeError, as for one array, naming the one that is not.
    """
    lengths = plain_lengths(sequences, shape.dtype, shape.input_size)
    if lengths is not None:  # what most are: nothing is to be converted
        return cast("list[np.ndarray]", list(sequences)), lengths
    if not len(sequences):
        raise ValueError("received an empty list of sequences")
    checked = []
    for i, given in enumerate(sequences):
        name = f"input[{i}]"
        sequence = array_of(given, name, stack=True)
        if sequence.ndim != 2:
            raise ValueError(
                f"{name} has the shape {list(sequence.shape)}, expected [L, {shape.input_size}]: "
                "a list holds one sequence an item; give a padded batch as one array"
            )
        checked.append(checked_features(shape, sequence, name))
    return checked, np.array([len(one) for one in checked], np.int64)
