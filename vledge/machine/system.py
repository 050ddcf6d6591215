"""What this machine is and what vledge chose on it, in words."""

from __future__ import annotations

import os
import platform
import struct
from typing import Final

import numpy as np

from vledge._ext import isa
from vledge._version import __version__
from vledge.machine import blas, threads

__all__ = ["describe"]

# what multiplies bytes in the ways of `isa.integer_ways`, and by which instruction set
_DOTS: Final = {"avx512": "AVX-512 VNNI", "avx2": "AVX-VNNI", "neon": "udot, sdot"}
_INSTRUCTIONS: Final = {"bytes": "pmaddubsw", "pairs": "16-bit products"}


def describe() -> dict[str, str]:
    """Versions, CPU, instruction set, threads and BLAS: name -> text."""
    chosen = isa.selected()
    if os.environ.get("VLEDGE_ISA"):
        why = "asked for by VLEDGE_ISA"
    else:
        why = "the best that this CPU runs"
    if threads._num_threads is not None and os.environ.get("VLEDGE_NUM_THREADS"):
        threads_why = "asked for by VLEDGE_NUM_THREADS"
    else:
        threads_why = f"{threads.usable_cores()} physical cores usable of {os.cpu_count()} CPUs"
    way = isa.selected_integers()
    described = {
        "vledge": __version__,
        "python": f"{platform.python_version()}, {struct.calcsize('P') * 8} bit",
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "model": _model() or "not told by the system",
        "cpu features": isa.cpu_features(),
        "instruction sets": ", ".join(isa.runnable()),
        "chosen": f"{chosen}: {why}",
        "vector": f"{isa.lanes(np.float32)} float32, tiles of {isa.tile_rows()} rows",
        "integers": f"{way}: {_DOTS[chosen] if way == 'dots' else _INSTRUCTIONS[way]}",
        "threads": f"{threads.get_num_threads()}: {threads_why}",
        "blas": blas.describe(),
    }
    if _narrowed(struct.calcsize("P") * 8, platform.machine(), isa.cpu_features()):
        described["warning"] = (
            "a 32-bit system on a 64-bit CPU: half the vector registers, no float64 vectors, and "
            "no wheels of numpy. The board's 64-bit system runs vledge faster"
        )
    return described


def _model() -> str:
    """The board or the CPU by its maker's name; empty where the system does not say."""
    try:
        with open("/proc/device-tree/model", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0 \n")
    except OSError:
        pass
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            told = [line.partition(":") for line in file]
    except OSError:
        return ""
    return next((text.strip() for name, _, text in told if name.strip() == "model name"), "")


def _narrowed(bits: int, machine: str, cpu_features: str) -> bool:
    """Whether a 32-bit Arm process runs on a CPU that has a 64-bit mode.

    A 64-bit kernel says aarch64, or armv8l to processes of that personality; a 32-bit one on such a
    CPU says armv7l, and v8l in the auxiliary vector.
    """
    return bits == 32 and (machine in ("aarch64", "armv8l") or "armv8" in cpu_features.split())
