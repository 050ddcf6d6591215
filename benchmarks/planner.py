"""``python -m benchmarks.planner``: is the strategy that a plan puts first the fastest one, and
what does ``strategy="auto"`` take?

Random cases, each measured with every strategy that can run it, in interleaved rounds, and all of
them again in a second pass: what disturbs the machine for some seconds spoils none. The best is the
one of the least median; another's ratio to it is the median of the rounds' ratios. The strategy
that runs the form as it is is timed twice, as if it were two: how far these are apart is the
measurement's own noise, below which no figure of "auto" can be. Prints each case, and how far the
picked ones were from the best. ``--others`` draws other cases than those that the planner was made
by.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
from vledge.lengths.strategies import natural
from vledge.lengths.strategies.work import FORMS
from vledge.planning import costs
from vledge.planning.choice import forget

#: What ``strategy="auto"`` takes, with its planning: where lengths are new, and where they come
#: again.
NEW, AGAIN = "auto on new lengths", "auto on lengths that come again"
AUTOS = (NEW, AGAIN)
TWIN = "the form's own, timed again"
DISTRIBUTIONS = ("equal", "uniform", "log-normal", "bimodal", "one giant")
OTHERS = ("equal", "geometric", "Zipf", "staircase", "two lengths")
#: Seconds of a round of a way, where one call takes less.
SAMPLE = 2e-3
#: Whoever takes more than so many times the best after so many rounds is not the best.
FAR, FAR_AFTER = 1.5, 3


class Drawn(NamedTuple):
    """One random case."""

    distribution: str
    form: str
    cell: str
    input_size: int
    hidden_size: int
    lengths: tuple[int, ...]
    num_layers: int = 1
    bidirectional: bool = False


def _between(generator: np.random.Generator, low: int, high: int) -> int:
    """Evenly in logarithms."""
    return round(float(np.exp(generator.uniform(np.log(low), np.log(high)))))


def cases(count: int, seed: int, most_work: float = 3e9) -> list[Drawn]:
    """Distributions, forms and cells in turn; all else drawn, sizes evenly in logarithms.

    A case of more than ``most_work`` multiply-adds is drawn again: it would be all of the time.
    """
    generator = np.random.default_rng(seed)
    between = partial(_between, generator)
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


def others(count: int, seed: int, most_work: float = 2e9) -> list[Drawn]:
    """Other cases than those by which the planner was made: other laws of lengths, other sizes, all
    forms, three cells, up to three layers, and both directions in one of four."""
    generator = np.random.default_rng(seed)
    between = partial(_between, generator)
    found: list[Drawn] = []
    while len(found) < count:
        i = len(found)
        batch, hidden_size, input_size = between(1, 256), between(8, 640), between(1, 700)
        law, typical = OTHERS[i % 5], between(2, 500)
        if law == "equal":
            lengths = np.full(batch, typical)
        elif law == "geometric":
            lengths = np.minimum(generator.geometric(1 / typical, batch), 3000)
        elif law == "Zipf":
            lengths = np.minimum(generator.zipf(1.6, batch), 40 * typical)
        elif law == "staircase":
            lengths = 1 + np.arange(batch) * typical // batch
        else:
            lengths = np.where(np.arange(batch) % 8 == 7, 6 * typical, typical)
        cell = ("LSTM", "GRU", "RNN")[i // 5 % 3]
        gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
        layers, both = int(generator.integers(1, 4)), bool(generator.integers(4) == 0)
        below = [input_size, *[hidden_size * (1 + both)] * (layers - 1)]
        work = sum(gates * hidden_size * (hidden_size + size) * (1 + both) for size in below)
        widest = max(input_size, hidden_size * (1 + both))
        if work * float(lengths.sum()) <= most_work and lengths.max() * batch * widest < 1e8:
            form = FORMS[i // 15 % 4]
            sizes = tuple(int(n) for n in lengths)
            found.append(Drawn(law, form, cell, input_size, hidden_size, sizes, layers, both))
    return found


def measure(
    case: Drawn, threads: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """The plan's first, what its strategies are predicted to take, and what they have taken in each
    round; those that are far from the best are left out after some rounds."""
    layer, sequences = drawn(
        case.cell, case.input_size, case.hidden_size, case.lengths,
        num_layers=case.num_layers, bidirectional=case.bidirectional,
    )  # fmt: skip
    given: Any = sequences
    options: dict[str, Any] = {}
    lengths = np.array(case.lengths)
    if case.form == "packed":
        given = vledge.pack_sequence(sequences, enforce_sorted=False)
    elif case.form != "list":
        given, options = vledge.pad_sequence(sequences), {"lengths": lengths}
    if case.form == "masked":
        options = {"mask": np.arange(len(given)) < lengths[:, None]}
    start = time.perf_counter()
    plan = vledge.plan(case.lengths, layer, threads=threads, form=case.form)
    planning = time.perf_counter() - start
    ways: dict[str, Callable[[], Any]] = {
        p.strategy: partial(layer, given, strategy=p.strategy, **options, **p.options)
        for p in plan.ranking
    }
    ways[TWIN] = ways[natural(case.form).name]

    def auto_on_new_lengths() -> Any:
        forget()
        return layer(given, strategy="auto", **options)

    ways[NEW] = auto_on_new_lengths
    ways[AGAIN] = partial(layer, given, strategy="auto", **options)
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    names, kept = list(ways), (plan.best.strategy, natural(case.form).name, TWIN, *AUTOS)
    for i in range(rounds):
        if i == FAR_AFTER:
            least = min(statistics.median(taken[name]) for name in names)
            names = [n for n in names if n in kept or statistics.median(taken[n]) < FAR * least]
        turned = names[i % len(names) :] + names[: i % len(names)]  # nobody always follows the same
        for name in turned:
            # as many calls as make a sample of some milliseconds
            calls = max(1, min(200, int(SAMPLE / min(taken[name], default=SAMPLE))))
            start = clock()
            for _ in range(calls):
                ways[name]()
            taken[name].append((clock() - start) / calls)
    return {
        **case._asdict(),
        "picked": plan.best.strategy,
        "predicted": {p.strategy: p.seconds for p in plan.ranking},
        "taken": taken,
        "planning": planning,
    }


def merged(before: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """One case measured twice: the rounds of both; of what was far in one, those of neither."""
    rounds = max(map(len, before["taken"].values()))
    both = {
        name: seconds + again["taken"][name]
        for name, seconds in before["taken"].items()
        if len(seconds) == len(again["taken"][name]) == rounds
    }
    return {**before, "taken": both}


def measured(record: dict[str, Any]) -> dict[str, float]:
    """Each strategy's time: the median of its rounds."""
    return {
        name: statistics.median(seconds)
        for name, seconds in record["taken"].items()
        if name not in (TWIN, *AUTOS)
    }


