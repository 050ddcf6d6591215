"""The least time that a work can take on this machine: its arithmetic at the FMA peak, its weights
at the speed of reading as many bytes. It shows what a ratio could be at most.

A layer's input projection can be done for all steps at once, so only its arithmetic counts; the
recurrent weights must be read anew at every step, and in a single step all weights are read.
Activations and everything else count nothing: nobody reaches this time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.workloads import Workload

__all__ = ["bytes_read", "least_seconds"]


def bytes_read(workload: Workload, threads: int) -> int:
    """Bytes of weights that a thread reads at every step of a layer, again and again.

    Threads share single sequences by units; of a batch each has some sequences and all weights.
    """
    inner = workload.layer_input_size(workload.num_layers - 1) if workload.streaming else 0
    whole = 4 * workload.gates * workload.hidden_size * (inner + workload.hidden_size)
    return whole // threads if workload.batch == 1 else whole


def least_seconds(workload: Workload, limits: Mapping[str, float], threads: int) -> float:
    """Seconds of one call; ``limits`` of `benchmarks.limits.measured_limits` with `bytes_read`."""
    peak = limits["FMA peak"] * 1e9 * threads
    held = bytes_read(workload, threads)
    reading = held / (limits[str(held)] * 1e9)
    live = np.array(workload.lengths) > np.arange(workload.time_steps)[:, None]
    rows = workload.gates * workload.hidden_size
    seconds = 0.0
    for layer in range(workload.num_layers):
        inner = workload.layer_input_size(layer)
        together = 0 if workload.streaming else inner
        steps = 2 * rows * (inner + workload.hidden_size - together) * live.sum(axis=1) / peak
        seconds += float(np.maximum(steps, reading).sum())
        seconds += 2 * rows * together * workload.real_steps / peak
    return seconds * workload.directions
