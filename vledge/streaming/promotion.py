"""An ONNX graph rewritten so that everything it remembers over time is an input and an output.

Exporters hide a recurrent layer's state: its initial value is made inside the graph, out of the
batch's size, and its final one goes nowhere. Loops and Scans carry theirs likewise, and padding in
front of a causal convolution hides the frames before. All of them become states here. Which axis
of a value is time is found by running the graph on inputs of different lengths, not by inference
over its operators.

Nothing is decided here about whether the result can be streamed: what speaks against it is noted
in ``doubts``, and the trial (`vledge.streaming.trial`) decides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.passes.dead_nodes import remove_dead_nodes
from vledge.graph.passes.folding import fold
from vledge.graph.passes.program import Program, captured
from vledge.graph.plan import Plan
from vledge.graph.prepared import prepare
from vledge.graph.registry import SessionSettings
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.model.element_types import name_of
from vledge.model.names import Names

__all__ = ["Feed", "Kind", "PromotedState", "Promotion", "label", "values"]

Kind = Callable[["Promotion", Node], Node]
Feed = Callable[[int, int], dict[str, np.ndarray]]  # (streams, frames) -> inputs of that size
_SHAPE_ONLY = ("Shape", "Size")


@dataclass(frozen=True)
class PromotedState:
    """A state: the input that takes it, the output that gives it, and how it begins.

    ``row_axis`` is the axis on which the streams lie, None where the streams cannot be told apart.
    """

    input: str
    output: str
    initial: np.ndarray
    row_axis: int | None


def values(
    model: Model, names: Iterable[str], feed: Mapping[str, np.ndarray], options: SessionSettings
) -> dict[str, np.ndarray]:
    """What the values of these names are in a run of the graph; UnsupportedError if it fails."""
    names = list(dict.fromkeys(names))
    graph = model.graph
    outputs = [ValueInfo(name, "", None) for name in names]
    probe = Graph(graph.nodes, graph.inputs, outputs, graph.initializers, graph.name)
    plan = Plan(Model(probe, model.opset_imports, model.ir_version), options)
    try:
        with np.errstate(all="ignore"):
            results = plan.run(*(feed[name] for name in plan.inputs))
    except MemoryError:
        raise
    except Exception as error:
        raise UnsupportedError(f"a trial run fails: {error}") from error
    return dict(zip(names, results, strict=True))


def label(node: Node) -> str:
    """What a node's states are named by."""
    return node.name or next(output for output in node.outputs if output)


def _size(value: np.ndarray | object) -> tuple[int, ...]:
    """An array's shape; of another value, how many arrays it holds."""
    if isinstance(value, np.ndarray):
        return value.shape
    return (len(getattr(value, "arrays", ())),)


