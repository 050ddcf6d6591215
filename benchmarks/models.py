"""``python -m benchmarks.models``: published whole models, ours beside onnxruntime's.

Outputs are compared first. Then both take turns, and a ratio (their time by ours: above 1 we are
quicker) is the median of what neighbouring turns say. On one thread the time is the thread's CPU
time, which others on the machine do not add to; on more it is the clock's. Files are fetched by
package name (`benchmarks/measuring/published.py`); Silero's frame also stands beside torch.jit,
where torch is. ``--write`` puts the table into benchmarks/models.md, a part for each instruction
set and number of threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measuring.machine import cpu, today
from benchmarks.reports.parts import renew_part

PAGE: Final = Path(__file__).parent / "models.md"
STEP_UNITS: Final = (48, 64, 96, 128, 192, 256, 384)
Run = Callable[[], list[Any]]


@dataclass(frozen=True)
class Work:
    """A model ready to be measured: a run of ours, and of each peer's, on the same arrays."""

    name: str
    ours: Run
    peers: dict[str, Run]
    tolerance: float
    in_python: int = 0  #: nodes of ours that a run does in Python


@dataclass
class Result:
    """What was measured of one work, or why nothing was."""

    name: str
    seconds: float = 0.0
    peers: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    difference: float = 0.0
    tolerance: float = 0.0
    in_python: int = 0
    failure: str = ""

    @property
    def ratio(self) -> float | None:
        """onnxruntime's time by ours."""
        return self.ratios.get("onnxruntime")


