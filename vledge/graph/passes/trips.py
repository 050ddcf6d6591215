"""How often a Loop runs its body, where that can be said before it begins.

The trip count says it, or a condition that compares a counter with a bound: ``i + 1 < n``, as
tf2onnx writes a while loop, perhaps joined with another such by And. A condition that depends on
what the body computes otherwise says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vledge.graph.passes.carried import LoopParts
from vledge.graph.passes.program import Program
from vledge.model.definition import Attribute, Node
from vledge.model.element_types import NUMBERS

__all__ = ["Counters", "Front", "trip_count"]

# Types that hold the steps of any loop: bool for conditions, 32 and 64 bits for counters.
_WIDE = [NUMBERS[name] for name in ("bool", "float", "double", "int32", "int64")]
_ENDLESS = np.iinfo(np.int32).max  # scripted `while` loops have trip counts like these


@dataclass
class Front:
    """Nodes that will stand in front of a loop."""

    program: Program
    ranks: dict[str, int]
    nodes: list[Node] = field(default_factory=list)

    def add(
        self,
        op_type: str,
        inputs: list[str],
        rank: int | None,
        like: str,
        **attributes: Attribute,
    ) -> str:
        """One more node of one output; the output's name, like the one given."""
        name = self.program.fresh(like)
        self.nodes.append(Node(op_type, inputs, [name], attributes))
        if rank is not None:
            self.ranks[name] = rank
        return name

    def constant(self, array: np.ndarray, like: str) -> str:
        name = self.program.fresh(like)
        self.program.set_constant(name, array)
        self.ranks[name] = array.ndim
        return name

    def reshaped(self, op_type: str, name: str, axes: list[int], like: str) -> str:
        """Squeeze or Unsqueeze, in the way of the model's opset."""
        rank = self.ranks.get(name)
        change = len(axes) if op_type == "Unsqueeze" else -len(axes)
        rank = None if rank is None else rank + change
        if self.program.opsets.get("", 1) < 13:
            return self.add(op_type, [name], rank, like, axes=axes)
        given = self.constant(np.array(axes, np.int64), f"{like}.axes")
        return self.add(op_type, [name, given], rank, like)

    def reversed(self, name: str, like: str) -> str:
        """The value with its first axis backwards."""
        bounds = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": 0, "steps": -1}
        given = [
            self.constant(np.array([bound], np.int64), f"{like}.{key}")
            for key, bound in bounds.items()
        ]
        return self.add("Slice", [name, *given], self.ranks.get(name), like)

    def scalar(self, name: str) -> str:
        """An integer as an int64 without axes."""
        known = self.program.constants.get(name)
        if known is not None:
            return self.constant(np.array(known.item(), np.int64), f"{name}.scalar")
        if self.ranks.get(name) != 0:
            name = self.add("Squeeze", [name], 0, f"{name}.scalar")
        return self.add("Cast", [name], 0, f"{name}.int64", to=7)


