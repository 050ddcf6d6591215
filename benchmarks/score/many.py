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


def many(millions: float, memory: int = 100_000_000) -> tuple[str, bool]:
    """So many through, within ``memory`` bytes a window: a line about it, and whether all were
    there and memory has stayed within as much of what it was after the first file."""
    case = replace(CASES[0], shortest=2, longest=12)
    files = max(2, round(millions * 1e6 / EACH))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, _ = save_model(folder, case)

        def fragments() -> Iterator[Fragment]:
            for number in range(files):
                source = folder / f"{number}.parquet"
                pq.write_table(noise_table(case, EACH, number), source, use_dictionary=False)
                yield Fragment(str(source), str(folder / "out" / source.name))

        scorer = Scorer(plain, "frames", memory=memory)
        job = Job(scorer, Manifests(str(folder / "out"), {}), ["id"])
        sizes, rows, start, before = [], 0, time.monotonic(), time.process_time()
        for event in score(fragments(), job):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                rows += event.summary.written
                Path(event.fragment.source).unlink()
                Path(event.fragment.target).unlink()
                sizes.append(resident())
        seconds, used = time.monotonic() - start, time.process_time() - before
    line = (
        f"{rows:,} sequences of {case.shortest} to {case.longest} steps in {seconds:.0f} s, "
        f"{rows / seconds:,.0f} a second and {rows / used:,.0f} a CPU second with their making; "
        f"{sizes[0] / 1e6:.0f} MB of memory after the first {EACH:,}, {max(sizes) / 1e6:.0f} MB at "
        f"most, {sizes[-1] / 1e6:.0f} MB at the end"
    )
    return line, rows == files * EACH and max(sizes) - sizes[0] < memory


def main() -> int:
    """0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score.many", description=__doc__)
    parser.add_argument("--millions", type=float, default=10, help="sequences (10 million)")
    parser.add_argument("--memory", type=int, default=100_000_000, help="bytes (100 million)")
    arguments = parser.parse_args()
    line, well = many(arguments.millions, arguments.memory)
    print(line)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
