"""``strategy="auto"``: a plan's first, remembered for batches that come again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch
from vledge.machine.threads import get_num_threads
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
    steps = batch.steps if isinstance(batch, (PaddedBatch, MaskedBatch)) else None
    lengths = np.sort(batch.lengths).tobytes()
    form, threads = batch.form, get_num_threads()
    strategy, options = _best(
        shape, lengths, form, steps, threads, memory_limit, _Identity(costs())
    )
    return strategy, dict(options)


class _Identity:
    """Constants, told apart by which they are: they hold dictionaries, which have no hash."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.costs is other.costs

    def __hash__(self) -> int:
        return id(self.costs)


@lru_cache(maxsize=256)
def _best(
    shape: LayerShape,
    lengths: bytes,
    form: str,
    steps: int | None,
    threads: int,
    memory_limit: int | None,
    constants: _Identity,
) -> tuple[str, tuple[tuple[str, int], ...]]:
    best = plan(
        np.frombuffer(lengths, np.int64),
        shape,
        threads=threads,
        memory_limit=memory_limit,
        form=form,
        steps=steps,
        costs=constants.costs,
    ).best
    return best.strategy, tuple(best.options.items())
