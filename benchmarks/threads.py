"""``python -m benchmarks.threads``: what more threads gain, and that they never cost.

For each work: how many times as quick two threads are as one, measured, as the median of pairs of
turns and by the best of each; and how many times as quick as one 2, 4, 8 and 16 threads would be,
simulated. For that the engine itself chooses how so many threads share each layer, and does each
member's part, one after the other on one thread, with its clock in hand. A thread's tasks follow
each other, a team's take as long as its slowest member and its meetings, which are measured
between two threads, times the rounds that a larger team needs. What this leaves out: that cores
share a cache and memory, and run slower together.

"8 on 2": the time of eight threads on this machine's cores, though it has fewer, over that of as
many threads as cores. Nobody runs so: no call has more threads than cores.

``--most 16`` measures up to 16 threads, where there are as many cores, beside what is simulated.
``--write`` renews docs/records/threads.md.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vledge
from benchmarks.measuring.workloads import Workload, log_normal
from benchmarks.reports.layers import write_page
from vledge import nn
from vledge._ext.recurrent import limits, rehearsal, seconds_of_meetings
from vledge.machine.system import describe
from vledge.machine.threads import usable_cores

PAGE = Path(__file__).parents[1] / "docs/records/threads.md"
SIMULATED = (2, 4, 8, 16)
OVER = 8
SAMPLE_SECONDS = 0.01
#: A column may be lower than one of fewer threads by this share: both are measured.
GRAIN = 0.05


def _work(
    cell: str, sizes: tuple[int, int], lengths: tuple[int, ...], layers: int = 1, both: bool = False
) -> Workload:
    equal = len(set(lengths)) == 1
    kind = "equal" if equal and len(lengths) > 1 else "" if equal else "var"
    name = f"{cell} I{sizes[0]} H{sizes[1]} B{len(lengths)} T{max(lengths)}"
    name += f" {layers} layers bidirectional" if both else ""
    return Workload(f"{name} {kind}".strip(), "other", "var", cell, *sizes, lengths, layers, both)  # type: ignore[arg-type]


#: Those of which the figures of 16 cores are known.
WORKS = (
    _work("LSTM", (40, 128), log_normal(32, 200)),
    _work("LSTM", (256, 256), log_normal(32, 200), 2, both=True),
    _work("LSTM", (128, 512), log_normal(64, 300)),
    _work("GRU", (40, 256), log_normal(256, 200)),
    _work("LSTM", (80, 256), (500,), 2, both=True),
    _work("LSTM", (512, 512), (200,)),
    _work("LSTM", (256, 256), (100,) * 32, 2, both=True),
    _work("GRU", (512, 1024), (100,)),
)


def caller(work: Workload) -> Callable[[int], Any]:
    """Runs the work on so many threads."""
    layer, inputs = getattr(nn, work.cell).from_weights(work.weights()), work.inputs()

    def run(threads: int) -> Any:
        vledge.set_num_threads(threads)
        return layer(inputs.x, lengths=inputs.lengths)

    return run


def seconds(run: Callable[[int], Any], threads: int) -> float:
    """The least of a few calls in a row, after one that wakes threads."""
    run(threads)
    taken = []
    while len(taken) < 2 or sum(taken) < SAMPLE_SECONDS:
        start = time.perf_counter()
        run(threads)
        taken.append(time.perf_counter() - start)
    return min(taken)


def gain(run: Callable[[int], Any], few: int, many: int, rounds: int) -> tuple[float, float]:
    """How many times as quick it is on many threads: the median of pairs, and the best of each,
    which is the machine with nobody else on it."""
    taken: dict[int, list[float]] = {few: [], many: []}
    for turn in range(rounds):
        for threads in (few, many) if turn % 2 else (many, few):
            taken[threads].append(seconds(run, threads))
    pairs = zip(taken[few], taken[many], strict=True)
    return statistics.median(a / b for a, b in pairs), min(taken[few]) / min(taken[many])


def meeting_seconds() -> float:
    """A round of a meeting: what two threads take who do nothing but meet."""
    count = 2_000
    once = min(seconds_of_meetings(2, 1) for _ in range(20))
    return (min(seconds_of_meetings(2, 1 + count) for _ in range(20)) - once) / count


def scheduled(shared: dict[str, Any], steps: int, meeting: float) -> float:
    """What the engine's way of sharing takes: the seconds of its members' parts, put together."""
    teams, team = shared["members"] // shared["team"], shared["team"]
    rounds = (team - 1).bit_length()
    tasks = [max(parts) + steps * rounds * meeting for parts in shared["seconds"]]
    if team > 1:  # each team has its tasks
        return max(sum(tasks[number::teams]) for number in range(teams))
    free = [0.0] * teams  # the next task goes to the thread that has done with its own
    for seconds in tasks:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def simulated(work: Workload, counts: tuple[int, ...], meeting: float, rounds: int) -> list[float]:
    """Seconds on so many threads."""
    layer = getattr(nn, work.cell).from_weights(work.weights())
    sizes = np.array([sum(length > t for length in work.lengths) for t in range(work.time_steps)])
    rng = np.random.default_rng(0)
    taken = [0.0] * len(counts)
    for directions in layer.stack.layers:
        width = directions[0].input_size
        data = rng.standard_normal((work.real_steps, width)).astype(np.float32)
        best: list[dict[str, Any]] = [{} for _ in counts]
        for _ in range(rounds):  # by turns, so that all meet the same disturbances
            for i, count in enumerate(counts):
                told = rehearsal(directions, data, sizes, count)
                if best[i]:
                    pairs = zip(told["seconds"], best[i]["seconds"], strict=True)
                    told["seconds"] = [list(map(min, a, b)) for a, b in pairs]
                best[i] = told
        for i, told in enumerate(best):
            taken[i] += scheduled(told, work.time_steps, meeting)
    return taken


def main() -> None:
    """Print a line for each work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of each work (9)")
    parser.add_argument("--most", type=int, default=2, help="threads to be measured up to (2)")
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name}'s table")
    arguments = parser.parse_args()
    lines: list[str] = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    cores = usable_cores()
    measured = [count for count in (2, 4, 8, 16, 32, 64) if count <= min(arguments.most, cores)]
    meeting = meeting_seconds()
    cpu = describe()["model"]
    date = time.strftime("%d %B %Y", time.gmtime())
    tell(f"{cpu}, {cores} cores, {date}; a round of a meeting takes {meeting * 1e9:.0f} ns.\n")
    heads = [f"{count} measured" for count in measured] + [f"{n} simulated" for n in SIMULATED]
    tell(f"| work | {' | '.join(heads)} | {OVER} on {cores} |\n|---|{'---|' * (len(heads) + 1)}")
    falls = 0
    for work in WORKS:
        run = caller(work)
        told = [gain(run, 1, count, arguments.rounds) for count in measured]
        before = limits()
        limits(cores=OVER)
        over = gain(run, OVER, cores, arguments.rounds)
        # threads that are called again and again are awake
        limits(cores=0, wake_nanoseconds=0, next_wake_nanoseconds=0)
        alone, *taken = simulated(work, (1, *SIMULATED), meeting, 3)
        limits(**before)
        gains = [alone / one for one in taken]
        for row in ([median for median, _ in told], gains):
            falls += sum(b < a * (1 - GRAIN) for a, b in zip([1.0, *row], row, strict=False))
        cells = [f"{median:.2f}, at best {best:.2f}" for median, best in told]
        cells += [f"{one:.2f}" for one in gains]
        cells.append(f"{over[0]:.2f}, at best {over[1]:.2f}")
        tell(f"| {work.name} | {' | '.join(cells)} |")
    tell(f"\n{falls} times more threads were slower than fewer by over {GRAIN:.0%}.")
    if arguments.write:
        write_page(PAGE, "\n".join(lines))


if __name__ == "__main__":
    main()
