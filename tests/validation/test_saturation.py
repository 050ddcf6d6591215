"""References that a CPU without VNNI spoils: not made, and told from models that are wrong.

The CPU at hand may have VNNI: what onnxruntime computes without it comes from `saturating_plan`,
which agrees to 2e-7 with onnxruntime in qemu's ``-cpu Haswell`` (tests/graph/
test_quantized_recurrent.py tells on any CPU).
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from tests.peers import peer
from vledge.errors import VledgeError
from vledge.graph.plan import Plan
from vledge.graph.session import read_model
from vledge.validation.recording import record as recording
from vledge.validation.running.saturation import saturating_plan, saturating_product, unsaturated
from vledge.validation.validate import validate

onnxruntime = peer("onnxruntime")
onnx = peer("onnx")

RNG = np.random.default_rng(0)
B = RNG.integers(-127, 128, (12, 5)).astype(np.int8)
X = {"x": RNG.standard_normal((7, 12)).astype(np.float32)}
SCALE, ZERO = np.array(0.02, np.float32), np.array(118, np.uint8)


def dynamic(per_column):
    """What quantize_dynamic makes of a Linear layer."""
    zero = np.zeros(5 if per_column else (), np.int8)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "B", "z", "bz"], ["sum"]),
        node("Cast", ["sum"], ["real"], to=1),
        node("Mul", ["real", "s"], ["scaled"]),
        node("Mul", ["scaled", "bs"], ["y"]),
    ]
    return nodes, {"B": B, "bz": zero, "bs": np.array(0.01, np.float32)}


def static():
    """An operand of a scale that is known, and a result in 8 bits."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearMatMul", ["q", "s", "z", "B", "bs", "bz", "ys", "z"], ["p"]),
        node("DequantizeLinear", ["p", "ys", "z"], ["y"]),
    ]
    own = {"s": SCALE, "z": ZERO, "bs": np.array(0.01, np.float32), "ys": np.array(0.3, np.float32)}
    return nodes, own | {"B": B, "bz": np.array(0, np.int8)}


def unfused():
    """Weights that are real numbers before the product: onnxruntime may fuse it."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        node("DequantizeLinear", ["B", "bs", "bz"], ["w"]),
        node("MatMul", ["r", "w"], ["m"]),
        node("QuantizeLinear", ["m", "ys", "z"], ["p"]),
        node("DequantizeLinear", ["p", "ys", "z"], ["y"]),
    ]
    return nodes, static()[1]


def convolution():
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("QLinearConv", ["q", "s", "z", "W", "bs", "bz", "ys", "z"], ["p"]),
        node("DequantizeLinear", ["p", "ys", "z"], ["y"]),
    ]
    w = RNG.integers(-127, 128, (3, 4, 3)).astype(np.int8)
    return nodes, {name: a for name, a in static()[1].items() if name != "B"} | {"W": w}


FORMS = {
    "dynamic": (dynamic(False), X),
    "dynamic, a zero point a column": (dynamic(True), X),
    "static": (static(), X),
    "fused by onnxruntime": (unfused(), X),
    "convolution": (convolution(), {"x": RNG.standard_normal((2, 4, 9)).astype(np.float32)}),
}


def written(tmp_path, form):
    (nodes, constants), feed = FORMS[form]
    path = tmp_path / "m.onnx"
    path.write_bytes(model_bytes(nodes, feed, ["y"], constants))
    return path, feed


def run(model, feed, plan=Plan):
    made = plan(model, {}) if plan is Plan else plan(model)
    return made.run(*(feed[name] for name in made.inputs))[0]


def spoiled_session(monkeypatch):
    """`record` as it was, on a CPU without VNNI: the switch that forces the fault."""

    class Session:
        def __init__(self, path, layers, values):
            self.model = read_model(path)
            self.plan = saturating_plan(self.model)

        def run(self, names, feed):
            results = self.plan.run(*(feed[name] for name in self.plan.inputs))
            found = dict(zip((i.name for i in self.model.graph.outputs), results, strict=True))
            return [found[name] for name in names]

    monkeypatch.setattr(recording, "_session", Session)


def test_pairs_are_cut_off_at_16_bits():
    a = np.array([[255, 255, 255, 1]], np.uint8)
    b = np.array([[127], [127], [-128], [3]], np.int8)
    assert saturating_product(a, b) == 32767 + (-255 * 128 + 3)
    assert saturating_product(a.astype(np.int8), b) == a.astype(np.int8).astype(int) @ b.astype(int)
    assert saturating_product(a, b.astype(np.uint8)) == a.astype(int) @ b.astype(np.uint8)
    odd = saturating_product(a[:, :3], b[:3])
    assert odd == 32767 - 255 * 128


@pytest.mark.parametrize("form", FORMS)
def test_shifted_weights_mean_the_same_and_cannot_saturate(tmp_path, form):
    path, feed = written(tmp_path, form)
    proto = onnx.load(path)
    assert unsaturated(proto) == 2
    assert not any(t.data_type == onnx.TensorProto.INT8 for t in proto.graph.initializer)
    shifted = tmp_path / "shifted.onnx"
    onnx.save(proto, shifted)
    np.testing.assert_array_equal(run(read_model(shifted), feed), run(read_model(path), feed))
    assert saturating_plan(read_model(shifted)) is None
    assert unsaturated(proto) == 0


@pytest.mark.parametrize("form", FORMS)
def test_record_is_exact_on_any_cpu(tmp_path, form):
    path, feed = written(tmp_path, form)
    reference = recording.record(path, [feed])
    exact = run(read_model(path), feed)
    steps = 0.3 if form in ("static", "fused by onnxruntime", "convolution") else 0
    np.testing.assert_allclose(reference.cases[0].outputs["y"], exact, atol=1e-5 + steps)
    assert validate(path, reference, tolerance=1e-5 + steps).passed


@pytest.mark.parametrize("form", ["dynamic", "dynamic, a zero point a column", "static"])
def test_record_names_the_cpu(tmp_path, form, monkeypatch):
    path, feed = written(tmp_path, form)
    exact, saturated = run(read_model(path), feed), run(read_model(path), feed, saturating_plan)
    assert np.abs(exact - saturated).max() > 0.05 * np.abs(exact).max()
    spoiled_session(monkeypatch)
    with pytest.raises(VledgeError, match=r"'y'.*onnxruntime is at fault.*saturate.*without VNNI"):
        recording.record(path, [feed])


@pytest.mark.parametrize("form", ["dynamic", "dynamic, a zero point a column", "static"])
def test_validate_names_the_reference(tmp_path, form):
    """A bundle that an older vledge recorded on such a CPU."""
    path, feed = written(tmp_path, form)
    reference = recording.record(path, [feed])
    model = read_model(path)
    (case,) = reference.cases
    old = replace(case, outputs={"y": run(model, feed, saturating_plan)})
    report = validate(path, replace(reference, cases=[old]))
    assert not report.passed
    assert report.diagnosis.summary.startswith("the reference is at fault, not the model")
    assert "CPU without VNNI" in report.diagnosis.summary
    assert report.diagnosis.findings[0].suspect == "reference"
    wrong = replace(case, outputs={"y": case.outputs["y"] + 1})  # a fault of another kind
    report = validate(path, replace(reference, cases=[wrong]))
    assert "the reference is at fault" not in report.diagnosis.summary
