"""``python -m benchmarks.threads``: what two threads gain on batches of different lengths.

Every work of the matrix with 16 sequences or more of different lengths, on two threads and on one
by turns, three calls in a row each: the median of such pairs, and the best time of one by the best
of two. Nobody else's threads run, so no turn waits for quiet.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import vledge
from benchmarks.measuring.workloads import Workload, matrix
from vledge import nn


def ways(work: Workload) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The work on two threads, and on one."""
    layer, inputs = getattr(nn, work.cell).from_weights(work.weights()), work.inputs()

    def run(threads: int) -> Any:
        vledge.set_num_threads(threads)
        return layer(inputs.x, lengths=inputs.lengths)

    return lambda: run(2), lambda: run(1)


def seconds(run: Callable[[], Any]) -> float:
    """Three calls in a row."""
    run()
    start = time.perf_counter()
    for _ in range(3):
        run()
    return time.perf_counter() - start


def main() -> None:
    """Print a line for each work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="pairs of each work (25)")
    arguments = parser.parse_args()
    for work in matrix():
        if work.kind == "var" and work.batch >= 16:
            two, one = ways(work)
            times = [(seconds(one), seconds(two)) for _ in range(arguments.rounds)]
            gain = statistics.median(a / b for a, b in times)
            best = min(a for a, _ in times) / min(b for _, b in times)
            print(f"{work.name:52} {gain:.2f}  at best {best:.2f}", flush=True)


if __name__ == "__main__":
    main()