def against_the_best(record: dict[str, Any], name: str) -> float:
    """How many times the best strategy's time: the median of the rounds' ratios, so that what
    disturbs a round disturbs both."""
    seconds = measured(record)
    best = record["taken"][min(seconds, key=seconds.__getitem__)]
    return statistics.median(a / b for a, b in zip(record["taken"][name], best, strict=True))


def row(record: dict[str, Any]) -> str:
    """One line of the table."""
    seconds, picked = measured(record), record["picked"]
    best = min(seconds, key=seconds.__getitem__)
    stack = f"{record['num_layers']}{'b' if record['bidirectional'] else ' '}"
    return (
        f"{record['distribution']:11} {record['form']:6} {record['cell']:4} "
        f"{record['input_size']:3} to {record['hidden_size']:3} x {stack} "
        f"B {len(record['lengths']):3}  T {max(record['lengths']):4}  "
        f"{picked:9} {seconds[picked] * 1e3:8.3f} ms "
        f"(predicted {record['predicted'][picked] * 1e3:8.3f})  best {best:9} "
        f"{against_the_best(record, picked):5.2f} x  "
        + "  ".join(f"{name} {against_the_best(record, name):.2f}" for name in (*AUTOS, TWIN))
    )


def noise(record: dict[str, Any]) -> float:
    """How many times as long one of two equal ways took as the other."""
    own = record["taken"][natural(record["form"]).name]
    ratio = statistics.median(a / b for a, b in zip(record["taken"][TWIN], own, strict=True))
    return max(ratio, 1 / ratio)


def summary(records: list[dict[str, Any]]) -> str:
    """The table at the end: by distribution, and the two promises."""
    lines = [f"{'':12}cases  within 10 %  worst  always natural: within 10 %  worst"]
    for name in (*dict.fromkeys(r["distribution"] for r in records), "all"):
        some = [r for r in records if name in (r["distribution"], "all")]
        ratios = np.array([against_the_best(r, r["picked"]) for r in some])
        plain = np.array([against_the_best(r, natural(r["form"]).name) for r in some])
        lines.append(
            f"{name:12}{len(some):5}  {(ratios <= 1.1).mean():10.0%}  {ratios.max():5.2f}  "
            f"{(plain <= 1.1).mean():26.0%}  {plain.max():5.2f}"
        )
    for name in (*AUTOS, TWIN):
        lines.append(f"{name}: {told([against_the_best(r, name) for r in records])}")
    lines.append(f"two equal ways: {told([noise(r) for r in records])}")
    picked = Counter(r["picked"] for r in records)
    lines.append("picked: " + ", ".join(f"{name} {n}" for name, n in picked.most_common()))
    return "\n".join(lines)


def told(ratios: list[float]) -> str:
    """How far they are above 1, in words."""
    within = np.mean(np.array(ratios) <= 1.05)
    return (
        f"{np.median(ratios):.2f} x the best at the median, within 5 % in {within:.0%}, "
        f"worst {max(ratios):.2f}"
    )


def holds(records: list[dict[str, Any]]) -> bool:
    """Within 10 % of the best in 90 % of the cases, and never worse than 1.5 times it."""
    ratios = np.array([against_the_best(r, r["picked"]) for r in records])
    return bool((ratios <= 1.1).mean() >= 0.9 and ratios.max() <= 1.5)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=12, help="in each of the two passes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="time that this thread ran, for a machine that others use, too; with one thread",
    )
    parser.add_argument("--others", action="store_true", help="other cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the records there, too")
    arguments = parser.parse_args()
    if arguments.cpu_time and arguments.threads > 1:
        parser.error("--cpu-time is of one thread: it goes with --threads 1")
    clock = time.thread_time if arguments.cpu_time else time.perf_counter
    vledge.set_num_threads(arguments.threads)
    print(f"constants: {costs().source}; {arguments.threads} thread(s)")
    drawn_cases = (others if arguments.others else cases)(arguments.cases, arguments.seed)

    def a_pass() -> Iterator[dict[str, Any]]:
        return (measure(case, arguments.threads, arguments.rounds, clock) for case in drawn_cases)

    first = list(a_pass())
    records = []
    for before, again in zip(first, a_pass(), strict=True):
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