class Counters:
    """A loop's values that are a known number more than the number of the step."""

    def __init__(
        self,
        program: Program,
        parts: LoopParts,
        ranks: Mapping[str, int],
        dtypes: Mapping[str, np.dtype],
    ) -> None:
        self.constants = program.constants
        self.ranks, self.dtypes = ranks, dtypes
        self.makers = {name: node for node in parts.body.nodes for name in node.outputs if name}
        self.iteration = parts.lead_states[0].name if parts.is_loop else ""
        #: state -> what it begins with, and what each step adds
        self.states: dict[str, tuple[str, np.ndarray]] = {}
        for info, begin, following in zip(parts.states, parts.initial, parts.next, strict=True):
            step = self._step(info.name, following.name)
            if step is not None and self.ranks.get(begin) == 0:
                self.states[info.name] = begin, step

    def maker(self, name: str, *op_types: str) -> Node | None:
        """Who makes a value in the body, if it is one of these; no cast that would round counts."""
        node = self.makers.get(name)
        if node is None or node.op_type not in op_types or node.domain:
            return None
        return None if node.op_type == "Cast" and node.attributes["to"] not in _WIDE else node

    def integer(self, name: str) -> np.ndarray | None:
        """A constant integer without axes."""
        known = self.constants.get(name)
        return known if known is not None and known.ndim == 0 and known.dtype.kind == "i" else None

    def _step(self, state: str, following: str) -> np.ndarray | None:
        node = self.maker(following, "Add", "Sub")
        if node is None:
            return None
        left, right = node.inputs
        if left != state and node.op_type == "Add":
            left, right = right, left
        step = self.integer(right)
        if left != state or step is None:
            return None
        return np.asarray(-step if node.op_type == "Sub" else step)

    def offset(self, name: str) -> tuple[str, int] | None:
        """(begin, d) of a value that is ``begin + step's number + d``; begin "" is 0."""
        if name == self.iteration:
            return "", 0
        if name in self.states:
            begin, step = self.states[name]
            return (begin, 0) if step == 1 else None
        node = self.maker(name, "Add", "Cast", "Identity")
        if node is None:
            return None
        if node.op_type != "Add":
            return self.offset(node.inputs[0])
        for value, number in (node.inputs, node.inputs[::-1]):
            known, inner = self.integer(number), self.offset(value)
            if known is not None and inner is not None:
                return inner[0], inner[1] + known.item()
        return None

    def outer_integer(self, name: str) -> str | None:
        """The integer of the graph around that a value is, but for casts."""
        node = self.maker(name, "Cast", "Identity")
        while node is not None:
            name = node.inputs[0]
            node = self.maker(name, "Cast", "Identity")
        if name in self.makers or name == self.iteration or name in self.states:
            return None
        known = self.constants.get(name)
        dtype = self.dtypes.get(name) if known is None else known.dtype
        if dtype is None or dtype.kind != "i" or self.ranks.get(name) != 0:
            return None
        return name


def trip_count(front: Front, parts: LoopParts, counters: Counters) -> str | None:
    """The number of a Loop's steps, as an int64 made in front of it; None where only running tells.

    A comparison of counters as floats is taken for one of integers: they differ beyond 2**24.
    """
    constants = front.program.constants
    most, begins = parts.lead_inputs
    limits = []
    if most:
        known = constants.get(most)
        if known is not None and known.size != 1:
            return None
        if known is None or known.item() < _ENDLESS:
            limits.append(front.scalar(most))
    if begins or not most:
        own = parts.condition[0].name
        if not _is_true(constants, own) and own != parts.lead_states[1].name:
            limit = _until(front, parts, counters, own)
            if limit is None:
                return None
            limits.append(limit)
        if begins and not _is_true(constants, begins):
            if front.ranks.get(begins) != 0:
                begins = front.add("Squeeze", [begins], 0, f"{begins}.scalar")
            once = front.add("Cast", [begins], 0, f"{begins}.int64", to=7)
            if not limits:
                return None
            last = limits.pop()
            limits.append(front.add("Mul", [last, once], 0, f"{last}.begun"))
    if not limits:
        return None
    return limits[0] if len(limits) == 1 else front.add("Min", limits, 0, f"{limits[0]}.least")


def _until(front: Front, parts: LoopParts, counters: Counters, condition: str) -> str | None:
    """How many steps there are before a condition fails, if it held before the first."""
    limits = []
    waiting = [condition]
    while waiting:
        node = counters.maker(waiting.pop(), "And", "Less", "Greater", "Identity", "Cast")
        if node is None:
            return None
        if node.op_type in ("And", "Identity", "Cast"):
            waiting += node.inputs
            continue
        counter, bound = node.inputs if node.op_type == "Less" else node.inputs[::-1]
        counted, outer = counters.offset(counter), counters.outer_integer(bound)
        if counted is None or outer is None:
            return None
        begin, more = counted
        limit = front.scalar(outer)
        if begin:
            limit = front.add("Sub", [limit, front.scalar(begin)], 0, f"{limit}.left")
        if more != 1:
            rest = front.constant(np.array(1 - more, np.int64), f"{limit}.more")
            limit = front.add("Add", [limit, rest], 0, f"{limit}.steps")
        limits.append(limit)
    one = front.constant(np.array(1, np.int64), f"{condition}.one")
    least = limits[0] if len(limits) == 1 else front.add("Min", limits, 0, f"{condition}.least")
    return front.add("Max", [least, one], 0, f"{condition}.steps")


def _is_true(constants: Mapping[str, np.ndarray], name: str) -> bool:
    known = constants.get(name)
    return known is not None and known.size == 1 and bool(known.item())
