"""``python -m benchmarks.score.many``: millions of short sequences, and the memory they take.

They are made as they are read, in files that are removed when they have been scored, so the disk
needs to hold one at a time. Prints the process's memory from file to file: it must stay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.score.archive import CASES, noise_table, save_model
from vledge.scoring.files.fragments import Fragment
from vledge.scoring.files.manifest import Manifests
from vledge.scoring.pipeline import Failed, Finished, Job, score
from vledge.scoring.scorer import Scorer

EACH = 250_000  # of a file


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def main() -> int:
    """0 if memory has stayed within --memory of what it was after the first file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score.many", description=__doc__)
    parser.add_argument("--millions", type=float, default=10, help="sequences (10 million)")
    parser.add_argument("--memory", type=int, default=100_000_000, help="bytes (100 million)")
    arguments = parser.parse_args()
    case = replace(CASES[0], shortest=2, longest=12)
    files = max(2, round(arguments.millions * 1e6 / EACH))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, _ = save_model(folder, case)

        def fragments() -> Iterator[Fragment]:
            for number in range(files):
                source = folder / f"{number}.parquet"
                pq.write_table(noise_table(case, EACH, number), source, use_dictionary=False)
                yield Fragment(str(source), str(folder / "out" / source.name))

        scorer = Scorer(plain, "frames", memory=arguments.memory)
        job = Job(scorer, Manifests(str(folder / "out"), {}), ["id"])
        sizes, rows, start = [], 0, time.monotonic()
        for event in score(fragments(), job):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                rows += event.summary.written
                Path(event.fragment.source).unlink()
                Path(event.fragment.target).unlink()
                sizes.append(resident())
        seconds = time.monotonic() - start
    grown = max(sizes) - sizes[0]
    print(
        f"{rows:,} sequences of {case.shortest} to {case.longest} steps in {seconds:.0f} s, "
        f"{rows / seconds:,.0f} a second with their making; {sizes[0] / 1e6:.0f} MB after the "
        f"first {EACH:,}, {max(sizes) / 1e6:.0f} MB at most, {sizes[-1] / 1e6:.0f} MB at the end"
    )
    return 0 if rows == files * EACH and grown < arguments.memory else 1


if __name__ == "__main__":
    sys.exit(main())
