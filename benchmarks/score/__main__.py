"""``python -m benchmarks.score``: an archive through a layer, beside scripts that users write.

For each case an archive of Parquet files is made and goes, by turns, through `vledge score`, a
torch script (DataLoader, sorted by length, packed) and onnxruntime (padded, with lengths); each
reads the files and writes ids and last outputs. By one process of one thread, by one of two, and by
two of one thread with half of the files each. "bare" is vledge's engine alone, on the same
sequences in memory. Of several turns the quickest counts. Rows a second of processor time
are told, too: they hold where others use the machine. A script that has run for ``--limit`` seconds
is stopped: its rate is that of the steps which it has run, and marked.

Then a file of each kind through `vledge score`, and ``--millions`` of short sequences.
``--write`` writes docs/records/archives.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from benchmarks.measuring.machine import cpu, today
from benchmarks.score.archive import CASES, Case, noise_table, save_model, write_archive, write_as
from benchmarks.score.many import many

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "records" / "archives.md"
FILES = 4
ENGINES = ("bare", "vledge score", "torch", "onnxruntime")
#: Processes, and threads of each.
WAYS = ((1, 1), (1, 2), (2, 1))
KINDS = (".parquet", ".arrow", ".npz")
KIND_ROWS = 10_000  # at most, of the file of each kind: an .npz holds an array a row
HUNDRED = 100

HEAD = """\
# Archives

How fast `vledge score` takes an archive of Parquet files through a layer, beside a torch script
that a user would write (DataLoader, sorted by length, packed) and onnxruntime (padded, with
lengths). Each reads the files and writes ids and the last output of each row. "bare" is vledge's
engine alone, on the same sequences, which are in memory when the clock starts. "of bare" is the
throughput of `vledge score` as a share of that; reading and writing have threads of their own,
which by processor time count in full: pyarrow's Parquet is most of what is missing to 1.

Threads of torch and onnxruntime spin while they wait for each other. Where others use the machine,
two of them may take many times as long as one: there, 1 x 1 is the fair row.

