"""A doctor for a whole graph: the first node whose result is wrong though its inputs are right.

What the reference knows of values inside of the model is compared with what the model computes, in
the graph's order. Between the first value that is wrong and the values before it that are right lie
the nodes that may be at fault: one, where the reference has samples of every value. Each of them is
tried with every remedy until the value is right; then the search goes on behind it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.passes.program import captured
from vledge.graph.plan import Plan
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.validation.diagnosis.normalization_remedies import Missing, missing_normalizations
from vledge.validation.diagnosis.remedies import Site, remedies
from vledge.validation.diagnosis.suspects import Layer, Variant, variants
from vledge.validation.diagnosis.trial import applied
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.compare import Tolerance, compare
from vledge.validation.reference.prints import stored
from vledge.validation.reference.samples import INSIDE, sampled
from vledge.validation.running.layers import is_recurrent
from vledge.validation.running.values import computed, constants_of, runs

__all__ = ["Doctor", "Place"]

Arrays = dict[str, np.ndarray]
EXACT = 1e-9  # of a value's largest element: float64 on both sides
GUESSED = 1e-6  # with a constant that is right but for float32's rounding
ROUNDED = 1e-4  # where the reference's values are float32
MOST_NODES = 60  # of a region that are tried; the nearest to the wrong value first
MOST_OTHERS = 200  # values that another input may have been meant to be
_WHATEVER = (VledgeError, ValueError, IndexError, TypeError, ArithmeticError)


@dataclass
class Place:
    """Where a model parts from the reference."""

    value: str  #: the first that is wrong
    nodes: list[Node]  #: that may be at fault, in the graph's order
    error: float  #: as a part of the value's largest element
    node: Node | None = None  #: the one at fault, where that is known
    remedy: Variant | None = None  #: what makes the value right


@dataclass
class Doctor:
    """A graph that was laid open (``values.laid_open``), and what is known of its values."""

    model: Model
    reference: Reference
    tolerances: dict[str, Tolerance]
    deadline: float
    tried: int = 0
    right: set[str] = field(default_factory=set)
    exact: float = EXACT
    fixed: set[str] = field(default_factory=set)  #: values that do not depend on the inputs

    def first_wrong(self) -> Place | None:
        """The first value that is wrong; None if all that the reference knows are right."""
        self.fixed = constants_of(self.model)
        names = self._running()
        known = set(self.reference.cases[0].inside) | set(self.tolerances)
        errors: dict[str, float] = dict.fromkeys(known & set(names), 0.0)
        for number, run in enumerate(runs(self.model, self.reference, names)):
            for name in errors:
                errors[name] = max(errors[name], self._error(name, run[name], number))
        self.right = {name for name, error in errors.items() if error <= 1}
        for name in computed(self.model):
            if name in known and name not in self.right:
                return Place(name, self._region(name), errors.get(name, np.inf))
        return None

    def cure(self, place: Place) -> bool:
        """Find the node at fault and what mends it, and mend it in the model."""
        suspects = place.nodes[-MOST_NODES:]
        edge = self._edge(place.nodes)
        values = self._values(edge, place)
        if values is None:
            return False
        best: tuple[float, Node, Variant] | None = None
        # a constant that is guessed may be the right one but for float32's rounding
        enough = GUESSED / self.exact if place.error > 100 * GUESSED / self.exact else 1.0
        order = sorted(range(len(values)), key=lambda n: sum(a.nbytes for a in values[n].values()))
        order = [n for n in order if self._wrong(place, n, values[n])] or order
        for node in reversed(suspects):
            offers = self._variants(node, place, values[order[0]])
            for variant in chain(offers, self._normalizations(node, place, values)):
                if time.monotonic() > self.deadline:
                    break
                self.tried += 1
                error = self._tried(place, node, variant, values, order, enough)
                if error <= enough and (best is None or error < 0.01 * best[0]):
                    best = error, node, variant
                    if error <= 1e-3:
                        break
            if best is not None and best[0] <= 1e-3:
                break
        if best is None:
            self._fit(place, values, order)
            return False
        error, place.node, place.remedy = best
        if error > 1:  # what lies behind it is as near as that
            self.exact *= 100 * error
        self.model = applied(self.model, [(best[1], best[2])])
        return True

    # ---- what is known

    def _error(self, name: str, array: np.ndarray, number: int) -> float:
        """In units of the tolerance."""
        case = self.reference.cases[number]
        if name in case.inside:
            exact = bool(self.reference.exact_by)
            return case.inside[name].error(array) / (self.exact if exact else ROUNDED)
        part = replace(self.reference, cases=[case])
        comparison = compare(part, name, [array], self.tolerances[name])
        if comparison.problem:
            return float("inf")
        return comparison.absolute / max(comparison.tolerance.absolute, 1e-300)

    def _running(self) -> list[str]:
        """The values that can be computed: those before the first node that fails."""
        nodes = self.model.graph.nodes
        if self._runs(len(nodes)):
            return computed(self.model)
        low, high = 0, len(nodes)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._runs(middle) else (low, middle)
        return [name for node in nodes[:low] for name in node.outputs if name]

    def _runs(self, count: int) -> bool:
        graph = self.model.graph
        part = replace(self.model, graph=replace(graph, nodes=graph.nodes[:count]))
        try:
            for _ in runs(part, self.reference, computed(part), [0]):
                pass
        except _WHATEVER:
            return False
        return True

    # ---- where it may be

    def _region(self, target: str) -> list[Node]:
        """The nodes from which a path leads to the target that no right value interrupts."""
        makers = {n: node for node in self.model.graph.nodes for n in node.outputs if n}
        wanted, seen = [target], set()
        while wanted:
            name = wanted.pop()
            node = makers.get(name)
            if node is None or id(node) in seen or (name in self.right and name != target):
                continue
            if node.op_type == "Constant" and name != target:
                continue
            seen.add(id(node))
            inner = [name for graph in node.subgraphs() for name in captured(graph)]
            wanted += [*node.inputs, *inner]
        return [node for node in self.model.graph.nodes if id(node) in seen]

    def _edge(self, nodes: list[Node]) -> list[str]:
        """The values that a region is given."""
        made = {name for node in nodes for name in node.outputs}
        inner = {n for node in nodes for graph in node.subgraphs() for n in captured(graph)}
        names = [name for node in nodes for name in node.inputs] + sorted(inner)
        return [name for name in dict.fromkeys(names) if name and name not in made]

    def _values(self, edge: list[str], place: Place) -> list[Arrays] | None:
        """Those values and others that are right, of each case."""
        first = place.nodes[0] if place.nodes else None
        before: list[str] = []
        for node in self.model.graph.nodes:
            if node is first:
                break
            before += [name for name in node.outputs if name in self.right]
        inputs = [info.name for info in self.model.graph.inputs]
        wanted = dict.fromkeys([*edge, *before[-MOST_OTHERS:], *inputs])
        held = self.model.graph.initializers
        try:
            computed = list(runs(self.model, self.reference, [n for n in wanted if n not in held]))
        except _WHATEVER:
            return None
        constants = {name: held[name] for name in wanted if name in held}
        return [run | constants for run in computed]

    # ---- what it may be

    def _variants(self, node: Node, place: Place, values: Arrays) -> Iterable[Variant]:
        inputs = {name: values[name] for name in node.inputs if name in values}
        constants = {name: array for name, array in inputs.items() if name in self.fixed}
        if is_recurrent(node):
            layer = _layer(node, constants)
            if layer is not None:
                yield from variants(layer)
        others = {n: a for n, a in values.items() if n not in self.fixed}
        opset = self.model.opset_imports.get("", 18)
        like = {name: array for name, array in stored(self.model.graph).items() if array.size > 1}
        yield from remedies(Site(node, constants, inputs, like, others, opset))

    def _normalizations(self, node: Node, place: Place, values: list[Arrays]) -> Iterator[Variant]:
        """A normalization put in before the node, or behind it where it makes the wrong value."""
        graph, cases = self.model.graph, self.reference.cases
        used = {name for other in graph.nodes for name in other.inputs}
        used |= {n for other in graph.nodes for part in other.subgraphs() for n in captured(part)}
        unused = {
            name: array
            for name, array in stored(graph).items()
            if name not in used and array.dtype.kind == "f" and array.size > 1
        }
        there = {*computed(self.model), *(info.name for info in graph.inputs)}
        lost = [name for name in cases[0].inside if name not in there]
        lost = [name for name in lost if all(name in case.inside for case in cases)]
        opset = self.model.opset_imports.get("", 18)
        for name in dict.fromkeys(node.inputs):
            if name and name not in self.fixed and all(name in run for run in values):
                runs = [run[name] for run in values]
                samples = [[case.inside[other] for case in cases] for other in lost]
                missing = Missing(node, False, name, runs, samples, unused, opset)
                yield from missing_normalizations(missing)
        if place.value not in node.outputs:
            return
        try:
            runs = [self._run([node], {}, run, [place.value])[0] for run in values]
        except _WHATEVER:
            return
        own = [
            case.inside.get(place.value) or sampled(case.truth(place.value), INSIDE)
            for case in cases
            if place.value in {*case.inside, *case.outputs}
        ]
        samples = [own] if len(own) == len(cases) else []
        yield from missing_normalizations(
            Missing(
                node,
                True,
                place.value,
                runs,
                samples,
                unused,
                opset,
                weighted=any(name in self.fixed for name in node.inputs),
            )
        )

    def _wrong(self, place: Place, number: int, values: Arrays) -> bool:
        return not self._result(place, place.nodes, {}, values, number) <= 1

    def _tried(
        self,
        place: Place,
        node: Node,
        variant: Variant,
        values: list[Arrays],
        order: list[int],
        enough: float,
    ) -> float:
        """The largest error over all cases with a node replaced; the first that is too large."""
        nodes = [new for old in place.nodes for new in (variant.nodes if old is node else [old])]
        worst = 0.0
        for number in order:
            error = self._result(place, nodes, variant.constants, values[number], number)
            worst = max(worst, error)
            if not worst <= enough:
                break
        return worst

    def _result(
        self, place: Place, nodes: list[Node], constants: Arrays, values: Arrays, number: int
    ) -> float:
        try:
            (array,) = self._run(nodes, constants, values, [place.value])
        except _WHATEVER:
            return float("inf")
        return self._error(place.value, array, number)

    def _run(
        self, nodes: list[Node], constants: Arrays, values: Arrays, wanted: list[str]
    ) -> list[np.ndarray]:
        """The results of some nodes that are given values."""
        made = {name for node in nodes for name in node.outputs}
        inner = {n for node in nodes for graph in node.subgraphs() for n in captured(graph)}
        given = ({name for node in nodes for name in node.inputs} | inner) - made
        held = {n: values[n] for n in given if n in values and n in self.fixed} | constants
        inputs = [name for name in given if name in values and name not in held]
        graph = Graph(
            nodes,
            [ValueInfo(name, "", None) for name in inputs],
            [ValueInfo(name, "", None) for name in wanted],
            held,
        )
        plan = Plan(replace(self.model, graph=graph), {})
        with np.errstate(all="ignore"):
            return plan.run(*(values[name] for name in plan.inputs))

    def _fit(self, place: Place, values: list[Arrays], order: list[int]) -> None:
        """Whether the value is right but for a factor and an offset, which are then named."""
        if len(place.nodes) != 1 or not self.reference.cases[0].inside.get(place.value):
            return
        node = place.node = place.nodes[0]
        pairs = []
        for number in order:
            try:
                (array,) = self._run([node], {}, values[number], [place.value])
            except _WHATEVER:
                return
            sample = self.reference.cases[number].inside[place.value]
            if array.shape != sample.shape or array.dtype.kind != "f":
                return
            pairs.append((sampled(array, sample.most).elements, sample.elements))
        own, want = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        if not (np.isfinite(own).all() and np.isfinite(want).all()) or np.ptp(own) == 0:
            return
        factor, offset = np.polyfit(own, want, 1)
        left = np.abs(factor * own + offset - want).max()
        if left > 1e-6 * np.abs(want).max():
            return
        scale = f"{factor:.6g} times what it gives" if abs(factor - 1) > 1e-9 else "what it gives"
        shift = f", {offset:+.6g}" if abs(offset) > 1e-9 * np.abs(want).max() else ""
        place.remedy = Variant("scale", f"the reference has {scale}{shift}", [node])


def _layer(node: Node, constants: Arrays) -> Layer | None:
    names = [*node.inputs, *[""] * (4 - len(node.inputs))]
    w, r = constants.get(names[1]), constants.get(names[2])
    b = constants.get(names[3])
    if w is None or r is None or (names[3] and b is None):
        return None
    return Layer(node, w, r, b)
