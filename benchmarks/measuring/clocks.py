"""How long runs take, and waiting until the process is quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["rest", "seconds"]

# Threads of OpenBLAS, OpenMP and onnxruntime spin on after a call (OpenBLAS's for up to 0.1 s), on
# the cores that the next contestant wants: its turn begins when the process has used next to no CPU
# time for three naps in a row, or at the latest after a hundred.
NAP_SECONDS, QUIET_SECONDS = 0.004, 0.0004


def seconds(run: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Of all repeats together."""
    start = clock()
    for _ in range(repeats):
        run()
    return clock() - start


def rest() -> None:
    """Return when this process has stopped using the CPU."""
    quiet = 0
    for _ in range(100):
        used = time.process_time()
        time.sleep(NAP_SECONDS)
        quiet = quiet + 1 if time.process_time() - used < QUIET_SECONDS else 0
        if quiet == 3:
            return
