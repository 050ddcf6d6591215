"""``python -m benchmarks.lengths``: the strategies of vledge.lengths beside one another.

From a list of sequences to a list of outputs, so that padding and packing count. Times are medians
of interleaved rounds; memory is what a process of its own needed at most beyond its inputs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vledge
from benchmarks.measuring.workloads import uniform
from benchmarks.reports.lengths import draw_pictures
from vledge import nn
from vledge.shipped import japanese_vowels

Work = tuple[nn.LSTM | nn.GRU, list[np.ndarray]]


def drawn(
    cell: str, input_size: int, hidden_size: int, lengths: tuple[int, ...], **options: Any
) -> Work:
    """A layer with torch's initial distribution and sequences of these lengths."""
    generator = np.random.default_rng(0)
    layer = getattr(nn, cell)(input_size, hidden_size, **options)
    layer.load_state_dict(
        {
            name: generator.uniform(-1, 1, declared.shape) * hidden_size**-0.5
            for name, declared in layer._declared.items()
        }
    )
    return layer, [generator.standard_normal((n, input_size), np.float32) for n in lengths]


def japanese_vowels_work(bidirectional: bool) -> Work:
    """The shipped classifier's GRU, or its forward half, on the test set."""
    weights = japanese_vowels.load().rnn.state_dict()
    if not bidirectional:
        weights = {n: a for n, a in weights.items() if not n.endswith("_reverse")}
    return nn.GRU.from_weights(weights), japanese_vowels.load_test_set().series


WORKS: dict[str, Callable[[], Work]] = {
    "LSTM 64 to 128, 256 sequences of 5 to 400": lambda: drawn(
        "LSTM", 64, 128, uniform(256, 5, 400)
    ),
    "GRU 64 to 128, 256 sequences of 5 to 400": lambda: drawn("GRU", 64, 128, uniform(256, 5, 400)),
    "JapaneseVowels, its GRU's forward half": lambda: japanese_vowels_work(False),
    "JapaneseVowels, its bidirectional GRU": lambda: japanese_vowels_work(True),
}


def rectangle(layer: Any, sequences: list[np.ndarray]) -> Any:
    """Padding where nobody knows the lengths: every row runs to the longest one's end."""
    output, _ = layer(vledge.pad_sequence(sequences))
    return vledge.unpad_sequence(output, [len(s) for s in sequences])


def last_outputs(layer: Any, sequences: list[np.ndarray]) -> Any:
    """Lanes as they are meant: each result is used when it comes, and dropped."""
    last: list[Any] = [None] * len(sequences)
    results = vledge.run_many(layer, iter(sequences), strategy="lanes", ordered=False)
    for place, output, _ in results:
        last[place] = output[-1].copy()
    return last


def by(strategy: str, **options: Any) -> Callable[[Any, list[np.ndarray]], Any]:
    """The layer's call with a strategy."""
    return lambda layer, sequences: layer(sequences, strategy=strategy, **options)[0]


WAYS: dict[str, Callable[[Any, list[np.ndarray]], Any]] = {
    "rectangle, lengths unknown": rectangle,
    "padded": by("padded"),
    "packed": by("packed"),
    "bucketed, 32 rows": by("bucketed", rows=32),
    "bucketed, 64 rows": by("bucketed", rows=64),
    "lanes, 16 rows": by("lanes", lanes=16),
    "lanes, 32 rows": by("lanes", lanes=32),
    "lanes, 64 rows": by("lanes", lanes=64),
    "streaming, windows of 64": by("streaming", window=64),
    "run_many, last outputs only": last_outputs,
}
PICTURED = (
    "LSTM 64 to 128, 256 sequences of 5 to 400",
    "JapaneseVowels, its GRU's forward half",
)
# A backward direction that does not know the lengths begins in the padding: other results.
FORWARDS = ("rectangle", "lanes", "streaming", "run_many")
# For which a work is measured at least: short ones have more rounds.
SECONDS = 5.0
# Of outputs below 1 that may come from tiles of other shapes.
TOLERANCE = 2e-6


def ways_of(layer: Any) -> list[str]:
    """Those that the layer's directions allow."""
    return [w for w in WAYS if not (layer.bidirectional and w.startswith(FORWARDS))]


def check(way: str, outputs: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Raise ArithmeticError where a way's outputs are not those of each sequence alone."""
    for place, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        error = float(np.abs(got - (want[-1] if got.ndim == 1 else want)).max())
        if not error <= TOLERANCE:
            raise ArithmeticError(f"{way}: sequence {place} is off by {error:.1e}")


def times(layer: Any, sequences: list[np.ndarray], rounds: int) -> dict[str, float]:
    """Median milliseconds of each way, after one round that warms up and is checked."""
    samples: dict[str, list[float]] = {way: [] for way in ways_of(layer)}
    expected = [layer(sequence)[0] for sequence in sequences]
    for way in samples:
        check(way, WAYS[way](layer, sequences), expected)
    done, end = 0, time.perf_counter() + SECONDS
    while done < rounds or time.perf_counter() < end:
        done += 1
        for way, taken in samples.items():
            start = time.perf_counter()
            WAYS[way](layer, sequences)
            taken.append((time.perf_counter() - start) * 1e3)
    return {way: statistics.median(taken) for way, taken in samples.items()}


def peak_kilobytes(work: str, way: str) -> int:
    """What a way needs at most beyond what the process has before it."""
    layer, sequences = WORKS[work]()
    layer(sequences[:1], strategy="packed")  # what is loaded at the first call is not the way's
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is resident
    before = _status("VmHWM")
    output = WAYS[way](layer, sequences)
    peak = _status("VmHWM") - before
    del output
    return peak


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lengths", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="draw lengths.png, plan.png"
    )
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    vledge.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak_kilobytes(*arguments.peak))
        return
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    for work, make in WORKS.items():
        layer, sequences = make()
        lengths = np.array([len(s) for s in sequences])
        padding = 1 - lengths.sum() / (lengths.max() * len(lengths))
        print(f"\n{work}: {padding:.0%} of the rectangle is padding, {arguments.threads} thread(s)")
        print(f"{'':30}      ms  of packed   peak MB")
        taken = times(layer, sequences, arguments.rounds)
        figures[work] = {}
        for way, milliseconds in taken.items():
            command = [sys.executable, "-m", "benchmarks.lengths", "--peak", work, way]
            command += ["--threads", str(arguments.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            megabytes = int(done.stdout) / 1024
            figures[work][way] = (milliseconds, megabytes)
            ratio = milliseconds / taken["packed"]
            print(f"{way:30} {milliseconds:7.2f}  {ratio:9.2f}  {megabytes:8.1f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    if arguments.pictures:
        plans = {
            work: vledge.plan([len(s) for s in sequences], layer, threads=arguments.threads)
            for work, (layer, sequences) in ((work, WORKS[work]()) for work in PICTURED)
        }
        draw_pictures(figures, plans, arguments.pictures)


if __name__ == "__main__":
    main()
