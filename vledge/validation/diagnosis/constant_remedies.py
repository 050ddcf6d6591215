"""Mistakes in a node's constant inputs, undone.

Numbers that are off by one or in another scale; weights that were turned, shifted, cut in another
order, or are another function of the right ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from vledge.model.definition import Node
from vledge.validation.diagnosis.suspects import Variant

__all__ = ["EPSILONS", "Site", "numbers", "rearranged", "with_constant"]

EPSILONS = (1e-3, 1e-5, 1e-6, 1e-12, 1e-7, 1e-8, 1e-4, 1e-2, 0.0)


@dataclass
class Site:
    """A node and what lies about it."""

    node: Node
    constants: dict[str, np.ndarray]  #: those of its inputs that are constant
    values: dict[str, np.ndarray]  #: all of its inputs, in one run
    tensors: dict[str, np.ndarray]  #: the model's weights, to take in a constant's place
    others: dict[str, np.ndarray] = field(default_factory=dict)  #: values known to be right
    opset: int = 18

    def input(self, place: int) -> np.ndarray | None:
        name = self.node.inputs[place] if place < len(self.node.inputs) else ""
        return self.values.get(name)


def with_constant(site: Site, place: int, name: str, text: str, array: np.ndarray) -> Variant:
    node = site.node
    made = f"{next(filter(None, node.outputs))}.input{place}"
    inputs = [*node.inputs]
    inputs[place] = made
    old = node.inputs[place]
    new = {made: np.array(array, order="C")}
    return Variant(name, f"{old} {text}", [replace(node, inputs=inputs)], new)


def numbers(site: Site) -> Iterator[Variant]:
    """Constants of a few numbers: axes, sizes, indices, scales, thresholds."""
    for place, name in enumerate(site.node.inputs):
        array = site.constants.get(name)
        if array is None or array.size > 16:
            continue
        flat = array.reshape(-1)
        if array.dtype.kind in "iu":
            for at, step in itertools.product(range(array.size), (1, -1, 2, -2)):
                moved = flat.astype(np.int64)
                moved[at] += step
                if moved[at] != moved.astype(array.dtype)[at]:
                    continue
                moved = moved.astype(array.dtype)
                text = f"is {_list(flat)}, the reference has {_list(moved)}"
                near = "off by one" if abs(step) == 1 else "other constant"
                yield with_constant(site, place, near, text, moved.reshape(array.shape))
            for order in itertools.permutations(range(array.size)) if array.size <= 4 else ():
                moved = flat[list(order)]
                if (moved != flat).any():
                    text = f"is {_list(flat)}, the reference has {_list(moved)}"
                    yield with_constant(site, place, "order", text, moved.reshape(array.shape))
            if array.size == 1:
                for axis in range(-1 if array.dtype.kind == "i" else 0, 5):
                    moved = np.full_like(array, axis)
                    text = f"is {_list(flat)}, the reference has [{axis}]"
                    yield with_constant(site, place, "other constant", text, moved)
        elif array.dtype.kind == "f" and array.size == 1:
            value = float(flat[0])
            for other in (*EPSILONS, 0.5, 1.0, 2.0, -1.0, 0.0, 3.0):
                if other != value:
                    text = f"is {value:.4g}, the reference has {other:.4g}"
                    kind = "epsilon" if 0 < abs(value) < 1e-2 > other else "other constant"
                    yield with_constant(site, place, kind, text, np.full_like(array, other))
            for factor in (10.0, 0.1, 2.0, 0.5, -1.0, 100.0, 0.01, 1e3, 1e-3):
                text = f"is {value:.4g}, the reference has {value * factor:.4g}"
                yield with_constant(site, place, "scale", text, array * factor)
            if value > 0:
                for other in (value**0.5, value**2, 1 / value):
                    text = f"is {value:.4g}, the reference has {other:.4g}"
                    yield with_constant(site, place, "scale", text, np.full_like(array, other))


def _list(flat: np.ndarray) -> str:
    return f"[{', '.join(map(str, flat.tolist()))}]"


def rearranged(site: Site) -> Iterator[Variant]:
    """Constants of many numbers that are turned, shifted, or another function of the right ones."""
    for place, name in enumerate(site.node.inputs):
        array = site.constants.get(name)
        if array is None or array.size < 2 or array.dtype.kind not in "fiu":
            continue
        if 2 <= array.ndim <= 4:
            for perm in itertools.permutations(range(array.ndim)):
                turned = array.transpose(perm)
                if list(perm) != sorted(perm):
                    text = f"is transposed (axes {', '.join(map(str, perm))})"
                    yield with_constant(site, place, "transposed weights", text, turned)
            reshaped = array.T.reshape(array.shape) if array.ndim == 2 else array
            back = array.reshape(array.shape[::-1]).T
            for turned in (reshaped, back):
                text = "was reshaped where it should have been transposed"
                yield with_constant(site, place, "transposed weights", text, turned)
        for axis in range(array.ndim):
            text = f"is reversed along axis {axis}"
            yield with_constant(site, place, "flipped weights", text, np.flip(array, axis))
            for shift in (1, -1):
                text = f"is shifted by {shift} along axis {axis}: off by one"
                moved = np.roll(array, -shift, axis)
                yield with_constant(site, place, "shifted weights", text, moved)
            for count in (2, 3, 4):
                if array.shape[axis] % count == 0 and array.shape[axis] > count:
                    blocks = np.split(array, count, axis)
                    for order in itertools.permutations(range(count)):
                        if list(order) != sorted(order):
                            text = f"has its {count} blocks along axis {axis} in the order {order}"
                            moved = np.concatenate([blocks[k] for k in order], axis)
                            yield with_constant(site, place, "blocks in another order", text, moved)
        if array.dtype.kind == "f":
            with np.errstate(all="ignore"):
                for word, other in (
                    ("has the opposite sign", -array),
                    ("is a variance where a deviation is meant", np.sqrt(np.abs(array))),
                    ("is a deviation where a variance is meant", array**2),
                    ("is the reciprocal of what is meant", 1 / array),
                    ("lacks an exponential", np.exp(np.minimum(array, 50))),
                ):
                    yield with_constant(site, place, "scaled weights", word, other)
