"""The benchmark's harness: what it refuses to time, and what its report says. No timings."""

import numpy as np
import pytest

from benchmarks import lengths
from benchmarks.measuring import agreement
from benchmarks.measuring.bounds import bytes_read, least
from benchmarks.measuring.measure import run_workload
from benchmarks.measuring.workloads import TARGETS, Workload, matrix, quick_matrix
from benchmarks.peers import load
from benchmarks.reports import layers as report

SMALL = [
    Workload("LSTM step", "other", "step", "LSTM", 4, 8, (1,)),
    Workload("GRU loop", "other", "loop", "GRU", 4, 8, (3,)),
    Workload("LSTM full", "other", "full", "LSTM", 4, 8, (5, 5), 2, True),
    Workload("GRU var", "other", "var", "GRU", 4, 8, (2, 5, 1), 1, True),
]


@pytest.mark.parametrize("workload", SMALL, ids=lambda w: w.name)
def test_vledge_and_numpy_agree_and_are_reported(workload, monkeypatch):
    monkeypatch.setattr("benchmarks.measuring.measure.SAMPLE_SECONDS", 0)
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


def test_least_time_counts_real_steps_only():
    workload = Workload("", "other", "var", "LSTM", 4, 8, (3, 1))
    assert least(workload, 1.0, 1e-9, 1) == (pytest.approx(workload.flops), 0)
    assert least(workload, 1.0, 1e-9, 2) == (pytest.approx(workload.flops / 2), 0)
    # a step of one row is bound by reading the recurrent weights where memory is slow
    read = 3 * 4 * 4 * 8 * 8
    assert bytes_read(workload, 1) == read / 3
    assert least(workload, 1e-9, 1.0, 1) == (pytest.approx(read), read)
    # a single step reads all
    step = Workload("", "other", "step", "LSTM", 8, 8, (1,))
    assert least(step, 1e-9, 1.0, 1).time == pytest.approx(step.weight_bytes)


def record_of(workload, ratio, threads=1, ours=100.0, best=200.0, parts=None, quiet=None):
    """What a run of the benchmark leaves of one work, with one peer."""
    return {
        "name": workload.name,
        "group": workload.group,
        "threads": threads,
        "flops": workload.flops,
        "microseconds": {"vledge": quiet or [ours], "onnxruntime": [best]},
        "ratios": {"onnxruntime": [ratio]},
        "counted": ["vledge", "onnxruntime"],
        **({"parts": parts} if parts else {}),
    }


def parts_of(limits, equations, reading=0.0):
    """Parts of a call of which a tenth is neither."""
    return {
        "projection": 0.2,
        "recurrent products": 0.7 - equations,
        "equations": equations,
        "rest": 0.1,
        "products at the limits": limits,
        "reading": reading,
    }


VAR = next(work for work in matrix() if work.name == "LSTM I40 H128 B32 T200 var")
STEP = next(work for work in matrix() if work.name == "LSTM I256 H256 B1 T1")
FULL = next(work for work in matrix() if work.name == "LSTM I40 H256 B32 T100 full")


def test_rows_that_are_short_have_their_reasons():
    page = report.markdown(
        [
            record_of(
                VAR, 2.4, parts=parts_of(0.5, 0.2), quiet=[80.0, 90.0]
            ),  # 2.4 / (0.5 + 0.2) is more than 3
            record_of(
                STEP, 2.4, parts=parts_of(0.72, 0.08, reading=0.7), best=250.0
            ),  # 2.4 / 0.8 is 3
            record_of(FULL, 1.1, parts=parts_of(0.9, 0.3)),  # reached, whatever the limits say
        ],
        {"CPU": "test"},
    )
    assert "1 of 3 rows with a target reach it" in page
    assert "1 targets are out of reach" in page
    assert "| **2.40** (short) | 3.00 | 3.43 |" in page
    assert "| **2.40** (out of reach) | 4.00 | 3.00 |" in page
    assert "| **1.10** | 1.05 | 0.92 |" in page
    _, reasons = page.split("### Rows that are short on 1 thread, and why")
    assert reasons.splitlines()[4:] == [
        f"| {VAR.name} | 2.40 of 3.00 (80%) | 2.50 | 20% | 50% | 20% | 10% | 50% | 3.43 "
        "| 71% of the FMA peak |",
        f"| {STEP.name} | 2.40 of 4.00 (60%) | 2.50 | 20% | 62% | 8% | 10% | 72% "
        "| 3.00 (out of reach) | 88% of the fastest read |",
    ]


def test_on_two_threads_gains_stand_beside_the_reasons():
    page = report.markdown(
        [
            record_of(VAR, 3.2, ours=100.0, best=320.0),
            record_of(VAR, 2.5, threads=2, ours=80.0, best=200.0, parts=parts_of(0.4, 0.1)),
        ],
        {},
    )
    assert "Rows that are short on 1 thread" not in page
    _, reasons = page.split("### Rows that are short on 2 threads, and why")
    assert "| gain of threads | best peer's |" in reasons
    assert "| 20% | 60% | 10% | 10% | 40% | 5.00 | 1.25 | 1.60 |" in reasons


def test_records_of_before_have_a_report_without_reasons():
    page = report.markdown([record_of(VAR, 2.4), record_of(VAR, 2.4, threads=2)], {})
    assert page.count("| **2.40** (short) | 3.00 | - |") == 2
    assert page.count("0 targets are out of reach") == 2
    assert f"| {VAR.name} | 2.40 of 3.00 (80%) | 2.00 | - | - | - | - | - | - | - |" in page


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
