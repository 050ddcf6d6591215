"""``vledge demo``: the shipped classifier on its test set, in numbers that can fail."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vledge.cli.table import rows, size
from vledge.machine.threads import get_num_threads
from vledge.shipped import japanese_vowels
from vledge.validation import Report, validate

LEAST_ACCURACY = 0.97
# of logits of up to 6, in which torch's own float32 differs from float64 by 1e-6
LARGEST_ERROR = 1e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``vledge demo``."""
    parser.add_argument("--repeats", type=int, default=31, help="timed pairs of runs (31)")


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
    seconds, ratio = _paired(lambda: model(packed), lambda: model(padded), arguments.repeats)
    classifier = japanese_vowels.folder() / "classifier.safetensors"
    report = validate(classifier)
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
                ("validated", _proof(report)),
                ("padding avoided", f"{1 - steps / all_steps:.1%} of {all_steps:,} steps"),
                ("packed", f"{seconds * 1e3:.1f} ms for all series"),
                ("padded", f"{ratio:.1f} times that, the median of {arguments.repeats} pairs"),
                ("threads", get_num_threads()),
            ]
        )
    )
    if not (passed and report.proven):
        print("FAILED: a number is out of tolerance")
        return 1
    print("passed")
    print(_next(classifier))
    return 0


def _proof(report: Report) -> str:
    worst = max((one for one, _ in report.worst()), key=lambda one: one.absolute)
    return (
        f"{len(report.runs)} ways of running against torch {report.made_by['torch']}: "
        f"{worst.absolute:.1e} (at most {worst.tolerance.absolute:.1e})"
    )


def _next(classifier: Path) -> str:
    """What to do now, in commands that can be pasted."""
    here = Path(sys.argv[0])
    vledge = "vledge" if shutil.which("vledge") else f"{sys.executable} -m vledge"
    if vledge != "vledge" and here.name == "vledge":
        vledge = os.path.relpath(here)
    lines = [
        (f"{vledge} validate {os.path.relpath(classifier)}", "the proof, way by way"),
        (f"{vledge} inspect FILE", "what is in your .pt, .onnx, .keras, .safetensors"),
        (f"{vledge} --help", "what else there is"),
    ]
    return f"\nNext:\n{rows(lines)}"


def _paired(
    one: Callable[[], object], other: Callable[[], object], pairs: int
) -> tuple[float, float]:
    """Median seconds of ``one``, and the median over neighbouring runs of the other's time by its.

    A busy machine slows both runs of a pair alike; each is first in every other pair.
    """
    seconds: list[float] = []
    ratios: list[float] = []
    for number in range(pairs):
        took = {}
        for way in (one, other) if number % 2 else (other, one):
            start = time.perf_counter()
            way()
            took[way] = time.perf_counter() - start
        seconds.append(took[one])
        ratios.append(took[other] / took[one])
    return float(np.median(seconds)), float(np.median(ratios))
