"""Ways of work for runtimes that know neither lengths nor streams: steps whose state is handed on,
and batches padded, or in four buckets of like lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["BUCKETS", "batches", "stepped"]

BUCKETS = 4

#: x [T, B, I] -> y, and h_n and c_n where they are given
Run = Callable[[Array], Outputs]


def batches(
    name: str, workload: Workload, inputs: Inputs, equal: Callable[[Workload], Run]
) -> list[Contestant]:
    """Contestants for "full" and "var"; ``equal`` makes a run for batches of equal lengths.

    Two directions with different lengths have none: the reverse one would start in the padding.
    """
    same = replace(workload, kind="full", lengths=(workload.time_steps,) * workload.batch)
    if workload.kind == "full":
        run = equal(same)
        return [Contestant(name, lambda: run(inputs.x), lambda result: result)]
    if workload.bidirectional:
        return []
    padded, bucketed = equal(same), _in_buckets(workload, inputs, equal)
    return [
        # the states are those after the padding
        Contestant(name, lambda: padded(inputs.x), lambda result: Outputs(result.y, None, None)),
        Contestant(f"{name} buckets", bucketed, lambda y: Outputs(y, None, None)),
    ]


def _in_buckets(
    workload: Workload, inputs: Inputs, equal: Callable[[Workload], Run]
) -> Callable[[], Array]:
    parts = []
    for rows in np.array_split(np.argsort(inputs.lengths), min(BUCKETS, workload.batch)):
        longest = int(inputs.lengths[rows].max())
        part = replace(workload, kind="full", lengths=(longest,) * len(rows))
        parts.append((rows, longest, equal(part)))

    def run() -> Array:
        y = np.zeros((*inputs.x.shape[:2], workload.hidden_size), np.float32)
        for rows, longest, part in parts:
            y[:longest, rows] = part(inputs.x[:longest, rows]).y
        return y

    return run


def stepped(
    name: str,
    inputs: Inputs,
    step: Callable[[Array, Sequence[Any]], tuple[Array, Sequence[Any]]],
    first: Sequence[Any],
) -> Contestant:
    """Of x [1, B, I], y and a state h (and c), which is the runtime's own until it is looked at."""
    steps = list(inputs.x[:, None])

    def run() -> tuple[list[Array], Sequence[Any]]:
        state, ys = first, []
        for x in steps:
            y, state = step(x, state)
            ys.append(y)
        return ys, state

    def outputs(result: tuple[list[Array], Sequence[Any]]) -> Outputs:
        ys, state = result
        shaped = [np.asarray(part).reshape(inputs.h_0.shape) for part in state]
        y = np.stack(ys).reshape(len(steps), *inputs.h_0.shape[1:])
        return Outputs(y, shaped[0], shaped[1] if len(shaped) > 1 else None)

    return Contestant(name, run, outputs)
