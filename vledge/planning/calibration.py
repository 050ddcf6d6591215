"""``calibrate``: the cost model's constants, measured on this machine in a few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from vledge._ext import recurrent as kernels
from vledge._ext.recurrent import limits, seconds_of_meetings
from vledge._ext.weights import Direction
from vledge.lengths.running import run
from vledge.lengths.strategies import STRATEGIES
from vledge.lengths.strategies.work import FORMS, Case, Overhead
from vledge.machine import blas, projection, threads
from vledge.machine.projection import Product
from vledge.packing import pack_sequence
from vledge.packing.sequence import Sequences
from vledge.planning.costs import Costs, Kernel, Small, overhead_counts
from vledge.planning.work import work
from vledge.recurrent.cells import CELLS
from vledge.recurrent.stack import Stack
from vledge.small_matrix import FORMS as SMALL_FORMS

__all__ = ["calibrate"]

MEASURED = ("lstm", "gru", "rnn_tanh", "indrnn_relu")  # a cell of each kind
HIDDEN_SIZES = (16, 32, 64, 128, 256, 512)
ROWS = (1, 2, 6, 12, 24, 48)
# (sequences, longest, (input size, hidden size), skew) of the batches that all strategies run;
# lengths are drawn as longest * u ** skew: equal, uniform, or short with a few long ones.
BATCHES = (
    (1, 8, (16, 16), 0), (1, 200, (64, 64), 0), (4, 60, (16, 128), 1), (8, 20, (16, 16), 1),
    (8, 200, (256, 16), 5), (16, 300, (32, 64), 5), (24, 100, (16, 64), 0), (48, 150, (64, 32), 5),
    (64, 20, (64, 64), 0), (64, 100, (16, 16), 1), (64, 100, (16, 256), 0), (64, 60, (128, 16), 1),
    (128, 120, (16, 64), 5), (256, 30, (16, 16), 1), (256, 40, (128, 16), 0),
    (512, 20, (32, 64), 1),
)  # fmt: skip

# (bytes of a number, input size, columns) of the input projections that tiles and BLAS compute, and
# for how many rows.
PRODUCTS = tuple(
    (itemsize, depth, columns)
    for itemsize in (4, 8)
    for depth in (16, 64, 256, 1024)
    for columns in (64, 512, 2048)
)
PRODUCT_ROWS = (24, 16)  # a step's, and steps

MEETINGS = 1000  # of two threads, in a row


def calibrate(seconds: float = 0.01, progress: Callable[[int, int], None] | None = None) -> Costs:
    """Measure, all of it twice, for what disturbs a machine lasts for seconds; each figure is the
    least of the runs that fit into so many seconds, three at least. For 0 all is measured once.

    ``progress(done, total)`` is called before each figure, and at the end.
    """
    stopwatch = _Stopwatch(seconds, progress)
    with _projection_by("tile"):
        if seconds:
            _measured(stopwatch)
            stopwatch.again()
        costs = _measured(stopwatch)
    stopwatch.tell(stopwatch.total)
    return costs


def _figures() -> int:
    """How often the stopwatch is called in a pass: by what `_measured` asks for, in its order."""
    gains = 0 if threads.usable_cores() == 1 else 2 + 2  # and meetings
    products, doubles, memory = 2, 2, 1
    kernels = len(MEASURED) * len(HIDDEN_SIZES) * len(ROWS)
    small = 2
    by_blas = len(PRODUCTS) if blas.is_there() else 0
    return gains + kernels + products + doubles + small + memory + len(BATCHES) + by_blas


def _measured(stopwatch: _Stopwatch) -> Costs:
    thread, shared = _thread_gains(stopwatch)
    kernels = Costs(
        source=f"measured on {time.strftime('%Y-%m-%d %H:%M')}",
        kernels={
            CELLS[cell].kind.key: tuple(_kernel(stopwatch, cell, size) for size in HIDDEN_SIZES)
            for cell in MEASURED
        },
        multiply_add=_multiply_add(stopwatch),
        double=_double(stopwatch),
        small=_small(stopwatch),
        thread=thread,
        shared=shared,
        memory=_memory(stopwatch),
        overheads={},
    )
    sharing = _sharing(stopwatch, kernels.kernels["lstm"])
    with _one_thread():
        return replace(
            kernels,
            overheads=_overheads(stopwatch, kernels),
            sharing=sharing,
            products=_products(stopwatch),
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    before = threads.get_num_threads()
    threads.set_num_threads(1)
    try:
        yield
    finally:
        threads.set_num_threads(before)


class _Stopwatch:
    """Least times; those of a second pass of the same calls count together with the first's."""

    def __init__(self, seconds: float, progress: Callable[[int, int], None] | None = None) -> None:
        self.seconds = seconds
        self.total = _figures() * (2 if seconds else 1)
        self._progress, self._done = progress, 0
        self._taken: list[list[float]] = []
        self._call = 0

    def again(self) -> None:
        """The same calls follow in the same order."""
        self._call = 0

    def tell(self, done: int) -> None:
        """How far it is, outside of what is timed."""
        if self._progress is not None:
            self._progress(done, self.total)

    def __call__(self, way: Callable[[], object]) -> float:
        return self.together([way])[0]

    def together(self, ways: Sequence[Callable[[], object]], longer: int = 1) -> list[float]:
        """Of ways in turns, so that each finds memory as the others leave it."""
        self.tell(self._done)
        self._done += 1
        if self._call == len(self._taken):
            self._taken.append([np.inf] * len(ways))
        least = self._taken[self._call]
        self._call += 1
        for way in ways:
            way()
        count, end = 0, time.perf_counter() + self.seconds * len(ways) * longer
        fewest = 3 if self.seconds else 1
        while count < fewest or time.perf_counter() < end:
            for i, way in enumerate(ways):
                for _ in range(2 if len(ways) > 1 else 1):  # the second finds its caches warm
                    start = time.perf_counter()
                    way()
                    least[i] = min(least[i], time.perf_counter() - start)
            count += 1
        return list(least)


