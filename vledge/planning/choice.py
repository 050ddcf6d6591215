"""``strategy="auto"``: a plan's first where a plan pays, remembered for lengths that come again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch
from vledge.lengths.strategies.work import Case
from vledge.machine.threads import get_num_threads
from vledge.planning.bound import Same, without_a_plan
from vledge.planning.costs import Costs
from vledge.planning.ranking import plan
from vledge.planning.store import costs
from vledge.recurrent.shape import LayerShape

__all__ = ["choose"]


def choose(
    shape: LayerShape, batch: Batch, *, memory_limit: int | None = None
) -> tuple[str, dict[str, int]]:
    """The strategy that is predicted to be the fastest, and its options.

    Raises MemoryError where none stays within ``memory_limit`` bytes.
    """
    lengths = np.sort(batch.lengths)[::-1]
    steps = batch.steps if isinstance(batch, (PaddedBatch, MaskedBatch)) else int(lengths[0])
    case = Case(lengths, batch.form, steps)
    threads, constants = get_num_threads(), costs()
    quick = without_a_plan(shape, case, threads, constants, memory_limit)
    if quick is not None:
        return quick, {}
    key = (lengths.tobytes(), case.form, case.steps)
    strategy, options = _best(shape, key, threads, memory_limit, Same(constants))
    return strategy, dict(options)


@lru_cache(maxsize=256)
def _best(
    shape: LayerShape,
    case: tuple[bytes, str, int],
    threads: int,
    memory_limit: int | None,
    constants: Same[Costs],
) -> tuple[str, tuple[tuple[str, int], ...]]:
    lengths, form, steps = case
    best = plan(
        np.frombuffer(lengths, np.int64),
        shape,
        threads=threads,
        memory_limit=memory_limit,
        form=form,
        steps=steps,
        costs=constants.value,
    ).best
    return best.strategy, tuple(best.options.items())
