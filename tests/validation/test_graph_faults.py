"""Faults in whole models: 95 of 100 at the right node, 85 named; here in the models made here.

``python -m tests.validation.faults --graphs`` does it in published ones, too.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.peers import peer

peer("torch")
peer("onnxruntime")

from tests.validation.graph_faults import (  # noqa: E402
    LOCATED_AT_LEAST,
    NAMED_AT_LEAST,
    graph_outcomes,
    table,
)
from tests.validation.graph_spoiling import WAYS, bfloat16, int8, tensors, with_tensors  # noqa: E402
from tests.validation.whole_models import MADE, whole  # noqa: E402
from vledge.model.definition import Node  # noqa: E402
from vledge.validation import read, validate, write  # noqa: E402
from vledge.validation.diagnosis.diagnose import diagnose  # noqa: E402
from vledge.validation.recording.record import record  # noqa: E402

SOME = (
    "byte-swapped",
    "a block of zeros",
    "R transposed",
    "Tanh for Sigmoid",
    "a slice begins late",
    "padding on one side",
)


@pytest.fixture(scope="module")
def outcomes():
    return list(graph_outcomes(MADE))


def test_faults_are_found_at_the_right_node_and_named(outcomes):
    _, located, named = table(outcomes)
    missed = "\n".join(map(str, (o for o in outcomes if not o.named)))
    assert located >= LOCATED_AT_LEAST, missed
    assert named >= NAMED_AT_LEAST, missed


def test_there_are_enough_kinds(outcomes):
    assert len(WAYS) >= 40
    assert len({o.way.name for o in outcomes}) >= 55
    assert min(Counter(o.model for o in outcomes).values()) >= 35


@pytest.mark.parametrize("name", ["silero-vad"])
def test_published_models(name):
    ways = [way for way in WAYS if way.name in SOME]
    found = list(graph_outcomes([name], ways))
    assert len(found) >= 4
    assert all(outcome.located for outcome in found), "\n".join(map(str, found))


@pytest.fixture
def tagger():
    return whole("tagger")


def told(good, model, **without):
    reference = replace(good.reference, **without)
    return diagnose(model, reference, good.tolerances)


def changed(good, name, change):
    array = tensors(good.model.graph)[name].copy()
    return with_tensors(good.model, {name: change(array).astype(array.dtype)})


def test_what_is_not_wrong_has_no_findings(tagger):
    diagnosis = told(tagger, tagger.model)
    assert diagnosis.findings == []
    assert "the model agrees" in diagnosis.summary


@pytest.mark.parametrize(
    ("kind", "rounded"),
    [("float16", np.float16), ("bfloat16", bfloat16), ("int8", int8)],
)
def test_the_precision_of_rounded_weights_is_told(tagger, kind, rounded):
    (finding,) = told(tagger, changed(tagger, "table.weight", rounded)).findings
    assert finding.suspect == "rounded weights"
    assert finding.text == f"table.weight is rounded to {kind}"
    noisy = changed(tagger, "table.weight", lambda a: a + 1e-3 * np.sin(np.arange(12)))
    (finding,) = told(tagger, noisy).findings
    assert finding.suspect == "stale weights"


def cut_to_bfloat16(array):
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def cut_to_float16(array):
    half = array.astype(np.float16)
    outside = np.abs(half.astype(np.float32)) > np.abs(array)
    return np.where(outside, np.nextafter(half, np.float16(0)), half)


def cut_to_grid(steps, cut):
    def change(array):
        scale = np.abs(array).max() / (steps / 2 - 1)
        return (cut(array.astype(np.float64) / scale) * scale).astype(np.float32)

    return change


@pytest.mark.parametrize(
    ("kind", "cut", "how"),
    [
        ("bfloat16", cut_to_bfloat16, "cut off, towards zero,"),
        ("float16", cut_to_float16, "cut off, towards zero,"),
        ("int8", cut_to_grid(256, np.trunc), "cut off, towards zero,"),
        ("int8", cut_to_grid(256, np.floor), "cut off, downwards,"),
        ("int4", cut_to_grid(16, np.trunc), "cut off, towards zero,"),
    ],
)
def test_bits_that_were_cut_off_are_told_from_other_numbers(tagger, kind, cut, how):
    (finding,) = told(tagger, changed(tagger, "table.weight", cut)).findings
    assert (finding.suspect, finding.text) == (
        "rounded weights",
        f"table.weight is {how} to {kind}",
    )


def test_places_are_told(tagger):
    def wrong(array):
        array[3, 4] = np.nan
        return array

    assert "nan at [3, 4]" in told(tagger, changed(tagger, "table.weight", wrong)).summary

    def zeroed(array):
        array[10:14] = 0
        return array

    diagnosis = told(tagger, changed(tagger, "table.weight", zeroed))
    assert "table.weight is 0 in indices 10 to 13 of axis 0" in diagnosis.summary


def test_faults_of_a_file_are_seen_without_prints(tagger):
    """An old bundle: outputs alone."""
    cases = [replace(case, inside={}) for case in tagger.reference.cases]
    swapped = changed(tagger, "table.weight", lambda a: a.byteswap())
    diagnosis = told(tagger, swapped, prints={}, cases=cases)
    assert "table.weight is byte-swapped" in diagnosis.summary
    assert diagnosis.findings[0].kind == "Gather"


def test_layers_are_not_blamed_for_what_others_did(tagger):
    """A shifted vocabulary and another epsilon, without prints: not the fault of LSTM and GRU."""
    shifted = changed(tagger, "table.weight", lambda a: np.roll(a, 1, 0))
    (finding,) = told(tagger, shifted, prints={}).findings
    assert (finding.kind, finding.suspect) == ("Gather", "shifted weights")
    nodes = [
        replace(n, attributes={**n.attributes, "epsilon": 1e-2})
        if n.op_type == "LayerNormalization"
        else n
        for n in tagger.model.graph.nodes
    ]
    other = replace(tagger.model, graph=replace(tagger.model.graph, nodes=nodes))
    (finding,) = told(tagger, other, prints={}).findings
    assert (finding.kind, finding.suspect) == ("LayerNormalization", "epsilon")


@pytest.fixture(scope="module")
def layered():
    """A bundle as `vledge.export` writes it: layers, no prints, no values inside."""
    good = whole("tagger")
    feeds = [case.inputs for case in good.reference.cases]
    return replace(good, reference=replace(record(good.path, feeds, layers=True), prints={}))


def recurrent_tensors(good, place):
    nodes = [node for node in good.model.graph.nodes if node.op_type == "LSTM"]
    return [node.inputs[place] for node in nodes]


def test_with_layers_alone_other_nodes_are_found(layered):
    shifted = changed(layered, "table.weight", lambda a: np.roll(a, 1, 0))
    (finding,) = told(layered, shifted).findings
    assert (finding.kind, finding.suspect) == ("Gather", "shifted weights")
    nodes = [
        replace(n, inputs=[n.inputs[0], *n.inputs[:0:-1]])
        if n.op_type == "LayerNormalization"
        else n
        for n in layered.model.graph.nodes
    ]
    exchanged = replace(layered.model, graph=replace(layered.model.graph, nodes=nodes))
    (finding,) = told(layered, exchanged).findings
    assert (finding.kind, finding.suspect) == ("LayerNormalization", "order of inputs")


def test_with_layers_alone_weights_are_looked_at(layered):
    first, second = recurrent_tensors(layered, 2)
    arrays = tensors(layered.model.graph)
    exchanged = with_tensors(layered.model, {first: arrays[second], second: arrays[first]})
    findings = told(layered, exchanged).findings
    assert [f.suspect for f in findings] == ["exchanged weights"] * 2
    rounded = changed(layered, first, bfloat16)
    diagnosis = told(layered, rounded)
    assert f"it may be that {first} is rounded to bfloat16" in diagnosis.summary
    assert diagnosis.findings[-1].kind == "LSTM"


def test_units_in_another_order_in_one_layer(tagger):
    """Consistent in the layer itself, so that only the next one can tell; but for the prints."""
    w, r, b = (recurrent_tensors(tagger, place)[0] for place in (1, 2, 3))
    order = np.random.default_rng(0).permutation(10)
    rows = np.concatenate([gate * 10 + order for gate in range(8)])
    arrays = tensors(tagger.model.graph)
    permuted = {w: arrays[w][:, rows[:40]], r: arrays[r][:, rows[:40]][..., order]}
    permuted[b] = arrays[b][:, rows]
    findings = told(tagger, with_tensors(tagger.model, permuted)).findings
    assert {f.suspect for f in findings} == {"permuted units"}
    assert {f.layer for f in findings} == {"/first/LSTM"}


def test_two_faults_in_two_nodes(tagger):
    nodes = []
    for node in tagger.model.graph.nodes:
        if node.op_type == "Tanh":
            node = Node("Sigmoid", node.inputs, node.outputs, {}, node.name)
        if node.op_type == "LayerNormalization":
            node = replace(node, attributes={**node.attributes, "epsilon": 1e-3})
        nodes.append(node)
    both = replace(tagger.model, graph=replace(tagger.model.graph, nodes=nodes))
    findings = told(tagger, both).findings
    assert [f.suspect for f in findings] == ["epsilon", "other operator"]


def test_bundles_hold_the_values_and_stay_small(tagger, tmp_path):
    path = tmp_path / "b.safetensors"
    write(path, tagger.reference)
    again = read(path)
    for case, old in zip(again.cases, tagger.reference.cases, strict=True):
        assert case.inside.keys() == old.inside.keys()
        for name, sample in case.inside.items():
            assert sample.shape == old.inside[name].shape
            np.testing.assert_array_equal(sample.numbers, old.inside[name].numbers)
    assert again.prints.keys() == tagger.reference.prints.keys()
    array = tensors(tagger.model.graph)["table.weight"]
    assert again.prints["table.weight"].same(array)
    assert validate(tagger.model, again).proven