def main() -> int:
    """Measure, print as it goes, and write the page if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of turns (15)")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only names with this in them")
    parser.add_argument("--write", action="store_true", help="renew this part of models.md")
    arguments = parser.parse_args()
    # before any BLAS is loaded
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(arguments.threads))
    import vledge
    from vledge.machine.system import describe

    vledge.set_num_threads(arguments.threads)
    system = describe()
    lines = [
        f"measured: {today()}",
        f"CPU: {cpu()}",
        f"vledge {system['vledge']}, instruction set {system['chosen']}",
        _peers(),
    ]
    print("\n".join(lines))
    print(f"{'model':44} {'vledge':>12} {'onnxruntime':>12} {'ratio':>6}  difference")
    results = []
    for name, prepare in works(arguments.threads):
        if arguments.filter.lower() not in name.lower():
            continue
        results.append(measured(name, prepare, arguments.threads, arguments.rounds))
        print(_text(results[-1]), flush=True)
    if not results:
        print(f"no model's name has {arguments.filter!r} in it", file=sys.stderr)
        return 1
    print(summary(results))
    if arguments.write:
        if arguments.filter:
            print("--write is for all models: leave out --filter", file=sys.stderr)
            return 1
        write(PAGE, system["chosen"].split(":")[0], arguments.threads, lines, results)
    return 0


# ---- what is measured


def works(threads: int) -> Iterator[tuple[str, Callable[[], Work]]]:
    """Names, and what makes each ready."""
    from benchmarks.measuring.published import MODELS

    for model in MODELS:
        yield model.name, partial(_published, model, threads)
    for cell in ("LSTM", "GRU"):
        for units in STEP_UNITS:
            name = f"one {cell} node, a step of {units} units"
            yield name, partial(_step, name, cell, units, threads)
    for count in (1, 16, 370):
        name = f"JapaneseVowels, {count} series"
        yield name, partial(_vowels, name, count, threads)


def _published(model: Any, threads: int) -> Work:
    import vledge
    from benchmarks.measuring.published import feed_of, path_of

    path = str(path_of(model))
    session = vledge.InferenceSession(path)
    feed = feed_of(model, session)
    work = _work(model.name, path, session, feed, threads, model.tolerance)
    if model.member.endswith("/silero_vad.onnx"):
        jit = _silero_of_torch(model, feed, threads)
        if jit is not None:
            work.peers["torch.jit"] = jit
    return work


def _step(name: str, cell: str, units: int, threads: int) -> Work:
    import vledge
    from benchmarks.measuring.published import TOLERANCE, step_model

    model = step_model(cell, units)
    session = vledge.InferenceSession(model)
    rng = np.random.default_rng(0)
    feed = {
        info.name: rng.standard_normal((1, 1, units)).astype(np.float32)
        for info in session.get_inputs()
    }
    return _work(name, model, session, feed, threads, TOLERANCE)


def _vowels(name: str, count: int, threads: int) -> Work:
    import vledge
    from benchmarks.measuring.published import TOLERANCE
    from vledge.shipped import japanese_vowels

    path = str(japanese_vowels.folder() / "model.onnx")
    batch = japanese_vowels.load_test_set().series[:count]
    feed = {
        "x": vledge.pad_sequence(batch, batch_first=True),
        "lengths": np.array([len(one) for one in batch]),
    }
    return _work(name, path, vledge.InferenceSession(path), feed, threads, TOLERANCE)


def _work(
    name: str, source: Any, session: Any, feed: dict[str, Any], threads: int, tolerance: float
) -> Work:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    theirs = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    peers: dict[str, Run] = {"onnxruntime": lambda: theirs.run(None, feed)}
    return Work(name, lambda: session.run(None, feed), peers, tolerance, _in_python(session, feed))


def _in_python(session: Any, feed: dict[str, Any]) -> int:
    from vledge.errors import UnsupportedError

    try:
        rows = session.profile(feed, 1).rows
    except UnsupportedError:  # VLEDGE_PROGRAM=0: all of it
        return -1
    return sum(len(row.operators) for row in rows if row.python_calls)


def _silero_of_torch(model: Any, feed: dict[str, Any], threads: int) -> Run | None:
    """The same network as torch runs it: state in, state out, as the ONNX files have it."""
    try:
        import torch
    except ImportError:
        return None
    from tests.registry import registry_file

    torch.set_num_threads(threads)
    path = registry_file(model.package, model.member.replace(".onnx", ".jit"))
    network = torch.jit.load(str(path))._model
    samples, state = torch.from_numpy(feed["input"]), torch.from_numpy(feed["state"])

    def run() -> list[Any]:
        with torch.inference_mode():
            return [output.numpy() for output in network(samples, state)]

    return run


# ---- measuring


def measured(name: str, prepare: Callable[[], Work], threads: int, rounds: int) -> Result:
    """Prepare, compare, measure; whatever goes wrong is in the result."""
    import pytest

    from benchmarks.measuring.measure import pairs

    try:
        work = prepare()
        ours = work.ours()
        difference = max(largest_difference(ours, run()) for run in work.peers.values())
    except (Exception, pytest.skip.Exception) as error:
        return Result(name, failure=f"{type(error).__name__}: {error}".splitlines()[0])
    result = Result(name, difference=difference, tolerance=work.tolerance, in_python=work.in_python)
    if not difference <= work.tolerance:
        result.failure = f"outputs differ by {difference:.1e}, more than {work.tolerance:.0e}"
        return result
    clock = time.thread_time if threads == 1 else time.perf_counter
    # one thread leaves nobody spinning that a turn would have to wait for
    times, beside = pairs(work.ours, work.peers, rounds, naps=threads > 1, clock=clock)
    result.seconds = statistics.median(t for samples in beside.values() for t in samples)
    for peer, samples in times.items():
        result.peers[peer] = statistics.median(samples)
        result.ratios[peer] = statistics.median(
            theirs / own for theirs, own in zip(samples, beside[peer], strict=True)
        )
    return result


def largest_difference(actual: Sequence[Any], expected: Sequence[Any]) -> float:
    """Of all outputs, relative to each one's largest value, or to 1 where that is less.

    Infinite where shapes differ, or something finite stands beside something that is not.
    """
    if len(actual) != len(expected):
        return np.inf
    largest = 0.0
    for own, theirs in zip(actual, expected, strict=True):
        own, theirs = np.asarray(own, np.float64), np.asarray(theirs, np.float64)
        if own.shape != theirs.shape:
            return np.inf
        same = (own == theirs) | (np.isnan(own) & np.isnan(theirs))
        if np.all(same):
            continue
        error = np.abs(own[~same] - theirs[~same])
        if not np.isfinite(error).all():
            return np.inf
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
        largest = max(largest, float(error.max()) / float(scale))
    return largest


# ---- reporting


def summary(results: Sequence[Result]) -> str:
    """How many are at least as quick as onnxruntime, and which are not."""
    ratios = {r.name: r.ratio for r in results if r.ratio is not None}
    failed = [r.name for r in results if r.failure]
    lines = []
    if ratios:
        slower = sorted((name for name in ratios if ratios[name] < 1), key=lambda n: ratios[n])
        lines.append(
            f"{len(ratios) - len(slower)} of {len(ratios)} models are at least as quick as "
            f"onnxruntime; the median ratio is {statistics.median(ratios.values()):.2f}."
        )
        if slower:
            lines.append("Slower: " + ", ".join(f"{n} ({ratios[n]:.2f})" for n in slower) + ".")
    if failed:
        lines.append(f"Not measured: {', '.join(failed)}.")
    return "\n".join(lines)


def table(results: Sequence[Result]) -> list[str]:
    """Markdown rows."""
    heads = ["model", "vledge, us", "onnxruntime, us", "ratio", "largest difference", "in Python"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for r in results:
        if r.failure:
            cells = [r.name, "-", "-", r.failure, "-", "-"]
        else:
            ratio = f"**{r.ratio:.2f}**" + (" (slower)" if (r.ratio or 0) < 1 else "")
            others = [
                f"{ratio:.2f} of {n}'s" for n, ratio in r.ratios.items() if n != "onnxruntime"
            ]
            cells = [
                r.name,
                f"{r.seconds * 1e6:.1f}",
                f"{r.peers['onnxruntime'] * 1e6:.1f}",
                "; ".join([ratio, *others]),
                f"{r.difference:.0e} of {r.tolerance:.0e}",
                _nodes_in_python(r),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _nodes_in_python(result: Result) -> str:
    if result.in_python < 0:
        return "all"
    return f"{result.in_python} nodes" if result.in_python else "-"


def _text(r: Result) -> str:
    if r.failure:
        return f"{r.name:44} {r.failure}"
    line = f"{r.name:44} {r.seconds * 1e6:9.1f} us {r.peers['onnxruntime'] * 1e6:9.1f} us"
    line += f" {r.ratio:6.2f}{' <' if (r.ratio or 0) < 1 else '  '} {r.difference:.0e}"
    for peer, ratio in r.ratios.items():
        if peer != "onnxruntime":
            line += f"  {ratio:.2f} of {peer}'s"
    return line + (f"  in Python: {_nodes_in_python(r)}" if r.in_python else "")


def write(
    path: Path, instruction_set: str, threads: int, lines: Sequence[str], results: Sequence[Result]
) -> None:
    """Put the table between the markers of this instruction set and number of threads.

    A part that the page has not yet goes to its end.
    """
    part = f"{instruction_set}, {threads} thread{'s' * (threads != 1)}"
    told = (f"- {line}" for line in lines)
    renew_part(path, part, [f"### {part}", "", *told, "", summary(results), "", *table(results)])


def _peers() -> str:
    import onnxruntime

    told = f"onnxruntime {onnxruntime.__version__}, with the best that this CPU has"
    try:
        import torch
    except ImportError:
        return told
    return f"{told}; torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
