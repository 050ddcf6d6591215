"""Which input of a model holds its sequences' lengths, found by what the graph does with it.

An input that recurrent nodes are given as ``sequence_lens``, whatever lies between (sorting,
indexing, casts), holds lengths. So does one of which the model behaves so: with shorter lengths
the results change, and what stands past a sequence's length does not matter, which it does where
the lengths say that it is part of the sequence. That is tried by running the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.plan import Plan
from vledge.model.axes import axes_from_symbols
from vledge.model.definition import Model, ValueInfo
from vledge.model.element_types import DTYPES
from vledge.validation.reference.bundle import Axes
from vledge.validation.running.layers import is_recurrent

__all__ = ["Lengths", "example", "lengths_by_behaviour", "lengths_input", "required"]

Arrays = dict[str, np.ndarray]
SIZES = {"batch": 3, "time": 9}  # of an example; others are 4
MOST_ELEMENTS = 1 << 20  # of an input that the model is tried on


@dataclass(frozen=True)
class Lengths:
    """The input of lengths, and the axes of the input whose steps they count."""

    name: str
    counted: str
    axes: Axes


def lengths_input(model: Model) -> str | None:
    """The input that holds the sequences' lengths, or None."""
    name = _given_to_recurrent_nodes(model)
    if name is not None:
        return name
    feed = example(model)
    behaviour = lengths_by_behaviour(model, feed) if feed else None
    return behaviour.name if behaviour else None


def required(model: Model) -> dict[str, ValueInfo]:
    """The inputs that a run must be given."""
    graph = model.graph
    return {info.name: info for info in graph.inputs if info.name not in graph.initializers}


def _candidates(model: Model) -> list[ValueInfo]:
    """Inputs of whole numbers, one for each sequence."""
    graph = model.graph
    return [
        info
        for info in graph.inputs
        if info.type in ("int32", "int64")
        and info.name not in graph.initializers
        and info.shape is not None
        and len(info.shape) <= 1
    ]


def _given_to_recurrent_nodes(model: Model) -> str | None:
    """The one candidate that some ``sequence_lens`` are made from."""
    makers = {name: node for node in model.graph.nodes for name in node.outputs if name}
    candidates = {info.name for info in _candidates(model)}
    reached: set[str] = set()
    wanted = [
        node.inputs[4]
        for node in model.graph.nodes
        if (is_recurrent(node) or node.op_type == "DynamicQuantizeLSTM") and len(node.inputs) > 4
    ]
    while wanted:
        name = wanted.pop()
        if name and name not in reached:
            reached.add(name)
            if name in makers:
                wanted += makers[name].inputs
    given = candidates & reached
    return given.pop() if len(given) == 1 else None


def example(model: Model) -> Arrays:
    """Inputs of the declared shapes, in which open axes of one name are as long; {} if unknown."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    for info in model.graph.inputs:
        if info.name in model.graph.initializers:
            continue
        dtype = DTYPES.get(info.type)
        if info.shape is None or dtype is None or dtype.kind not in "fiub":
            return {}
        axes = {axis: key for key, axis in axes_from_symbols(info).items()}
        shape = [
            size if isinstance(size, int) else SIZES.get(axes.get(axis, ""), 4)
            for axis, size in enumerate(info.shape)
        ]
        if min(shape, default=0) < 0 or math.prod(shape) > MOST_ELEMENTS:
            return {}
        made = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
        arrays[info.name] = np.asarray(made).astype(dtype)
    return arrays


def lengths_by_behaviour(model: Model, feed: Mapping[str, np.ndarray]) -> Lengths | None:
    """The input that behaves as lengths do where the model is run on inputs like ``feed``."""
    candidates = [info.name for info in _candidates(model) if info.name in feed]
    if not candidates:
        return None
    try:
        plan = Plan(model, {})
    except VledgeError:
        return None
    symbols = {info.name: axes_from_symbols(info) for info in model.graph.inputs}
    for name in candidates:
        for counted, axes in _places(name, feed, symbols):
            try:
                with np.errstate(all="ignore"):
                    if _behaves(plan, name, counted, axes, dict(feed)):
                        return Lengths(name, counted, axes)
            except (VledgeError, ValueError, IndexError, TypeError, ArithmeticError):
                continue  # such lengths do not go with that axis
    return None


def _places(
    name: str, feed: Mapping[str, np.ndarray], symbols: Mapping[str, Axes]
) -> Iterator[tuple[str, Axes]]:
    """Inputs and axes of theirs that lengths might count; those that symbols name come first."""
    count = feed[name].size
    places = [
        (other, {"batch": batch, "time": time})
        for other, array in feed.items()
        if other != name
        for batch in range(array.ndim)
        for time in range(array.ndim)
        if batch != time and array.shape[batch] == count and array.shape[time] > 1
    ]

    def strangeness(place: tuple[str, Axes]) -> int:
        known = symbols.get(place[0], {})
        return sum(known.get(key, axis) != axis for key, axis in place[1].items())

    yield from sorted(places, key=strangeness)


def _behaves(plan: Plan, name: str, counted: str, axes: Axes, feed: Arrays) -> bool:
    x = feed[counted]
    count, steps = (x.shape[axes[key]] for key in ("batch", "time"))
    lengths = np.full(count, steps)
    # one stays whole: some graphs take the largest length for the number of steps
    lengths[1 if count > 1 else 0 :] = np.linspace(steps - 1, 1, max(count - 1, 1)).astype(int)
    past = np.arange(steps) >= lengths[:, None]  # [B, T]
    shape = [1] * x.ndim
    shape[axes["batch"]], shape[axes["time"]] = count, steps
    turned = past if axes["batch"] < axes["time"] else past.T
    other = 1 - x if x.dtype.kind in "iub" else x + 1
    moved = np.where(turned.reshape(shape), other, x).astype(x.dtype)

    def run(lengths: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
        own = {name: lengths.reshape(feed[name].shape).astype(feed[name].dtype), counted: x}
        return plan.run(*((feed | own)[n] for n in plan.inputs))

    short, short_moved = run(lengths, x), run(lengths, moved)
    full = np.full(count, steps)
    whole, whole_moved = run(full, x), run(full, moved)
    if not any(map(_changed, short, whole)):
        return False  # they do not matter
    if not any(map(_changed, short, short_moved)):
        return any(map(_changed, whole, whole_moved))
    # what lies past the lengths shows where it lies, and nowhere else; without lengths it does
    return not any(_shows(a, b, past) for a, b in zip(short, short_moved, strict=True)) and any(
        _shows(a, b, past) for a, b in zip(whole, whole_moved, strict=True)
    )


def _differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind != "f":
        return np.asarray(a != b)
    return np.asarray(~np.isclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True))


def _changed(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape != b.shape or bool(_differs(a, b).any())


def _shows(a: np.ndarray, b: np.ndarray, past: np.ndarray) -> bool:
    """Whether an output differs elsewhere than past the lengths, whichever axes are its own."""
    if a.shape != b.shape:
        return True
    different = _differs(a, b)
    least = different.any()
    for batch in range(a.ndim):
        for time in range(a.ndim):
            if batch != time and (a.shape[batch], a.shape[time]) == past.shape:
                moved = np.moveaxis(different, (batch, time), (0, 1))
                least = min(least, moved[~past].any())
    return bool(least)
