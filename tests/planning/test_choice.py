"""``strategy="auto"``: what is chosen with a plan and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vledge.lengths.batch import ListBatch, PaddedBatch
from vledge.lengths.strategies.work import FORMS, Case
from vledge.machine.threads import using_threads
from vledge.planning import bound, choice, plan
from vledge.planning.bound import PLANNING, without_a_plan
from vledge.planning.defaults import DEFAULT
from vledge.planning.ranking import TIE
from vledge.recurrent.shape import LayerShape

QUICK, LONG = LayerShape("rnn", 16, 32, 3), np.full(1000, 500)


def drawn(seed: int) -> tuple[LayerShape, Case]:
    """A layer and a case, of any size and form."""
    generator = np.random.default_rng(seed)
    cell = ("lstm", "gru", "rnn_tanh", "indrnn_relu")[seed % 4]
    shape = LayerShape(
        cell.split("_")[0],
        int(generator.integers(1, 300)),
        int(2 ** generator.uniform(2, 9.5)),
        int(generator.integers(1, 4)),
        bool(generator.integers(2)),
        itemsize=(4, 8)[int(generator.integers(2))],
    )
    longest = int(2 ** generator.uniform(0, 10))
    lengths = generator.integers(1, longest + 1, int(2 ** generator.uniform(0, 9)))
    if seed % 3 == 0:  # one giant among short ones: where cutting up pays
        lengths = np.minimum(lengths, 3)
        lengths[0] = longest
    falling = np.sort(lengths)[::-1].copy()
    form = FORMS[seed // 4 % 4]
    steps = longest if form in ("padded", "masked") else int(falling[0])
    return shape, Case(falling, form, max(steps, int(falling[0])))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_what_needs_no_plan_is_what_a_plan_would_choose(threads: int) -> None:
    quick = 0
    for seed in range(300):
        shape, case = drawn(seed)
        guess = without_a_plan(shape, case, threads, DEFAULT, None)
        if guess.may_save >= max(TIE * guess.seconds, PLANNING):
            continue
        quick, name = quick + 1, str(guess.strategy)
        made = plan(
            case.lengths, shape, threads=threads, form=case.form, steps=case.steps, costs=DEFAULT
        )
        taken, best = made[name].seconds, made.best.seconds
        assert taken - best <= max(2 * TIE * taken, PLANNING), (seed, shape, case, made)
    assert quick > 100  # most batches: else the shortcut is none


def test_a_batch_for_which_a_plan_pays_gets_one() -> None:
    """Layers so quick that the memory between them counts, of which buckets need less."""
    made = plan(LONG, QUICK, threads=2, costs=DEFAULT)
    assert made.best.seconds < (1 - TIE) * made["packed"].seconds
    guess = without_a_plan(QUICK, Case(LONG, "list", LONG[0]), 2, DEFAULT, None)
    assert guess.may_save >= max(TIE * guess.seconds, PLANNING)


def test_the_memory_limit_is_looked_at() -> None:
    shape, case = LayerShape("gru", 4, 32), Case(np.full(64, 500), "padded", 500)
    assert without_a_plan(shape, case, 1, DEFAULT, None).strategy == "padded"
    assert without_a_plan(shape, case, 1, DEFAULT, 1 << 20).strategy is None
    assert without_a_plan(shape, case, 1, DEFAULT, 1 << 30).strategy == "padded"


def test_repeated_and_new_lengths_of_small_batches_make_no_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a plan was made")

    monkeypatch.setattr(choice, "plan", refused)
    choice.forget()
    bound._rates.cache_clear()
    generator = np.random.default_rng(0)
    for form in ("list", "packed"):
        for _ in range(10):

            class Batch:
                lengths = generator.integers(1, 50, 16)

            Batch.form = form  # type: ignore[attr-defined]
            strategy, options = choice.choose(LayerShape("lstm", 16, 64), Batch)  # type: ignore[arg-type]
            assert strategy in ("packed", "padded")
            assert not options


class _Padded(PaddedBatch):
    """With an array of the shape, and no memory."""

    def __init__(self, lengths: np.ndarray) -> None:
        data = np.broadcast_to(np.float32(0), (int(lengths.max()), len(lengths), 16))
        super().__init__(data, lengths, False)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of sequences that plans were made for, from now on."""
    made: list[int] = []
    real = choice.plan

    def counting(lengths: np.ndarray, *rest: Any, **keywords: Any) -> Any:
        made.append(len(lengths))
        return real(lengths, *rest, **keywords)

    monkeypatch.setattr(choice, "plan", counting)
    monkeypatch.setattr(choice, "costs", lambda: DEFAULT)
    choice.forget()
    return made


def test_only_a_call_of_which_a_plan_is_little_gets_one_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = _counted(monkeypatch)
    with using_threads(2):
        for lengths, planned in ((np.full(100, 100), []), (LONG, [len(LONG)])):
            batch = ListBatch([], lengths)
            assert bool(lengths.sum() <= choice.short_steps(QUICK)) is (not planned)
            choices = [choice.choose(QUICK, batch)[0] for _ in range(3)]
            assert choices == 3 * ["bucketed" if planned else "packed"]
            assert made == planned


def test_what_is_remembered_depends_on_all_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths, the order of them and the memory limit are told apart, and few are kept."""
    _counted(monkeypatch)
    shape = LayerShape("gru", 4, 32)
    lengths = np.full(64, 500)
    assert choice.choose(shape, _Padded(lengths)) == ("padded", {})
    with pytest.raises(MemoryError):
        choice.choose(shape, _Padded(lengths), memory_limit=1)
    assert choice.choose(shape, _Padded(lengths)) == ("padded", {})
    for length in range(1, 3 * choice.MOST):
        choice.choose(shape, _Padded(np.array([length])))
    assert len(choice._chosen) <= choice.MOST
