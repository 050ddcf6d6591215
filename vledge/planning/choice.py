"""``strategy="auto"``: a plan's first where a plan pays, remembered for lengths that come again."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np

from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch
from vledge.lengths.strategies.work import Case
from vledge.machine.threads import get_num_threads
from vledge.planning.bound import PLANNING, Same, at_once, without_a_plan
from vledge.planning.ranking import TIE, plan
from vledge.planning.store import costs
from vledge.recurrent.shape import LayerShape

__all__ = ["choose", "forget"]

Choice = tuple[str, dict[str, int]]  # a strategy and its options


class _Known(NamedTuple):
    choice: Choice
    final: bool  #: else a plan may do better, and is made when these lengths come again


#: How many lengths are remembered; all are forgotten before there are more.
MOST: Final = 1024
_chosen: dict[object, _Known] = {}


def choose(shape: LayerShape, batch: Batch, *, memory_limit: int | None = None) -> Choice:
    """The strategy that is predicted to be the fastest, and its options.

    A batch for which a plan might pay gets one if that takes next to nothing of the call's time; of
    a shorter call only when its lengths come again.

    Raises MemoryError where none stays within ``memory_limit`` bytes.
    """
    lengths, constants, threads = batch.lengths, costs(), get_num_threads()
    steps = batch.steps if isinstance(batch, (PaddedBatch, MaskedBatch)) else 0
    if memory_limit is None and steps:
        name = at_once(shape, batch.form, len(lengths), steps, threads, constants)
        if name is not None:
            return name, {}
    digest = blake2b(lengths.tobytes(), digest_size=16).digest()
    key = (digest, shape, batch.form, steps, threads, memory_limit, Same(constants))
    known = _chosen.get(key)
    if known is not None and known.final:
        return known.choice
    falling = np.sort(lengths)[::-1]
    case = Case(falling, batch.form, steps or int(falling[0]))
    if known is None:
        guess = without_a_plan(shape, case, threads, constants, memory_limit)
        saves = guess.may_save >= max(TIE * guess.seconds, PLANNING)
        if guess.strategy is not None and not (saves and TIE * guess.seconds >= PLANNING):
            return _remembered(key, (guess.strategy, {}), final=not saves)
    best = plan(
        falling, shape, threads=threads, memory_limit=memory_limit, form=case.form,
        steps=case.steps, costs=constants,
    ).best  # fmt: skip
    return _remembered(key, (best.strategy, best.options), final=True)


def forget() -> None:
    """All lengths are new again: for measurements."""
    _chosen.clear()


def _remembered(key: object, choice: Choice, final: bool) -> Choice:
    if len(_chosen) >= MOST:
        _chosen.clear()
    _chosen[key] = _Known(choice, final)
    return choice