def _stack(
    cell: str,
    input_size: int,
    hidden_size: int,
    dtype: str = "float32",
    storage: str | None = None,
) -> Stack:
    generator = np.random.default_rng(0)
    bound = hidden_size**-0.5
    parts: dict[str, Any] = {
        name: generator.uniform(-bound, bound, shape).astype(dtype)
        for name, shape in CELLS[cell].kind.shapes(input_size, hidden_size).items()
    }
    return Stack([[Direction(cell, **parts, storage=storage)]])


def _run(stack: Stack, rows: int, steps: int, threads: int = 1) -> Callable[[], object]:
    data = np.zeros((rows * steps, stack.shape.input_size), stack.shape.dtype)
    sizes = np.full(steps, rows, np.int64)
    return lambda: kernels.run(stack.layers[0], data, sizes, threads=threads)


def _kernel(stopwatch: _Stopwatch, cell: str, hidden_size: int) -> Kernel:
    """A straight line over the number of rows, errors counted relative to the time."""
    stack = _stack(cell, 1, hidden_size)
    steps = 40
    taken = np.array([stopwatch(_run(stack, rows, steps)) / steps for rows in ROWS])
    terms = np.stack([np.ones(len(ROWS)), np.array(ROWS, float)], 1)
    step, row = _nonnegative(terms, taken, taken)
    least = taken[-1] / ROWS[-1] / 1000
    return Kernel(hidden_size, max(step, least), max(row, least))


def _multiply_add(stopwatch: _Stopwatch) -> float:
    """The slope over the input size."""
    one, many = (stopwatch(_run(_stack("lstm", size, 128), 24, 40)) for size in (16, 144))
    return max((many - one) / (24 * 40 * 4 * 128 * 128), 1e-13)


