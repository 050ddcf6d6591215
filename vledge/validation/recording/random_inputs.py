"""Random inputs to record a model on: of several lengths, and of every row of its tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Model
from vledge.model.element_types import DTYPES
from vledge.pieces import spans
from vledge.validation.reference.bundle import Axes
from vledge.validation.running.lengths import lengths_by_behaviour, lengths_input, required

__all__ = ["Random", "parse_random", "random_inputs", "rows_chosen"]

LENGTHS = (7, 40)  # of axes that a random input leaves open; more where there are more runs
_SAME_NUMBERS = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_RANDOM = re.compile(r"(\?|\d+)(x(\?|\d+))*")

Arrays = dict[str, np.ndarray]
Declared = tuple[int | str | None, ...] | None  # a shape, as a `ValueInfo` has it


@dataclass(frozen=True)
class Random:
    """A random input's shape, None where time is open; and the range of whole numbers."""

    name: str
    shape: tuple[int | None, ...]
    high: int = 0


def parse_random(text: str) -> Random:
    """``x=8x?x40``, or ``ids=8x?:5000`` for whole numbers from 0 to 4999."""
    name, separator, rest = text.partition("=")
    shape, _, high = rest.partition(":")
    if not separator or not name or not _RANDOM.fullmatch(shape) or not (high or "0").isdecimal():
        raise ValueError(f"{text!r}: expected NAME=SHAPE such as x=8x?x40, or ids=8x?:5000")
    sizes = tuple(None if size == "?" else int(size) for size in shape.split("x"))
    if sizes.count(None) > 1:
        raise ValueError(f"{text!r}: only one axis, time's, can be open")
    return Random(name, sizes, int(high or 0))


def random_inputs(
    model: Model, wanted: Sequence[Random], fixed: Mapping[str, np.ndarray], runs: int, seed: int
) -> tuple[list[Arrays], dict[str, Axes]]:
    """Inputs of several runs, each with another length on the open axes, and those axes.

    The model's input of lengths, where it has one, is filled with lengths from 1 to the run's, both
    ends among them; whole numbers that choose the rows of a table go up to its last one.
    """
    rng = np.random.default_rng(seed)
    infos = required(model)
    lengths = lengths_input(model)
    given = {random.name for random in wanted} | set(fixed)
    unknown = sorted(given - infos.keys())
    if unknown:
        raise ValueError(f"the model has no input {unknown[0]!r}: it has {list(infos)}")
    missing = [name for name in infos if name not in given and name != lengths]
    if missing:
        raise ValueError(f"nothing is said of the model's input {missing[0]!r}")
    axes = {name: axes_from_symbols(info) for name, info in infos.items()}
    for random in wanted:
        if None in random.shape:
            axes[random.name]["time"] = random.shape.index(None)
            if axes[random.name].get("batch") == axes[random.name]["time"]:
                del axes[random.name]["batch"]
    rows = rows_chosen(model)
    counted: dict[str, Axes] | None = None
    sets = []
    shortest, end = LENGTHS
    for longest in (shortest + rng.permutation(max(end - shortest, runs))[:runs]).tolist():
        arrays = dict(fixed)
        for random in wanted:
            dtype = DTYPES[infos[random.name].type]
            shape = tuple(longest if size is None else size for size in random.shape)
            if dtype.kind == "f":
                arrays[random.name] = _normal(rng, shape, dtype)
            else:
                high = random.high or rows.get(random.name, 2)
                arrays[random.name] = rng.integers(0, high, shape).astype(dtype)
        if counted is None:  # by the first run, what the lengths count
            lengths, counted = _counted(model, arrays, lengths, axes)
            for name, own in counted.items():
                axes[name] = own
        if lengths and lengths not in fixed:
            asked = next((r for r in wanted if r.name == lengths), None)
            made = _lengths(
                rng, arrays, axes, counted, lengths, longest, asked, infos[lengths].shape
            )
            arrays[lengths] = made.astype(DTYPES[infos[lengths].type])
            axes[lengths] = {"batch": 0} if made.ndim == 1 else {}
        sets.append({name: arrays[name] for name in infos})
    return sets, axes


def _normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """``rng.standard_normal(shape)``, a piece at a time."""
    drawn = np.empty(math.prod(shape), dtype)
    for some in spans(drawn.size):
        drawn[some] = rng.standard_normal(some.stop - some.start)
    return drawn.reshape(shape)


def _counted(
    model: Model, arrays: Arrays, lengths: str | None, axes: Mapping[str, Axes]
) -> tuple[str | None, dict[str, Axes]]:
    """The input of lengths, found by trying if need be, and the axes of what they count."""
    feed = dict(arrays)
    if lengths and lengths not in feed:
        batch = _sequences(feed, axes, required(model)[lengths].shape)
        if batch is None:
            return lengths, {}
        feed[lengths] = np.zeros(batch, np.int64)
    behaviour = lengths_by_behaviour(model, feed) if feed.keys() == required(model).keys() else None
    if behaviour is None or (lengths and behaviour.name != lengths):
        return lengths, {}
    return behaviour.name, {behaviour.counted: behaviour.axes}


def _sequences(arrays: Arrays, axes: Mapping[str, Axes], declared: Declared) -> int | None:
    """How many sequences there are, as lengths are declared or by an input's axis of the batch."""
    if declared and isinstance(declared[0], int):
        return declared[0]
    known = [a.shape[axes[n]["batch"]] for n, a in arrays.items() if "batch" in axes[n]]
    return known[-1] if known else None


def _lengths(
    rng: np.random.Generator,
    arrays: Arrays,
    axes: Mapping[str, Axes],
    counted: Mapping[str, Axes],
    name: str,
    longest: int,
    asked: Random | None,
    declared: Declared,
) -> np.ndarray:
    """Lengths from 1 to the number of steps, both of which are among them."""
    for other, own in (counted or axes).items():
        if "time" in own and other in arrays:
            longest = arrays[other].shape[own["time"]]
    shape: tuple[int, ...]
    if asked is not None:
        shape = tuple(longest if size is None else size for size in asked.shape)
        longest = min(longest, asked.high - 1) if asked.high > 1 else longest
    else:
        batch = _sequences(arrays, axes, declared)
        if batch is None:
            raise ValueError(
                f"the input {name!r} holds lengths, but which axis of the others is the "
                f"batch's the model does not say: give their number, --random {name}=..."
            )
        shape = (batch,)
    made = rng.integers(1, longest + 1, shape)
    places = rng.permutation(made.size)[:2]
    made.flat[places] = [longest, 1][: len(places)]
    return made


def rows_chosen(model: Model) -> dict[str, int]:
    """Inputs of whole numbers → how many rows there are in the table that they choose from."""
    makers = {name: node for node in model.graph.nodes for name in node.outputs}
    inputs = {info.name for info in model.graph.inputs}
    rows_of: dict[str, int] = {}
    for node in model.graph.nodes:
        if node.op_type != "Gather" or node.inputs[0] not in model.graph.initializers:
            continue
        name = node.inputs[1]
        while name in makers and makers[name].op_type in _SAME_NUMBERS:
            name = makers[name].inputs[0]
        if name in inputs:
            table = model.graph.initializers[node.inputs[0]]
            rows = table.shape[node.attributes.get("axis", 0)]
            rows_of[name] = min(rows, rows_of.get(name, rows))
    return rows_of
