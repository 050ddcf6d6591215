"""Why a model does not agree: the first layer, direction, gate and step where it parts from the
reference, and the usual mistake that, undone, makes the error vanish.

Everything is run in float64, so that the right explanation leaves no error at all and cannot be
taken for a lucky one. With layers in the bundle each layer is looked at alone; without them the
whole model is run again for every suspect.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from vledge.errors import VledgeError
from vledge.formats.graph_definition import Model, Node
from vledge.graph.plan import Plan
from vledge.validation.biases import explained_by_biases, likely_gate
from vledge.validation.bundle import Reference
from vledge.validation.compare import Comparison, Tolerance, compare, real
from vledge.validation.doctor import Doctor, Place
from vledge.validation.layers import KINDS, exposed, is_recurrent
from vledge.validation.prints import stored
from vledge.validation.saturation import WHY, saturating_plan
from vledge.validation.suspects import Layer, Variant, variants
from vledge.validation.trial import Trial, applied, layer_of, prepared
from vledge.validation.values import laid_open
from vledge.validation.weights import Blemish, differences, faults_of_file

__all__ = ["Diagnosis", "Finding", "diagnose"]

SECONDS = 120.0  # that may be spent on suspects
MOST_FINDINGS = 8
OF_LAYERS = (  # differences of weights that a recurrent layer's suspects may tell better
    "blocks in another order",
    "flipped weights",
    "permuted units",
    "stale weights",
    "transposed weights",
    "zeroed weights",
)
SHOWN = 3  # tensors of a kind that are named
EXACT = 1e-6  # of the tolerance: float64 alone is left, and nothing can explain it better


@dataclass
class Finding:
    """One place where the model parts from the reference, and what explains it."""

    layer: str  #: the node's name; "" if it is not known which
    kind: str  #: LSTM, GRU, RNN
    value: str  #: the first value that is off
    error: float  #: its largest absolute error
    direction: str = ""
    gates: str = ""  #: by their letters; those that the error comes from
    worst: dict[str, int] = field(default_factory=dict)  #: case, sequence, time where it begins
    suspect: str = ""  #: the kind of mistake; "" if none of those that are known explains it
    text: str = ""  #: the mistake in words
    remaining: float = 0.0  #: the error with the mistake undone, in units of the tolerance
    among: list[str] = field(default_factory=list)  #: the nodes one of which is at fault

    def __str__(self) -> str:
        where = f"{self.kind} {self.layer}" if self.layer else "the model"
        details = [f"{self.direction} direction"] if self.direction else []
        if self.gates:
            details.append(f"gate{'s' if len(self.gates) > 1 else ''} {', '.join(self.gates)}")
        if "time" in self.worst:
            details.append(f"from time step {self.worst['time']}")
        if "sequence" in self.worst:
            details.append(f"sequence {self.worst['sequence']}")
        if self.worst.get("case"):
            details.append(f"case {self.worst['case']}")
        told = f"{where} ({', '.join(details)})" if details else where
        if self.suspect:
            return f"{told}: looks like {self.text}"
        if self.among:
            return (
                f"{self.value} is off by {self.error:.1e}: one of {len(self.among)} nodes from "
                f"{self.among[0]} to {self.among[-1]} is at fault (`vledge record --values` tells "
                "which); no known mistake explains it"
            )
        if self.kind and self.kind not in KINDS:
            return f"{told}: its inputs agree, its result does not; no known mistake explains it"
        return f"{told}: off by {self.error:.1e}; no known mistake explains it"


@dataclass
class Diagnosis:
    """What was found, in words and by place."""

    summary: str
    findings: list[Finding] = field(default_factory=list)
    tried: int = 0  #: variants that were run


def diagnose(model: Model, reference: Reference, tolerances: dict[str, Tolerance]) -> Diagnosis:
    """Explain why the model's outputs are not the reference's."""
    if fault := reference_at_fault(model, reference, tolerances):
        text = f"the reference is at fault, not the model: {fault}"
        return Diagnosis(text, [Finding("", "", next(iter(tolerances)), 0.0, suspect="reference")])
    blemishes = blemishes_of(model, reference)
    of_layers = [b for b in blemishes if b.kind in OF_LAYERS and _is_of_layer(model, b.tensor)]
    if not blemishes or len(of_layers) == len(blemishes):
        told = _by_running(model, reference, tolerances)
        if not blemishes or (told.findings and all(f.suspect for f in told.findings)):
            return told
    findings = told_of_weights(model, blemishes)
    words = "; then ".join(map(str, findings))
    mended = _mended(model, blemishes)
    if mended is None:
        return Diagnosis(words, findings)
    rest = _by_running(mended, reference, tolerances)
    if not rest.findings:
        return Diagnosis(words, findings, rest.tried)
    return Diagnosis(f"{words}; then {rest.summary}", [*findings, *rest.findings], rest.tried)


def _is_of_layer(model: Model, tensor: str) -> bool:
    return any(tensor in node.inputs for node in model.graph.nodes if is_recurrent(node))


def _mended(model: Model, blemishes: list[Blemish]) -> Model | None:
    """The model with the right weights, where they can be made from those it has."""
    if any(blemish.mended is None for blemish in blemishes):
        return None
    right = {blemish.tensor: blemish.mended for blemish in blemishes if blemish.mended is not None}
    graph = model.graph
    if not right.keys() <= graph.initializers.keys():
        return None
    return replace(model, graph=replace(graph, initializers=graph.initializers | right))


def _by_running(model: Model, reference: Reference, tolerances: dict[str, Tolerance]) -> Diagnosis:
    """By the values inside of the graph, where the reference has them; else by its layers."""
    if reference.cases[0].inside:
        return _by_values(model, reference, tolerances)
    told = _by_layers(model, reference, tolerances)
    if told.findings and not told.findings[-1].suspect:
        # what lies between the last layer that agrees and this one may be at fault as well
        wider = _by_values(model, reference, tolerances)
        if any(finding.suspect for finding in wider.findings):
            return wider
        doubtful = wider.findings[0].among if wider.findings else []
        if len(doubtful) > 1:
            before = str(told.findings[-1])
            told.findings[-1].among = doubtful
            told.summary = told.summary.replace(before, str(told.findings[-1]))
    return told


def _by_values(model: Model, reference: Reference, tolerances: dict[str, Tolerance]) -> Diagnosis:
    doctor = Doctor(laid_open(model, reference), reference, tolerances, time.monotonic() + SECONDS)
    findings: list[Finding] = []
    rest = ""
    try:
        while (place := doctor.first_wrong()) and len(findings) < MOST_FINDINGS:
            cured = doctor.cure(place)
            findings.append(_told(place))
            if not cured:
                rest = "the rest is unexplained" if len(findings) > 1 else ""
                break
    except (VledgeError, ValueError, IndexError, TypeError) as error:
        rest = f"the model cannot run on the reference's inputs: {error}"
    if not findings and not rest:
        rest = (
            "as recorded and in float64 the model agrees: what fails is float32 arithmetic or one "
            "way of running it, not the export"
        )
    parts = [*map(str, findings), *([rest] if rest else [])]
    return Diagnosis("; then ".join(parts), findings, doctor.tried)


def _told(place: Place) -> Finding:
    node = place.node or (place.nodes[0] if len(place.nodes) == 1 else None)
    finding = Finding("", "", place.value, place.error)
    if node is not None:
        finding.layer, finding.kind = _name(node), node.op_type
    else:
        finding.among = [_name(n) for n in place.nodes]
    if place.remedy is not None:
        finding.suspect, finding.text = place.remedy.name, place.remedy.text
        finding.gates = place.remedy.gates
    return finding


def _by_layers(model: Model, reference: Reference, tolerances: dict[str, Tolerance]) -> Diagnosis:
    """By the recurrent layers, each alone if the reference has their values."""
    work = _Work(prepared(model, reference), reference, tolerances)
    try:
        first = work.failing()
    except (VledgeError, ValueError) as error:
        work.try_whole([name for name in tolerances if name not in reference.layers])
        return work.told(f"the model cannot run on the reference's inputs: {error}")
    if not first:
        return Diagnosis(
            "as recorded and in float64 the model agrees: what fails is float32 arithmetic or one "
            "way of running it, not the export"
        )
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


def reference_at_fault(model: Model, reference: Reference, tolerances: dict[str, Tolerance]) -> str:
    """What is wrong with the reference itself, shown by computing as it did; "" if nothing is."""
    try:
        shown = exposed(model)
        wrong = saturating_plan(shown)
        if wrong is None:
            return ""
        right = Plan(shown, {})
        errors = []
        for plan in (right, wrong):
            names = [info.name for info in shown.graph.outputs]
            runs = [plan.run(*(c.inputs[n] for n in plan.inputs)) for c in reference.cases]
            by_name = dict(zip(names, zip(*runs, strict=True), strict=True))
            found = [
                compare(reference, name, list(by_name[name]), tolerance)
                for name, tolerance in tolerances.items()
            ]
            errors.append([c.absolute / max(c.tolerance.absolute, 1e-300) for c in found])
    except (VledgeError, ValueError, KeyError):
        return ""
    if max(errors[0]) <= 1 or max(errors[1]) > max(1.0, 0.1 * max(errors[0])):
        return ""
    return f"it was made with {WHY}. `vledge record` makes one without"


def blemishes_of(model: Model, reference: Reference) -> list[Blemish]:
    """What is wrong with the file's tensors; without prints, only what cannot be right."""
    tensors = stored(model.graph)
    if reference.prints:
        return list(differences(tensors, reference.prints).values())
    return list(faults_of_file(tensors, certain=True).values())


