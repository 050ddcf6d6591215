"""What one core of this machine can do at most: a C loop for the FMA peak, one for reading.

Both are compiled here and now by ``cc``.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["LEVELS", "Limit", "built", "fma_limit", "measured_limits", "read_limit"]

LIMITS = r"""
#include <stddef.h>
typedef float vec __attribute__((vector_size(64)));
/* 16 independent chains of a = a*b + c */
__attribute__((target_clones("avx512f", "arch=haswell", "default"))) float peak(long n)
{
    vec a[16], b, c;
    for (int i = 0; i < 16; i++) for (int j = 0; j < 16; j++) a[i][j] = 1e-3f * (i + j);
    for (int j = 0; j < 16; j++) { b[j] = 0.999f; c[j] = 1e-3f; }
    while (n--) for (int i = 0; i < 16; i++) a[i] = a[i] * b + c;
    float s = 0; for (int i = 0; i < 16; i++) s += a[i][0];
    return s;
}
/* reads everything, again and again, two streams of four vectors: always forth, or back too */
#define SWEEP(NAME, BACK)                                                                         \
    __attribute__((target_clones("avx512f", "arch=haswell", "default")))                          \
    float NAME(const char *p, size_t n, long times)                                               \
    {                                                                                             \
        vec a[8] = {{0}};                                                                         \
        float s = 0;                                                                              \
        size_t half = n / 2 / 256 * 256;                                                          \
        while (times--) {                                                                         \
            for (size_t i = 0; i < half; i += 256) {                                              \
                const char *q = BACK && times & 1 ? p + half - 256 - i : p + i;                   \
                for (int j = 0; j < 4; j++) {                                                     \
                    a[j] += *(const vec *)(q + 64 * j);                                           \
                    a[j + 4] += *(const vec *)(q + half + 64 * j);                                \
                }                                                                                 \
            }                                                                                     \
            __asm__ volatile("" : : : "memory");                                                  \
        }                                                                                         \
        for (int j = 0; j < 8; j++) for (int k = 0; k < 16; k++) s += a[j][k];                    \
        return s;                                                                                 \
    }
SWEEP(sweep, 0)
SWEEP(sweep_back, 1)
"""

# Sizes that stand for the levels of the memory: weights of at most the first fit in it.
LEVELS = {"L1": 24 << 10, "L2": 512 << 10, "L3": 8 << 20}


def built(source: str, *flags: str) -> ctypes.CDLL:
    """C, compiled by this machine's compiler."""
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder) / "source.c", Path(folder) / "library.so"
        file.write_text(source)
        subprocess.run(["cc", *flags, "-shared", "-fPIC", "-o", library, file], check=True)
        return ctypes.CDLL(str(library))


@cache
def compiled() -> ctypes.CDLL:
    """The C loops above."""
    loaded = built(LIMITS, "-O3", "-ffp-contract=fast")  # -ffast-math would flush subnormals
    loaded.peak.argtypes, loaded.peak.restype = [ctypes.c_long], ctypes.c_float
    for sweep in (loaded.sweep, loaded.sweep_back):
        sweep.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
        sweep.restype = ctypes.c_float
    return loaded


class Limit(NamedTuple):
    """What has its turn beside the work that is compared with it."""

    run: Callable[[], object]
    amount: float  #: floating-point operations, bytes or works of one run


def fma_limit() -> Limit:
    """Independent float32 FMAs."""
    library = compiled()
    return Limit(lambda: library.peak(200_000), 200_000 * 16 * 16 * 2)


def read_limit(size: int) -> Limit:
    """Reading the same ``size`` bytes again and again, the faster of two ways."""
    library = compiled()
    memory = np.ones(size + 64, np.uint8)  # untouched zeros are all one page, which L1 holds
    start = -memory.ctypes.data % 64
    times = max(2, (32 << 20) // size)
    ways = [
        lambda sweep=sweep: sweep(memory.ctypes.data + start, size, times)
        for sweep in (library.sweep, library.sweep_back)
    ]
    return Limit(min(ways, key=_seconds), times * size)


def measured_limits() -> dict[str, float]:
    """GFLOP/s of FMAs as ``FMA peak``, and GB/s of reading by the level of the memory."""
    limits = {"FMA peak": fma_limit()}
    limits |= {level: read_limit(size) for level, size in LEVELS.items()}
    return {name: limit.amount / _seconds(limit.run) / 1e9 for name, limit in limits.items()}


def _seconds(run: Callable[[], object], rounds: int = 9) -> float:
    """Median of some runs."""
    run()
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)
