"""``strategy="auto"``: what is chosen with a plan and without."""

from __future__ import annotations

import numpy as np
import pytest

from vledge.lengths.strategies.work import FORMS, Case
from vledge.planning import bound, choice, plan
from vledge.planning.bound import PLANNING, without_a_plan
from vledge.planning.defaults import DEFAULT
from vledge.planning.ranking import TIE
from vledge.recurrent.shape import LayerShape


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
        name = without_a_plan(shape, case, threads, DEFAULT, None)
        if name is None:
            continue
        quick += 1
        made = plan(
            case.lengths, shape, threads=threads, form=case.form, steps=case.steps, costs=DEFAULT
        )
        taken, best = made[name].seconds, made.best.seconds
        assert taken - best <= max(2 * TIE * taken, PLANNING), (seed, shape, case, made)
    assert quick > 100  # most batches: else the shortcut is none


def test_a_batch_for_which_a_plan_pays_gets_one() -> None:
    """A thousand short sequences and a giant, by several threads or in much memory."""
    lengths = np.array([20000] + [100] * 1000)
    shape = LayerShape("lstm", 8, 256)
    for threads in (1, 2):
        made = plan(lengths, shape, threads=threads, costs=DEFAULT)
        assert made.best.seconds < (1 - TIE) * made["packed"].seconds
        assert without_a_plan(shape, Case(lengths, "list", 20000), threads, DEFAULT, None) is None


def test_the_memory_limit_is_looked_at() -> None:
    shape, case = LayerShape("gru", 4, 32), Case(np.full(64, 500), "padded", 500)
    assert without_a_plan(shape, case, 1, DEFAULT, None) == "padded"
    assert without_a_plan(shape, case, 1, DEFAULT, 1 << 20) is None
    assert without_a_plan(shape, case, 1, DEFAULT, 1 << 30) == "padded"


def test_repeated_and_new_lengths_of_small_batches_make_no_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a plan was made")

    monkeypatch.setattr(choice, "plan", refused)
    choice._best.cache_clear()
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
