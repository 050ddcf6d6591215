"""Recurrent layers' weights that a graph makes of int8 stay integers.

A file may hold W and R of an RNN, GRU or LSTM as int8, and scale them on the way: by
DequantizeLinear, or by a Cast and a Mul, which any operator set has, and with what moves numbers
between (Reshape, Slice, Concat, ...). onnxruntime makes floats of these when it loads the model.
Here W and R become constants that know their integers, where a row's scale changes only from one
block of small weights to the next.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.passes.program import Program
from vledge.model.definition import Graph, Node
from vledge.recurrent.cells import OPERATORS
from vledge.small_matrix import FORMS, SmallMatrix, SmallTensor

__all__ = ["keep_small_weights"]

_STORAGE: Final = "int8"
# What gives each number of its result from a place of its first input that values do not decide.
_MOVES: Final = frozenset(
    ["Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"]
)
_STEPS_A_WEIGHT: Final = 1 / 32  # of the budget, for each move of a weight and its scale


class _Scaled(NamedTuple):
    """Numbers that are ``integers * scales``, element by element."""

    integers: np.ndarray
    scales: np.ndarray


def keep_small_weights(program: Program) -> None:
    """In the program's graph and every graph inside of it, in place."""
    wanted = _wanted(program.graph)
    if wanted and any(a.dtype == np.int8 and a.ndim > 1 for a in program.constants.values()):
        _Walk(program, wanted).graph(program.graph)


def _wanted(graph: Graph) -> set[str]:
    """The names of all W and R."""
    names: set[str] = set()
    for node in graph.nodes:
        if node.op_type in OPERATORS and not node.domain:
            names.update(node.inputs[1:3])
        for inner in node.subgraphs():
            names |= _wanted(inner)
    return names


class _Walk:
    def __init__(self, program: Program, wanted: set[str]) -> None:
        self.program = program
        self.wanted = wanted
        self.scaled: dict[str, _Scaled] = {}
        self.known: dict[str, np.ndarray] = {}  # what nodes called Constant hold

    def graph(self, graph: Graph) -> None:
        kept = []
        for node in graph.nodes:
            for inner in node.subgraphs():
                self.graph(inner)
            made = self.made(node)
            if made is not None:
                self.scaled[node.outputs[0]] = made
                if node.outputs[0] in self.wanted and self.keep(node.outputs[0], made):
                    continue
            kept.append(node)
        graph.nodes = kept

    def constant(self, name: str) -> np.ndarray | None:
        found = self.program.constants.get(name)
        return self.known.get(name) if found is None else found

    def made(self, node: Node) -> _Scaled | None:
        """What the node makes, if that is integers with scales."""
        if node.domain or len(node.outputs) != 1 or not node.inputs:
            self.note(node)
            return None
        first, *others = node.inputs
        given = self.constant(first)
        try:
            if node.op_type in ("Cast", "DequantizeLinear"):
                if given is None or given.dtype != np.int8 or given.ndim < 1:
                    return None
                return self.dequantised(node, given)
            if node.op_type == "Mul" and len(others) == 1:
                return self.multiplied(first, others[0])
            if node.op_type in _MOVES and first in self.scaled:
                return self.moved(node, [first], others)
            if node.op_type == "Concat" and all(name in self.scaled for name in node.inputs):
                return self.moved(node, node.inputs, [])
        except (VledgeError, ValueError, TypeError, IndexError):
            return None  # which folding will say
        return None

    def note(self, node: Node) -> None:
        if node.op_type == "Constant" and not node.domain and not node.inputs:
            try:
                (array,) = self.program.prepared(node).call()
            except (VledgeError, ValueError, TypeError):
                return
            if isinstance(array, np.ndarray):
                self.known[node.outputs[0]] = array

    def dequantised(self, node: Node, integers: np.ndarray) -> _Scaled | None:
        """By the operator itself, of ones in the place of the integers: the scales."""
        self.charge(integers)
        if node.op_type == "Cast":
            (real,) = self.program.prepared(node).call(np.ones((), np.int8))
            return self.checked(integers, np.broadcast_to(np.asarray(real), integers.shape))
        scale, *zero = (self.constant(name) if name else None for name in node.inputs[1:])
        if scale is None or (zero and node.inputs[2] and (zero[0] is None or zero[0].any())):
            return None
        (real,) = self.program.prepared(node).call(np.ones_like(integers), scale, *zero)
        return self.checked(integers, np.asarray(real))

    def multiplied(self, one: str, other: str) -> _Scaled | None:
        """Times known scales, which may have fewer axes."""
        name, factor = (one, other) if one in self.scaled else (other, one)
        scale = self.constant(factor)
        if name not in self.scaled or scale is None or scale.dtype != np.float32:
            return None
        integers, scales = self.scaled[name]
        if np.broadcast_shapes(integers.shape, scale.shape) != integers.shape:
            return None
        if scales.size and (scales != 1).any():
            return None  # (q a) b and q (a b) are not the same floats
        self.charge(integers)
        return self.checked(integers, np.broadcast_to(scale, integers.shape))

    def moved(self, node: Node, names: list[str], others: list[str]) -> _Scaled | None:
        rest = [self.constant(name) if name else None for name in others]
        if any(name and array is None for name, array in zip(others, rest, strict=True)):
            return None
        call = self.program.prepared(node).call
        parts = []
        for which in range(2):
            arrays = [self.scaled[name][which] for name in names]
            for array in arrays:
                self.charge(array)
            (result,) = call(*arrays, *rest)
            parts.append(np.asarray(result))
        return self.checked(*parts)

    def charge(self, array: np.ndarray) -> None:
        self.program.budget.step(int(array.size * _STEPS_A_WEIGHT) + 1, "weights of integers")
        self.program.budget.take(5 * array.size, "weights of integers")

    def checked(self, integers: np.ndarray, scales: np.ndarray) -> _Scaled | None:
        right = scales.dtype == np.float32 and integers.shape == scales.shape
        return _Scaled(integers, scales) if right else None

    def keep(self, name: str, made: _Scaled) -> bool:
        """As a constant, if the layer can multiply it."""
        integers, scales = made
        form = FORMS[_STORAGE]
        if integers.ndim != 3 or not integers.size:
            return False
        starts = scales[..., :: form.block]
        if not (np.repeat(starts, form.block, axis=-1)[..., : scales.shape[-1]] == scales).all():
            return False
        try:
            small = [
                SmallMatrix(np.ascontiguousarray(q), np.ascontiguousarray(s), _STORAGE)
                for q, s in zip(integers, starts, strict=True)
            ]
        except ValueError:
            return False  # negative scales, or none: floats
        self.program.set_constant(name, SmallTensor.of(small))
        return True
