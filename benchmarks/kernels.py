"""``python -m benchmarks.kernels``: the kernels by themselves, against the machine's limits.

Prints, for one thread: the recurrent part of packed batches as a share of the FMA peak for each
instruction set, batch 1 as a share of the fastest read of the same number of bytes, our product
tile against numpy's BLAS, and what a step costs by its number of rows. One step alone, which
multiplies its input too, is set beside a read of both matrices, and calls of one step from Python
beside the kernel that they call. A limit is a C loop, compiled here
and now, that has its turn beside ours: shares are medians of such pairs, of the thread's CPU time,
for others may use the machine. So have the cell's equations by themselves, which tell what the
share would be at most: with products at the limit and equations as they are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Literal

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's BLAS reads it once, at import

import numpy as np

import vledge
from benchmarks.measuring.limits import Limit, fma_limit, read_limit
from benchmarks.measuring.measure import measured, pairs
from benchmarks.measuring.parts import equations, kernels
from benchmarks.measuring.step_calls import step_calls
from benchmarks.measuring.workloads import Workload
from vledge._ext import isa
from vledge._ext.product import Product
from vledge._ext.recurrent import run
from vledge._ext.weights import Direction

KINDS: tuple[Literal["LSTM", "GRU"], ...] = ("LSTM", "GRU")
ROUNDS = 15


def against(
    limit: Limit, ours: Callable[[], object], amount: float, alone: Limit | None = None
) -> str:
    """Ours of the limit's amount a second, in 1e9, and the share: medians of pairs, and the best of
    each, which is the core without a neighbour on its other thread. ``alone``: our equations."""
    ways = {"limit": limit.run} if alone is None else {"limit": limit.run, "alone": alone.run}
    times, beside = pairs(ours, ways, ROUNDS, clock=time.thread_time)
    own = [amount / seconds / 1e9 for seconds in beside["limit"]]
    most = [limit.amount / seconds / 1e9 for seconds in times["limit"]]
    share = statistics.median(a / b for a, b in zip(own, most, strict=True))
    found = (
        f"{statistics.median(own):6.1f} of {statistics.median(most):6.1f} ({share:.0%}), "
        f"at best {max(own):6.1f} of {max(most):6.1f} ({max(own) / max(most):.0%})"
    )
    if alone is None:
        return found
    both = zip(times["alone"], beside["alone"], strict=True)
    taken = statistics.median(a / b for a, b in both) / alone.amount
    return f"{found}; equations take {taken:.0%}, so at most {share / (share + taken):.0%}"


def layer(cell: str, hidden_size: int, input_size: int = 1) -> Direction:
    """A layer whose input projection is next to nothing."""
    rng = np.random.default_rng(0)
    rows = {"lstm": 4, "gru": 3}[cell] * hidden_size
    shapes = ((rows, input_size), (rows, hidden_size), (rows,), (rows,))
    return Direction(cell, *(rng.uniform(-0.05, 0.05, s).astype(np.float32) for s in shapes))


def cell_equations(cell: str, hidden_size: int, rows: int, steps: int) -> Limit:
    """What a run of `recurrent` takes without its products."""
    lengths = (steps,) * rows
    kind = "LSTM" if cell == "lstm" else "GRU"
    return equations(Workload("", "other", "full", kind, 1, hidden_size, lengths))


def recurrent(direction: Direction, rows: int, steps: int) -> Callable[[], object]:
    """One run over equal lengths."""
    data = np.zeros((rows * steps, direction.input_size), np.float32)
    sizes = np.full(steps, rows)
    return lambda: run([direction], data, sizes, threads=1)


def beyond(work: Workload, call: Callable[[], object]) -> str:
    """Microseconds of a call less its kernel's, medians of pairs."""
    alone = kernels(work)
    times, beside = pairs(call, {"kernel": alone.run}, ROUNDS, clock=time.thread_time)
    kernel = [seconds / alone.amount * 1e6 for seconds in times["kernel"]]
    more = [own * 1e6 - other for own, other in zip(beside["kernel"], kernel, strict=True)]
    return f"{statistics.median(more):5.1f} us beyond the kernel's {statistics.median(kernel):.1f}"


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__).parse_args()

    print("recurrent part of packed batches, GFLOP/s of the FMA peak beside it")
    best_isa = isa.selected()
    for name in isa.runnable():
        isa.select(name)
        for cell, hidden_size, rows in (
            ("lstm", 128, 6), ("lstm", 128, 32), ("lstm", 256, 6), ("lstm", 256, 32),
            ("lstm", 512, 64), ("gru", 128, 6), ("gru", 128, 32), ("gru", 256, 32),
            ("gru", 512, 64),
        ):  # fmt: skip
            direction = layer(cell, hidden_size)
            gates = {"lstm": 4, "gru": 3}[cell]
            flops = 2 * gates * hidden_size * (hidden_size + 1) * rows * 40
            alone = cell_equations(cell, hidden_size, rows, 40) if name == best_isa else None
            found = against(fma_limit(), recurrent(direction, rows, 40), flops, alone)
            print(f"  {name:7} {cell} H{hidden_size} B{rows}: {found}")
    isa.select(best_isa)

    print("\nbatch 1, GB/s of weights, of the fastest read of as many bytes beside it")
    for cell in ("lstm", "gru"):
        for hidden_size in (64, 128, 192, 256, 512):
            direction = layer(cell, hidden_size)
            count = {"lstm": 4, "gru": 3}[cell] * hidden_size**2 * 4
            alone = cell_equations(cell, hidden_size, 1, 100)
            found = against(read_limit(count), recurrent(direction, 1, 100), 100 * count, alone)
            print(f"  {cell} H{hidden_size}, {count // 1024} KB: {found}")

    print("\none step from its input, GB/s of both matrices, of the fastest read beside it")
    for cell in ("lstm", "gru"):
        for hidden_size in (128, 192, 256, 384):
            direction = layer(cell, hidden_size, hidden_size)
            count = 2 * {"lstm": 4, "gru": 3}[cell] * hidden_size**2 * 4
            found = against(read_limit(count), recurrent(direction, 1, 1), count)
            print(f"  {cell} I{hidden_size} H{hidden_size}, {count // 1024} KB: {found}")

    print("\none step called from Python, on one thread")
    vledge.set_num_threads(1)
    for kind in KINDS:
        for hidden_size in (64, 128, 256):
            work, calls = step_calls(kind, hidden_size)
            for name, call in calls.items():
                print(f"  {kind} H{hidden_size} {name}: {beyond(work, call)}")

    print("\ninput projection of 2,048 rows, our tile's GFLOP/s of numpy's BLAS's")
    for input_size, hidden_size in ((12, 64), (40, 128), (128, 256), (256, 256), (512, 512)):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2048, input_size)).astype(np.float32)
        w = rng.standard_normal((4 * hidden_size, input_size)).astype(np.float32)
        product = Product(w)
        transposed = np.ascontiguousarray(w.T)
        flops = 2 * 2048 * 4 * hidden_size * input_size
        blas = Limit(lambda x=x, w=transposed: x @ w, flops)
        found = against(blas, lambda p=product, x=x: p(x, threads=1), flops)
        print(f"  I{input_size} H{hidden_size}: {found}")

    print("\none step by its rows, in rows of a batch of 24")
    for cell in ("lstm", "gru"):
        direction = layer(cell, 128)
        times = measured({str(n): recurrent(direction, n, 40) for n in (*range(1, 13), 24)}, ROUNDS)
        row = statistics.median(times.pop("24")) / 24
        costs = (f"{n}: {statistics.median(t) / row:.1f}" for n, t in times.items())
        print(f"  {cell} H128  " + "  ".join(costs))


if __name__ == "__main__":
    main()
