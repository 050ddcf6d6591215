"""``vledge profile MODEL``: each instruction's time, what ran in Python and why, a Chrome trace."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from vledge.cli.graph_file import check_graph_file
from vledge.cli.one_run import add_one_run_arguments, one_run
from vledge.cli.table import rows, size
from vledge.errors import import_failure
from vledge.machine.atomic_file import check_writable, write_text
from vledge.machine.threads import get_num_threads
from vledge.shown import counted

if TYPE_CHECKING:
    import onnxruntime

    from vledge.graph.profile import Profile, Row

# Whole runs before any is timed: caches, the clock of the CPU, and what is made at a first run.
WARM_UP_RUNS = 3
# So long that reading the clock does not count.
SAMPLE_SECONDS = 0.002


EXAMPLES = """\
examples:
  vledge profile model.onnx --set sr=16000 --random input=1x512
  vledge profile model.safetensors --by family --trace trace.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge profile``."""
    parser.add_argument("model", help="an ONNX file, or one by `vledge convert`")
    add_one_run_arguments(parser)
    parser.add_argument("--runs", type=int, default=30, help="times are medians of so many (30)")
    parser.add_argument(
        "--by", choices=["node", "family"], default="node", help="a line for each (node)"
    )
    parser.add_argument("--trace", metavar="FILE", help="write a run for chrome://tracing, JSON")
    parser.add_argument(
        "--exact", action="store_true", help="no Winograd products: InferenceSession(exact=True)"
    )
    parser.add_argument(
        "--fallback",
        choices=["reference"],
        help="run operators that vledge does not have by onnx's reference evaluator",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the table."""
    from vledge.graph.session import InferenceSession, read_model

    check_graph_file(
        arguments.model,
        "profile",
        f"`vledge bench {arguments.model}` times the steps of a layer",
    )
    if arguments.runs < 1:
        raise ValueError(f"--runs must be at least 1, got {arguments.runs}")
    check_writable(arguments.trace)
    path = arguments.model
    model = read_model(path)
    session = InferenceSession(path, fallback=arguments.fallback, exact=arguments.exact)
    feed = one_run(arguments, model, session)
    profile = session.profile(feed, arguments.runs)
    ways: dict[str, Callable[[], object]] = {"vledge": lambda: session.run(None, feed)}
    peer, why_no_peer = _onnxruntime(path)
    if peer is not None:
        ways["onnxruntime"] = lambda: peer.run(None, feed)
    whole = _medians(ways, arguments.runs)
    if arguments.trace:
        write_text(arguments.trace, json.dumps(profile.trace()))
    memory = session.memory()
    if arguments.json:
        report = {
            "file": path,
            "inputs": {name: [str(a.dtype), list(a.shape)] for name, a in feed.items()},
            "threads": get_num_threads(),
            "runs": profile.runs,
            "whole_run_seconds": whole,
            "onnxruntime": why_no_peer or "ran",
            "memory": memory._asdict(),
            "instructions": [asdict(row) for row in profile.rows],
        }
        print(json.dumps(report, indent=1))
        return 0
    print(f"{path}: {_counted(profile.rows)}")
    for name, array in feed.items():
        print(f"  {name}: {array.dtype}[{', '.join(map(str, array.shape))}]")
    print(_whole(whole, why_no_peer, profile.runs))
    print(
        f"memory: {size(memory.constants)} of constants, {size(memory.packed)} of packed weights, "
        f"{size(memory.peak)} at most for a run's values"
    )
    print(_by_family(profile) if arguments.by == "family" else _by_node(profile))
    for row in profile.rows:
        if row.why:
            print(f"Python: {row.name} ({' + '.join(row.operators)}): {row.why}")
    if arguments.trace:
        print(f"trace: {arguments.trace}")
    return 0


