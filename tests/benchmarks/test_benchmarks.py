"""The benchmark's harness: what it refuses to time, and what its report says. No timings."""

import numpy as np
import pytest

from benchmarks import agreement, lengths, report
from benchmarks.bounds import bytes_read, least_seconds
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


def test_a_target_that_the_machine_does_not_allow_is_called_out_of_reach():
    workload = next(work for work in matrix() if work.name == "LSTM I256 H256 B1 T1")
    record = {
        "name": workload.name,
        "group": workload.group,
        "threads": 1,
        "flops": workload.flops,
        "microseconds": {"vledge": [25.0], "ncnn": [60.0]},
        "ratios": {"ncnn": [2.4]},
        "counted": ["vledge", "ncnn"],
    }
    size = bytes_read(workload, 1)
    assert size == workload.weight_bytes == 2 << 20
    limits = {"FMA peak": 100.0, str(size): 100.0}
    # 2 MB at 100 GB/s take 21 us, their arithmetic at 100 GFLOP/s half of that
    assert least_seconds(workload, limits, 1) == pytest.approx((2 << 20) / 100e9)
    page = report.markdown([record], {"CPU": "test"}, limits)
    assert "1 targets are more than this machine's limits allow" in page
    assert "| **2.40** (out of reach) | 4.00 | 2.86 | 84% |" in page
    fast = {"FMA peak": 1000.0, str(size): 1000.0}
    assert "| **2.40** (short) | 4.00 | 28.61 | 8% |" in report.markdown([record], {}, fast)


def test_least_time_counts_real_steps_only():
    limits = {"FMA peak": 1.0, str(4 * 4 * 8 * 8): 1e9}
    workload = Workload("", "other", "var", "LSTM", 4, 8, (3, 1))
    assert least_seconds(workload, limits, 1) == pytest.approx(workload.flops / 1e9)
    # a step of one row is bound by reading the recurrent weights where memory is slow
    slow = {"FMA peak": 1e9, str(4 * 4 * 8 * 8): 1.0}
    assert least_seconds(workload, slow, 1) == pytest.approx(3 * 4 * 4 * 8 * 8 / 1e9)


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
