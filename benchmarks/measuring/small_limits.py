"""The least time that a layer of small weights can take on this machine: its products by the
instructions that multiply and add up, back to back; its weights at the speed of reading as many
bytes; and the cell's equations as they are.

A layer's input is projected for all steps at once, so only its arithmetic counts. The recurrent
weights are read anew at every step, while they are multiplied; a single step reads both matrices.
Loops are compiled here and now by ``cc``, for x86-64.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks.measuring.limits import Limit, built
from vledge._ext import isa

__all__ = ["Least", "least", "multiply_limit"]

REGISTERS = {16: "xmm", 32: "ymm", 64: "zmm"}
SUMS, TIMES = 12, 20_000  # independent sums, which hide the latency; rounds of the loop

# What adds a vector of weights times x to the n-th sum: VNNI in one instruction, else a product and
# an addition. AVX-VNNI's have a prefix of their own.
SOURCES = "%%{register}15, %%{register}14, "
SUM, PRODUCT = "%%{register}{n}", "%%{register}12"
ADDITION = f"vpaddd {PRODUCT}, {SUM}, {SUM}"
LOOPS = {
    "dots": f"{{prefix}}vpdpbusd {SOURCES}{SUM}",
    "words": f"{{prefix}}vpdpwssd {SOURCES}{SUM}",
    "bytes": f"vpmaddubsw {SOURCES}{PRODUCT}; vpmaddwd %%{{register}}13, {PRODUCT}, {PRODUCT}; "
    f"{ADDITION}",
    "pairs": f"vpmaddwd {SOURCES}{PRODUCT}; {ADDITION}",
    "pairs of SSE2": "movdqa %%xmm15, %%xmm12; pmaddwd %%xmm14, %%xmm12; paddd %%xmm12, %%xmm{n}",
}


class Least(NamedTuple):
    """Seconds of one step at the least: what its parts take, and all of it."""

    multiplying: float
    reading: float
    equations: float
    all: float


def multiply_limit(storage: str) -> Limit:
    """Multiplying by weights of a storage, as the selected instruction set does; the amount is in
    weights, of one row."""
    size, way = 4 * isa.lanes(np.float32), isa.selected_integers()
    if storage == "int8-fast" and way != "pairs":
        loop, weights = way, size
    elif way == "dots":  # two planes of bytes, or words
        loop, weights = "words" if storage == "int16" else "dots", size // 2
    else:
        loop, weights = "pairs" if size > 16 else "pairs of SSE2", size // 2
    run = _loop(loop, size)
    return Limit(lambda: run(TIMES), TIMES * SUMS * weights)


def least(
    rows: float,
    weights: tuple[int, int],
    bytes_read: int,
    multiply: float,
    byte: float,
    equation: float,
    one_step: bool,
) -> Least:
    """Of a step of ``rows`` rows, where one core takes so many seconds for a weight and a row, for
    reading a byte, and for a row's equations.

    ``weights`` are those that multiply the input and those that multiply the state.
    """
    projection, recurrent = (rows * count * multiply for count in weights)
    reading, equations = bytes_read * byte, rows * equation
    if one_step:
        products = max(projection + recurrent, reading)
    else:
        products = projection + max(recurrent, reading)
    return Least(projection + recurrent, reading, equations, products + equations)


@cache
def _loop(name: str, size: int) -> Callable[[int], None]:
    """So many rounds of a loop on vectors of ``size`` bytes."""
    names = {"register": REGISTERS[size], "prefix": "{vex} " if size == 32 else ""}
    body = "".join(f'"{LOOPS[name].format(n=n, **names)}\\n"\n' for n in range(SUMS))
    clobbered = ", ".join(f'"xmm{n}"' for n in range(16))
    source = f"void run(long n) {{ while (n--) __asm__ volatile({body} : : : {clobbered}); }}"
    run = built(source, "-O2").run
    run.argtypes, run.restype = [ctypes.c_long], None
    return run
