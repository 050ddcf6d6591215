"""The least time that a work's products can take on this machine: their arithmetic at the FMA peak,
their weights at the speed of reading as many bytes.

A layer's input projection can be done for all steps at once, so only its arithmetic counts; the
recurrent weights must be read anew at every step, and in a single step all weights are read.
The cell's equations count nothing here: `benchmarks.measuring.parts` measures them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.measuring.workloads import Workload

__all__ = ["Least", "bytes_read", "least"]


class Least(NamedTuple):
    """The least time, in the unit in which `least` was told the limits."""

    time: float
    reading: float  #: what steps take of it that wait for reading and not for arithmetic


def bytes_read(workload: Workload, threads: int) -> int:
    """Bytes of weights that a thread reads at every step of a layer, again and again. Threads that
    share a step read a part each, which is the least."""
    inner = workload.layer_input_size(workload.num_layers - 1) if workload.streaming else 0
    whole = 4 * workload.gates * workload.hidden_size * (inner + workload.hidden_size)
    return whole // threads


def least(workload: Workload, operation: float, byte: float, threads: int) -> Least:
    """Of one call, where one core takes so long for a floating-point operation and for reading one
    of `bytes_read` bytes."""
    operation = operation / threads
    reading = bytes_read(workload, threads) * byte
    live = np.array(workload.lengths) > np.arange(workload.time_steps)[:, None]
    rows = workload.gates * workload.hidden_size
    time = waiting = 0.0
    for layer in range(workload.num_layers):
        inner = workload.layer_input_size(layer)
        together = 0 if workload.streaming else inner
        steps = 2 * rows * (inner + workload.hidden_size - together) * live.sum(axis=1) * operation
        time += float(np.maximum(steps, reading).sum())
        waiting += reading * int((steps < reading).sum())
        time += 2 * rows * together * workload.real_steps * operation
    return Least(time * workload.directions, waiting * workload.directions)
