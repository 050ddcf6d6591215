"""A recognised cell in a loop's body as a layer over all steps, where nobody else has its states.

A mask may carry the states through, as Keras has it: the next state is the cell's where the mask
is true and else the state as it was. The cell's output then is the state, or zero at masked steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vledge.graph.passes.carried import LoopParts
from vledge.graph.passes.program import Program, captured
from vledge.graph.passes.selects import Select, selects_of
from vledge.graph.passes.stacks import Stacked
from vledge.graph.passes.trips import Front
from vledge.model.definition import Attributes, Node
from vledge.recurrent.cells import KINDS, OPERATORS, in_order

__all__ = ["Layer", "layer_node", "layer_of"]

_KINDS = {f"{kind}Cell": kind for kind in OPERATORS}


@dataclass
class Layer:
    """A cell that can be a layer, and what its outputs are called in the body."""

    cell: Node
    initial: list[str]
    mask: str  #: stacked; "" where each step counts
    inverted: bool  #: the states are carried through where the mask is true
    ranks: Mapping[str, int]
    states: list[str] = field(default_factory=list)  #: body's inputs that the layer carries
    held: list[str] = field(default_factory=list)  #: the body's names of the state after a step
    zeroed: list[str] = field(default_factory=list)  #: of the output that is zero at masked steps
    needs_held: bool = False
    finals: dict[str, str] = field(default_factory=dict)  #: state -> its value after the last step

    def place(self, front: Front, stacks: Mapping[str, Stacked]) -> dict[str, str]:
        """Put the layer in front of the loop; what the body's values are for all steps."""
        like = self.cell.outputs[0]
        mask = self._mask(front, stacks) if self.mask else ""
        initial = [front.reshaped("Unsqueeze", name, [0], f"{like}.0") for name in self.initial]
        hold = bool(mask) and self.needs_held
        node, y, finals = layer_node(
            front, self.cell, stacks[self.cell.inputs[0]].name, initial, mask, hold
        )
        front.nodes.append(node)
        output = front.reshaped("Squeeze", y, [1], like)
        final = [front.reshaped("Squeeze", name, [0], name) for name in finals]
        for place, state in enumerate(self.states):
            self.finals[state] = final[place if place < len(final) else 0]
        made = {name: output for name in self.held if hold or not mask}
        if self.zeroed and hold:
            zero = front.constant(np.zeros((), self.cell.attributes["weight_ih"].dtype), like)
            output = front.add("Where", [mask, output, zero], 3, like)
        made.update(dict.fromkeys(self.zeroed, output))
        return made

    def _mask(self, front: Front, stacks: Mapping[str, Stacked]) -> str:
        stack = stacks[self.mask]
        assert stack.rank is not None
        name = stack.name
        if stack.rank < 2:
            name = front.reshaped("Unsqueeze", name, list(range(1, 3 - stack.rank)), self.mask)
        return front.add("Not", [name], 3, self.mask) if self.inverted else name


def layer_node(
    front: Front, cell: Node, x: str, initial: list[str], mask: str, hold: bool
) -> tuple[Node, str, list[str]]:
    """The layer of a cell: the node, its Y and its final states."""
    kind = _KINDS[cell.op_type]
    attributes = cell.attributes
    size = attributes["weight_hh"].shape[1]

    def ordered(key: str) -> np.ndarray:
        return in_order(kind, attributes[key], "PyTorch", "ONNX")[None]

    biases = np.concatenate([ordered("bias_ih"), ordered("bias_hh")], 1)
    weights = {"W": ordered("weight_ih"), "R": ordered("weight_hh"), "B": biases}
    base = cell.outputs[0]
    given = [front.constant(array, f"{base}.{key}") for key, array in weights.items()]
    own: Attributes = {"hidden_size": size}
    if kind == "GRU":
        own["linear_before_reset"] = int(not attributes.get("reset_before", 0))
    if kind == "RNN":
        own["activations"] = [attributes["nonlinearity"].capitalize()]
    if hold:
        own["masked"] = "hold"
    names = [front.program.fresh(f"{base}.{key}") for key in ("Y", "Y_h", "Y_c")]
    outputs = names[: 1 + len(KINDS[kind].states)]
    front.ranks[outputs[0]] = 4
    for name in outputs[1:]:
        front.ranks[name] = 3
    inputs = [x, *given, mask, *initial]
    return Node(kind, inputs, outputs, own, cell.name, "vledge"), outputs[0], outputs[1:]


def layer_of(
    program: Program,
    parts: LoopParts,
    cell: Node,
    stacks: Mapping[str, Stacked],
    ranks: Mapping[str, int],
    dtypes: Mapping[str, np.dtype],
    zeros: set[str],
    others: list[Layer],
) -> Layer | None:
    """The layer that a cell in a loop's body is, or None."""
    if cell.op_type not in _KINDS or cell.inputs[0] not in stacks:
        return None
    return _Search(program, parts, cell, stacks, ranks, dtypes, zeros, others).layer()


