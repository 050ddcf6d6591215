"""``python -m benchmarks.score``: an archive through a layer, beside scripts that users write.

For each case an archive of Parquet files is made and goes, by turns, through `vledge score`, a
torch script (DataLoader, sorted by length, packed) and onnxruntime (padded, with lengths); each
reads the files and writes ids and last outputs. By one process of one thread, by one of two, and by
two of one thread with half of the files each. "bare" is vledge's engine alone, on the same
sequences in memory. Of several turns the quickest counts. Rows a second of processor time
are told, too: they hold where others use the machine.

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

from benchmarks.measuring.machine import cpu, today
from benchmarks.score.archive import CASES, Case, save_model, write_archive

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "records" / "archives.md"
FILES = 4
ENGINES = ("bare", "vledge score", "torch", "onnxruntime")
#: Processes, and threads of each.
WAYS = ((1, 1), (1, 2), (2, 1))
HUNDRED = 100

HEAD = """\
# Archives

How fast `vledge score` takes an archive of Parquet files through a layer, beside a torch script
that a user would write (DataLoader, sorted by length, packed) and onnxruntime (padded, with
lengths). Each reads the files and writes ids and the last output of each row. "bare" is vledge's
engine alone, on the same sequences, which are in memory when the clock starts.

"""


def command(
    engine: str, case: Case, folder: Path, threads: int, output: Path, files: list[Path]
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
        rest = [engine, model, str(threads), str(output), case.cell]
    return [sys.executable, "-m", module, *rest, *names]


def turn(
    engine: str, case: Case, folder: Path, processes: int, threads: int
) -> tuple[float, float]:
    """(seconds of the slowest process, processor seconds of all)."""
    files = sorted((folder / "in").glob("*.parquet"))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory(dir=folder) as output:
        running = [
            subprocess.Popen(
                command(engine, case, folder, threads, Path(output), files[i::processes]),
                stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
            )
            for i in range(processes)
        ]  # fmt: skip
        told = [process.communicate()[0].split() for process in running]
        if any(process.returncode for process in running):
            raise RuntimeError(f"{engine} failed on {case.name}")
    return max(float(one[0]) for one in told), sum(float(one[1]) for one in told)


def measured(
    case: Case, folder: Path, rounds: int
) -> dict[tuple[str, int, int], tuple[float, float]]:
    """(engine, processes, threads) -> the least seconds, and processor seconds."""
    write_archive(folder / "in", case, FILES)
    save_model(folder, case)
    times = defaultdict(list)
    for _ in range(rounds):
        for processes, threads in WAYS:
            for engine in ENGINES:
                if engine != "bare" or processes == 1:
                    times[engine, processes, threads].append(
                        turn(engine, case, folder, processes, threads)
                    )
    return {
        key: (min(t[0] for t in found), min(t[1] for t in found)) for key, found in times.items()
    }


def table(
    case: Case, times: dict[tuple[str, int, int], tuple[float, float]], files: list[Path]
) -> str:
    """As Markdown."""
    nbytes = sum(file.stat().st_size for file in files)
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
            one = times.get((engine, *way))
            cells.append("" if one is None else f"{case.rows / one[0]:,.0f}")
        base, own = times.get(("bare", *way)), times[("vledge score", *way)]
        share = "" if base is None else f"{base[0] / own[0]:.2f}; CPU {base[1] / own[1]:.2f}"
        used = ", ".join(f"{case.rows / times[(e, *way)][1]:,.0f}" for e in ENGINES[1:])
        lines.append(f"| {way[0]} x {way[1]} | {' | '.join(cells)} | {share} | {used} |")
    return "\n".join(lines) + "\n"


def sizes(found: list[tuple[Case, dict[tuple[str, int, int], tuple[float, float]], int]]) -> str:
    """How large an archive in a night, from the rates."""
    lines = [
        "## How large an archive on what",
        "Computed from the rates above: what this machine's two cores score in an hour, how long a",
        f"million of such sequences take it, and what {HUNDRED} such machines would do in an hour",
        "if each had its files at hand; nobody has tried that.",
        "",
        "| case | sequences an hour | Parquet an hour | a million sequences "
        f"| {HUNDRED} machines, an hour |",
        "|---|---|---|---|---|",
    ]
    for case, times, nbytes in found:
        rate = case.rows / min(times["vledge score", 1, 2][0], times["vledge score", 2, 1][0])
        hour = rate * 3600
        lines.append(
            f"| {case.name} | {hour / 1e6:.1f} million "
            f"| {hour * nbytes / case.rows / 1e9:.1f} GB | {1e6 / rate / 60:.0f} min "
            f"| {hour * HUNDRED / 1e6:,.0f} million |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print, and write, a table for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.score", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (3)")
    parser.add_argument("--case", action="append", help="of these only, by a part of their names")
    parser.add_argument("--write", action="store_true", help="write docs/records/archives.md")
    arguments = parser.parse_args()
    parts, found = [], []
    for case in CASES:
        if arguments.case and not any(one in case.name for one in arguments.case):
            continue
        with tempfile.TemporaryDirectory() as folder:
            times = measured(case, Path(folder), arguments.rounds)
            files = list((Path(folder) / "in").iterdir())
            parts.append(table(case, times, files))
            found.append((case, times, sum(file.stat().st_size for file in files)))
        print(parts[-1], flush=True)
    parts.append(sizes(found))
    print(parts[-1])
    if arguments.write:
        made = (
            f"Rows a second, the quickest of {arguments.rounds} turns; on {cpu()}, {today()}.\n"
            + "Made by `python -m benchmarks.score --write`.\n\n"
        )
        RECORD.write_text(HEAD + made + "\n".join(parts))


if __name__ == "__main__":
    main()
