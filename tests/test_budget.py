"""The budget of a file: what it counts, what it says, and who may raise it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vledge
from tests.formats.crafted import archive, tensor
from vledge.budget import FREE_BYTES, STEPS, TIMES_ITS_SIZE, Budget, Limits
from vledge.errors import FormatError, LimitError, UnsupportedError, cut, placed, reading


def test_a_file_may_take_so_much_and_times_its_size() -> None:
    budget = Budget(1_000_000)
    budget.take(FREE_BYTES + TIMES_ITS_SIZE * 1_000_000, "all of it")
    with pytest.raises(LimitError, match="one more would take 73 MiB of memory"):
        budget.take(1, "one more")


def test_files_that_belong_to_it_count() -> None:
    budget = Budget(0)
    budget.add_file(1_000_000)
    budget.take(FREE_BYTES + TIMES_ITS_SIZE * 1_000_000, "all of it")


def test_steps_are_charged_together() -> None:
    budget = Budget(0)
    budget.step(STEPS - 1, "most")
    budget.step(1, "the last")
    with pytest.raises(LimitError, match=r"one more would take 3,000,001 steps"):
        budget.step(1, "one more")


def test_a_copy_goes_on_from_what_is_left() -> None:
    budget = Budget(0, Limits(memory=100))
    budget.take(60, "some")
    for _ in range(2):
        budget.copy().take(40, "the rest")
    with pytest.raises(LimitError):
        budget.copy().take(41, "too much")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory=4GB", Limits(memory=4_000_000_000)),
        ("steps=1e9", Limits(steps=1_000_000_000)),
        ("memory=1.5g,steps=20", Limits(1_500_000_000, 20)),
        ("run_memory=16GB memory=7", Limits(7, None, 16_000_000_000)),
        ("", Limits()),
    ],
)
def test_environment(text: str, expected: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_LIMITS", text)
    assert Limits.from_environment() == expected


@pytest.mark.parametrize("text", ["lots", "memory=", "memory=-1", "memory=1 memory=2", "m=1"])
def test_environment_that_says_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_LIMITS", text)
    with pytest.raises(ValueError, match="VLEDGE_LIMITS"):
        Budget(0)


def test_what_is_passed_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_LIMITS", "memory=1 steps=1")
    budget = Budget(0, Limits(memory=100))
    budget.take(100, "as passed")
    with pytest.raises(LimitError, match="limit that was set is 1"):
        budget.step(2, "as in the environment")


def test_limits_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"expected vledge\.Limits"):
        Budget(0, {"memory": 1})  # type: ignore[arg-type]


def test_the_message_says_how_to_raise_the_limit_and_that_works(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(archive({"w": tensor()}))
    with pytest.raises(LimitError) as caught:
        vledge.load_weights(path, limits=Limits(memory=10))
    assert str(path) in str(caught.value)
    suggested = str(caught.value).partition("limits=vledge.")[2].partition(")")[0] + ")"
    limits = Limits(memory=int(suggested.partition("memory=")[2].rstrip(")")))
    for _ in range(20):  # what comes later may ask for more
        try:
            weights = vledge.load_weights(path, limits=limits)
            break
        except LimitError:
            limits = Limits(memory=2 * (limits.memory or 1))
    np.testing.assert_array_equal(weights["w"].ravel(), np.arange(6, dtype="f4"))


def test_a_reader_raises_what_is_ours() -> None:
    with (
        pytest.raises(FormatError, match=r"^a file: the file is damaged.*KeyError: 'x'"),
        reading("a file"),
    ):
        raise KeyError("x")
    with pytest.raises(UnsupportedError, match=r"^a file: no"), reading("a file"):
        raise UnsupportedError("no")
    with pytest.raises(LimitError, match=r"^a file: much"), reading("a file"):
        raise LimitError("much")
    with pytest.raises(FileNotFoundError), reading("a file"):
        raise FileNotFoundError("a file")
    with pytest.raises(FormatError, match=r"^what"), reading(""):
        raise FormatError("what")


def test_messages_are_cut() -> None:
    assert len(str(FormatError("x" * 60_000_000))) < 9_000
    assert len(cut("y" * 1_000)) < 120
    assert cut("y" * 1_000).startswith("yyy")
    assert isinstance(placed(LimitError("a"), "b"), LimitError)
