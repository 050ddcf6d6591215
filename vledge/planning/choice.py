"""``strategy="auto"``: a plan's first where a plan may pay, remembered for lengths of before."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import numpy as np

from vledge._ext.packing import total
from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch
from vledge.lengths.strategies import natural
from vledge.lengths.strategies.work import Case
from vledge.machine.threads import get_num_threads
from vledge.planning.bound import PLANNING, Same, without_a_plan
from vledge.planning.ranking import TIE, plan
from vledge.planning.store import costs
from vledge.recurrent.shape import LayerShape

__all__ = ["choose", "forget", "short_steps"]

Choice = tuple[str, dict[str, int]]  # a strategy and its options


#: How many lengths are remembered; all are forgotten before there are more.
MOST: Final = 1024
_chosen: dict[object, Choice] = {}


def choose(shape: LayerShape, batch: Batch, *, memory_limit: int | None = None) -> Choice:
    """The strategy that is predicted to be the fastest, and its options.

    A short call, of which a plan would be much, runs its form as it is: no strategy has less around
    it. A longer one gets a plan where that might pay.

    Raises MemoryError where none stays within ``memory_limit`` bytes.
    """
    lengths, constants, threads = batch.lengths, costs(), get_num_threads()
    if memory_limit is None and total(lengths) <= short_steps(shape):
        return natural(batch.form).name, {}
    steps = batch.steps if isinstance(batch, (PaddedBatch, MaskedBatch)) else 0
    falling = np.sort(lengths)[::-1]
    case = Case(falling, batch.form, steps or int(falling[0]))
    guess = without_a_plan(shape, case, threads, constants, memory_limit)
    if guess.strategy is not None and guess.may_save < max(TIE * guess.seconds, PLANNING):
        return guess.strategy, {}
    digest = blake2b(lengths.tobytes(), digest_size=16).digest()
    key = (digest, shape, batch.form, steps, threads, memory_limit, Same(constants))
    choice = _chosen.get(key)
    if choice is None:
        best = plan(
            falling, shape, threads=threads, memory_limit=memory_limit, form=case.form,
            steps=case.steps, costs=constants,
        ).best  # fmt: skip
        choice = best.strategy, best.options
        if len(_chosen) >= MOST:
            _chosen.clear()
        _chosen[key] = choice
    return choice


def short_steps(shape: LayerShape) -> int:
    """So many steps of sequences, however they are shared between them, take a layer so little that
    a plan would be much of it."""
    step, row = costs().rates(shape)
    return int(PLANNING / TIE / (step + row))


def forget() -> None:
    """All lengths are new again: for measurements."""
    _chosen.clear()
