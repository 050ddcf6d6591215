"""What this machine is and what vledge chose on it, in words."""

from __future__ import annotations

import os
import platform
import struct

import numpy as np

from vledge import threads
from vledge._ext import blas, isa
from vledge._version import __version__

__all__ = ["describe"]


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
    return {
        "vledge": __version__,
        "python": f"{platform.python_version()}, {struct.calcsize('P') * 8} bit",
        "numpy": np.__version__,
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "cpu features": isa.cpu_features(),
        "instruction sets": ", ".join(isa.runnable()),
        "chosen": f"{chosen}: {why}",
        "vector": f"{isa.lanes(np.float32)} float32, tiles of {isa.tile_rows()} rows",
        "threads": f"{threads.get_num_threads()}: {threads_why}",
        "blas": blas.describe(),
    }
