"""``python -m benchmarks``: the same work through vledge and every installed peer, side by side.

Each number of threads has a process of its own, for most runtimes can be told it only once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.measuring.limits import LEVELS, measured_limits
from benchmarks.measuring.machine import caches, cpu, today
from benchmarks.measuring.workloads import matrix, quick_matrix
from benchmarks.peers import PEERS, load
from benchmarks.reports import layers as report

HERE = Path(__file__).resolve().parent

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CPU_NOTE = "CPU time of each process, for others used the machine meanwhile"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rows of each group")
    parser.add_argument("--filter", default="", metavar="REGEX", help="works whose name matches")
    parser.add_argument("--threads", default="1,2", help="numbers of threads (1,2)")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"({','.join(PEERS)})")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: the process's own time, for one thread on a machine that others use (wall)",
    )
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument(
        "--keep", action="store_true", help="keep the rows of --json that are not measured now"
    )
    parser.add_argument("--write-readme", action="store_true", help="renew benchmarks/README.md")
    parser.add_argument(
        "--write-boards",
        action="store_true",
        help="renew benchmarks/boards.md: a ratio for each peer that has an environment",
    )
    parser.add_argument("--list", action="store_true", help="list the works and stop")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.keep and not arguments.json:
        parser.error("--keep wants the --json whose rows it keeps")
    works = quick_matrix() if arguments.quick else matrix()
    works = [work for work in works if re.search(arguments.filter, work.name)]
    if arguments.list:
        for work in works:
            print(f"{work.group:<30} {work.name}")
        return 0
    names = [name for name in arguments.peers.split(",") if name and load(name).version()]
    if arguments.worker:
        return worker(works, names, arguments)
    counts = [int(count) for count in arguments.threads.split(",")]
    if arguments.clock == "cpu" and counts != [1]:
        parser.error("--clock cpu adds up the time of all threads: it wants --threads 1")
    # before, and after: the machine is not always quiet
    records, limits = [], [measured_limits()]
    for threads in counts:
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            command = [sys.executable, "-m", "benchmarks", *sys.argv[1:], "--worker", str(threads)]
            one_rule = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
            try:
                done = subprocess.run(
                    [*command, "--json", file.name], env={**os.environ, **one_rule}, check=False
                )
            except KeyboardInterrupt:
                print("stopped: what was measured until now is kept", flush=True)
                done = None
            if done is not None and done.returncode:
                return done.returncode
            records += json.loads(Path(file.name).read_text() or "[]")
            if done is None:
                break
    limits.append(measured_limits())
    reached = {name: max(two[name] for two in limits) for name in limits[0]}
    if arguments.keep:
        before = json.loads(arguments.json.read_text())
        rows = {(r["threads"], r["name"]): r for r in (*before["records"], *records)}
        records = list(rows.values())
        reached |= {n: max(reached.get(n, 0), v) for n, v in before["limits"].items()}
    result = {"machine": machine(names, arguments.clock), "limits": reached, "records": records}
    result["machine"]["limits of one core"] = (
        f"{reached['FMA peak']:.0f} GFLOP/s; reading "
        + ", ".join(f"{level} {reached[level]:.0f} GB/s" for level in LEVELS)
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))
    if arguments.write_boards:
        report.write_page(HERE / "boards.md", report.boards(records, result["machine"]))
    if arguments.write_readme:
        report.write_page(HERE / "README.md", report.markdown(records, result["machine"]))
        from benchmarks.reports.picture import draw, draw_roofline

        draw(records, HERE / "ratios.png")
        draw_roofline(records, result["limits"], HERE / "roofline.png")
    return 0


def worker(works: list[Any], names: list[str], arguments: argparse.Namespace) -> int:
    """One number of threads: measure, print as it goes, leave the record in --json."""
    from benchmarks.measuring import parts
    from benchmarks.measuring.measure import run_workload

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    records = []
    for work in works:
        record = run_workload(
            work, names, arguments.worker, arguments.rounds, CLOCKS[arguments.clock]
        )
        record["parts"] = parts.measured(work, arguments.worker, arguments.rounds)
        records.append(record)
        print(report.text_row(report.row_of(record)), flush=True)
        for name, why in record["failures"].items():
            print(f"   left out: {name}: {why}", flush=True)
        arguments.json.write_text(json.dumps(records))  # as far as it came, if it is stopped
    return 0


def machine(names: list[str], clock: str = "wall") -> dict[str, Any]:
    """What the figures were measured on and with."""
    from vledge.machine.system import describe

    ours = describe()
    return {
        "measured": today(),
        "CPU": ", ".join([cpu(), *caches()]),
        "vledge": f"{ours['vledge']}, instruction set {ours['chosen']}",
        "peers": ", ".join(f"{name} {load(name).version()}" for name in names),
        "python": platform.python_version(),
        **({"times": CPU_NOTE} if clock == "cpu" else {}),
        **{f"note {i}": note for i, note in enumerate(_notes(names), 1)},
    }


def _notes(names: list[str]) -> list[str]:
    return [note for name in ("vledge", *names) for note in load(name).notes()]


if __name__ == "__main__":
    sys.exit(main())
