"""The benchmark's harness: what it refuses to time, and what its report says. No timings."""

import numpy as np
import pytest

from benchmarks import agreement, lengths, report
from benchmarks.measure import run_workload
from benchmarks.peers import load
from benchmarks.workloads import TARGETS, Workload, matrix, quick_matrix

SMALL = [
    Workload("LSTM step", "other", "step", "LSTM", 4, 8, (1,)),
    Workload("GRU loop", "other", "loop", "GRU", 4, 8, (3,)),
    Workload("LSTM full", "other", "full", "LSTM", 4, 8, (5, 5), 2, True),
    Workload("GRU var", "other", "var", "GRU", 4, 8, (2, 5, 1), 1, True),
]


@pytest.mark.parametrize("workload", SMALL, ids=lambda w: w.name)
def test_vledge_and_numpy_agree_and_are_reported(workload, monkeypatch):
    monkeypatch.setattr("benchmarks.measure.SAMPLE_SECONDS", 0)
    record = run_workload(workload, ["numpy"] if workload.kind != "loop" else [], 1, rounds=1)
    assert "vledge" in record["counted"]
    assert not record["failures"]
    assert max(record["largest_error"].values()) < 1e-5
    row = report.row_of(record)
    assert row["ours"] > 0
    assert workload.name in report.text_row(row)
    assert workload.name in report.markdown([record], {"CPU": "test"})


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
@pytest.mark.parametrize("workload", SMALL, ids=lambda w: w.name)
def test_peers_agree(workload, name):
    peer = load(name)
    if peer.version() is None:
        pytest.skip(f"{name} is not installed")
    inputs = workload.inputs()
    expected = agreement.reference(workload, inputs)
    contestants = peer.prepare(workload, workload.weights(), inputs, 1)
    assert contestants
    for contestant in contestants:
        agreement.largest_error(
            contestant.name, contestant.outputs(contestant.run()), expected, inputs
        )


def test_a_wrong_contestant_is_not_timed(monkeypatch):
    workload = SMALL[2]
    inputs = workload.inputs()
    expected = agreement.reference(workload, inputs)
    weights = workload.weights()
    weights["bias_ih_l1"] = weights["bias_ih_l1"] + np.float32(1e-3)
    (contestant,) = load("vledge").prepare(workload, weights, inputs, 1)
    with pytest.raises(agreement.Disagreement, match="vledge: y is off by"):
        agreement.largest_error("vledge", contestant.outputs(contestant.run()), expected, inputs)


def test_matrix_has_a_target_for_every_group():
    works = matrix()
    assert len({work.name for work in works}) == len(works)
    assert {work.group for work in works} == set(TARGETS)
    assert {work.name for work in quick_matrix()} < {work.name for work in works}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_strategies_agree_before_they_are_timed(bidirectional):
    layer, sequences = lengths.japanese_vowels_work(bidirectional)
    taken = lengths.times(layer, sequences[:20], rounds=1)
    assert list(taken) == lengths.ways_of(layer)
    assert ("lanes, 32 rows" in taken) is not bidirectional
    assert min(taken.values()) > 0


def test_a_strategy_with_other_outputs_is_not_timed(monkeypatch):
    layer, sequences = lengths.japanese_vowels_work(False)
    monkeypatch.setitem(
        lengths.WAYS,
        "packed",
        lambda layer, some: [s * 0.999 for s in lengths.WAYS["padded"](layer, some)],
    )
    with pytest.raises(ArithmeticError, match="packed: sequence 0 is off by"):
        lengths.times(layer, sequences[:20], rounds=1)
