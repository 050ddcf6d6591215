"""A reference that almost any model would agree with is not called a proof."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge.cli import main
from vledge.graph.plan import Plan
from vledge.graph.session import read_model
from vledge.validation import Case, Reference, validate, write
from vledge.validation.reference.compare import tolerance_of
from vledge.validation.reference.proof import weighed

peer("onnxruntime")

RNG = np.random.default_rng(0)
AXES = {"x": {"batch": 0, "time": 1}, "y": {"batch": 0, "time": 1}, "n": {"batch": 0}}


def made(change=lambda case: case, count=3, sequences=4, **fields):
    """A reference that proves something, each case of it changed."""
    cases = []
    for _ in range(count):
        x = RNG.standard_normal((sequences, 6, 2)).astype(np.float32)
        lengths = np.array([6, 1, 4, 3][:sequences])
        case = Case({"x": x, "n": lengths}, {"y": np.tanh(x)}, {"y": np.tanh(x.astype(float))})
        cases.append(change(replace(case, lengths=lengths)))
    return Reference(cases, {}, axes=dict(AXES), **fields)


def proof(reference, tolerance=None):
    names = [*reference.outputs(), *reference.layers]
    return weighed(reference, {name: tolerance_of(reference, name, tolerance) for name in names})


def outputs(value):
    def change(case):
        y = np.asarray(value(case), np.float32)
        return replace(case, outputs={"y": y}, exact={"y": y.astype(np.float64)})

    return change


def inputs(value):
    return lambda case: replace(case, inputs={**case.inputs, "x": np.float32(value(case))})


FIRST = RNG.standard_normal((4, 6, 2))
WAYS = {
    "nearly all empty": (
        lambda case: replace(case, lengths=np.array([6, 1, 0, 1])),
        "9 of 12 sequences have at most one step",
    ),
    "one in four goes on": (
        lambda case: replace(case, lengths=np.array([6, 1, 1, 1])),
        "9 of 12 sequences have at most one step",
    ),
    "all inputs zero": (inputs(lambda c: 0 * c.inputs["x"]), r"all inputs are 0 \(x\)"),
    "inputs not finite": (inputs(lambda c: c.inputs["x"] + np.nan), "inputs that are not finite"),
    "the same inputs": (inputs(lambda c: FIRST), "all 3 runs have the same inputs"),
    "constant": (outputs(lambda c: np.full((4, 6, 2), 0.3)), "y is the same whatever the input is"),
    "a pattern that is constant": (
        outputs(lambda c: np.tile(np.arange(2.0), (4, 6, 1))),
        "y is the same whatever the input is",
    ),
    "all zero": (outputs(lambda c: np.zeros((4, 6, 2))), "y is the same whatever the input is"),
    "NaN": (outputs(lambda c: np.full((4, 6, 2), np.nan)), "y has no finite value"),
    "infinite": (outputs(lambda c: np.full((4, 6, 2), np.inf)), "y has no finite value"),
    "empty": (outputs(lambda c: np.zeros((4, 6, 0))), "y has no values"),
    "nearly constant": (
        outputs(lambda c: 1 + 1e-6 * c.outputs["y"]),
        "y is (within|the same)",
    ),
}


def test_a_sound_reference_is_a_proof():
    found = proof(made())
    assert (found.missing, found.little) == ([], [])


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_prove_nothing(way):
    change, message = WAYS[way]
    found = proof(made(change))
    assert len(found.nothing) == 1, found
    with pytest.raises(ValueError, match=message):
        raise ValueError(found.nothing[0])


def test_wide_tolerances():
    scattered = outputs(lambda c: c.outputs["y"])
    noisy = made(scattered, spread={"y": 0.01})
    (why,) = proof(noisy).missing
    assert "y: the reference's own results scatter so widely" in why
    assert not proof(made(), tolerance=1e-3).missing
    (why,) = proof(made(), tolerance=0.5).missing
    assert "its tolerance is 5.0e-01" in why


def test_what_is_left_open_is_told():
    assert proof(made(count=1)).little == ["there is one run only"]

    def one_is_constant(case):
        more = {"z": np.ones((4, 3), np.float32)}
        return replace(case, outputs=case.outputs | more, exact={})

    found = proof(made(one_is_constant))
    assert found.missing == []
    assert found.little == ["z is the same whatever the input is"]

    def partly(case):
        y = case.outputs["y"].copy()
        y[0, 0] = np.nan
        return replace(case, outputs={"y": y}, exact={})

    assert proof(made(partly)).little == ["6 of 84 values of y are not finite"]

    def a_zero_input(case):
        return replace(case, inputs={**case.inputs, "h_0": np.zeros((4, 2), np.float32)})

    assert proof(made(a_zero_input)).little == ["the input h_0 is 0 in all runs"]


def test_steps_of_a_stream_are_no_empty_sequences():
    cases = []
    for _ in range(4):
        x = RNG.standard_normal((2, 1, 3)).astype(np.float32)
        cases.append(Case({"x": x}, {"y": x}, {"y": x.astype(float)}, np.array([1, 1])))
    found = proof(Reference(cases, {}, axes=dict(AXES)))
    assert found.missing == []
    assert found.little == ["every run has one step: nothing is carried over time from it"]
    assert proof(Reference(cases, {}, axes=dict(AXES), carry={"x": "y"})).little == []


def test_a_length_of_one_a_run_is_no_empty_reference():
    """`vledge record` draws one, which is half of two sequences."""

    def both_ends(case):
        return replace(case, lengths=np.array([6, 1]))

    assert proof(made(both_ends, sequences=2)).missing == []


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    example = {"x": np.ones((2, 3), np.float32)}
    path.write_bytes(model_bytes([node("Mul", ["x", "x"], ["y"])], example, ["y"]))
    return path


def test_record_refuses_what_proves_nothing(model, tmp_path, capsys):
    np.savez(tmp_path / "zeros.npz", x=np.zeros((2, 3), np.float32))
    assert main(["record", str(model), "--inputs", *[str(tmp_path / "zeros.npz")] * 2]) == 1
    told = capsys.readouterr().err
    assert "such a reference would prove nothing: all inputs are 0 (x)" in told
    assert not model.with_suffix(".reference.safetensors").exists()
    assert main(["record", str(model), "--random", "x=2x3", "--runs", "1"]) == 0
    assert "note: there is one run only" in capsys.readouterr().out


def test_validate_refuses_to_call_it_a_proof(model, capsys):
    """A bundle of another making: everything agrees, and says nothing."""
    zeros = np.zeros((2, 3), np.float32)
    case = Case({"x": zeros}, {"y": zeros}, {"y": zeros.astype(np.float64)})
    bundle = model.with_suffix(".reference.safetensors")
    write(bundle, Reference([case, case], {"torch": "1"}))
    report = validate(model)
    assert report.passed
    assert not report.proven
    assert main(["validate", str(model)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "NO PROOF: every path agrees with the reference, but all inputs are 0 (x)" in out
    assert "passed" not in out
    page = model.with_suffix(".html")
    assert main(["validate", str(model), "--json", "--html", str(page)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["proven"]) == (True, False)
    assert "all inputs are 0 (x)" in told["unproven"][0]
    assert "no proof" in page.read_text()


def test_lengths_that_a_bundle_does_not_name_count(tmp_path, capsys):
    """As an older vledge wrote them: lengths 0 and 1 behind an input that it did not know."""
    path = tmp_path / "m.onnx"
    w = {"W": (1, 12, 3), "R": (1, 12, 4)}
    w = {n: RNG.uniform(-0.5, 0.5, s).astype(np.float32) for n, s in w.items()}
    nodes = [
        node("Cast", ["n"], ["n64"], to=7),
        node("Gather", ["n64", "same"], ["sorted"], axis=0),
        node("Cast", ["sorted"], ["n32"], to=6),
        node("GRU", ["x", "W", "R", "", "n32"], ["y"], hidden_size=4),
    ]
    feed = {"x": np.zeros((9, 2, 3), np.float32), "n": np.array([0, 1])}
    path.write_bytes(model_bytes(nodes, feed, ["y"], w | {"same": np.array([0, 1])}))
    session_model = read_model(path)
    cases = []
    for _ in range(3):
        x = RNG.standard_normal((9, 2, 3)).astype(np.float32)
        (y,) = Plan(session_model, {}).run(x, np.array([1, 0]))
        cases.append(Case({"x": x, "n": np.array([1, 0])}, {"y": y}))
    report = validate(path, Reference(cases, {}))
    assert report.passed
    assert "6 of 6 sequences have at most one step" in report.unproven[0]
