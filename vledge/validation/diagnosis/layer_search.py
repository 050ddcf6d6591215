"""The first recurrent layer, direction, gate and step where a model parts from its reference, and
the usual mistake that, undone, makes the error vanish.

Everything is run in float64, so that the right explanation leaves no error at all and cannot be
taken for a lucky one. With layers in the bundle each layer is looked at alone; without them the
whole model is run again for every suspect.
"""

from __future__ import annotations

import time

import numpy as np

from vledge.errors import VledgeError
from vledge.model.definition import Model, Node
from vledge.validation.diagnosis.biases import explained_by_biases, likely_gate
from vledge.validation.diagnosis.findings import AGREES, Diagnosis, Finding, node_name
from vledge.validation.diagnosis.suspects import Layer, Variant, variants
from vledge.validation.diagnosis.trial import Trial, applied, layer_of, prepared
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.compare import Comparison, Tolerance, compare, real
from vledge.validation.running.layers import is_recurrent

__all__ = ["MOST_FINDINGS", "SECONDS", "diagnose_layers"]

SECONDS = 120.0  # that may be spent on suspects
MOST_FINDINGS = 8
EXACT = 1e-6  # of the tolerance: float64 alone is left, and nothing can explain it better


def diagnose_layers(
    model: Model, reference: Reference, tolerances: dict[str, Tolerance]
) -> Diagnosis:
    """By the recurrent layers, each alone if the reference has their values."""
    work = _Work(prepared(model, reference), reference, tolerances)
    try:
        first = work.failing()
    except (VledgeError, ValueError) as error:
        work.try_whole([name for name in tolerances if name not in reference.layers])
        return work.told(f"the model cannot run on the reference's inputs: {error}")
    if not first:
        return Diagnosis(AGREES, agrees=True)
    swapped = work.swapped_outputs()
    if swapped:
        return Diagnosis(swapped.text, [swapped])
    while (failing := work.failing()) and len(work.findings) < MOST_FINDINGS:
        node = work.first_node(failing)
        if node is None:
            outputs = [name for name in failing if name not in reference.layers]
            if reference.layers:
                agree = "every recurrent layer of the bundle agrees"
                if work.findings:
                    agree += " once that is undone"
                return work.told(f"{agree}; {', '.join(outputs)} part behind the last of them")
            if not work.try_whole(outputs):
                return work.told(
                    "a bundle with layers (`--layers`, layers=True) tells where it begins"
                    if work.nodes()
                    else "mistakes are looked for in RNN, GRU and LSTM nodes of the main graph, "
                    "and there are none"
                )
        elif not work.try_node(node):
            break
    return work.told("" if not work.failing() else "the rest is unexplained")


