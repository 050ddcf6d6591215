"""Every attack ends as it must, and takes no more memory and time than a file may."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.peers import peer

peer("onnx")
from tests.attacks import models, weights  # noqa: E402
from tests.attacks.measured import Parent  # noqa: E402

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc tells what a process takes"
)

FREE_BYTES = 64 << 20
TIMES_ITS_SIZE = 10
#: What a process takes that does nothing: heaps that grow by pages, modules that come when called.
OVERHEAD = 16 << 20
#: Processor time, three times what a machine of today may take.
SECONDS = 15
LONGEST_MESSAGE = 9_000

ATTACKS = [
    pytest.param(module.__name__.rpartition(".")[2], name, id=name)
    for module in (weights, models)
    for name in module.ATTACKS
]


@pytest.fixture(scope="module")
def parent() -> Iterator[Parent]:
    process = Parent()
    yield process
    process.close()


@pytest.mark.parametrize(("module", "name"), ATTACKS)
def test_cost(parent: Parent, module: str, name: str) -> None:
    ends = {"weights": weights, "models": models}[module].ATTACKS[name].ends
    cost = parent.cost(module, name)
    if ends == "loads":
        assert cost.outcome == "loads", cost
    else:
        assert cost.outcome in ("FormatError", "LimitError", "UnsupportedError", "ValueError"), cost
        assert ends in cost.message, cost
    if ends in ("memory", "steps"):
        assert cost.outcome == "LimitError", cost
        assert "vledge.Limits(" in cost.message
        assert "VLEDGE_LIMITS=" in cost.message
    assert cost.length < LONGEST_MESSAGE
    allowed = FREE_BYTES + TIMES_ITS_SIZE * cost.size + OVERHEAD
    assert cost.peak < allowed, cost
    assert cost.seconds < SECONDS, cost
