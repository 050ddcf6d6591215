"""Batches that run side by side, a thread each: they share nothing, so no thread waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from vledge.machine.threads import using_threads

__all__ = ["each_batch"]

#: With fewer batches a thread than this, threads share each batch: the last ones would run alone.
LEAST_EACH: Final = 2


def each_batch(
    run: Callable[[np.ndarray], None],
    batches: Sequence[np.ndarray],
    threads: int,
    stopped: Callable[[], bool],
) -> None:
    """Run all of them, until ``stopped()``; what one raises is raised when all have ended."""
    if threads == 1 or len(batches) < LEAST_EACH * threads:
        with using_threads(threads):
            for batch in batches:
                if stopped():
                    return
                run(batch)
        return
    waiting = iter(batches)
    lock = threading.Lock()
    failed: list[BaseException] = []

    def work() -> None:
        with using_threads(1):
            while not failed and not stopped():
                with lock:
                    batch = next(waiting, None)
                if batch is None:
                    return
                try:
                    run(batch)
                except BaseException as error:
                    failed.append(error)

    # daemons: Ctrl-C does not wait for a batch to end
    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except BaseException as error:
        failed.append(error)  # of the calling thread: the others begin nothing more
        raise
    if failed:
        raise failed[0]