def _double(stopwatch: _Stopwatch) -> float:
    single, double = (
        stopwatch(_run(_stack("lstm", 64, 128, dtype), 24, 40)) for dtype in ("float32", "float64")
    )
    return double / single


def _small(stopwatch: _Stopwatch) -> dict[str, Small]:
    """From one row, which is bound by reading weights, and from many; none is free."""
    storages, rows = [None, *SMALL_FORMS], (1, ROWS[-1])
    stacks = [_stack("lstm", 1, 256, storage=storage) for storage in storages]
    one, many = (
        np.array(stopwatch.together([_run(stack, count, 40) for stack in stacks])) for count in rows
    )
    row = (many - one) / (rows[1] - rows[0])
    row = np.maximum(row, many / rows[1] / 2)  # of times that are no line, at least half of a row's
    step = np.maximum(one - row, one / 10)
    return {
        storage: Small(float(step[i] / step[0]), float(row[i] / row[0]))
        for i, storage in enumerate(storages)
        if storage is not None
    }


def _thread_gains(stopwatch: _Stopwatch) -> tuple[float, float]:
    """What a second thread adds, for many sequences and where it shares the steps of one; a
    machine with one core is taken to add little."""
    if threads.usable_cores() == 1:
        return 0.05, 0.05
    return _gain(stopwatch, 128, 48, 60), _gain(stopwatch, 192, 1, 256)


def _gain(stopwatch: _Stopwatch, hidden_size: int, rows: int, steps: int) -> float:
    stack = _stack("lstm", 64, hidden_size)

    def way(count: int) -> Callable[[], object]:
        once = _run(stack, rows, steps, count)
        # limits() ends the pause in sharing steps that a busy core has caused in the run before
        return lambda: (limits(), once())

    one, two = stopwatch.together([way(1), way(2)], longer=5)
    return float(np.clip(one / two - 1, 0.05, 1.0))


def _sharing(stopwatch: _Stopwatch, lstm: tuple[Kernel, ...]) -> dict[str, int]:
    """What threads take who share a run, from an LSTM's rows and steps of two sizes (a row is its
    weights and its units, a step besides what a row alone takes longer), and from two threads who
    do nothing but meet."""
    near, far = (next(k for k in lstm if k.hidden_size == size) for size in (128, 512))
    gates = CELLS["lstm"].kind.gates
    weights = [len(gates) * k.hidden_size**2 for k in (near, far)]
    weight = max((far.row - near.row) / (weights[1] - weights[0]), 1e-12)
    equation = (near.row - weight * weights[0]) / (len(gates) * near.hidden_size)
    found = {
        "weight_picoseconds": weight * 1e12,
        "equation_picoseconds": max(equation, 5e-11) * 1e12,
        "first_row_cost": 4 * min(max((near.step + near.row) / near.row, 1), 10),
        "far_row_cost": 4 * min(max((far.step + far.row) / far.row, 1), 10),
    }
    if threads.usable_cores() > 1:
        once = stopwatch(lambda: seconds_of_meetings(2, 1))
        meeting = (stopwatch(lambda: seconds_of_meetings(2, 1 + MEETINGS)) - once) / MEETINGS
        found["meeting_nanoseconds"] = max(meeting, 1e-8) * 1e9
        found["call_nanoseconds"] = max(once, 1e-8) * 1e9
        found["wake_nanoseconds"] = max(_waking(), 1e-7) * 1e9
    return {name: max(1, round(value)) for name, value in found.items()}


def _waking() -> float:
    """Calling a thread that has gone to sleep; the middle of a few."""
    taken = []
    for _ in range(9):
        time.sleep(0.002)
        taken.append(seconds_of_meetings(2, 1))
    return float(np.median(taken))


