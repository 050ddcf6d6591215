"""Inputs for a model that nobody has described, from the shapes and types that it declares.

An axis that the file leaves open gets its size from the caller, by name, or a guess by the number
of axes: one sample, three channels, an image of a line of text, 60 steps of 80 numbers, 40 tokens.
Guesses are tried in turn until a runtime takes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.validation.recording.random_inputs import rows_chosen

__all__ = ["Given", "guessed_feed"]

Arrays = dict[str, np.ndarray]
SCALE: Final = 0.1  # of random floats: of speech, and near to what normalised features are
SAMPLE_RATE: Final = 16_000
# What else whole numbers are below, where no table says how many rows it has.
WHOLE_NUMBERS: Final = 10
# By the number of axes, the sizes of open ones; the first set that a runtime takes is taken.
GUESSES: Final[Sequence[Mapping[int, Sequence[int]]]] = (
    {1: (1,), 2: (1, 40), 3: (1, 60, 80), 4: (1, 3, 48, 320), 5: (1, 3, 8, 64, 64)},
    {1: (16_000,), 2: (1, 16_000), 3: (1, 1, 16_000), 4: (1, 3, 320, 320)},
    {1: (8,), 2: (8, 64), 3: (1, 80, 60), 4: (1, 320, 320, 3), 5: (1, 1, 16, 64, 64)},
    {2: (1, 512), 3: (2, 1, 64)},
    {1: (40,), 2: (40, 1), 3: (2, 1, 64), 4: (1, 1, 64, 64)},
    {1: (1,), 2: (1, 512), 3: (1, 128, 128), 4: (1, 224, 224, 3)},
)


@dataclass(frozen=True)
class Given:
    """What the caller says: ``sizes`` of open axes by name, ``shapes`` of inputs, and ``numbers``
    that inputs are full of."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)


def guessed_feed(
    model: Model, given: Given, runs: Callable[[Arrays], Sequence[Any]]
) -> tuple[Arrays, Sequence[Any]]:
    """Arrays on which ``runs`` answers, and its answer.

    Raises ValueError for a type of which there are no random numbers, and the first error of
    ``runs`` where it takes none of the guesses.
    """
    refused: Exception | None = None
    for guess in GUESSES:
        feed = _feed(model, given, guess)
        try:
            return feed, runs(feed)
        except Exception as error:  # a runtime's own: it has no kind in common
            refused = refused or error
    assert refused is not None
    raise refused


def _feed(model: Model, given: Given, guess: Mapping[int, Sequence[int]]) -> Arrays:
    rng = np.random.default_rng(0)
    tables = rows_chosen(model)
    infos = [info for info in model.graph.inputs if info.name not in model.graph.initializers]
    shapes = {info.name: _shape(info, given, guess) for info in infos}
    longest = max(
        (max(shape[1:], default=1) for shape in shapes.values() if len(shape) > 1), default=1
    )
    feed = {}
    for info in infos:
        dtype = DTYPES.get(info.type)
        if dtype is None or dtype.kind not in "fiub":
            raise ValueError(
                f"input {info.name!r} is {info.type}, of which there are no random ones"
            )
        shape, name = shapes[info.name], info.name.lower()
        if info.name in given.numbers:
            feed[info.name] = np.full(shape, given.numbers[info.name], dtype)
        elif dtype.kind == "b":
            feed[info.name] = np.ones(shape, dtype)
        elif dtype.kind == "f":
            feed[info.name] = np.asarray(SCALE * rng.standard_normal(shape), dtype)
        elif name in ("sr", "sample_rate", "sampling_rate"):
            feed[info.name] = np.full(shape, SAMPLE_RATE, dtype)
        elif "mask" in name:
            feed[info.name] = np.ones(shape, dtype)
        elif "len" in name and len(shape) <= 1:
            feed[info.name] = np.full(shape, longest, dtype)
        elif dtype.itemsize == 1:  # an image
            feed[info.name] = np.asarray(rng.integers(0, np.iinfo(dtype).max, shape), dtype)
        else:
            high = max(tables.get(info.name, WHOLE_NUMBERS), 2)
            feed[info.name] = np.asarray(rng.integers(1, high, shape), dtype)
    return feed


def _shape(info: ValueInfo, given: Given, guess: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    if info.name in given.shapes:
        return given.shapes[info.name]
    declared = info.shape or ()
    usual = guess.get(len(declared), GUESSES[0].get(len(declared), (1,) * len(declared)))
    return tuple(_size(size, usual[axis], given) for axis, size in enumerate(declared))


def _size(size: int | str | None, usual: int, given: Given) -> int:
    if isinstance(size, int) and size > 0:
        return size
    return given.sizes.get(str(size), 1 if "batch" in str(size).lower() else usual)
