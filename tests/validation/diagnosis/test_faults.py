"""Faults are found, and named by the diagnosis, in at least 95 of 100 models; all that here is."""

from collections import Counter

import pytest

from tests.peers import peer

peer("torch")

from tests.validation.diagnosis.faults import NAMED_AT_LEAST, Subject, outcomes  # noqa: E402

SUBJECTS = [
    Subject("LSTM", 5, 8),
    Subject("LSTM", 4, 6, 2, seed=3),
    Subject("LSTM", 6, 7, layers=False, seed=1),
    Subject("GRU", 5, 8),
    Subject("GRU", 9, 9, packed=False, states=False, batch_first=True, seed=2),
    Subject("GRU", 6, 7, layers=False, seed=1),
    Subject("RNN", 5, 8),
    Subject("RNN", 9, 9, packed=False, states=False, batch_first=True),
]


@pytest.fixture(scope="module")
def all_outcomes():
    return [outcome for subject in SUBJECTS for outcome in outcomes(subject)]


def test_every_fault_is_found(all_outcomes):
    missed = [(o.subject.name, o.fault.name) for o in all_outcomes if not o.found]
    assert not missed
    kinds = Counter((o.fault.suspect, o.subject.kind) for o in all_outcomes)
    assert kinds["gate order", "LSTM"] >= 10
    assert {suspect for suspect, _ in kinds} >= {
        "gate order",
        "biases swapped",
        "biases missing",
        "linear_before_reset",
        "transposed weights",
        "reverse direction",
        "batch_first",
        "h and c swapped",
        "initial state",
        "padding run through",
    }


def test_faults_are_named_rightly(all_outcomes):
    wrong = [
        f"{o.subject.name}, {o.fault.name}: {o.diagnosis.summary}"
        for o in all_outcomes
        if not o.named
    ]
    assert len(wrong) <= (1 - NAMED_AT_LEAST) * len(all_outcomes), "\n".join(wrong)


def test_the_layer_is_named(all_outcomes):
    assert all(o.located for o in all_outcomes)
    single = [o for o in all_outcomes if o.layer not in ("all", "0") and o.subject.layers]
    assert single
    assert all(o.diagnosis.findings[0].layer.endswith(o.layer) for o in single)
