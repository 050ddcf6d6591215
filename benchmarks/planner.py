"""``python -m benchmarks.planner``: is the strategy that a plan puts first the fastest one?

Random cases, each measured with every strategy that can run it, in interleaved rounds; what counts
is a strategy's least time. All cases are measured again in a second pass: what disturbs the machine
for some seconds spoils none. Prints each case, and how far the picked ones were from the best.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import vledge
from benchmarks.lengths import drawn
from vledge.planning import costs
from vledge.planning.choice import forget

#: What ``strategy="auto"`` takes, with its planning: where lengths are new, and where they come
#: again.
NEW, AGAIN = "auto on new lengths", "auto on lengths that come again"
DISTRIBUTIONS = ("equal", "uniform", "log-normal", "bimodal", "one giant")


class Drawn(NamedTuple):
    """One random case."""

    distribution: str
    form: str
    cell: str
    input_size: int
    hidden_size: int
    lengths: tuple[int, ...]


def cases(count: int, seed: int, most_work: float = 3e9) -> list[Drawn]:
    """Distributions, forms and cells in turn; all else drawn, sizes evenly in logarithms.

    A case of more than ``most_work`` multiply-adds is drawn again: it would be all of the time.
    """
    generator = np.random.default_rng(seed)

    def between(low: int, high: int) -> int:
        return round(float(np.exp(generator.uniform(np.log(low), np.log(high)))))

    found: list[Drawn] = []
    while len(found) < count:
        i = len(found)
        batch, hidden_size, input_size = between(1, 512), between(16, 512), between(8, 256)
        distribution = DISTRIBUTIONS[i % 5]
        typical = between(5, 200)
        if distribution == "equal":
            lengths = np.full(batch, typical)
        elif distribution == "uniform":
            lengths = generator.integers(1, 2 * typical, batch)
        elif distribution == "log-normal":
            lengths = np.clip(generator.lognormal(np.log(typical), 0.7, batch), 1, 2000).astype(int)
        elif distribution == "bimodal":
            long = generator.random(batch) < 0.3
            lengths = np.where(long, 4 * typical, typical // 2 + 1)
            lengths = np.maximum(1, lengths + generator.integers(-typical // 8, typical // 8 + 1))
        else:
            lengths = generator.integers(1, typical + 1, batch)
            lengths[generator.integers(batch)] = 10 * typical
        cell = ("LSTM", "GRU")[i // 5 % 2]
        gates = {"LSTM": 4, "GRU": 3}[cell]
        work = float(lengths.sum()) * gates * hidden_size * (hidden_size + input_size)
        if work <= most_work and lengths.max() * batch * max(hidden_size, input_size) < 1e8:
            form = ("list", "padded")[i // 10 % 2]
            lengths_of_case = tuple(int(n) for n in lengths)
            found.append(Drawn(distribution, form, cell, input_size, hidden_size, lengths_of_case))
    return found


def measure(
    case: Drawn, threads: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """The plan's first, and what its strategies are predicted to take and have taken at least."""
    layer, sequences = drawn(case.cell, case.input_size, case.hidden_size, case.lengths)
    given: Any = sequences
    options: dict[str, Any] = {}
    if case.form == "padded":
        given, options = vledge.pad_sequence(sequences), {"lengths": np.array(case.lengths)}
    start = time.perf_counter()
    plan = vledge.plan(case.lengths, layer, threads=threads, form=case.form)
    planning = time.perf_counter() - start
    ways: dict[str, Callable[[], Any]] = {
        p.strategy: partial(layer, given, strategy=p.strategy, **options, **p.options)
        for p in plan.ranking
    }

    def auto_on_new_lengths() -> Any:
        forget()
        return layer(given, strategy="auto", **options)

    ways[NEW] = auto_on_new_lengths
    ways[AGAIN] = partial(layer, given, strategy="auto", **options)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds + 1):
        for name, way in ways.items():
            if i > 2 and min(taken[name]) > 2 * min(map(min, taken.values())):
                continue  # not the best, whatever the rounds to come say
            # as many calls as make a sample of a millisecond
            calls = max(1, min(50, int(1e-3 / min(taken[name], default=1))))
            start = clock()
            for _ in range(calls):
                way()
            taken[name].append((clock() - start) / calls)
    autos = {name: min(taken.pop(name)[1:]) for name in (NEW, AGAIN)}
    return {
        **case._asdict(),
        "picked": plan.best.strategy,
        "predicted": {p.strategy: p.seconds for p in plan.ranking},
        "measured": {name: min(times[1:]) for name, times in taken.items()},
        "auto": autos,
        "planning": planning,
    }