def told_of_weights(model: Model, blemishes: list[Blemish]) -> list[Finding]:
    """A finding for each tensor, or one for all that are wrong in the same way."""
    findings = []
    alike: dict[tuple[str, str], list[Blemish]] = {}
    for blemish in blemishes:
        rest = blemish.text.removeprefix(blemish.tensor)
        alike.setdefault((blemish.kind, rest), []).append(blemish)
    for (kind, rest), group in alike.items():
        node = _user(model, group[0].tensor)
        finding = Finding("", "", group[0].tensor, float("inf"), suspect=kind)
        if node is not None:
            finding.layer, finding.kind = _name(node), node.op_type
        finding.text = group[0].text
        if len(group) > 1:
            names = [blemish.tensor for blemish in group]
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            finding.text = f"{len(names)} tensors wrong in the same way, each{rest}: {shown}"
            users = {_name(u) for n in names if (u := _user(model, n)) is not None}
            if len(users) > 1:
                finding.layer, finding.kind, finding.among = "", "", sorted(users)
        findings.append(finding)
    return findings


def _user(model: Model, tensor: str) -> Node | None:
    """The first node that takes a tensor, in the main graph or inside of its nodes."""

    def within(nodes: list[Node], names: set[str]) -> Node | None:
        for node in nodes:
            if names & set(node.inputs):
                if node.op_type != "Identity":
                    return node
                names.update(node.outputs)
            for inner in node.subgraphs():
                found = within(inner.nodes, names)
                if found is not None:
                    return found
        return None

    return within(model.graph.nodes, {tensor})


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
        found = {
            name: compare(self.reference, name, [r[name] for r in results], tolerance)
            for name, tolerance in self.tolerances.items()
        }
        return {name: comparison for name, comparison in found.items() if not comparison.passed}

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
            finding.layer, finding.kind = _name(winner[0][0]), winner[0][0].op_type
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
        found: list[tuple[float, list[tuple[Node, Variant]]]] = []
        for change in changes:
            if time.monotonic() > self.deadline:
                break
            self.tried += 1
            error = trial.error(applied(model, change), names, case)
            if error <= 1:
                found.append((error, change))
            if error <= EXACT:
                break
        least = min((error for error, _ in found), default=0.0)
        for error, change in found:
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
        finding = Finding(_name(node), node.op_type, names[0], 0.0)
        y = node.outputs[0]
        both = node.attributes.get("direction", "forward") == "bidirectional"
        backwards = node.attributes.get("direction", "forward") == "reverse"
        for name in names:
            found = compare(self.reference, name, [r[name] for r in results], self.tolerances[name])
            if not found.passed:
                finding.value, finding.error, finding.worst = name, found.absolute, found.worst
                if found.problem:
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


def _name(node: Node) -> str:
    return node.name or next((name for name in node.outputs if name), "")
