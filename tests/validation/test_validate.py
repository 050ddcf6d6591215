"""Validation of small models: which ways are run, what is refused, how a failure is explained."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from tests.peers import peer
from vledge._ext import isa
from vledge.formats import vledge_model
from vledge.machine import projection
from vledge.machine.threads import get_num_threads
from vledge.model.definition import Node, ValueInfo
from vledge.validation import reference_path, validate, write
from vledge.validation.running.layers import layer_outputs
from vledge.validation.running.model_file import layer_model
from vledge.validation.running.paths import STRATEGIES

torch = peer("torch")

from tests.validation.faults import Subject  # noqa: E402


@pytest.fixture(scope="module")
def made():
    weights, names, reference = Subject("LSTM", 5, 8, 2).made()
    return layer_model(weights, False, names), reference


def spoiled(model, name, change):
    """The model with one constant changed."""
    constants = dict(model.graph.initializers)
    constants[name] = change(constants[name].copy())
    return replace(model, graph=replace(model.graph, initializers=constants))


def noisy(array):
    array += np.random.default_rng(0).normal(0, 0.1, array.shape).astype(array.dtype)
    return array


def test_every_way_of_running_is_run(made):
    before = isa.selected(), projection.selected(), get_num_threads()
    seen = []
    report = validate(*made, progress=lambda done, total, label: seen.append((done, total)))
    assert report.passed
    assert (isa.selected(), projection.selected(), get_num_threads()) == before
    assert {run.path.isa for run in report.runs} == set(isa.runnable())
    assert {run.path.threads for run in report.runs} >= {1, 2}
    assert {run.path.strategy for run in report.runs} == STRATEGIES.keys() - {"chunks"}
    assert report.left_out == {"chunks": "the reference carries no state"}
    assert seen[0] == (0, len(report.runs))
    assert seen[-1] == (len(report.runs), len(report.runs))
    own = [found.of_own_error for found, _ in report.worst()]
    assert max(own) < 10
    assert report.errors["output"].size == sum(report.lengths) * 8  # no padding among them


def test_a_file_and_the_bundle_beside_it(made, tmp_path):
    model, reference = made
    path = tmp_path / "m.safetensors"
    vledge_model.write(path, model)
    with pytest.raises(FileNotFoundError, match="vledge record"):
        validate(path)
    write(reference_path(path), reference)
    report = validate(path)
    assert report.passed
    assert report.reference == str(tmp_path / "m.reference.safetensors")


def test_states_may_be_carried_over(made):
    model, reference = made
    for case in reference.cases:
        assert case.lengths is not None
    plain = replace(
        reference,
        carry={"h_0": "h_n", "c_0": "c_n"},
        cases=[
            replace(case, lengths=None)
            for case in reference.cases
            if (case.lengths == len(case.inputs["x"])).all()
        ],
    )
    if not plain.cases:
        one = reference.cases[0]
        whole = np.full(len(one.lengths), len(one.inputs["x"]))
        plain.cases = [replace(one, inputs={**one.inputs, "lengths": whole}, lengths=None)]
        plain = replace(plain, layers=[], cases=_rerun(model, plain))
    report = validate(model, plain)
    assert "chunks" not in {run.path.strategy for run in report.runs}  # lengths are an input
    names = {"x", "h_0", "c_0"}
    weights, _, _ = Subject("LSTM", 5, 8, 2).made()
    without = layer_model(weights, False, names)
    cases = [
        replace(case, inputs={n: a for n, a in case.inputs.items() if n in names})
        for case in plain.cases
    ]
    report = validate(without, replace(plain, cases=cases))
    assert "chunks" in {run.path.strategy for run in report.runs}
    assert report.passed


def _rerun(model, reference):
    import vledge

    session = vledge.InferenceSession(model)
    names = reference.outputs()
    return [
        replace(
            case,
            outputs=dict(zip(names, session.run(names, case.inputs), strict=True)),
            exact={},
        )
        for case in reference.cases
    ]


def test_weights_that_are_wrong_without_a_known_reason(made):
    model, reference = made
    report = validate(spoiled(model, "R_l1", noisy), reference)
    assert not report.passed
    (finding,) = report.diagnosis.findings
    assert finding.suspect == ""
    assert finding.layer == "LSTM_l1"
    assert "no known mistake explains it" in report.diagnosis.summary
    assert report.as_json()["passed"] is False


@pytest.mark.parametrize(("gate", "block"), list(enumerate("iofg")))
def test_the_gate_whose_weights_are_wrong_is_named(gate, block):
    weights, names, reference = Subject("LSTM", 5, 8, seed=5).made()
    model = layer_model(weights, False, names)

    def change(w):
        w[:, gate * 8 : (gate + 1) * 8] += 0.5  # the same for all inputs: as good as a bias
        return w

    spoiled_bias = spoiled(model, "B_l0", lambda b: _shifted(b, gate))
    finding = validate(spoiled_bias, reference).diagnosis.findings[0]
    assert finding.suspect == "biases wrong"
    assert finding.gates == block
    finding = validate(spoiled(model, "W_l0", change), reference).diagnosis.findings[0]
    assert finding.suspect == ""
    assert finding.worst["time"] == 0


def _shifted(b, gate):
    b[:, gate * 8 : (gate + 1) * 8] += np.linspace(0.2, 0.4, 8, dtype=np.float32)
    return b


def test_two_mistakes_in_two_layers(made):
    model, reference = made

    def iofg_to_ifgo(array):
        i, o, f, g = np.split(array, 4, axis=1)
        return np.concatenate([i, f, g, o], axis=1)

    swapped = spoiled(spoiled(model, "W_l0", iofg_to_ifgo), "R_l0", iofg_to_ifgo)
    nodes = [
        replace(n, inputs=[*n.inputs[:5], "", ""]) if n.name == "LSTM_l1" else n
        for n in swapped.graph.nodes
    ]
    both = replace(swapped, graph=replace(swapped.graph, nodes=nodes))
    diagnosis = validate(both, reference).diagnosis
    assert [(f.layer, f.suspect) for f in diagnosis.findings] == [
        ("LSTM_l0", "gate order"),
        ("LSTM_l1", "initial state"),
    ]
    assert "; then LSTM LSTM_l1" in diagnosis.summary


@pytest.mark.parametrize("rates", [(16, 16), (16, 8)])
def test_layers_in_a_branch_that_is_always_taken_are_looked_at(rates):
    """As in models of two sampling rates. Where the reference takes both, nothing can be told."""
    weights, names, reference = Subject("LSTM", 5, 8, layers=False).made()
    good = layer_model(weights, False, names)
    nodes = [
        replace(n, inputs=[*n.inputs[:4], "", *n.inputs[5:]]) if n.op_type == "LSTM" else n
        for n in good.graph.nodes
    ]
    outputs = good.graph.outputs
    branch = replace(good.graph, nodes=nodes, inputs=[], initializers={})
    choice = [
        Node("Equal", ["rate", "sixteen"], ["wide"]),
        Node(
            "If",
            ["wide"],
            [info.name for info in outputs],
            {"then_branch": branch, "else_branch": copy.deepcopy(branch)},
        ),
    ]
    graph = replace(
        good.graph,
        nodes=choice,
        inputs=[*good.graph.inputs, ValueInfo("rate", "int64", ())],
        initializers={**good.graph.initializers, "sixteen": np.array(16)},
    )
    cases = [
        replace(case, inputs={**case.inputs, "rate": np.array(rates[number % 2])})
        for number, case in enumerate(reference.cases)
    ]
    diagnosis = validate(replace(good, graph=graph), replace(reference, cases=cases)).diagnosis
    if rates[0] == rates[1]:
        (finding,) = diagnosis.findings
        assert (finding.layer, finding.suspect) == ("LSTM_l0", "padding run through")
    else:
        assert "nodes of the main graph, and there are none" in diagnosis.summary


def test_an_error_behind_the_layers_is_placed_there(made):
    model, reference = made
    nodes = copy.copy(model.graph.nodes)
    last = next(i for i, node in enumerate(nodes) if node.outputs == ["output"])
    doubled = replace(nodes[last], op_type="Add", inputs=[nodes[last].inputs[0]] * 2, attributes={})
    nodes[last] = doubled
    wrong = replace(model, graph=replace(model.graph, nodes=nodes))
    report = validate(wrong, reference)
    (finding,) = report.diagnosis.findings
    assert (finding.layer, finding.kind, finding.suspect) == ("output", "Add", "superfluous node")


def test_layers_that_the_model_lacks_are_noted(made):
    model, reference = made
    more = [replace(c, outputs={**c.outputs, "Y_l7": c.outputs["Y_l0"]}) for c in reference.cases]
    bigger = replace(reference, layers=[*reference.layers, "Y_l7"], cases=more)
    report = validate(model, bigger)
    assert report.passed
    assert any("Y_l7" in note for note in report.notes)
    assert "Y_l7" in bigger.layers  # what was given stays as it was


def test_a_reference_for_another_model_is_refused(made):
    model, reference = made
    cases = [
        replace(c, inputs={n: a for n, a in c.inputs.items() if n != "x"}) for c in reference.cases
    ]
    with pytest.raises(ValueError, match="has the input 'x'"):
        validate(model, replace(reference, cases=cases))
    cases = [replace(c, outputs={**c.outputs, "z": c.outputs["output"]}) for c in reference.cases]
    with pytest.raises(ValueError, match="has no output 'z'"):
        validate(model, replace(reference, cases=cases))


def test_a_tolerance_can_be_asked_for(made):
    assert not validate(*made, tolerance=0.0).passed
    assert validate(*made, tolerance=1e-3).passed


def test_layers_have_names_even_where_the_graph_has_none(made):
    model, _ = made
    nodes = [
        replace(n, outputs=["", *n.outputs[1:]]) if n.name == "LSTM_l1" else n
        for n in model.graph.nodes
    ]
    names = layer_outputs(replace(model, graph=replace(model.graph, nodes=nodes)))
    assert names == ["Y_l0", "h_n_l0", "c_n_l0", "h_n_l1.Y", "h_n_l1", "c_n_l1"]