def merged(before: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """One case measured twice: the least of each time."""
    least = {
        name: min(seconds, again["measured"][name]) for name, seconds in before["measured"].items()
    }
    autos = {name: min(seconds, again["auto"][name]) for name, seconds in before["auto"].items()}
    return {**before, "measured": least, "auto": autos}


def row(record: dict[str, Any]) -> str:
    """One line of the table."""
    measured, picked = record["measured"], record["picked"]
    best = min(measured, key=measured.__getitem__)
    return (
        f"{record['distribution']:10} {record['form']:6} {record['cell']:4} "
        f"{record['input_size']:3} to {record['hidden_size']:3}  B {len(record['lengths']):3}  "
        f"T {max(record['lengths']):4}  {picked:9} {measured[picked] * 1e3:8.2f} ms "
        f"(predicted {record['predicted'][picked] * 1e3:8.2f})  best {best:9} "
        f"{ratio(record):5.2f} x  "
        f"auto {automatic(record, NEW):5.2f}, again {automatic(record, AGAIN):5.2f} x"
    )


def automatic(record: dict[str, Any], name: str) -> float:
    """What "auto" takes by the best strategy's time."""
    return record["auto"][name] / min(record["measured"].values())


def ratio(record: dict[str, Any]) -> float:
    """The picked strategy's time by the best one's."""
    return record["measured"][record["picked"]] / min(record["measured"].values())


def summary(records: list[dict[str, Any]]) -> str:
    """The table at the end: by distribution, and the two promises."""
    lines = [f"{'':12}cases  within 10 %  worst  always natural: within 10 %  worst"]
    natural = {"list": "packed", "padded": "padded"}
    for name in (*DISTRIBUTIONS, "all"):
        some = [r for r in records if name in (r["distribution"], "all")]
        if not some:
            continue
        ratios = np.array([ratio(r) for r in some])
        plain = np.array(
            [r["measured"][natural[r["form"]]] / min(r["measured"].values()) for r in some]
        )
        lines.append(
            f"{name:12}{len(some):5}  {(ratios <= 1.1).mean():10.0%}  {ratios.max():5.2f}  "
            f"{(plain <= 1.1).mean():26.0%}  {plain.max():5.2f}"
        )
    for name in (NEW, AGAIN):
        autos = np.array([automatic(r, name) for r in records])
        lines.append(
            f"{name}: {np.median(autos):.2f} x the best at the median, within 5 % in "
            f"{(autos <= 1.05).mean():.0%}, worst {autos.max():.2f}"
        )
    picked = Counter(r["picked"] for r in records)
    lines.append("picked: " + ", ".join(f"{name} {n}" for name, n in picked.most_common()))
    return "\n".join(lines)


def holds(records: list[dict[str, Any]]) -> bool:
    """Within 10 % of the best in 90 % of the cases, and never worse than 1.5 times it."""
    ratios = np.array([ratio(r) for r in records])
    return bool((ratios <= 1.1).mean() >= 0.9 and ratios.max() <= 1.5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=4, help="in each of the two passes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="time that this thread ran, for a machine that others use, too; with one thread",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the records there, too")
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads > 1:
        parser.error("--cpu-time is of one thread: it goes with --threads 1")
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    vledge.set_num_threads(arguments.threads)
    print(f"constants: {costs().source}; {arguments.threads} thread(s)")
    drawn_cases = cases(arguments.cases, arguments.seed)

    def measured() -> Iterator[dict[str, Any]]:
        return (measure(case, arguments.threads, arguments.rounds, clock) for case in drawn_cases)

    first = list(measured())
    records = []
    for before, again in zip(first, measured(), strict=True):
        records.append(merged(before, again))
        print(row(records[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(records))
    print(f"\n{summary(records)}")
    planning = np.median([record["planning"] for record in records])
    print(f"a plan takes {planning * 1e3:.1f} ms (median)")
    good = holds(records)
    print("the planner holds" if good else "FAILED: within 10 % in 90 %, never worse than 1.5 x")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