class _Search:
    def __init__(
        self,
        program: Program,
        parts: LoopParts,
        cell: Node,
        stacks: Mapping[str, Stacked],
        ranks: Mapping[str, int],
        dtypes: Mapping[str, np.dtype],
        zeros: set[str],
        others: list[Layer],
    ) -> None:
        self.constants = program.constants
        self.parts, self.cell, self.stacks = parts, cell, stacks
        self.ranks, self.dtypes, self.zeros = ranks, dtypes, zeros
        self.makers = {name: node for node in parts.body.nodes for name in node.outputs if name}
        self.places = {info.name: k for k, info in enumerate(parts.states)}
        self.taken = {state for other in others for state in other.states}
        self.following = [info.name for info in parts.next]
        self.collected = {info.name for info in parts.columns}

    def readers(self, name: str) -> list[Node]:
        return [
            node
            for node in self.parts.body.nodes
            if name in node.inputs or any(name in captured(g) for g in node.subgraphs())
        ]

    def layer(self) -> Layer | None:
        x, *states = self.cell.inputs
        if any(state not in self.places or state in self.taken for state in states):
            return None
        initial = [self.parts.initial[self.places[state]] for state in states]
        if self.stacks[x].rank != 2 or any(self.ranks.get(name) != 2 for name in initial):
            return None
        choices = [
            self.choice(state, new) for state, new in zip(states, self.cell.outputs, strict=True)
        ]
        first = choices[0]
        if first is None or any(
            other is None or (other.mask, other.inverted) != (first.mask, first.inverted)
            for other in choices
        ):
            return None
        if first.mask and not self.fits(first.mask):
            return None
        used: set[int] = {id(self.cell)}
        for choice in choices:
            used |= {id(node) for node in choice.nodes} if choice is not None else set()
        layer = Layer(self.cell, initial, first.mask, first.inverted, self.ranks, list(states))
        if not self.outputs(layer, used) or not self.private(layer, states, used):
            return None
        return layer

    def fits(self, mask: str) -> bool:
        stack = self.stacks.get(mask)
        return stack is not None and stack.rank is not None and stack.rank <= 2

    def choice(self, state: str, new: str) -> _Choice | None:
        """How the state follows from the cell's: at once, or chosen by a mask."""
        following = self.following[self.places[state]]
        if following == new:
            return _Choice("", False, ())
        for select in self.selects(following):
            if (select.new, select.old) == (new, state):
                return _Choice(select.mask, False, select.nodes)
            if (select.new, select.old) == (state, new):
                return _Choice(select.mask, True, select.nodes)
        return None

    def selects(self, name: str) -> list[Select]:
        return selects_of(name, self.makers, self.constants, self.dtypes)

    def outputs(self, layer: Layer, used: set[int]) -> bool:
        """Find what the body makes of the cell's output; whether the layer has all of it."""
        state, new = layer.states[0], self.cell.outputs[0]
        following = self.following[self.places[state]]
        layer.held.append(following)
        if layer.mask:
            for node in self.parts.body.nodes:
                for name in node.outputs:
                    if name and name != following and self.is_output(layer, name, new, used):
                        break
            if new in self.collected or new in self.following:
                return False
            if any(id(node) not in used for node in self.readers(new)):
                return False
        for name in layer.held:
            read = any(id(node) not in used for node in self.readers(name))
            copied = [k for k, n in enumerate(self.following) if n == name]
            carried = [self.places[s] for s in layer.states]
            if read or name in self.collected or any(k not in carried for k in copied):
                layer.needs_held = True
        return True

    def is_output(self, layer: Layer, name: str, new: str, used: set[int]) -> bool:
        for select in self.selects(name):
            chosen, other = (select.old, select.new) if layer.inverted else (select.new, select.old)
            if chosen != new or select.mask != layer.mask:
                continue
            nodes = {id(node) for node in select.nodes}
            if not other or (other in self.zeros and self.ranks.get(other, 3) <= 2):
                layer.zeroed.append(name)
            elif other == layer.states[0]:
                layer.held.append(name)
            elif self.repeats(layer, name, other, nodes):
                layer.held.append(name)
                layer.states.append(other)
            else:
                continue
            used |= nodes
            return True
        return False

    def repeats(self, layer: Layer, name: str, state: str, nodes: set[int]) -> bool:
        """Whether a state that holds the last output is the same as the cell's own state."""
        place = self.places.get(state)
        if place is None or self.following[place] != name:
            return False
        begins, own = self.parts.initial[place], layer.initial[0]
        if begins != own and not (begins in self.zeros and own in self.zeros):
            return False
        if self.ranks.get(begins) != 2:
            return False
        return all(id(node) in nodes for node in self.readers(state))

    def private(self, layer: Layer, states: list[str], used: set[int]) -> bool:
        """Whether nobody else reads the states as they were, or the cell state at all."""
        for state in layer.states:
            if state in self.collected or state in self.following:
                return False
            if any(id(node) not in used for node in self.readers(state)):
                return False
        if len(states) == 1:
            return True
        new, following = self.cell.outputs[1], self.following[self.places[states[1]]]
        for name in {new, following}:
            if name in self.collected or self.following.count(name) > 1:
                return False
            if any(id(node) not in used for node in self.readers(name)):
                return False
        return True


@dataclass(frozen=True)
class _Choice:
    mask: str
    inverted: bool
    nodes: tuple[Node, ...]
