"""An ONNX graph rewritten so that everything it remembers over time is an input and an output.

Exporters hide a recurrent layer's state: its initial value is made inside the graph, out of the
batch's size, and its final one goes nowhere. Padding in front of a causal convolution hides the
frames before in the same way. Both become states here. Which axis of a value is time is found by
running the graph on inputs of different lengths, not by inference over its operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vledge.errors import UnsupportedError
from vledge.formats.element_types import name_of
from vledge.formats.graph_definition import Graph, Model, Node, ValueInfo
from vledge.graph.plan import Plan

__all__ = ["PromotedState", "Promotion", "values"]

_RECURRENT = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}
_SHAPE_ONLY = ("Shape", "Size")
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class PromotedState:
    """A state: the input that takes it, the output that gives it, and how it begins."""

    input: str
    output: str
    initial: np.ndarray
    row_axis: int


def values(
    model: Model, names: list[str], feed: Mapping[str, np.ndarray], options: dict[str, Any]
) -> dict[str, np.ndarray]:
    """What the values of these names are in a run of the graph."""
    names = list(dict.fromkeys(names))
    graph = model.graph
    outputs = [ValueInfo(name, "", None) for name in names]
    probe = Graph(graph.nodes, graph.inputs, outputs, graph.initializers, graph.name)
    plan = Plan(Model(probe, model.opset_imports, model.ir_version), options)
    with np.errstate(all="ignore"):
        return dict(zip(names, plan.run(*(feed[name] for name in plan.inputs)), strict=True))


@dataclass
class Promotion:
    """The rewriting of one model: ``model`` and ``states`` are its results.

    ``feeds`` are the model's inputs for sequences of ``steps`` frames and of one more.
    """

    model: Model
    steps: int
    feeds: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
    options: dict[str, Any]
    states: list[PromotedState] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self._nodes: list[Node] = []
        self._constants: dict[str, np.ndarray] = {}
        self._probe()
        for node in graph.nodes:
            if node.domain == "" and node.op_type in _RECURRENT:
                node = self._recurrent(node)
            elif node.domain == "" and node.op_type == "Pad":
                node = self._pad(node)
            elif node.domain == "" and node.op_type == "Conv":
                node = self._convolution(node)
            self._nodes.append(node)
        inputs, outputs = list(graph.inputs), list(graph.outputs)
        given = {info.name for info in outputs}
        for state in self.states:
            kind = name_of(state.initial.dtype)
            inputs.append(ValueInfo(state.input, kind, None))
            if state.output not in given:
                outputs.append(ValueInfo(state.output, kind, None))
        initializers = {**graph.initializers, **self._constants}
        self.model = Model(
            Graph(self._nodes, inputs, outputs, initializers, graph.name),
            self.model.opset_imports,
            self.model.ir_version,
        )

    # ---- what is known of values

    def _probe(self) -> None:
        """The values that decide, for both lengths."""
        wanted = []
        for node in self.model.graph.nodes:
            if node.domain == "" and node.op_type in (*_RECURRENT, "Pad", "Conv"):
                recurrent = node.op_type in _RECURRENT
                picked = (
                    (0, 5, 6) if recurrent else (0,) if node.op_type == "Conv" else (0, 1, 2, 3)
                )
                wanted += [node.inputs[i] for i in picked if i < len(node.inputs)]
        names = [name for name in wanted if name]
        self._short, self._long = (
            values(self.model, names, feed, self.options) for feed in self.feeds
        )

    def _time_axis(self, name: str) -> int | None:
        """The axis of a value that grows with the number of frames."""
        pairs = zip(self._short[name].shape, self._long[name].shape, strict=True)
        axes = [axis for axis, (short, long) in enumerate(pairs) if short != long]
        return axes[0] if len(axes) == 1 else None

    def _from_inputs(self, name: str) -> bool:
        """Whether a value depends on an input's elements, not only on the input's shape."""
        makers = {output: node for node in self.model.graph.nodes for output in node.outputs}
        inputs = {info.name for info in self.model.graph.inputs} - set(
            self.model.graph.initializers
        )
        seen, waiting = set(), [name]
        while waiting:
            name = waiting.pop()
            if name in inputs:
                return True
            node = makers.get(name)
            if node is None or id(node) in seen or node.op_type in _SHAPE_ONLY:
                continue
            seen.add(id(node))
            waiting += [value for value in node.inputs if value]
        return False

    # ---- nodes

    def _recurrent(self, node: Node) -> Node:
        layout = node.attributes.get("layout", 0)
        if self._time_axis(node.inputs[0]) != (1 if layout else 0):
            return node  # it runs over another axis, within a frame
        direction = node.attributes.get("direction", "forward")
        if direction != "forward":
            raise UnsupportedError(
                f"{node} has direction={direction!r}: its reverse direction begins at the end of "
                "the sequence, which a stream has not seen; taken out of the graph "
                f"(nn.{node.op_type}.from_onnx), the layer can run with lookahead="
            )
        inputs = [*node.inputs, *[""] * (7 - len(node.inputs))]
        outputs = [*node.outputs, *[""] * (3 - len(node.outputs))]
        for place, index in enumerate(_RECURRENT[node.op_type]):
            if inputs[index] and self._from_inputs(inputs[index]):
                continue  # the model's own input: its user says with which output it goes on
            suffix = "hc"[place]
            initial = self._initial(node, inputs[index], layout)
            outputs[1 + place] = outputs[1 + place] or f"{_label(node)}.{suffix}.next"
            state = PromotedState(
                f"{_label(node)}.{suffix}", outputs[1 + place], initial, 0 if layout else 1
            )
            self.states.append(state)
            inputs[index] = state.input
        while inputs[-1] == "":
            inputs.pop()
        while outputs[-1] == "":
            outputs.pop()
        inputs += node.inputs[len(inputs) :]
        return Node(node.op_type, inputs, outputs, node.attributes, node.name, node.domain)

    def _initial(self, node: Node, name: str, layout: int) -> np.ndarray:
        if name:
            return np.array(self._short[name])
        x = self._short[node.inputs[0]]
        hidden_size = node.attributes.get("hidden_size")
        if hidden_size is None:
            raise UnsupportedError(f"{node} does not say its hidden_size")
        rows = x.shape[0 if layout else 1]
        shape = (rows, 1, hidden_size) if layout else (1, rows, hidden_size)
        return np.zeros(shape, x.dtype)

    def _pad(self, node: Node) -> Node:
        axis = self._time_axis(node.inputs[0])
        if axis is None:
            return node
        pads, value = self._pads_of(node)
        rank = self._short[node.inputs[0]].ndim
        before, after = pads[axis], pads[axis + rank]
        if before == 0 == after:
            return node
        if after > 0:
            raise UnsupportedError(
                f"{node} pads {after} frames behind the last one: an output needs frames that are "
                "still to come"
            )
        if (
            before < 0
            or after < 0
            or node.attributes.get("mode", "constant") != "constant"
            or value
        ):
            raise UnsupportedError(
                f"{node} cuts frames off, or puts others than zeros in front: a stream carries "
                "zeros only"
            )
        joined = self._with_context(node, node.inputs[0], axis, before)
        pads[axis] = 0
        if not any(pads):
            return Node("Identity", [joined], node.outputs, {}, node.name)
        if len(node.inputs) == 1:
            attributes = {**node.attributes, "pads": pads}
            return Node("Pad", [joined], node.outputs, attributes, node.name)
        constant = f"{_label(node)}.pads"
        self._constants[constant] = np.array(pads, np.int64)
        rest = node.inputs[2:3]
        return Node("Pad", [joined, constant, *rest], node.outputs, node.attributes, node.name)

    def _pads_of(self, node: Node) -> tuple[list[int], float]:
        """A Pad node's pads, for every axis, and its value."""
        if len(node.inputs) == 1:
            return list(node.attributes["pads"]), node.attributes.get("value", 0.0)
        rank = self._short[node.inputs[0]].ndim
        given = [int(pad) for pad in self._short[node.inputs[1]]]
        has = [index < len(node.inputs) and bool(node.inputs[index]) for index in range(4)]
        value = float(self._short[node.inputs[2]].reshape(-1)[0]) if has[2] else 0.0
        axes = [int(a) % rank for a in self._short[node.inputs[3]]] if has[3] else range(rank)
        pads = [0] * (2 * rank)
        for place, axis in enumerate(axes):
            pads[axis], pads[axis + rank] = given[place], given[place + len(given) // 2]
        return pads, value

    def _convolution(self, node: Node) -> Node:
        axis = self._time_axis(node.inputs[0])
        if axis is None or axis < 2:
            return node
        rank = self._short[node.inputs[0]].ndim - 2
        place = axis - 2
        pads = list(node.attributes.get("pads", [0] * 2 * rank))
        strides = node.attributes.get("strides", [1] * rank)
        if strides[place] != 1:
            raise UnsupportedError(
                f"{node} has stride {strides[place]} over time: a stream has an output a frame"
            )
        if node.attributes.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
            if node.attributes.get("kernel_shape", [2] * rank)[place] != 1:
                raise UnsupportedError(f"{node} has auto_pad over time: pad it on the left by Pad")
            return node
        before, after = pads[place], pads[place + rank]
        if after:
            raise UnsupportedError(
                f"{node} pads {after} frames behind the last one: an output needs frames that are "
                "still to come"
            )
        if not before:
            return node
        pads[place] = 0
        inputs = [self._with_context(node, node.inputs[0], axis, before), *node.inputs[1:]]
        return Node("Conv", inputs, node.outputs, {**node.attributes, "pads": pads}, node.name)

    def _with_context(self, node: Node, x: str, axis: int, frames: int) -> str:
        """The value's frames after those that the stream remembers; notes the state."""
        counts = (self._short[x].shape[axis], self._long[x].shape[axis])
        if counts != (self.steps, self.steps + 1):
            raise UnsupportedError(
                f"{node} gets {counts[0]} frames where the input has {self.steps}: only padding "
                "by one node in front of a convolution can be streamed"
            )
        name = f"{_label(node)}.context"
        shape = list(self._short[x].shape)
        shape[axis] = frames
        state = PromotedState(name, f"{name}.next", np.zeros(shape, self._short[x].dtype), 0)
        joined = f"{name}.joined"
        self._nodes.append(Node("Concat", [name, x], [joined], {"axis": axis}))
        bounds = {"starts": [-frames], "ends": [_LAST], "axes": [axis]}
        if self.model.opset_imports.get("", 1) < 10:
            self._nodes.append(Node("Slice", [joined], [state.output], bounds))
        else:
            for key, bound in bounds.items():
                self._constants[f"{name}.{key}"] = np.array(bound, np.int64)
            slices = [f"{name}.{key}" for key in bounds]
            self._nodes.append(Node("Slice", [joined, *slices], [state.output]))
        self.states.append(state)
        return joined


def _label(node: Node) -> str:
    return node.name or next(output for output in node.outputs if output)
