"""The planner's benchmark: its cases and its verdict. No timings are judged here."""

import json

import numpy as np
import pytest

from benchmarks import planner
from vledge.lengths.strategies.work import FORMS


def test_cases_are_of_every_kind_and_the_same_for_a_seed():
    cases = planner.cases(60, 0)
    assert cases == planner.cases(60, 0)
    assert cases != planner.cases(60, 1)
    for field, values in (
        ("distribution", set(planner.DISTRIBUTIONS)),
        ("cell", {"LSTM", "GRU"}),
        ("form", {"list", "padded"}),
    ):
        assert {getattr(case, field) for case in cases} == values
    for case in cases:
        assert 1 <= len(case.lengths) <= 512
        assert 16 <= case.hidden_size <= 512
        assert min(case.lengths) >= 1
        if case.distribution == "equal":
            assert len(set(case.lengths)) == 1
        if case.distribution == "one giant" and len(case.lengths) > 1:
            assert max(case.lengths) >= 10 * np.median(case.lengths)
    assert len({len(case.lengths) for case in cases}) > 30


@pytest.mark.parametrize("seed", [0, 1])
def test_other_cases_are_of_every_kind(seed):
    cases = planner.others(60, seed)
    assert cases == planner.others(60, seed) != planner.others(60, seed + 2)
    for field, values in (
        ("distribution", set(planner.OTHERS)),
        ("cell", {"LSTM", "GRU", "RNN"}),
        ("form", set(FORMS)),
        ("num_layers", {1, 2, 3}),
        ("bidirectional", {False, True}),
    ):
        assert {getattr(case, field) for case in cases} == values
    assert min(min(case.lengths) for case in cases) >= 1
    assert not {case.lengths for case in cases} & {case.lengths for case in planner.cases(60, seed)}


def record(ratio, distribution="equal"):
    """Rounds of which the second is disturbed, for all."""
    disturbed = np.array([1.0, 3.0, 1.0])
    taken = {"padded": 1.0, "packed": ratio, planner.NEW: 2.0 * ratio, planner.AGAIN: ratio}
    return {
        "distribution": distribution,
        "form": "padded",
        "picked": "packed",
        "taken": {n: list(s * disturbed) for n, s in {**taken, planner.TWIN: 1.01}.items()},
    }


@pytest.mark.parametrize(
    ("ratios", "good"),
    [([1.0] * 10, True), ([1.0] * 9 + [1.5], True), ([1.0] * 9 + [1.51], False),
     ([1.0] * 8 + [1.2] * 2, False)],
)  # fmt: skip
def test_the_verdict(ratios, good):
    assert planner.holds([record(ratio) for ratio in ratios]) is good


def test_two_passes_count_together_and_without_who_was_far_in_one():
    first, second = record(1.3), record(1.1)
    second["taken"]["packed"] = second["taken"]["packed"][:2]
    merged = planner.merged(first, second)
    assert planner.measured(first) == {"padded": 1.0, "packed": 1.3}
    assert planner.measured(merged) == {"padded": 1.0}
    assert len(merged["taken"][planner.NEW]) == 6
    assert planner.against_the_best(merged, planner.TWIN) == pytest.approx(1.01)


def test_the_table():
    text = planner.summary([record(1.0), record(1.3), record(1.05, "bimodal")])
    lines = text.splitlines()
    assert lines[1].split()[:4] == ["equal", "2", "50%", "1.30"]
    assert lines[3].split()[:4] == ["all", "3", "67%", "1.30"]
    assert lines[5].endswith(": 1.05 x the best at the median, within 5 % in 67%, worst 1.30")
    assert lines[-2].startswith("two equal ways: 1.01 x")
    assert lines[-1] == "picked: packed 3"


def test_a_case_is_measured_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vledge.machine.threads._num_threads", None)  # main sets it
    target = tmp_path / "records.json"
    small = planner.Drawn("equal", "padded", "GRU", 3, 4, (5, 5))
    monkeypatch.setattr(planner, "cases", lambda count, seed: [small] * count)
    monkeypatch.setattr(
        "sys.argv",
        ["planner", "--cases", "1", "--rounds", "1", "--cpu-time", "--json", str(target)],
    )
    status = planner.main()
    (found,) = json.loads(target.read_text())
    assert set(planner.measured(found)) == set(found["predicted"]) >= {"padded", "packed", "masked"}
    assert min(planner.measured(found).values()) > 0
    out = capsys.readouterr().out
    assert ("the planner holds" in out) is (status == 0)


def test_cpu_time_is_of_one_thread(monkeypatch):
    monkeypatch.setattr("sys.argv", ["planner", "--cpu-time", "--threads", "2"])
    with pytest.raises(SystemExit):
        planner.main()