def _onnxruntime(path: str) -> tuple[onnxruntime.InferenceSession, str]:
    """onnxruntime's session on the file, or why there is none."""
    with open(path, "rb") as file:
        if file.read(9)[8:] == b"{":
            return None, "it does not read vledge's own files"
    try:
        import onnxruntime
    except ImportError as error:
        return None, str(import_failure(error, "onnxruntime", "not installed"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = get_num_threads(), 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        ), ""
    except Exception as error:  # it has no exceptions of its own in common
        return None, f"it does not load the file: {str(error).splitlines()[0]}"


def _medians(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Seconds of a whole run of each way, by turns, nobody watching.

    On one thread its CPU time, which other processes do not add to.
    """
    clock = time.thread_time if get_num_threads() == 1 else time.perf_counter
    repeats = {name: _repeats(way) for name, way in ways.items()}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            begin = clock()
            for _ in range(repeats[name]):
                way()
            samples[name].append((clock() - begin) / repeats[name])
    return {name: statistics.median(taken) for name, taken in samples.items()}


def _repeats(way: Callable[[], object]) -> int:
    """How many runs take SAMPLE_SECONDS, after WARM_UP_RUNS."""
    for _ in range(WARM_UP_RUNS):
        way()
    begin = time.perf_counter()
    way()
    return max(1, round(SAMPLE_SECONDS / max(time.perf_counter() - begin, 1e-7)))


def _counted(rows: Sequence[Row]) -> str:
    nodes = sum(len(row.operators) for row in rows)
    python = [row for row in rows if row.python_calls]
    told = "all native" if not python else f"{len(python)} in Python"
    return f"{counted(len(rows), 'instruction')} ran, for {counted(nodes, 'node')}; {told}"


def _whole(whole: dict[str, float], why_no_peer: str, runs: int) -> str:
    threads = get_num_threads()
    own = whole["vledge"]
    told = f"a run: {own * 1e6:.1f} us"
    if why_no_peer:
        told += f" (onnxruntime: {why_no_peer})"
    else:
        peer = whole["onnxruntime"]
        told += f", onnxruntime {peer * 1e6:.1f} us: {peer / own:.2f} times as long"
    clock = "CPU time on 1 thread" if threads == 1 else f"{threads} threads"
    return f"{told}; medians of {runs}, {clock}"


def _by_node(profile: Profile) -> str:
    lines = [("node", "operators", "runs as", "calls", "us", "share", "speed")]
    for row in sorted(profile.rows, key=lambda row: -row.seconds):
        lines.append(
            (
                row.name,
                _joined(row.operators),
                _runs_as(row),
                str(row.calls),
                *_figures(row.seconds, profile.seconds),
                _speed(row.operations, row.bytes, row.seconds),
            )
        )
    return rows(lines, right=(3, 4, 5, 6))


def _by_family(profile: Profile) -> str:
    families: dict[tuple[str, str], list[Row]] = {}
    for row in profile.rows:
        # what a chain or an epilogue is of differs by node: the handler is the family
        kind = row.operators[0] if row.python_calls or row.handler is None else ""
        families.setdefault((_runs_as(row), kind), []).append(row)
    lines = [("runs as", "operator", "instructions", "calls", "us", "share", "speed")]
    for (handler, kind), members in sorted(
        families.items(), key=lambda item: -sum(row.seconds for row in item[1])
    ):
        seconds = sum(row.seconds for row in members)
        products = [row.operations for row in members]
        moved = [row.bytes for row in members]
        lines.append(
            (
                handler,
                kind,
                str(len(members)),
                str(sum(row.calls for row in members)),
                *_figures(seconds, profile.seconds),
                _speed(sum(products), sum(moved), seconds),
            )
        )
    return rows(lines, right=(2, 3, 4, 5, 6))


def _runs_as(row: Row) -> str:
    if not row.python_calls:
        return row.handler or ""
    return "Python" if row.handler is None else f"Python, {row.handler} declined"


def _joined(operators: Sequence[str]) -> str:
    shown = [name for k, name in enumerate(operators) if k < 4]
    more = len(operators) - len(shown)
    return " + ".join(shown) + (f" + {more} more" if more else "")


def _figures(seconds: float, whole: float) -> tuple[str, str]:
    return f"{seconds * 1e6:.1f}", f"{seconds / whole:.1%}" if whole else "-"


def _speed(operations: int, moved: int, seconds: float) -> str:
    if not seconds or not (operations or moved):
        return "-"
    if operations:
        return f"{operations / seconds / 1e9:.1f} GFLOP/s"
    return f"{moved / seconds / 1e9:.1f} GB/s"