def _products(stopwatch: _Stopwatch) -> tuple[Product, ...]:
    """Input projections by tiles and by scipy's BLAS; nothing where there is none."""
    if not blas.is_there():
        return ()
    found = []
    for itemsize, depth, columns in PRODUCTS:
        dtype = f"float{8 * itemsize}"
        ways = []
        for name in ("tile", "blas"):
            with _projection_by(name):  # of a layer whose steps take no product
                stack = _stack("indrnn_relu", depth, columns, dtype)
            ways.append(_run(stack, *PRODUCT_ROWS))
        tile, by_blas = stopwatch.together(ways)
        found.append(Product(itemsize, depth, columns, by_blas / tile))
    return tuple(found)


@contextmanager
def _projection_by(name: str) -> Iterator[None]:
    before = projection.selected()
    projection.select(name)
    try:
        yield
    finally:
        projection.select(before)


def _memory(stopwatch: _Stopwatch) -> float:
    """To write memory that the system has to provide first."""
    count = 64 * 1024 * 1024
    return stopwatch(lambda: np.empty(count, np.uint8).fill(0)) / count


def _overheads(stopwatch: _Stopwatch, kernels: Costs) -> dict[str, Overhead]:
    """What every strategy takes for small layers, less what their kernels are known to take."""
    samples: dict[str, list[tuple[tuple[float, ...], float, float]]] = {}
    for sequences, longest, sizes, skew in BATCHES:
        stack = _stack("indrnn_relu", *sizes)
        shape = stack.shape
        drawn = np.random.default_rng(longest).random(sequences) ** skew
        lengths = np.maximum(1, (longest * drawn).astype(np.int64))
        lengths[0] = longest
        cases = {form: Case(np.sort(lengths)[::-1].copy(), form, longest) for form in FORMS}
        names, ways = zip(*_ways(stack, lengths), strict=True)
        for name, taken in zip(names, stopwatch.together(ways), strict=True):
            form, strategy = name.split(".")
            done = work(strategy, cases[form], shape, STRATEGIES[strategy].options[0])
            known = kernels.known_seconds(shape, done, 1)
            counts = overhead_counts(cases[form], shape, done)
            samples.setdefault(name, []).append((counts, taken - known, taken))
    return {
        name: Overhead(*_nonnegative(*(np.array(column) for column in zip(*taken, strict=True))))
        for name, taken in samples.items()
    }


def _ways(stack: Stack, lengths: np.ndarray) -> Iterator[tuple[str, Callable[[], object]]]:
    """("form.strategy", what to time) of all that there are."""
    longest = int(lengths.max())
    data = np.zeros((longest, len(lengths), stack.shape.input_size), np.float32)
    arrays = [data[:n, b].copy() for b, n in enumerate(lengths)]
    given: dict[str, tuple[Sequences, dict[str, Any]]] = {
        "list": (arrays, {}),
        "padded": (data, {"lengths": lengths}),
        "packed": (pack_sequence(arrays, enforce_sorted=False), {}),
        "masked": (data, {"mask": np.arange(longest) < lengths[:, None]}),
    }
    for form in FORMS:
        batch, keywords = given[form]
        for name, strategy in STRATEGIES.items():
            if form in strategy.forms:
                options = {**keywords, **strategy.options[0], "strategy": name}
                yield f"{form}.{name}", partial(run, stack, batch, **options)


def _nonnegative(terms: np.ndarray, values: np.ndarray, whole: np.ndarray) -> list[float]:
    """Least squares with no constant below zero, errors counted relative to ``whole``: terms are
    dropped, the most negative first, until none is."""
    relative = terms / whole[:, None]
    constants = np.zeros(terms.shape[1])
    kept = [i for i in range(terms.shape[1]) if terms[:, i].any()]
    while kept:
        # columns of like size, or lstsq takes the small ones for zero
        scale = np.abs(relative[:, kept]).max(axis=0)
        solved = np.linalg.lstsq(relative[:, kept] / scale, values / whole, rcond=None)[0]
        if solved.min() >= 0:
            constants[kept] = solved / scale
            break
        del kept[int(solved.argmin())]
    solution: list[float] = constants.tolist()
    return solution