"""


class Turn(NamedTuple):
    """What a turn, or the best of several, took."""

    seconds: float  #: of the slowest process
    cpu: float  #: seconds, of all
    share: float  #: of all steps: less than 1 where it was stopped

    def rate(self, rows: int) -> float:
        """Rows a second."""
        return rows * self.share / self.seconds

    def cpu_rate(self, rows: int) -> float:
        """Rows a second of processor time."""
        return rows * self.share / self.cpu


Times = dict[tuple[str, tuple[int, int]], Turn]  # by engine, and processes and threads


def command(
    engine: str, case: Case, folder: Path, threads: int, output: Path, files: list[Path], limit: int
) -> list[str]:
    """What a process of this engine is started with."""
    plain, graph = folder / "model.safetensors", folder / "model.onnx"
    names = [str(file) for file in files]
    if engine in ("bare", "vledge score"):
        way = "bare" if engine == "bare" else "score"
        module, rest = "benchmarks.score.own", [way, str(plain), str(threads), str(output)]
    else:
        model = str(plain if engine == "torch" else graph)
        module = "benchmarks.score.scripts"
        rest = [engine, model, str(threads), str(output), case.cell, str(limit)]
    return [sys.executable, "-m", module, *rest, *names]


def turn(
    engine: str, case: Case, folder: Path, files: list[Path], way: tuple[int, int], limit: int
) -> Turn:
    """The files through an engine, by so many processes and threads."""
    processes, threads = way
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        output = Path(name)
        running = [
            subprocess.Popen(
                command(engine, case, folder, threads, output, files[i::processes], limit),
                stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
            )
            for i in range(processes)
        ]  # fmt: skip
        printed = [process.communicate()[0].split() for process in running]
        if any(process.returncode for process in running):
            raise RuntimeError(f"{engine} failed on {case.name}")
    told = [Turn(*map(float, one)) for one in printed]
    share = sum(one.share for one in told) / processes
    return Turn(max(one.seconds for one in told), sum(one.cpu for one in told), share)


def best(turns: list[Turn]) -> Turn:
    """The quickest, and the least of the processor."""
    quickest = min(turns, key=lambda one: one.seconds / one.share)
    thriftiest = min(turns, key=lambda one: one.cpu / one.share)
    return quickest._replace(cpu=thriftiest.cpu / thriftiest.share * quickest.share)


def measured(case: Case, folder: Path, rounds: int, limit: int) -> Times:
    """What each engine took, in each way."""
    files = write_archive(folder / "in", case, FILES)
    save_model(folder, case)
    times = defaultdict(list)
    for _ in range(rounds):
        for way in WAYS:
            for engine in ENGINES:
                if engine != "bare" or way[0] == 1:
                    times[engine, way].append(turn(engine, case, folder, files, way, limit))
    return {key: best(turns) for key, turns in times.items()}


def table(case: Case, times: Times, nbytes: int) -> str:
    """As Markdown."""
    steps = case.rows * (case.shortest + case.longest) / 2
    lines = [
        f"## {case.name.capitalize()}",
        f"{case.cell} {case.input_size} to {case.hidden_size}, {case.rows:,} sequences of "
        f"{case.shortest:,} to {case.longest:,} steps ({steps / 1e6:.1f} million, "
        f"{nbytes / 1e6:.0f} MB of Parquet) in {FILES} files.",
        "",
        "| processes x threads | "
        + " | ".join(ENGINES)
        + " | of bare | rows a CPU second: vledge, torch, onnxruntime |",
        "|---|" + "---|" * (len(ENGINES) + 2),
    ]
    for way in WAYS:
        cells = []
        for engine in ENGINES:
            one = times.get((engine, way))
            stopped = "" if one is None or one.share == 1 else "*"
            cells.append("" if one is None else f"{one.rate(case.rows):,.0f}{stopped}")
        base, own = times.get(("bare", way)), times["vledge score", way]
        share = ""
        if base is not None:
            share = f"{base.seconds / own.seconds:.2f}; CPU {base.cpu / own.cpu:.2f}"
        used = ", ".join(f"{times[e, way].cpu_rate(case.rows):,.0f}" for e in ENGINES[1:])
        lines.append(f"| {way[0]} x {way[1]} | {' | '.join(cells)} | {share} | {used} |")
    least = min(one.share for one in times.values())
    if least < 1:
        lines += ["", f"\\* stopped, having run {least:.0%} of all steps or more."]
    return "\n".join(lines) + "\n"


def kinds(cases: list[Case], rounds: int) -> str:
    """A file of each kind through `vledge score`, as Markdown."""
    lines = [
        "## Kinds of files",
        "Rows a second of processor time by one thread, the same sequences in a file of each kind; "
        "results are always Parquet.",
        "",
        "| case | rows | " + " | ".join(KINDS) + " |",
        "|---|---|" + "---|" * len(KINDS),
    ]
    for case in cases:
        rows = min(case.rows, KIND_ROWS)
        cells = []
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_model(folder, case)
            data = noise_table(case, rows, 0)
            for kind in KINDS:
                file = folder / f"in{kind}"
                write_as(file, data)
                turns = [
                    turn("vledge score", case, folder, [file], (1, 1), 0) for _ in range(rounds)
                ]
                cells.append(f"{best(turns).cpu_rate(rows):,.0f}")
        lines.append(f"| {case.name} | {rows:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def sizes(found: list[tuple[Case, Times, int]]) -> str:
    """How large an archive in an hour, from the rates."""
    lines = [
        "## How large an archive on what",
        "Computed from rows a CPU second of two processes: what two such cores score in an hour if",
        "they do nothing else, how long a million of such sequences take them, and what",
        f"{HUNDRED} such machines would do in an hour if each had its files at hand; nobody has "
        "tried that.",
        "",
        "| case | sequences an hour | Parquet an hour | a million sequences "
        f"| {HUNDRED} machines, an hour |",
        "|---|---|---|---|---|",
    ]
    for case, times, nbytes in found:
        rate = 2 * times["vledge score", (2, 1)].cpu_rate(case.rows)
        hour = rate * 3600
        lines.append(
            f"| {case.name} | {hour / 1e6:.1f} million "
            f"| {hour * nbytes / case.rows / 1e9:.1f} GB | {1e6 / rate / 60:.1f} min "
            f"| {hour * HUNDRED / 1e6:,.0f} million |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print, and write, a table for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (3)")
    parser.add_argument("--limit", type=int, default=30, help="seconds of a peer's turn (30)")
    parser.add_argument("--millions", type=float, default=10, help="of short sequences (10)")
    parser.add_argument("--case", action="append", help="of these only, by a part of their names")
    parser.add_argument("--write", action="store_true", help="write docs/records/archives.md")
    arguments = parser.parse_args()
    cases = [c for c in CASES if not arguments.case or any(o in c.name for o in arguments.case)]
    parts: list[str] = []

    def said(part: str) -> None:
        parts.append(part)
        print(part, flush=True)

    found = []
    loads = [os.getloadavg()[1]]
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            times = measured(case, Path(folder), arguments.rounds, arguments.limit)
            nbytes = sum(file.stat().st_size for file in (Path(folder) / "in").iterdir())
        found.append((case, times, nbytes))
        said(table(case, times, nbytes))
        loads.append(os.getloadavg()[1])
    said(kinds(cases, arguments.rounds))
    said(sizes(found))
    line, _ = many(arguments.millions)
    said(f"## Millions of short ones\nMade as they are read: {line}.\n")
    if arguments.write:
        made = (
            f"Rows a second, the quickest of {arguments.rounds} turns; on {cpu()}, {today()}. "
            f"With what else ran there, {min(loads):.0f} to {max(loads):.0f} processes wanted its "
            "CPUs on the average: where that is more than there are, look at rows a CPU second."
            f"\nMade by `python -m benchmarks.score {' '.join(sys.argv[1:])}`.\n\n"
        )
        RECORD.write_text(HEAD + made + "\n".join(parts))


if __name__ == "__main__":
    main()
