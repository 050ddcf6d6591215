"""The planner's benchmark: its cases and its verdict. No timings are judged here."""

import json

import numpy as np
import pytest

from benchmarks import planner


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


def record(ratio, distribution="equal"):
    return {
        "distribution": distribution,
        "form": "list",
        "picked": "packed",
        "measured": {"packed": ratio, "padded": 1.0},
        "auto": {planner.NEW: 2.0 * ratio, planner.AGAIN: ratio},
    }


@pytest.mark.parametrize(
    ("ratios", "good"),
    [([1.0] * 10, True), ([1.0] * 9 + [1.5], True), ([1.0] * 9 + [1.51], False),
     ([1.0] * 8 + [1.2] * 2, False)],
)  # fmt: skip
def test_the_verdict(ratios, good):
    assert planner.holds([record(ratio) for ratio in ratios]) is good


def test_two_passes_count_by_the_least_of_each_strategy():
    first, second = record(1.3), record(1.1)
    second["measured"]["padded"] = 1.2
    merged = planner.merged(first, second)
    assert merged["measured"] == {"packed": 1.1, "padded": 1.0}
    assert merged["auto"] == {planner.NEW: 2.2, planner.AGAIN: 1.1}


def test_the_table():
    text = planner.summary([record(1.0), record(1.3), record(1.05, "bimodal")])
    lines = text.splitlines()
    assert lines[1].split()[:4] == ["equal", "2", "50%", "1.30"]
    assert lines[3].split()[:4] == ["all", "3", "67%", "1.30"]
    assert lines[-2].endswith(": 1.05 x the best at the median, within 5 % in 67%, worst 1.30")
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
    assert set(found["measured"]) == set(found["predicted"]) >= {"padded", "packed", "masked"}
    assert min(found["measured"].values()) > 0
    out = capsys.readouterr().out
    assert ("the planner holds" in out) is (status == 0)


def test_cpu_time_is_of_one_thread(monkeypatch):
    monkeypatch.setattr("sys.argv", ["planner", "--cpu-time", "--threads", "2"])
    with pytest.raises(SystemExit):
        planner.main()
