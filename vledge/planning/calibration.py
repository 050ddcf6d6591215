"""``calibrate``: the cost model's constants, measured on this machine in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from vledge import nn, threads
from vledge._ext.recurrent import run
from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch, batch_of
from vledge.lengths.lanes import run_lanes
from vledge.packing import PackedSequence
from vledge.planning.costs import Conversion, Costs, Kernel

__all__ = ["calibrate"]

HIDDEN_SIZES = (16, 32, 64, 128, 256, 512)
ROWS = (1, 2, 6, 12, 24, 48)
# (sequences, longest, features) of the batches whose conversions are timed.
BATCHES = (
    (1, 8, 16), (1, 200, 64), (8, 20, 16), (8, 100, 256), (64, 20, 64), (64, 100, 16),
    (64, 100, 256), (256, 30, 16), (256, 60, 64), (512, 40, 128),
)  # fmt: skip


def calibrate(seconds: float = 0.02) -> Costs:
    """Measure; each figure is the least of the runs that fit into so many seconds (at least 3)."""
    stopwatch = _Stopwatch(seconds)
    kernels = {
        cell: tuple(_kernel(stopwatch, cell, size) for size in HIDDEN_SIZES)
        for cell in ("lstm", "gru", "rnn", "indrnn")
    }
    return Costs(
        source=f"measured on {time.strftime('%Y-%m-%d %H:%M')}",
        kernels=kernels,
        multiply_add=_multiply_add(stopwatch),
        double=_double(stopwatch),
        thread=_thread(stopwatch),
        conversions=_conversions(stopwatch),
    )


class _Stopwatch:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, way: Callable[[], Any]) -> float:
        way()
        least, count, end = np.inf, 0, time.perf_counter() + self.seconds
        while count < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            way()
            least = min(least, time.perf_counter() - start)
            count += 1
        return float(least)


def _layer(cell: str, input_size: int, hidden_size: int, dtype: str = "float32") -> Any:
    kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN, "indrnn": nn.IndRNN}
    layer = kinds[cell](input_size, hidden_size, dtype=dtype)
    generator = np.random.default_rng(0)
    bound = hidden_size**-0.5
    layer.load_state_dict(
        {name: generator.uniform(-bound, bound, d.shape) for name, d in layer._declared.items()}
    )
    return layer


def _run(layer: Any, rows: int, steps: int, threads: int = 1) -> Callable[[], Any]:
    data = np.zeros((rows * steps, layer.input_size), layer._dtype)
    sizes = np.full(steps, rows)
    return lambda: run(layer._layers[0], data, sizes, threads=threads)


def _kernel(stopwatch: _Stopwatch, cell: str, hidden_size: int) -> Kernel:
    """A straight line over the number of rows, errors counted relative to the time."""
    layer = _layer(cell, 1, hidden_size)
    steps = 40
    taken = np.array([stopwatch(_run(layer, rows, steps)) / steps for rows in ROWS])
    step, row = _nonnegative(np.stack([np.ones(len(ROWS)), np.array(ROWS, float)], 1), taken)
    least = taken[-1] / ROWS[-1] / 1000
    return Kernel(hidden_size, max(step, least), max(row, least))


def _multiply_add(stopwatch: _Stopwatch) -> float:
    """The slope over the input size."""
    one, many = (stopwatch(_run(_layer("lstm", size, 128), 24, 40)) for size in (16, 144))
    return max((many - one) / (24 * 40 * 4 * 128 * 128), 1e-13)


def _double(stopwatch: _Stopwatch) -> float:
    single, double = (
        stopwatch(_run(_layer("lstm", 64, 128, dtype), 24, 40)) for dtype in ("float32", "float64")
    )
    return double / single


def _thread(stopwatch: _Stopwatch) -> float:
    """What a second thread adds; a machine with one core is taken to add little."""
    if threads.usable_cores() == 1:
        return 0.05
    layer = _layer("lstm", 64, 128)
    one, two = (stopwatch(_run(layer, 48, 60, count)) for count in (1, 2))
    return float(np.clip(one / two - 1, 0.05, 1.0))


def _conversions(stopwatch: _Stopwatch) -> dict[str, Conversion]:
    samples: dict[str, list[tuple[tuple[float, ...], float]]] = {}
    for sequences, longest, features in BATCHES:
        for name, counts, way in _ways(sequences, longest, features):
            samples.setdefault(name, []).append((counts, stopwatch(way)))
    return {
        name: Conversion(
            *_nonnegative(np.array([c for c, _ in taken]), np.array([t for _, t in taken]))
        )
        for name, taken in samples.items()
    }


def _ways(
    sequences: int, longest: int, features: int
) -> Iterator[tuple[str, tuple[float, ...], Callable[[], Any]]]:
    """(name, (calls, sequences, rows, bytes), what to time) of every conversion."""
    lengths = np.random.default_rng(longest).integers(1, longest, sequences, endpoint=True)
    lengths[0] = longest
    data = np.zeros((longest, sequences, features), np.float32)
    arrays = [data[:n, b].copy() for b, n in enumerate(lengths)]
    total, cells = int(lengths.sum()), longest * sequences
    forms: dict[str, Batch] = {
        "list": batch_of(arrays, None, None, False),
        "padded": PaddedBatch(data, lengths, False),
        "masked": MaskedBatch(data, np.arange(longest) < lengths[:, None], False),
    }
    packed = forms["list"].packed()
    forms["packed"] = batch_of(packed, None, None, False)

    def counts(rows: int, calls: int = 1, wide: int = 4 * features) -> tuple[float, ...]:
        return calls, sequences, rows, rows * wide

    for form, batch in forms.items():
        back = total if form in ("list", "packed") else cells
        if form != "packed":
            yield f"{form}.packed", counts(total), batch.packed
            yield f"{form}.from_packed", counts(back), partial(batch.from_packed, packed)
        if form != "padded":
            rectangle = batch.padded()[0]
            yield f"{form}.padded", counts(cells), batch.padded
            yield (
                f"{form}.from_padded",
                counts(total),
                partial(batch.from_padded, rectangle),
            )
        if form != "list":
            yield f"{form}.sequences", counts(total), batch.sequences
            yield (
                f"{form}.from_sequences",
                counts(back),
                partial(batch.from_sequences, arrays),
            )
    yield "clear", counts(cells), lambda: np.empty((cells, features), np.float32).fill(0)

    calls = 0

    def model(given: PackedSequence, _: Any) -> tuple[PackedSequence, np.ndarray]:
        nonlocal calls
        calls += 1
        return given, np.zeros((1, int(given.batch_sizes[0]), features), np.float32)

    list(run_lanes(model, arrays))
    yield "lanes", counts(total, calls, 8 * features), lambda: list(run_lanes(model, arrays))

    whole = np.zeros_like(data)

    def window() -> None:
        piece = np.ascontiguousarray(data[: longest // 2 + 1])
        whole[: len(piece)] = piece

    yield "window", counts((longest // 2 + 1) * sequences), window

    # The least that a layer computes: what is left is the call's own.
    layer = _layer("indrnn", 1, features)
    ones = PackedSequence(np.zeros((total, 1), np.float32), *packed[1:])
    yield "run", counts(total), lambda: layer.forward(ones)


def _nonnegative(terms: np.ndarray, seconds: np.ndarray) -> list[float]:
    """Least squares of relative errors with no constant below zero: terms are dropped, the most
    negative first, until none is."""
    relative = terms / seconds[:, None]
    kept = list(range(terms.shape[1]))
    found = np.zeros(terms.shape[1])
    while kept:
        # columns of like size, or lstsq takes the small ones for zero
        scale = np.abs(relative[:, kept]).max(axis=0)
        solved = np.linalg.lstsq(relative[:, kept] / scale, np.ones(len(seconds)), rcond=None)[0]
        if solved.min() >= 0:
            found[kept] = solved / scale
            break
        del kept[int(solved.argmin())]
    return found.tolist()
