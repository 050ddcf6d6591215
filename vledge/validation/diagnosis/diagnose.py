"""Why a model does not agree: what is wrong with its reference, its weights, or one of its nodes.

The file is looked at first. Then the values that the reference has are compared with those of a run
in float64: samples of every value (``doctor``), or else those of recurrent layers
(``layer_search``), whose mistakes are the best known.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from vledge.errors import VledgeError
from vledge.graph.plan import Plan
from vledge.model.definition import Model, Node
from vledge.shown import counted
from vledge.validation.diagnosis.doctor import Doctor, Place
from vledge.validation.diagnosis.findings import AGREES, Diagnosis, Finding, node_name
from vledge.validation.diagnosis.layer_search import MOST_FINDINGS, SECONDS, diagnose_layers
from vledge.validation.diagnosis.weights import Blemish, differences, faults_of_file
from vledge.validation.reference.bundle import Reference
from vledge.validation.reference.compare import Tolerance, compare
from vledge.validation.reference.prints import stored
from vledge.validation.running.layers import exposed, is_recurrent
from vledge.validation.running.saturation import WHY, saturating_plan
from vledge.validation.running.values import laid_open

__all__ = ["Diagnosis", "Finding", "diagnose"]

OF_LAYERS = (  # differences of weights that a recurrent layer's suspects may tell better
    "blocks in another order",
    "flipped weights",
    "permuted units",
    "stale weights",
    "transposed weights",
    "zeroed weights",
)
SHOWN = 3  # tensors of a kind that are named


def diagnose(model: Model, reference: Reference, tolerances: dict[str, Tolerance]) -> Diagnosis:
    """Explain why the model's outputs are not the reference's."""
    if fault := _reference_at_fault(model, reference, tolerances):
        text = f"the reference is at fault, not the model: {fault}"
        return Diagnosis(text, [Finding("", "", next(iter(tolerances)), 0.0, suspect="reference")])
    if told_of_bytes := _quantized_since(model, reference):
        finding = Finding("", "", next(iter(tolerances)), 0.0, suspect="quantized")
        return Diagnosis(told_of_bytes, [finding])
    blemishes = _blemishes_of(model, reference)
    of_layers = [b for b in blemishes if b.kind in OF_LAYERS and _is_of_layer(model, b.tensor)]
    if not blemishes or len(of_layers) == len(blemishes):
        told = _by_running(model, reference, tolerances)
        explained = told.findings and all(f.suspect for f in told.findings)
        if not blemishes and told.findings and not explained and not reference.prints:
            return _looked_at(model, told)
        if not blemishes or explained:
            return told
    findings = _told_of_weights(model, blemishes)
    words = "; then ".join(map(str, findings))
    mended = _mended(model, blemishes)
    if mended is None:
        return Diagnosis(words, findings)
    rest = _by_running(mended, reference, tolerances)
    if not rest.findings:
        return Diagnosis(words, findings, rest.tried)
    return Diagnosis(f"{words}; then {rest.summary}", [*findings, *rest.findings], rest.tried)


def _quantized_since(model: Model, reference: Reference) -> str:
    """That the reference is of the model before its weights became bytes; "" if it is not."""
    bytes_ = [name for name, array in stored(model.graph).items() if _of_bytes(array)]
    if not bytes_ or not reference.prints:
        return ""
    if any(np.dtype(own.dtype).itemsize == 1 for own in reference.prints.values()):
        return ""
    number = counted(len(bytes_), "tensor")
    return (
        f"the model has weights of 8 bits ({number}, such as {bytes_[0]!r}), and the reference is "
        "of a model that had none: of errors like those above, rounding may be all the reason. How "
        "large they may be, say by --tolerance (tolerance=); to prove on another machine that this "
        "is the same quantized model, record this one (`vledge record`)"
    )


def _of_bytes(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and array.dtype.itemsize == 1 and array.size > 1


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
    told = diagnose_layers(model, reference, tolerances)
    if told.agrees or (told.findings and told.findings[-1].suspect):
        return told
    # what lies between the last layer that agrees and this one may be at fault as well
    wider = _by_values(model, reference, tolerances)
    if any(finding.suspect for finding in wider.findings):
        return wider
    doubtful = wider.findings[0].among if wider.findings else []
    if len(doubtful) < 2:
        return told
    if not told.findings:
        told.findings = wider.findings
        told.summary = f"{told.summary}; {wider.summary}"
        return told
    before = str(told.findings[-1])
    told.findings[-1].among = doubtful
    told.summary = told.summary.replace(before, str(told.findings[-1]))
    return told


def _looked_at(model: Model, told: Diagnosis) -> Diagnosis:
    """With what the file's own tensors look like, where that may be the reason."""
    last = told.findings[-1]
    suspected = {last.layer, *last.among}
    blemishes = [
        blemish
        for blemish in faults_of_file(stored(model.graph)).values()
        if (user := _user(model, blemish.tensor)) is not None and node_name(user) in suspected
    ]
    findings = _told_of_weights(model, blemishes)
    if not findings:
        return told
    words = "; ".join(f"{finding.text}" for finding in findings)
    summary = f"{told.summary}. By the look of the file it may be that {words}"
    return Diagnosis(summary, [*told.findings[:-1], *findings], told.tried)


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
    except (VledgeError, ValueError, IndexError, TypeError, ArithmeticError) as error:
        rest = f"the model cannot run on the reference's inputs: {error}"
    if not findings and not rest:
        rest = AGREES
    parts = [*map(str, findings), *([rest] if rest else [])]
    return Diagnosis("; then ".join(parts), findings, doctor.tried)


def _told(place: Place) -> Finding:
    node = place.node or (place.nodes[0] if len(place.nodes) == 1 else None)
    finding = Finding("", "", place.value, place.error)
    if node is not None:
        finding.layer, finding.kind = node_name(node), node.op_type
    else:
        finding.among = [node_name(n) for n in place.nodes]
    if place.remedy is not None:
        finding.suspect, finding.text = place.remedy.name, place.remedy.text
        finding.gates = place.remedy.gates
    return finding


def _reference_at_fault(
    model: Model, reference: Reference, tolerances: dict[str, Tolerance]
) -> str:
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
            comparisons = [
                compare(reference, name, list(by_name[name]), tolerance)
                for name, tolerance in tolerances.items()
            ]
            errors.append([c.absolute / max(c.tolerance.absolute, 1e-300) for c in comparisons])
    except (VledgeError, ValueError, KeyError):
        return ""
    if max(errors[0]) <= 1 or max(errors[1]) > max(1.0, 0.1 * max(errors[0])):
        return ""
    return f"it was made with {WHY}. `vledge record` makes one without"


def _blemishes_of(model: Model, reference: Reference) -> list[Blemish]:
    """What is wrong with the file's tensors; without prints, only what cannot be right."""
    tensors = stored(model.graph)
    if reference.prints:
        return list(differences(tensors, reference.prints).values())
    return list(faults_of_file(tensors, certain=True).values())


def _told_of_weights(model: Model, blemishes: list[Blemish]) -> list[Finding]:
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
            finding.layer, finding.kind = node_name(node), node.op_type
        finding.text = group[0].text
        if len(group) > 1:
            names = [blemish.tensor for blemish in group]
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            finding.text = f"{len(names)} tensors wrong in the same way, each{rest}: {shown}"
            users = {node_name(u) for n in names if (u := _user(model, n)) is not None}
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
                inner_place = within(inner.nodes, names)
                if inner_place is not None:
                    return inner_place
        return None

    return within(model.graph.nodes, {tensor})
