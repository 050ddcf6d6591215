"""The fidelity command: its judge is right, its rows fail when they should. No claim on kernels."""

import numpy as np
import pytest

from benchmarks import fidelity
from benchmarks.reports.fidelity import markdown, passes, ratios, text_row
from tests.peers import peer

peer("torch")
peer("onnxruntime")


@pytest.mark.parametrize("cell", fidelity.GATES)
@pytest.mark.parametrize("family", fidelity.FAMILIES)
def test_all_runtimes_are_near_the_definition(cell, family):
    case = fidelity.Case(cell, 8, family, (3, 9), draws=2)
    records = fidelity.measure(case)
    assert [(r["length"], r["part"]) for r in records] == [
        (length, part) for length in (3, 9) for part in ("y", "c_n")[: 1 + (cell == "LSTM")]
    ]
    for record in records:
        assert set(record["worst"]) == {"vledge", "torch", "onnxruntime"}
        for error in record["worst"].values():
            assert 0 <= error < 1e-4


def record(ours, torch, onnxruntime):
    errors = {"vledge": ours, "torch": torch, "onnxruntime": onnxruntime}
    return {
        "cell": "GRU",
        "hidden_size": 16,
        "length": 10,
        "family": "usual",
        "part": "y",
        "draws": 1,
        "median": dict.fromkeys(errors, 1.0),
        "worst": errors,
        "interval": (0.5, 1.25),
    }


def drawn(*worst):
    names = ("vledge", "torch", "onnxruntime")
    return [
        {name: {"median": 1.0, "worst": error} for name, error in zip(names, row, strict=True)}
        for row in worst
    ]


def test_worst_errors_are_averaged_by_their_logarithms():
    found = fidelity.summary(drawn((1e-6, 1e-6, 1.0), (1e-2, 4e-2, 1.0)))
    assert found["worst"] == pytest.approx({"vledge": 1e-4, "torch": 2e-4, "onnxruntime": 1.0})
    assert found["median"] == dict.fromkeys(found["median"], 1.0)
    assert fidelity.summary(drawn((0.0, 1.0, 1.0)))["worst"]["vledge"] == 0


def test_the_interval_is_as_wide_as_the_draws_disagree():
    agreeing = drawn(*[(10.0**-k, 10.0**-k, 1.0) for k in range(1, 8)])
    assert fidelity.interval(agreeing) == pytest.approx((1, 1))
    low, high = fidelity.interval(drawn(*[(1.0, 3.0, 9.0), (3.0, 1.0, 9.0)] * 6))
    assert low < 0.8
    assert high > 1.25
    assert fidelity.interval(agreeing[:2]) is None


def test_peers_are_judged_alike():
    assert ratios(record(3.0, 4.0, 2.0), "onnxruntime")["worst"] == pytest.approx(2 / 3)
    assert not passes(record(1.0, 4.0, 2.0), 1.5, "onnxruntime")


def test_rows_are_judged_against_the_better_peer():
    assert ratios(record(3.0, 4.0, 2.0)) == {"median": 1.0, "worst": 1.5}
    assert passes(record(3.0, 4.0, 2.0), 1.5)
    assert not passes(record(3.1, 4.0, 2.0), 1.5)
    assert passes(record(0.0, 0.0, 1.0), 1.5)
    assert not passes(record(1e-9, 0.0, 1.0), 1.5)
    assert not passes(record(np.nan, 4.0, 2.0), 1.5)


def test_the_page_counts_and_lists_what_fails():
    records = [record(3.0, 4.0, 2.0), record(9.0, 4.0, 2.0)]
    page = markdown(records, {"CPU": "test"}, fidelity.FAMILIES, 1.5)
    assert "**1 of 2 rows reach it.**" in page
    assert page.index("Rows that do not:") < page.index("4.50") < page.index("## All rows")
    assert "torch reaches 0 of\n  2 rows, onnxruntime 2." in page
    assert text_row(records[1], 1.5).endswith("FAILS")
    assert not text_row(records[0], 1.5).endswith("FAILS")
