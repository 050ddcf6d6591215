"""``python -m benchmarks.kernels``: the kernels by themselves, against the machine's limits.

Prints, for one thread: the FMA peak and the read bandwidth of this machine (a C loop compiled here
and now), the recurrent part of packed batches as a share of the peak for each instruction set,
batch 1 as a share of the fastest read of the same number of bytes, our product tile against numpy's
BLAS, and what a step costs by its number of rows.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's BLAS reads it once, at import

import numpy as np

from benchmarks.limits import fma_peak, read_speed
from vledge._ext import isa
from vledge._ext.product import Product
from vledge._ext.recurrent import run
from vledge._ext.weights import Direction


def best(ways: Sequence[Callable[[], object]], rounds: int = 15) -> list[float]:
    """Median seconds of each way, in turns."""
    for way in ways:
        way()
    samples: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, samples, strict=True):
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in samples]


def layer(cell: str, hidden_size: int, input_size: int = 1) -> Direction:
    """A layer whose input projection is next to nothing."""
    rng = np.random.default_rng(0)
    rows = {"lstm": 4, "gru": 3}[cell] * hidden_size
    shapes = ((rows, input_size), (rows, hidden_size), (rows,), (rows,))
    return Direction(cell, *(rng.uniform(-0.05, 0.05, s).astype(np.float32) for s in shapes))


def recurrent_seconds(direction: Direction, rows: int, steps: int) -> float:
    """One run over equal lengths."""
    data = np.zeros((rows * steps, direction.input_size), np.float32)
    sizes = np.full(steps, rows)
    return best([lambda: run([direction], data, sizes, threads=1)])[0]


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__).parse_args()
    peak = fma_peak()
    print(f"FMA peak {peak:.0f} GFLOP/s")

    print("\nrecurrent part of packed batches, GFLOP/s (share of the peak)")
    best_isa = isa.selected()
    for name in isa.runnable():
        isa.select(name)
        for cell, hidden_size, rows in (
            ("lstm", 128, 6), ("lstm", 128, 32), ("lstm", 256, 6), ("lstm", 256, 32),
            ("lstm", 512, 64), ("gru", 128, 32), ("gru", 256, 32), ("gru", 512, 64),
        ):  # fmt: skip
            direction = layer(cell, hidden_size)
            gates = {"lstm": 4, "gru": 3}[cell]
            flops = 2 * gates * hidden_size * (hidden_size + 1) * rows * 40
            speed = flops / recurrent_seconds(direction, rows, 40) / 1e9
            print(f"  {name:7} {cell} H{hidden_size} B{rows}: {speed:6.1f} ({speed / peak:.0%})")
    isa.select(best_isa)

    print("\nbatch 1, GB/s of weights (share of the fastest read of as many bytes), best of 3")
    for cell in ("lstm", "gru"):
        for hidden_size in (64, 128, 192, 256, 512):
            direction = layer(cell, hidden_size)
            count = {"lstm": 4, "gru": 3}[cell] * hidden_size**2 * 4
            data, sizes = np.zeros((100, 1), np.float32), np.ones(100, np.int64)
            speeds = []  # alternately, for the machine is not always quiet
            for _ in range(3):
                (ours,) = best([lambda d=direction, x=data, s=sizes: run([d], x, s, threads=1)])
                speeds.append((count * 100 / ours / 1e9, read_speed(count)))
            ours, fastest = (max(column) for column in zip(*speeds, strict=True))
            print(
                f"  {cell} H{hidden_size}: {ours:6.1f} of {fastest:6.1f} ({ours / fastest:.0%}), "
                f"{count // 1024} KB"
            )

    print("\ninput projection of 2,048 rows, our tile against numpy's BLAS, GFLOP/s")
    for input_size, hidden_size in ((12, 64), (40, 128), (128, 256), (256, 256), (512, 512)):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2048, input_size)).astype(np.float32)
        w = rng.standard_normal((4 * hidden_size, input_size)).astype(np.float32)
        product = Product(w)
        transposed = np.ascontiguousarray(w.T)
        ours, blas = best([lambda p=product, x=x: p(x, threads=1), lambda x=x, w=transposed: x @ w])
        flops = 2 * 2048 * 4 * hidden_size * input_size
        print(
            f"  I{input_size} H{hidden_size}: ours {flops / ours / 1e9:6.1f}, "
            f"BLAS {flops / blas / 1e9:6.1f}"
        )

    print("\none step by its rows, in rows of a batch of 24")
    for cell in ("lstm", "gru"):
        direction = layer(cell, 128)
        row = recurrent_seconds(direction, 24, 40) / 24
        costs = (f"{n}: {recurrent_seconds(direction, n, 40) / row:.1f}" for n in range(1, 13))
        print(f"  {cell} H128  " + "  ".join(costs))


if __name__ == "__main__":
    main()
