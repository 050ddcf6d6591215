"""``vledge calibrate``: measure this machine for ``vledge plan`` and ``strategy="auto"``."""

from __future__ import annotations

import argparse
import json
import time

from vledge.cli.table import rows
from vledge.machine.projection import CLEARLY
from vledge.progress import Bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge calibrate``."""
    parser.add_argument("--json", action="store_true", help="print the constants as JSON")
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="for each figure (0.02); 0: measure each once"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, write, and print what was found."""
    from vledge.planning import calibrate, save

    if not 0 <= arguments.seconds <= 10:
        raise ValueError(f"--seconds must be from 0 to 10, got {arguments.seconds}")
    start = time.perf_counter()
    bar = Bar(erased=True)
    try:
        measured = calibrate(arguments.seconds, bar)
    finally:
        bar.close()
    path = save(measured)
    if arguments.json:
        print(json.dumps(measured.as_dict(), indent=1))
        return 0
    lines = [("cell", "hidden", "a step", "and each row")]
    for cell, table in measured.kernels.items():
        for kernel in table:
            step, row = (f"{seconds * 1e6:.2f} us" for seconds in (kernel.step, kernel.row))
            lines.append((cell, str(kernel.hidden_size), step, row))
    print(rows(lines, right=(1, 2, 3)))
    speed = 2e-9 / measured.multiply_add
    print(f"input projection {speed:.1f} GFLOP/s, float64 takes {measured.double:.1f} x float32")
    print(
        f"a second thread adds {measured.thread:.0%} of a thread, "
        f"{measured.shared:.0%} where it shares a single sequence's steps"
    )
    shared = measured.sharing
    if "meeting_nanoseconds" in shared:
        print(
            f"threads meet in {shared['meeting_nanoseconds']} ns, "
            f"waking one takes {shared['wake_nanoseconds'] / 1000:.0f} us"
        )
    print(f"memory is provided at {1e-9 / measured.memory:.1f} GB/s")
    if measured.products:
        quicker = [one for one in measured.products if one.blas <= CLEARLY]
        least = min(one.blas for one in measured.products)
        print(
            f"input projections: scipy's BLAS is clearly quicker than our tiles at {len(quicker)} "
            f"of {len(measured.products)} sizes (at best it takes {least:.2f} times as long)"
        )
    print(f"measured in {time.perf_counter() - start:.1f} s, written to {path}")
    return 0
