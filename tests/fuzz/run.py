"""The fuzzer's loop, and its table: ``python -m tests.fuzz.run --minutes 30 [harness ...]``.

Each harness has the time for itself. An input that reaches a new line is kept to be changed again;
one that is a finding is written to ``tests/fuzz/crashers/`` and is a test from then on.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import time
import traceback
import warnings
import zlib
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.fuzz.coverage import Coverage
from tests.fuzz.harnesses import HARNESSES

__all__ = ["CRASHERS", "Result", "crashers", "fuzz", "replay"]

CRASHERS = Path(__file__).parent / "crashers"
SECONDS_OF_A_CALL = 10  # of processor time
MOST_KEPT = 2_000


class Result(NamedTuple):
    """What a harness has done in its time."""

    executions: int
    corpus: int
    lines: int
    findings: dict[str, bytes]  #: by where they were raised, the first input of each


class Slow(BaseException):
    """A call has taken too long; no error that anybody handles."""


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise Slow


def replay(name: str, content: bytes) -> None:
    """One input through a harness, within its time."""
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_OF_A_CALL)
    try:
        HARNESSES[name].door(content)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def fuzz(name: str, seconds: float, seed: int, coverage: Coverage) -> Result:
    """A harness for so long; the same seed begins with the same inputs."""
    rng = random.Random(seed)
    harness = HARNESSES[name]
    corpus = list(harness.seeds())
    findings: dict[str, bytes] = {}
    executions = 0
    waiting = list(corpus)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = waiting.pop() if waiting else harness.mutate(rng, rng.choice(corpus))
        executions += 1
        try:
            with coverage:
                replay(name, content)
        except (Exception, Slow) as error:
            findings.setdefault(_place(error), content)
        if coverage.grown and len(corpus) < MOST_KEPT:
            corpus.append(content)
    return Result(executions, len(corpus), len(coverage.lines), findings)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/vledge/" in frame.filename] or frames[-1:]
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:200]}"


def crashers() -> list[tuple[str, Path]]:
    """(harness, file) of all that was once found."""
    folders = {re.sub(r"\W", "_", name): name for name in HARNESSES}
    return [
        (folders[path.parent.name], path)
        for path in sorted(CRASHERS.glob("*/*"))
        if path.parent.name in folders
    ]


def _keep(name: str, content: bytes) -> Path:
    path = CRASHERS / re.sub(r"\W", "_", name) / f"{zlib.crc32(content):08x}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def main() -> int:
    """Fuzz what is asked for, print the table; 1 if there is a finding."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for each harness")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("harness", nargs="*", help="all, where none is named")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print("| what | minutes | executions | corpus | lines reached | findings |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    found = 0
    for name in arguments.harness or HARNESSES:
        coverage = Coverage()
        result = fuzz(name, 60 * arguments.minutes, seed, coverage)
        coverage.close()
        print(
            f"| {name} | {arguments.minutes:g} | {result.executions:,} | {result.corpus:,} | "
            f"{result.lines:,} | {len(result.findings)} |",
            flush=True,
        )
        for where, content in result.findings.items():
            found += 1
            print(f"  {name}: {where}\n  kept as {_keep(name, content)}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