class _Work:
    """A model on its way to agreement: mistakes that are found are undone one after the other."""

    def __init__(
        self, model: Model, reference: Reference, tolerances: dict[str, Tolerance]
    ) -> None:
        self.model = model
        self.reference = reference
        self.tolerances = tolerances
        self.trial = Trial.of_model(model, reference, tolerances)
        self.findings: list[Finding] = []
        self.tried = 0
        self.deadline = time.monotonic() + SECONDS

    def failing(self) -> dict[str, Comparison]:
        """The values that are off in a run as recorded."""
        results = self.trial.run(self.model)
        comparisons = {
            name: compare(self.reference, name, [r[name] for r in results], tolerance)
            for name, tolerance in self.tolerances.items()
        }
        return {
            name: comparison for name, comparison in comparisons.items() if not comparison.passed
        }

    def nodes(self) -> list[Node]:
        """The recurrent nodes of the main graph."""
        return [node for node in self.model.graph.nodes if is_recurrent(node)]

    def first_node(self, failing: dict[str, Comparison]) -> Node | None:
        """The first recurrent node that makes a value of the reference's layers wrongly."""
        wrong = {name for name in failing if name in self.reference.layers}
        return next((node for node in self.nodes() if wrong & set(node.outputs)), None)

    def swapped_outputs(self) -> Finding | None:
        """Whether the model's outputs are right but bear each other's names."""
        results = self.trial.run(self.model)
        names = self.reference.outputs()
        wrong = [name for name in self.failing() if name in names]
        if len(wrong) != 2 or any(n in self.failing() for n in self.reference.layers):
            return None
        crossed = [
            compare(self.reference, name, [r[other] for r in results], self.tolerances[name])
            for name, other in (wrong, wrong[::-1])
        ]
        if not all(comparison.passed for comparison in crossed):
            return None
        error = max(self.failing()[name].absolute for name in wrong)
        text = f"the outputs {wrong[0]} and {wrong[1]} are swapped"
        return Finding("", "", wrong[0], error, suspect="h and c swapped", text=text)

    def try_node(self, node: Node) -> bool:
        """Look at one node alone; undo what is wrong with it."""
        names = [name for name in node.outputs if name in self.reference.layers]
        alone, trial = self.trial.isolated(self.model, node)
        finding = self._located(node, alone, trial, names)
        self.findings.append(finding)
        layer = self._layer(self.model, node, trial)
        if layer is None:
            return False
        options = list(variants(layer))
        changes = [[(node, option)] for option in options]
        case = [self._smallest(trial, alone, names)]
        winner = self._best(alone, trial, changes, names, case)
        if winner is None:
            y = names[0] if names[0] == node.outputs[0] else ""
            option = y and explained_by_biases(layer, alone, trial, y)
            if option and trial.error(applied(alone, [(node, option)]), names) <= 1:
                winner = [(node, option)]
            elif y:
                finding.gates = likely_gate(layer, alone, trial, y, finding.direction)
        return self._settle(winner, finding, alone, trial, names)

    def try_whole(self, names: list[str]) -> bool:
        """Run the whole model with every mistake undone in all layers, or in one."""
        nodes = self.nodes()
        layers = [self._layer(self.model, node, self.trial) for node in nodes]
        options = [
            {} if layer is None else {option.key: option for option in variants(layer)}
            for layer in layers
        ]
        keys = dict.fromkeys(key for own in options for key in own)
        changes: list[list[tuple[Node, Variant]]] = []
        for key in keys:
            having = [(n, own[key]) for n, own in zip(nodes, options, strict=True) if key in own]
            changes += [[one] for one in having]
            if len(having) > 1:
                changes.append(having)
        changes.sort(key=len)  # what explains it by one layer says more
        case = [self._smallest(self.trial, self.model, names)]
        winner = self._best(self.model, self.trial, changes, names, case)
        finding = Finding("", "", names[0], self._absolute(names))
        if winner is not None and len(winner) == 1:
            finding.layer, finding.kind = node_name(winner[0][0]), winner[0][0].op_type
        self.findings.append(finding)
        return self._settle(winner, finding, self.model, self.trial, names)

    def told(self, rest: str) -> Diagnosis:
        """The findings as one text."""
        parts = [*map(str, self.findings), *([rest] if rest else [])]
        return Diagnosis("; then ".join(parts), self.findings, self.tried)

    # ---- parts of it

    def _layer(self, model: Model, node: Node, trial: Trial) -> Layer | None:
        layer = layer_of(model, node, trial.feeds[0])
        if layer is not None:
            y = self.reference.cases[0]
            axes = self.reference.axes
            for name, array in (*y.outputs.items(), *y.inputs.items()):
                if "batch" in axes.get(name, {}):
                    layer.sequences = array.shape[axes[name]["batch"]]
                    break
        return layer

    def _best(
        self,
        model: Model,
        trial: Trial,
        changes: list[list[tuple[Node, Variant]]],
        names: list[str],
        case: list[int],
    ) -> list[tuple[Node, Variant]] | None:
        """The change that leaves the least error, if it leaves less than the tolerance."""
        trials: list[tuple[float, list[tuple[Node, Variant]]]] = []
        for change in changes:
            if time.monotonic() > self.deadline:
                break
            self.tried += 1
            error = trial.error(applied(model, change), names, case)
            if error <= 1:
                trials.append((error, change))
            if error <= EXACT:
                break
        least = min((error for error, _ in trials), default=0.0)
        for error, change in trials:
            # among those that are as good, the commonest mistake
            if error <= 100 * least + 1e-9 and trial.error(applied(model, change), names) <= 1:
                return change
        return None

    def _settle(
        self,
        winner: list[tuple[Node, Variant]] | None,
        finding: Finding,
        model: Model,
        trial: Trial,
        names: list[str],
    ) -> bool:
        if winner is None:
            return False
        variant = winner[0][1]
        finding.suspect, finding.text = variant.name, variant.text
        finding.gates = variant.gates
        finding.remaining = trial.error(applied(model, winner), names)
        self.model = applied(self.model, winner)
        return True

    def _smallest(self, trial: Trial, model: Model, names: list[str]) -> int:
        """Of the cases that fail the one with the least to compute."""
        sizes = [sum(array.nbytes for array in feed.values()) for feed in trial.feeds]
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        for case in order:
            if not trial.error(model, names, [case]) <= 1:
                return case
        return order[-1]

    def _absolute(self, names: list[str]) -> float:
        try:
            failing = self.failing()
        except (VledgeError, ValueError):
            return float("inf")
        return max((failing[name].absolute for name in names if name in failing), default=0.0)

    def _located(self, node: Node, alone: Model, trial: Trial, names: list[str]) -> Finding:
        """Direction, case, sequence and time step at which a node's error begins."""
        results = trial.run(alone)
        finding = Finding(node_name(node), node.op_type, names[0], 0.0)
        y = node.outputs[0]
        both = node.attributes.get("direction", "forward") == "bidirectional"
        backwards = node.attributes.get("direction", "forward") == "reverse"
        for name in names:
            comparison = compare(
                self.reference, name, [r[name] for r in results], self.tolerances[name]
            )
            if not comparison.passed:
                finding.value, finding.error, finding.worst = (
                    name,
                    comparison.absolute,
                    comparison.worst,
                )
                if comparison.problem:
                    finding.error = float("inf")
                    return finding
                break
        if finding.value != y:
            return finding
        axes = self.reference.axes[y]
        direction_axis = 2 if node.attributes.get("layout", 0) else 1
        begins: dict[str, dict[str, int]] = {}
        for number, (case, result) in enumerate(zip(self.reference.cases, results, strict=True)):
            error = np.abs(result[y] - case.truth(y))
            error = np.where(real(case, self.reference, y), error, 0)
            wrong = ~(error <= self.tolerances[y].absolute)
            for index in range(wrong.shape[direction_axis]):
                reverse = backwards or index == 1
                word = "reverse" if reverse else "forward"
                part = np.take(wrong, index, direction_axis)  # the batch axis has moved
                order = (0, 1) if axes["time"] < axes["batch"] else (1, 0)
                steps = part.any(axis=-1).transpose(order)  # [T, B]
                if not steps.any() or word in begins:
                    continue
                times = np.flatnonzero(steps.any(axis=1))
                begin = int(times[-1] if reverse else times[0])
                sequence = int(np.flatnonzero(steps[begin])[0])
                begins[word] = {"case": number, "sequence": sequence, "time": begin}
        if begins:
            finding.direction = "each" if len(begins) == 2 else next(iter(begins))
            finding.worst = next(iter(begins.values()))
        if not both and finding.direction == "forward":
            finding.direction = ""
        return finding
