"""Times of single steps, and processes that keep the other cores busy meanwhile."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from vledge.cli.latency.engines import Step

__all__ = ["Latency", "busy_cores", "measure"]

_WARM_UP = 1000
_SPIN = """
import os, sys, time
parent, end = os.getppid(), time.monotonic() + 3600
sys.stdout.write("x"); sys.stdout.flush()
while os.getppid() == parent and time.monotonic() < end:
    for _ in range(100_000): pass
"""


@dataclass(frozen=True)
class Latency:
    """Microseconds of steps: the middle, what 1 in 100 and 1 in 1,000 exceeds, the most."""

    p50: float
    p99: float
    p99_9: float
    worst: float

    @classmethod
    def of(cls, nanoseconds: np.ndarray) -> Latency:
        """Summed up from the times of all steps."""
        p50, p99, p99_9, worst = np.percentile(nanoseconds, [50, 99, 99.9, 100]) / 1000
        return cls(float(p50), float(p99), float(p99_9), float(worst))


def measure(step: Step, steps: int) -> np.ndarray:
    """Nanoseconds of each of so many steps, after some that are not counted: int64 [steps].

    The garbage collector rests meanwhile, as it should in a program that must be on time.
    """
    times = np.zeros(steps, np.int64)
    now = time.perf_counter_ns
    for _ in range(min(_WARM_UP, steps)):
        step()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for index in range(steps):
            start = now()
            step()
            times[index] = now() - start
    finally:
        if collecting:
            gc.enable()
    return times


@contextmanager
def busy_cores(count: int | None = None) -> Iterator[int]:
    """Keep so many cores busy, by default all that this process may use but one."""
    if count is None:
        usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(2)
        count = max(len(usable) - 1, 1)
    processes = [
        subprocess.Popen([sys.executable, "-S", "-c", _SPIN], stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.read(1)  # it runs
        yield count
    finally:
        for process in processes:
            process.kill()
            process.communicate()
