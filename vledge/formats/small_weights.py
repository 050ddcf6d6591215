"""Small weights in a safetensors file: two tensors each, and what they are in the metadata.

Under ``vledge.small`` the metadata have a JSON object, name → storage. Such a weight is the tensor
of its name, the integers ``[rows, columns]``, and one with ``.scales`` behind it, float32
``[rows, blocks]``: `vledge.small_matrix` says what they mean. Both are views of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, cast

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, cut
from vledge.formats.json_text import distinct, parsed
from vledge.small_matrix import DYNAMIC, FORMS, SmallMatrix, Weight

__all__ = ["KEY", "SCALES", "joined", "taken_apart"]

KEY: Final = "vledge.small"
SCALES: Final = ".scales"
_STORAGES: Final = (*FORMS, *DYNAMIC)
STEPS_A_WEIGHT: Final = 1 / 64  # of the budget: what checking a sum of neighbours takes


def joined(tensors: dict[str, np.ndarray], text: str, budget: Budget) -> dict[str, np.ndarray]:
    """The tensors, with each small weight in the place of its two."""
    what = f"the metadata {KEY!r}"
    storages = parsed(text, budget, what, pairs=distinct)
    if not isinstance(storages, dict):
        raise FormatError(f"{what} are no object, name to storage")
    scales = {f"{name}{SCALES}" for name in storages}
    for name, storage in storages.items():
        where = f"weight {cut(name)!r}"
        if type(storage) is not str or storage not in _STORAGES:
            known = ", ".join(_STORAGES)
            raise FormatError(f"{where} is stored as {cut(repr(storage))}, not {known}")
        for key in (name, f"{name}{SCALES}"):
            if key not in tensors or (key == name and name in scales):
                raise FormatError(f"{where} is stored as {storage}, but there is no tensor {key!r}")
        budget.step(int(tensors[name].size * STEPS_A_WEIGHT) + 1, where)
    weights: dict[str, Weight] = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        weights[name] = tensor
        if name in storages:
            try:
                weights[name] = SmallMatrix(tensor, tensors[f"{name}{SCALES}"], storages[name])
            except ValueError as error:
                raise FormatError(f"weight {cut(name)!r}: {error}") from None
    return cast("dict[str, np.ndarray]", weights)


def taken_apart(weights: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
    """Each small weight as two tensors, and the text for the metadata, empty where none is small.

    ValueError where a name of theirs is taken.
    """
    tensors: dict[str, np.ndarray] = {}
    storages: dict[str, str] = {}
    for name, weight in weights.items():
        small = cast(object, weight)
        if not isinstance(small, SmallMatrix):
            tensors[name] = weight
            continue
        if f"{name}{SCALES}" in weights:
            raise ValueError(f"{name}{SCALES!s} is the name of small weights' scales, and taken")
        tensors[name], tensors[f"{name}{SCALES}"] = small.values, small.scales
        storages[name] = small.storage
    return tensors, json.dumps(storages, separators=(",", ":")) if storages else ""
