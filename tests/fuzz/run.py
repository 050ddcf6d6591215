"""The fuzzer's loop, and its table: ``python -m tests.fuzz.run --minutes 30 [harness ...]``.

Each harness has so many minutes of processor time, in turns, so that a run that is ended early (by
Ctrl-C or SIGTERM, which print the table as it stands) has left none out. An input that reaches a
new line is kept to be changed again; one that is a finding is written to ``tests/fuzz/crashers/``
and is a test from then on. ``--kept FOLDER`` begins with the inputs that earlier runs left there,
and its figures are of all of them together, so that hours can be had in several sittings.
``--write`` puts the rows into docs/records/reliability.md, in the place of shorter runs of the same
harnesses.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import signal
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from tests.fuzz.coverage import Coverage, Line, watching
from tests.fuzz.harnesses import HARNESSES

__all__ = ["CRASHERS", "Campaign", "crashers", "replay", "with_rows"]

RECORD = Path(__file__).parents[2] / "docs" / "records" / "reliability.md"
HEAD = (
    "| what | executions | seconds of processor | corpus | lines | findings | Python | day |",
    "|---|---|---|---|---|---|---|---|",
)
CRASHERS = Path(__file__).parent / "crashers"
SECONDS_OF_A_CALL = 10  # of processor time
SECONDS_OF_A_TURN = 20  # likewise
MOST_MEMORY = (
    256 << 20
)  # that a call may add: a small file's 64 MiB, its run's 64 MiB, and as much again
MOST_KEPT = 2_000
TOTALS = "totals.json"


class Slow(BaseException):
    """A call has taken too long; no error that anybody handles."""


class Large(Exception):
    """A call has taken too much memory."""


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise Slow


def replay(name: str, content: bytes) -> None:
    """One input through a harness, within its time and memory."""
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    peak = _peak()
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS_OF_A_CALL)
    try:
        HARNESSES[name].door(content)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    if (grown := _peak() - peak) > MOST_MEMORY:
        raise Large(f"{grown >> 20} MiB more than any call before it")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Campaign:
    """A harness, and what has come of it; the same seed begins with the same inputs.

    With a folder, it goes on where the last one that had it ended, and its figures are of both.
    """

    def __init__(self, name: str, seed: int, kept: Path | None = None) -> None:
        self.name = name
        self.corpus = list(HARNESSES[name].seeds())
        self.lines: set[Line] = set()
        self.findings: dict[str, bytes] = {}  #: by where they were raised, the first input of each
        self.executions = 0
        self.seconds = 0.0  #: of processor time
        self.folder = kept and kept / folder_of(name)
        if self.folder is not None and (totals := self.folder / TOTALS).exists():
            self.executions, self.seconds = json.loads(totals.read_text())
            inputs = sorted(path for path in self.folder.iterdir() if path != totals)
            self.corpus += [
                content for path in inputs if (content := path.read_bytes()) not in self.corpus
            ]
        self._waiting = list(self.corpus)
        self._rng = random.Random(seed)

    def turn(self, seconds: float) -> None:
        """Go on for so much processor time."""
        begin = time.process_time()
        try:
            with watching(self.lines) as coverage:
                while time.process_time() - begin < seconds:
                    self._one(coverage)
        finally:
            self.seconds += time.process_time() - begin
            self._keep()

    def _keep(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for content in self.corpus:
            path = self.folder / f"{zlib.crc32(content):08x}"
            if not path.exists():
                path.write_bytes(content)
        (self.folder / TOTALS).write_text(json.dumps([self.executions, self.seconds]))

    def _one(self, coverage: Coverage) -> None:
        content = self._waiting.pop() if self._waiting else self._changed()
        self.executions += 1
        try:
            with coverage:
                replay(self.name, content)
        except (Exception, Slow) as error:
            self.findings.setdefault(_place(error), content)
        if coverage.grown and len(self.corpus) < MOST_KEPT:
            self.corpus.append(content)

    def _changed(self) -> bytes:
        return HARNESSES[self.name].mutate(self._rng, self._rng.choice(self.corpus))

    @property
    def row(self) -> str:
        """Of the table."""
        return (
            f"| {self.name} | {self.executions:,} | {self.seconds:,.0f} | {len(self.corpus):,} | "
            f"{len(self.lines):,} | {len(self.findings)} | "
            f"{sys.version_info.major}.{sys.version_info.minor} | {time.strftime('%Y-%m-%d')} |"
        )


def with_rows(page: str, rows: Iterable[str]) -> str:
    """The page with these rows in its table: the longer run of a harness is the one that counts."""
    before, rest = page.split(HEAD[0] + "\n" + HEAD[1] + "\n")
    old, after = rest.split("\n\n", 1)
    table = {_cells(row)[0]: row for row in old.splitlines()}
    for row in rows:
        name = _cells(row)[0]
        if name not in table or _seconds(row) >= _seconds(table[name]):
            table[name] = row
    return "\n".join([before + HEAD[0], HEAD[1], *table.values()]) + "\n\n" + after


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def _seconds(row: str) -> int:
    return int(_cells(row)[2].replace(",", ""))


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/vledge/" in frame.filename] or frames[-1:]
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:200]}"


def folder_of(name: str) -> str:
    """What a harness's inputs lie in."""
    return re.sub(r"\W", "_", name)


def crashers() -> list[tuple[str, Path]]:
    """(harness, file) of all that was once found."""
    folders = {folder_of(name): name for name in HARNESSES}
    return [
        (folders[path.parent.name], path)
        for path in sorted(CRASHERS.glob("*/*"))
        if path.parent.name in folders
    ]


def _keep_all(campaign: Campaign) -> None:
    for where, content in campaign.findings.items():
        path = CRASHERS / folder_of(campaign.name) / f"{zlib.crc32(content):08x}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(f"  {campaign.name}: {where}\n  kept as {path}", file=sys.stderr, flush=True)


def main() -> int:
    """Fuzz what is asked for, print the table; 1 if there is a finding."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of processor time for each")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--kept", type=Path, help="a folder of inputs, to go on another day")
    parser.add_argument("--write", action="store_true", help=f"the rows into {RECORD.name}")
    parser.add_argument("harness", nargs="*", help="all, where none is named")
    arguments = parser.parse_args()
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    campaigns = [Campaign(name, seed, arguments.kept) for name in arguments.harness or HARNESSES]
    try:
        while waiting := [each for each in campaigns if each.seconds < 60 * arguments.minutes]:
            for campaign in waiting:
                campaign.turn(min(SECONDS_OF_A_TURN, 60 * arguments.minutes - campaign.seconds))
                _keep_all(campaign)
    except KeyboardInterrupt:
        print("ended early", file=sys.stderr)
    rows = [campaign.row for campaign in campaigns]
    print("\n".join([*HEAD, *rows]), flush=True)
    if arguments.write:
        RECORD.write_text(with_rows(RECORD.read_text(), rows))
    return 1 if any(campaign.findings for campaign in campaigns) else 0


if __name__ == "__main__":
    sys.exit(main())