class Promotion:
    """The rewriting of one model for so many streams.

    ``whole`` is the model with every branch of an If that all runs take in the If's place, and
    ``model`` the same with states as inputs and outputs: ``states``. ``doubts`` has a sentence for
    each node that is known to look ahead. ``kinds`` has, by domain and operator, what rewrites a
    node that remembers and notes its states here.
    """

    def __init__(
        self,
        model: Model,
        kinds: Mapping[tuple[str, str], Kind],
        feed: Feed,
        rows: int,
        steps: int,
        options: SessionSettings,
    ) -> None:
        self.options, self.steps = options, steps
        self.feeds = feed(rows, steps), feed(rows, steps + 1)
        self.states: list[PromotedState] = []
        self.doubts: list[str] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self._feed, self._rows = feed, rows
        self.whole = self._without_branches(model)
        graph = self.whole.graph
        self._makers = {output: node for node in graph.nodes for output in node.outputs}
        self._names = Names(
            [*self._makers, *graph.initializers, *(info.name for info in graph.inputs)]
        )
        self.opset = model.opset_imports.get("", 1)
        self._probe(node for node in graph.nodes if (node.domain, node.op_type) in kinds)
        for node in graph.nodes:
            kind = kinds.get((node.domain, node.op_type))
            self.nodes.append(node if kind is None else kind(self, node))
        self.model = self._rewritten()

    def _rewritten(self) -> Model:
        graph = self.whole.graph
        inputs, outputs = list(graph.inputs), list(graph.outputs)
        given = {info.name for info in outputs}
        for state in self.states:
            kind = name_of(state.initial.dtype)
            inputs.append(ValueInfo(state.input, kind, None))
            if state.output not in given:
                outputs.append(ValueInfo(state.output, kind, None))
        initializers = {**graph.initializers, **self.constants}
        rewritten = Graph(self.nodes, inputs, outputs, initializers, graph.name)
        return Model(rewritten, self.whole.opset_imports, self.whole.ir_version)

    # ---- branches

    def _without_branches(self, model: Model) -> Model:
        """Folded, and without the Ifs whose condition is the same however many frames there are."""
        known: dict[str, np.ndarray] = {}
        feeds = [*self.feeds, self._feed(self._rows, 1)]
        while True:
            model = _folded(model, known, self.options)
            self._makers = {output: n for n in model.graph.nodes for output in n.outputs}
            self.whole = model
            conditions = {
                node.inputs[0]
                for node in model.graph.nodes
                if node.op_type == "If" and not node.domain and not self.from_inputs(node.inputs[0])
            } - set(known)
            if not conditions:
                return model
            runs = [values(model, conditions, feed, self.options) for feed in feeds]
            for name in conditions:
                known[name] = runs[0][name]
                if any(bool(one[name]) != bool(known[name]) for one in runs):
                    return model

    # ---- what is known of values

    def _probe(self, nodes: Iterable[Node]) -> None:
        """The values that decide, for both lengths."""
        known = {*self._makers, *self.whole.graph.initializers}
        known |= {info.name for info in self.whole.graph.inputs}
        wanted: dict[str, None] = {}
        for node in nodes:
            inner = [name for body in node.subgraphs() for name in captured(body)]
            wanted |= dict.fromkeys([*node.inputs, *node.outputs, *inner])
        names = [name for name in wanted if name in known and name]
        counted, self._counts = _with_counts(self.whole)
        names += self._counts.values()
        self.short, self.long = (values(counted, names, feed, self.options) for feed in self.feeds)

    def trips(self, node: Node) -> tuple[int, int]:
        """How often a Loop of the graph runs its body, in a sequence and in one of a frame more."""
        name = self._counts[id(node)]
        return len(self.short[name]), len(self.long[name])

    def time_axis(self, name: str) -> int | None:
        """The axis of a value that grows with the number of frames."""
        short, long = self.short[name], self.long[name]
        if not isinstance(short, np.ndarray):
            return None
        pairs = zip(short.shape, long.shape, strict=True)
        axes = [axis for axis, (one, other) in enumerate(pairs) if one != other]
        return axes[0] if len(axes) == 1 else None

    def grows(self, name: str) -> bool:
        """Whether a value has more elements where there are more frames; a sequence, too."""
        return _size(self.short[name]) != _size(self.long[name])

    @functools.cached_property
    def _wider(self) -> dict[str, np.ndarray]:
        """The values that decide, for one stream more; empty where the model's batch is fixed."""
        feed = self._feed(self._rows + 1, self.steps)
        if all(feed[name].shape == array.shape for name, array in self.feeds[0].items()):
            return {}
        try:
            names = self.short.keys() - self._counts.values()
            return values(self.whole, names, feed, self.options)
        except UnsupportedError:
            return {}

    @property
    def takes_more_streams(self) -> bool:
        """Whether the model runs for one stream more."""
        return bool(self._wider)

    def row_axis(self, name: str) -> int | None:
        """The axis of a value that grows with the number of streams, if there is one such axis."""
        ours, wider = self.short[name], self._wider.get(name)
        if not isinstance(wider, np.ndarray) or wider.ndim != ours.ndim:
            return None
        pairs = enumerate(zip(ours.shape, wider.shape, strict=True))
        axes = [axis for axis, (one, more) in pairs if one != more]
        return axes[0] if len(axes) == 1 else None

    def from_inputs(self, name: str) -> bool:
        """Whether a value depends on an input's elements, not only on the input's shape."""
        inputs = {info.name for info in self.whole.graph.inputs}
        seen, waiting = set(), [name]
        while waiting:
            name = waiting.pop()
            if name in inputs:
                return True
            node = self._makers.get(name)
            if node is None or id(node) in seen or node.op_type in _SHAPE_ONLY:
                continue
            seen.add(id(node))
            waiting += [value for value in node.inputs if value]
            waiting += [value for body in node.subgraphs() for value in captured(body)]
        return False

    # ---- what the kinds of nodes note

    def fresh(self, name: str) -> str:
        """A name that no value has, like the one given."""
        return self._names.fresh(name)

    def remember(
        self, name: str, output: str, initial: np.ndarray, row_axis: int | None
    ) -> PromotedState:
        """Note a state by that name, whose next value is ``output``."""
        state = PromotedState(self.fresh(name), output, initial, row_axis)
        self.states.append(state)
        return state

    def constant(self, name: str, value: ArrayLike) -> str:
        """Note a constant of int64; its name."""
        name = self.fresh(name)
        self.constants[name] = np.array(value, np.int64)
        return name

    def doubt(self, node: Node, why: str) -> None:
        """Note what keeps a node from running frame by frame, if the trial finds that it does."""
        self.doubts.append(f"{node} {why}")


def _with_counts(model: Model) -> tuple[Model, dict[int, str]]:
    """The model whose Loops collect the numbers of their trips, and under which names."""
    graph = model.graph
    nodes = []
    names: dict[int, str] = {}
    for node in graph.nodes:
        if node.op_type == "Loop" and not node.domain:
            body = node.attributes["body"]
            number = ValueInfo(body.inputs[0].name, "int64", ())
            outputs = [*body.outputs, number]
            counted = Graph(body.nodes, body.inputs, outputs, body.initializers, body.name)
            names[id(node)] = f"{label(node)}.trips of {len(names)}"
            absent = [""] * (len(body.outputs) - 1 - len(node.outputs))
            node = Node(
                "Loop",
                node.inputs,
                [*node.outputs, *absent, names[id(node)]],
                {**node.attributes, "body": counted},
                node.name,
            )
        nodes.append(node)
    whole = Graph(nodes, graph.inputs, graph.outputs, graph.initializers, graph.name)
    return Model(whole, model.opset_imports, model.ir_version), names


def _folded(model: Model, known: Mapping[str, np.ndarray], options: SessionSettings) -> Model:
    """The model with its constants folded, all names unique, and these values taken as known."""
    program = Program(model, functools.partial(prepare, options=options))
    for name, array in known.items():
        program.set_constant(name, array)
    try:
        with np.errstate(all="ignore"):
            fold(program)
    except FormatError as error:
        raise UnsupportedError(str(error)) from None
    remove_dead_nodes(program)
    graph = program.graph
    whole = Graph(graph.nodes, graph.inputs, graph.outputs, program.constants, graph.name)
    return Model(whole, model.opset_imports, model.ir_version)
