"""Times contestants side by side: agreement first, then interleaved rounds, then medians.

A machine that others use changes its speed by half within seconds, so a peer's turn and one of ours
stand next to each other, and a ratio is the median of what such pairs say.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measuring import agreement
from benchmarks.measuring.clocks import rest, seconds
from benchmarks.measuring.workloads import Workload
from benchmarks.peers import Contestant, RunElsewhere, load

__all__ = ["SAMPLE_SECONDS", "measured", "pairs", "run_workload"]

# A sample repeats its work until it takes this long, so that the clock's grain does not matter.
SAMPLE_SECONDS = 0.005


def run_workload(
    workload: Workload,
    names: Sequence[str],
    threads: int,
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """One row of the report: every contestant's times in microseconds, and what failed why."""
    weights, inputs = workload.weights(), workload.inputs()
    expected = agreement.reference(workload, inputs)
    contestants: list[Contestant] = []
    failures: dict[str, str] = {}
    errors: dict[str, float] = {}
    for name in ("vledge", *names):
        try:
            found = load(name).prepare(workload, weights, inputs, threads)
        except Exception as error:
            if name == "vledge":
                raise
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        for contestant in found:
            try:
                outputs = contestant.outputs(contestant.run())
                errors[contestant.name] = agreement.largest_error(
                    contestant.name, outputs, expected, inputs
                )
            except Exception as error:
                if name == "vledge":
                    raise
                failures[contestant.name] = f"{type(error).__name__}: {error}".splitlines()[0]
            else:
                contestants.append(contestant)
    ours = next(c for c in contestants if c.name == "vledge")
    others = {c.name: c.run for c in contestants if c is not ours}
    times, beside = pairs(ours.run, others, rounds, clock=clock)
    if not others:
        beside = measured({ours.name: ours.run}, rounds)
    calls = workload.time_steps if workload.kind == "loop" else 1
    return {
        "name": workload.name,
        "group": workload.group,
        "threads": threads,
        "flops": workload.flops,
        "weight_bytes": workload.weight_bytes,
        "flops_per_weight_byte": workload.flops_per_weight_byte,
        "calls": calls,
        "real_steps": workload.real_steps,
        "all_steps": workload.batch * workload.time_steps,
        "microseconds": {
            ours.name: [t * 1e6 for samples in beside.values() for t in samples],
            **{name: [t * 1e6 for t in samples] for name, samples in times.items()},
        },
        "ratios": {
            name: [peer / own for peer, own in zip(samples, beside[name], strict=True)]
            for name, samples in times.items()
        },
        "counted": [c.name for c in contestants if c.counted],
        "largest_error": errors,
        "failures": failures,
    }


def measured(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in every round; in a round each way has its turn."""
    repeats = {name: _repeats(run) for name, run in ways.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            samples[name].append(_turn(run, repeats[name]))
    return samples


def pairs(
    ours: Callable[[], Any],
    others: dict[str, Callable[[], Any]],
    rounds: int,
    naps: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of each other way in every round, and of ours next to it: before it and after it by
    turns. Without naps the two are closer in time, for ways that leave no thread spinning."""
    repeats, own = {name: _repeats(run) for name, run in others.items()}, _repeats(ours)
    times: dict[str, list[float]] = {name: [] for name in others}
    beside: dict[str, list[float]] = {name: [] for name in others}
    for turn in range(rounds):
        for name, run in others.items():
            if turn % 2:
                times[name].append(_turn(run, repeats[name], naps, clock))
            beside[name].append(_turn(ours, own, naps, clock))
            if not turn % 2:
                times[name].append(_turn(run, repeats[name], naps, clock))
    return times, beside


def _turn(
    run: Callable[[], Any],
    repeats: int,
    naps: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of one run."""
    if naps:
        rest()
    run()  # what stood between two turns has the caches: this one brings them back
    return _seconds(run, repeats, clock) / repeats


def _seconds(run: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Of all repeats, by a clock in the process that runs them."""
    if isinstance(run, RunElsewhere):
        return run.seconds(repeats, clock)
    return seconds(run, repeats, clock)


def _repeats(run: Callable[[], Any]) -> int:
    run()
    count = 1
    while True:
        taken = _seconds(run, count, time.perf_counter)
        if taken >= SAMPLE_SECONDS:
            return count
        count = max(count + 1, int(count * min(10.0, 1.2 * SAMPLE_SECONDS / max(taken, 1e-7))))


def median(samples: Sequence[float]) -> float:
    """The middle sample."""
    return statistics.median(samples)
