"""Models run in float64 with one thing changed, and how far they then are from the reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from vledge.errors import UnsupportedError, VledgeError
from vledge.graph.plan import Plan, simplified
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.validation.diagnosis.branches import simplified_as_taken
from vledge.validation.diagnosis.cells import cells_as_nodes
from vledge.validation.diagnosis.suspects import Layer, Variant
from vledge.validation.reference.bundle import Case, Reference
from vledge.validation.reference.compare import Tolerance, compare
from vledge.validation.running.layers import exposed, is_recurrent
from vledge.validation.running.precision import doubled, doubled_array

__all__ = ["Trial", "layer_of", "prepared"]

LENGTHS = "reference.lengths"
Arrays = dict[str, np.ndarray]


def prepared(model: Model, reference: Reference) -> Model:
    """The model with its layers visible, in float64 where it can be, and every constant folded.

    Ifs that go one way in all of the reference's cases give way to the branch that they take.

    What the reference gives beyond the model's inputs is an input too, so that variants can use it.
    """
    model = exposed(model)
    with contextlib.suppress(UnsupportedError):  # quantized: it is looked at as it is
        model = doubled(model)
    try:
        program = simplified_as_taken(model, _feeds(model, reference))
    except (VledgeError, ValueError):  # it does not run, which is looked into as it is
        program = simplified(model)
    nodes, constants = cells_as_nodes(program.graph.nodes, program.constants)
    graph = replace(program.graph, nodes=nodes, initializers=constants)
    known = {info.name for info in graph.inputs}
    case = reference.cases[0]
    more = [name for name in case.inputs if name not in known]
    if case.lengths is not None:
        more.append(LENGTHS)
    graph.inputs = [*graph.inputs, *(ValueInfo(name, "", None) for name in more)]
    return replace(model, graph=graph)


@dataclass
class Trial:
    """Runs of a model, or of one node of it, on the reference's cases."""

    reference: Reference
    tolerances: dict[str, Tolerance]
    feeds: list[Arrays]  #: by case: the model's inputs

    @classmethod
    def of_model(
        cls, model: Model, reference: Reference, tolerances: dict[str, Tolerance]
    ) -> Trial:
        """On the reference's inputs, in the model's precision."""
        return cls(reference, tolerances, _feeds(model, reference))

    def run(self, model: Model, cases: Iterable[int] | None = None) -> list[Arrays]:
        """The outputs of each case by name."""
        plan = Plan(model, {})
        names = [info.name for info in model.graph.outputs]
        with np.errstate(all="ignore"):
            return [
                dict(zip(names, plan.run(*(self.feeds[i][n] for n in plan.inputs)), strict=True))
                for i in (range(len(self.feeds)) if cases is None else cases)
            ]

    def error(self, model: Model, names: Iterable[str], cases: list[int] | None = None) -> float:
        """The largest error in units of its tolerance; infinite if the model cannot run."""
        chosen = list(range(len(self.feeds))) if cases is None else cases
        try:
            results = self.run(model, chosen)
        except (VledgeError, ValueError, IndexError, TypeError):
            return float("inf")
        part = replace(self.reference, cases=[self.reference.cases[i] for i in chosen])
        worst = 0.0
        for name in names:
            comparison = compare(part, name, [r[name] for r in results], self.tolerances[name])
            if comparison.problem:
                return float("inf")
            worst = max(worst, comparison.absolute / max(comparison.tolerance.absolute, 1e-300))
        return worst

    def isolated(self, model: Model, node: Node) -> tuple[Model, Trial]:
        """A model of one node alone, and the trial that feeds it what it gets in the whole one."""
        graph = model.graph
        given = [n for n in dict.fromkeys(node.inputs) if n and n not in graph.initializers]
        extra = [n for n in self.feeds[0] if n not in given]
        wanted = [ValueInfo(name, "", None) for name in given]
        results = self.run(replace(model, graph=replace(graph, outputs=wanted)))
        feeds = [
            {**{n: feed[n] for n in extra}, **{n: result[n] for n in given}}
            for feed, result in zip(self.feeds, results, strict=True)
        ]
        constants = {n: graph.initializers[n] for n in node.inputs if n in graph.initializers}
        alone = Graph(
            [node],
            [ValueInfo(name, "", None) for name in feeds[0]],
            [ValueInfo(name, "", None) for name in node.outputs if name],
            constants,
        )
        return replace(model, graph=alone), replace(self, feeds=feeds)


def _feeds(model: Model, reference: Reference) -> list[Arrays]:
    double = any(info.type == "double" for info in model.graph.inputs) or any(
        array.dtype == np.float64 for array in model.graph.initializers.values()
    )
    return [_feed(case, double) for case in reference.cases]


def _feed(case: Case, double: bool) -> Arrays:
    feed = {name: doubled_array(array) if double else array for name, array in case.inputs.items()}
    if case.lengths is not None:
        feed[LENGTHS] = case.lengths
    return feed


def layer_of(model: Model, node: Node, feed: Arrays) -> Layer | None:
    """The node for suspects to look at; None where its weights are no constants."""
    constants = model.graph.initializers
    weights = [
        constants.get(node.inputs[i]) if i < len(node.inputs) and node.inputs[i] else None
        for i in (1, 2, 3)
    ]
    w, r, b = weights
    if w is None or r is None or (len(node.inputs) > 3 and node.inputs[3] and b is None):
        return None
    spare = {name: a.shape for name, a in feed.items() if a.dtype.kind == "f" and a.ndim == 3}
    layer = Layer(node, w, r, b, LENGTHS if LENGTHS in feed else "", spare)
    layer.position = [n is node for n in model.graph.nodes if is_recurrent(n)].index(True)
    return layer


def applied(model: Model, changes: list[tuple[Node, Variant]]) -> Model:
    """The model with nodes replaced by variants of theirs."""
    by_node = {id(node): variant for node, variant in changes}
    nodes: list[Node] = []
    constants = dict(model.graph.initializers)
    for node in model.graph.nodes:
        variant = by_node.get(id(node))
        if variant is None:
            nodes.append(node)
        else:
            nodes += variant.nodes
            constants |= variant.constants
    return replace(model, graph=replace(model.graph, nodes=nodes, initializers=constants))
