"""``vledge demo``: the shipped classifier on its test set, in numbers that can fail."""

from __future__ import annotations

import argparse
import time

import numpy as np

from vledge.cli.table import rows, size
from vledge.machine.threads import get_num_threads
from vledge.shipped import japanese_vowels

LEAST_ACCURACY = 0.97
# of logits of up to 6, in which torch's own float32 differs from float64 by 1e-6
LARGEST_ERROR = 1e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge demo``."""
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each way (15)")


def run(arguments: argparse.Namespace) -> int:
    """Print the table; 1 when a number is out of tolerance."""
    if arguments.repeats < 1:
        raise ValueError("--repeats must be at least 1")
    path = japanese_vowels.folder() / "model.pt"
    model = japanese_vowels.load(path)
    test = japanese_vowels.load_test_set()
    lengths = np.array([len(series) for series in test.series])
    padded = np.zeros((len(lengths), lengths.max(), test.series[0].shape[1]), np.float32)
    for row, series in zip(padded, test.series, strict=True):
        row[: len(series)] = series
    packed = test.packed()

    logits = model(packed)
    accuracy = float((logits.argmax(1) == test.labels).mean())
    same = int((logits.argmax(1) == test.logits.argmax(1)).sum())
    error = float(np.abs(logits - test.logits).max())
    exact_error = float(np.abs(logits - test.logits_float64).max())
    packed_time, padded_time = _interleaved_medians(
        (lambda: model(packed), lambda: model(padded)), arguments.repeats
    )
    passed = accuracy >= LEAST_ACCURACY and error <= LARGEST_ERROR and same == len(lengths)

    steps, all_steps = int(lengths.sum()), padded.shape[0] * padded.shape[1]
    print("JapaneseVowels: nine speakers, 12 channels, a bidirectional GRU read from model.pt")
    print(
        rows(
            [
                ("weights", f"{size(path.stat().st_size)}, {path}"),
                ("series", f"{len(lengths)} of {lengths.min()} to {lengths.max()} frames"),
                ("accuracy", f"{accuracy:.2%} (at least {LEAST_ACCURACY:.0%})"),
                ("same answer as torch", f"{same} of {len(lengths)}"),
                ("largest error", f"{error:.1e} against torch float32 (at most {LARGEST_ERROR:g})"),
                ("", f"{exact_error:.1e} against torch float64"),
                ("padding avoided", f"{1 - steps / all_steps:.1%} of {all_steps:,} steps"),
                ("packed", f"{packed_time * 1e3:.2f} ms for all series"),
                ("padded", f"{padded_time * 1e3:.2f} ms, {padded_time / packed_time:.2f} times it"),
                ("threads", get_num_threads()),
            ]
        )
    )
    print("passed" if passed else "FAILED: a number is out of tolerance")
    return 0 if passed else 1


def _interleaved_medians(ways, repeats: int) -> list[float]:
    """Median seconds of each way, run in turn so that a busy machine slows all alike."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, measured in zip(ways, times, strict=True):
            start = time.perf_counter()
            way()
            measured.append(time.perf_counter() - start)
    return [float(np.median(measured)) for measured in times]
