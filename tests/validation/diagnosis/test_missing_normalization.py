"""Normalizations left out of a graph: named, with what they went over, wherever they stood."""

from dataclasses import replace

import numpy as np
import pytest

from tests.graph.models import model_bytes, node
from vledge.graph.session import read_model
from vledge.model.definition import Node
from vledge.validation.diagnosis.diagnose import diagnose
from vledge.validation.diagnosis.normalization_remedies import Missing, missing_normalizations
from vledge.validation.recording.record import record
from vledge.validation.reference.compare import tolerance_of

CHANNELS, STEPS = 6, 9
RNG = np.random.default_rng(4)


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def written_out(centred):
    """ReduceMean and the rest, as exporters write RMSNorm, or LayerNorm before opset 17."""
    nodes, value = [], "x1"
    if centred:
        nodes.append(node("ReduceMean", ["x1"], ["mean"], axes=[-1]))
        nodes.append(node("Sub", ["x1", "mean"], ["apart"]))
        value = "apart"
    return [
        *nodes,
        node("Mul", [value, value], ["squares"]),
        node("ReduceMean", ["squares"], ["power"], axes=[-1]),
        node("Add", ["power", "eps"], ["sum"]),
        node("Sqrt", ["sum"], ["size"]),
        node("Div", [value, "size"], ["unit"]),
        node("Mul", ["unit", "gamma"], ["scaled"]),
        node("Add", ["scaled", "beta"], ["n"]),
    ]


LAYER = [node("LayerNormalization", ["x1", "gamma", "beta"], ["n"], axis=-1, epsilon=1e-3)]
KINDS = {
    "LayerNormalization over axis 2, epsilon 1e-03": LAYER,
    "LayerNormalization over axis 2, epsilon 1e-05": written_out(True),
    "RMSNormalization over axis 2, epsilon 1e-05": written_out(False),
    "InstanceNormalization over axis 2, epsilon 1e-05": [
        node("InstanceNormalization", ["x1", "gamma", "beta"], ["n"])
    ],
    "BatchNormalization over axis 1": [
        node("BatchNormalization", ["x1", "gamma", "beta", "mean_", "var_"], ["n"])
    ],
}


def models(nodes, last):
    """The good model's bytes, and the one without the normalization as a Model."""
    arrays = {"w": noise(CHANNELS, CHANNELS), "gamma": noise(CHANNELS), "beta": noise(CHANNELS)}
    arrays |= {"mean_": noise(CHANNELS), "var_": noise(CHANNELS) ** 2 + 1, "v": noise(CHANNELS, 4)}
    arrays["eps"] = np.float32([1e-5])
    first = [node("MatMul", ["x", "w"], ["x0"]), node("Tanh", ["x0"], ["x1"])]
    behind = [] if last else [node("MatMul", ["n", "v"], ["n1"]), node("Tanh", ["n1"], ["y"])]
    x = {"x": np.zeros((1, 1, 1), np.float32)}
    good = model_bytes([*first, *nodes, *behind], x, ["n" if last else "y"], arrays, opset=17)
    model = read_model(good)
    kept = []
    inner = {name for one in nodes for name in one.output}
    for one in model.graph.nodes:
        if set(one.outputs) & inner:
            continue
        if last and one.outputs == ["x1"]:
            one = replace(one, outputs=["n"])
        kept.append(replace(one, inputs=["x1" if n == "n" else n for n in one.inputs]))
    return good, replace(model, graph=replace(model.graph, nodes=kept))


def found(tmp_path, good, bad, **without):
    path = tmp_path / "good.onnx"
    path.write_bytes(good)
    feeds = [{"x": noise(4, CHANNELS, CHANNELS)} for _ in range(4)]
    reference = replace(record(path, feeds, values=True), **without)
    tolerances = {name: tolerance_of(reference, name) for name in reference.outputs()}
    return diagnose(bad, reference, tolerances)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_named(tmp_path, kind, last):
    good, bad = models(KINDS[kind], last)
    (finding,) = found(tmp_path, good, bad).findings
    assert finding.suspect == "missing normalization"
    assert finding.text.startswith(kind)
    where = "behind it is missing" if last else "of x1 before it is missing"
    assert finding.text.endswith(where)
    assert finding.kind == ("Tanh" if last else "MatMul")


def test_with_its_weights_left_in_the_file_the_outputs_are_enough(tmp_path):
    """A reference that knows nothing of the lost value."""
    good, bad = models(LAYER, False)
    path = tmp_path / "good.onnx"
    path.write_bytes(good)
    feeds = [{"x": noise(4, CHANNELS, CHANNELS)} for _ in range(3)]
    reference = record(path, feeds, values=True)
    cases = [
        replace(case, inside={n: s for n, s in case.inside.items() if n != "n"})
        for case in reference.cases
    ]
    tolerances = {name: tolerance_of(reference, name) for name in reference.outputs()}
    diagnosis = diagnose(bad, replace(reference, cases=cases), tolerances)
    assert diagnosis.findings[0].suspect == "missing normalization"


def test_other_faults_are_not_called_so(tmp_path):
    good, _ = models(LAYER, False)
    model = read_model(good)
    nodes = [
        Node("Sigmoid", one.inputs, one.outputs, {}, one.name) if one.op_type == "Tanh" else one
        for one in model.graph.nodes
    ]
    diagnosis = found(tmp_path, good, replace(model, graph=replace(model.graph, nodes=nodes)))
    assert [finding.suspect for finding in diagnosis.findings] == ["other operator"] * 2


def test_a_wrong_bias_is_no_normalization(tmp_path):
    """Each channel of the result is off by a number of its own, as where a BatchNorm is missing."""
    arrays = {"w": noise(CHANNELS, CHANNELS), "b": noise(CHANNELS)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["y"])]
    good = model_bytes(nodes, {"x": np.zeros((1, 1, 1), np.float32)}, ["y"], arrays)
    model = read_model(good)
    tensors = {**model.graph.initializers, "b": noise(CHANNELS)}
    bad = replace(model, graph=replace(model.graph, initializers=tensors))
    for without in ({}, {"prints": {}}):
        diagnosis = found(tmp_path, good, bad, **without)
        assert diagnosis.findings[0].suspect != "missing normalization"


def test_numbers_below_epsilon_are_no_normalization(tmp_path):
    x = {"x": np.zeros((1, 1, 1), np.float32)}
    good, bad = (
        model_bytes([node("Mul", ["x", "f"], ["y"])], x, ["y"], {"f": np.float32([factor])})
        for factor in (1e-12, 3.7e-12)
    )
    diagnosis = found(tmp_path, good, read_model(bad), prints={})
    assert diagnosis.findings[0].suspect != "missing normalization"


@pytest.mark.parametrize("value", [None, [np.zeros((2, 3), np.float32)]])
def test_what_is_no_tensor_was_not_normalized(value):
    """Nodes may give lists of tensors, or nothing: there the search ends, and does not fail."""
    node = Node("Optional", ["x"], ["y"])
    assert not list(missing_normalizations(Missing(node, True, "y", [value], [], {}, 18, False)))
