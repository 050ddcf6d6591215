"""Every harness for a second or two, and every input that was once a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import peer

pytest.importorskip("resource", reason="a timer of processor time ends slow calls")
peer("onnx")
from tests.fuzz.harnesses import HARNESSES  # noqa: E402
from tests.fuzz.run import HEAD, RECORD, Campaign, crashers, replay, with_rows  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SECONDS = 2.0


@pytest.mark.parametrize("name", HARNESSES)
def test_bounded(name: str) -> None:
    campaign = Campaign(name, 0)
    campaign.turn(SECONDS)
    assert campaign.executions > 3
    assert not campaign.findings


@pytest.mark.parametrize("name", HARNESSES)
def test_seeds_are_good(name: str) -> None:
    """Each reaches its reader, and is taken."""
    for content in HARNESSES[name].seeds():
        replay(name, content)


@pytest.mark.parametrize(("name", "path"), crashers(), ids=lambda value: str(value)[-30:])
def test_crasher(name: str, path: Path) -> None:
    replay(name, path.read_bytes())


def test_a_longer_run_takes_the_place_of_a_shorter() -> None:
    page = "\n".join(["before", *HEAD, "| a | 10 | 40 | x |", "| b | 9 | 1,800 | x |", "", "after"])
    renewed = with_rows(page, ["| b | 99 | 60 | y |", "| a | 5 | 1,800 | y |", "| c | 1 | 2 | y |"])
    rows = ["| a | 5 | 1,800 | y |", "| b | 9 | 1,800 | x |", "| c | 1 | 2 | y |"]
    assert renewed == "\n".join(["before", *HEAD, *rows, "", "after"])
    assert with_rows(RECORD.read_text(), []) == RECORD.read_text()


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    name = "calibration"
    first = Campaign(name, 0, tmp_path)
    first.turn(0.2)
    second = Campaign(name, 1, tmp_path)
    assert (second.executions, second.seconds) == (first.executions, first.seconds)
    assert sorted(second.corpus) == sorted(set(first.corpus))
    second.turn(0.1)
    assert second.executions > first.executions
    assert len(second.lines) >= len(first.lines)
