"""Every harness for a second or two, and every input that was once a finding."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz.coverage import Coverage
from tests.peers import peer

peer("onnx")
from tests.fuzz.harnesses import HARNESSES  # noqa: E402
from tests.fuzz.run import crashers, fuzz, replay  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.platform == "win32", reason="a timer of processor time ends slow calls"),
]
SECONDS = 2.0


@pytest.mark.parametrize("name", HARNESSES)
def test_bounded(name: str) -> None:
    coverage = Coverage()
    try:
        result = fuzz(name, SECONDS, 0, coverage)
    finally:
        coverage.close()
    assert result.executions > 3
    assert not result.findings


@pytest.mark.parametrize("name", HARNESSES)
def test_seeds_are_good(name: str) -> None:
    """Each reaches its reader, and is taken."""
    for content in HARNESSES[name].seeds():
        replay(name, content)


@pytest.mark.parametrize(("name", "path"), crashers(), ids=lambda value: str(value)[-30:])
def test_crasher(name: str, path: Path) -> None:
    replay(name, path.read_bytes())
