"""The cost model: seconds of kernels and of what is around them, from a few constants."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from math import log
from typing import Any

import numpy as np

from vledge._ext.recurrent import limits
from vledge.lengths.strategies.work import Case, Overhead, Work
from vledge.machine.projection import Product
from vledge.recurrent.shape import LayerShape

__all__ = ["SHARING", "Costs", "Kernel", "Small", "moved_nbytes", "overhead_counts"]

# Caches and the allocator keep about as much; what a call needs beyond it comes from afar or anew.
KEPT_BYTES = 1024 * 1024

# What `vledge calibrate` finds of how threads share a run.
SHARING = (
    "weight_picoseconds", "equation_picoseconds", "first_row_cost", "far_row_cost",
    "meeting_nanoseconds", "call_nanoseconds", "wake_nanoseconds",
)  # fmt: skip

# A step that takes so many meetings' time is worth sharing.
MEETINGS = 12

# Constants of a file, seconds or ratios, are within these: sums and quotients of them are numbers.
LEAST, MOST = 1e-18, 1e6


@dataclass(frozen=True)
class Kernel:
    """The recurrent part of one cell at one hidden size, float32, one thread: what a time step
    costs however few its rows are, and each row of it, in seconds."""

    hidden_size: int
    step: float
    row: float


@dataclass(frozen=True)
class Small:
    """Small weights' time over float32's: of what a time step costs, which is reading weights, and
    of each row."""

    step: float
    row: float


def moved_nbytes(shape: LayerShape) -> int:
    """What a step of a sequence moves: into the stack, and out of each of its layers."""
    return shape.itemsize * (shape.input_size + shape.num_layers * shape.output_size)


def overhead_counts(case: Case, shape: LayerShape, done: Work) -> tuple[int, int, int, int, int]:
    """What :meth:`Overhead.seconds` takes."""
    nbytes = moved_nbytes(shape)
    padding = case.rectangle - case.total
    return len(done.runs), len(case.lengths), case.total, case.total * nbytes, padding * nbytes


@dataclass(frozen=True, repr=False)
class Costs:
    """All constants, and where they are from."""

    source: str
    kernels: dict[str, tuple[Kernel, ...]]  #: by cell, hidden sizes ascending
    multiply_add: float  #: of the input projection, float32, one thread
    double: float  #: float64's time over float32's
    small: dict[str, Small]  #: by storage
    thread: float  #: what a thread beyond the first adds, in threads
    shared: float  #: the same where threads share the steps of a single sequence
    memory: float  #: each byte at the peak beyond what is kept from call to call
    overheads: dict[str, Overhead]  #: by form and strategy: "list.packed"
    #: by which the engine shares a run between threads: limits of ``ext/limit_list.h``, by name
    sharing: dict[str, int] = field(default_factory=dict)
    #: by which ``VLEDGE_PROJECTION=auto`` chooses who multiplies layers' inputs
    products: tuple[Product, ...] = ()

    def __repr__(self) -> str:
        speed = 2e-9 / self.multiply_add
        return (
            f"Costs({self.source}: {len(self.kernels)} cells, {len(self.overheads)} strategies, "
            f"{speed:.1f} GFLOP/s, a second thread adds {self.thread:.0%})"
        )

    def seconds(
        self, strategy: str, case: Case, shape: LayerShape, done: Work, threads: int
    ) -> float:
        """What the strategy takes for the case."""
        overhead = self.overheads[f"{case.form}.{strategy}"]
        known = self.known_seconds(shape, done, threads)
        return known + overhead.seconds(*overhead_counts(case, shape, done))

    def known_seconds(self, shape: LayerShape, done: Work, threads: int) -> float:
        """The kernels' and the memory's, which no strategy's overhead contains."""
        runs = sum(self.run_seconds(shape, run, threads) for run in done.runs)
        return runs + self.memory_seconds(done.peak)

    def memory_seconds(self, peak: int) -> float:
        """What memory costs of which so many bytes are needed at the most."""
        return self.memory * max(0, peak - KEPT_BYTES)

    def run_seconds(self, shape: LayerShape, lengths: np.ndarray, threads: int) -> float:
        """One call of a stack of layers on sequences of these lengths, longest first."""
        return shape.directions * sum(
            self._direction(lengths, step, row, threads, shape) for step, row in self._layers(shape)
        )

    def rates(self, shape: LayerShape) -> tuple[float, float]:
        """Of the stack on one thread: what a time step costs, and each row of it."""
        steps, rows = zip(*self._layers(shape), strict=True)
        return shape.directions * sum(steps), shape.directions * sum(rows)

    def _layers(self, shape: LayerShape) -> list[tuple[float, float]]:
        """Step and row of one direction of each layer, the input's projection included."""
        slower = self.double if shape.itemsize == 8 else 1.0
        step, row = self._kernel(shape.cell, shape.hidden_size)
        small = self.small.get(shape.storage, Small(1.0, 1.0))
        return [
            (
                step * slower * small.step,
                slower
                * small.row
                * (
                    row
                    + self.multiply_add * shape.hidden_size * (shape.gates * size + shape.proj_size)
                ),
            )
            for size in shape.layer_inputs
        ]

    def _direction(
        self, lengths: np.ndarray, step: float, row: float, threads: int, shape: LayerShape
    ) -> float:
        directions, steps = shape.directions, int(lengths.sum())
        alone = step * int(lengths[0]) + row * steps
        if threads == 1:
            return alone
        speed = 1 + self.thread * (threads - 1)
        slices = threads if threads % directions else threads // directions
        shared = np.inf
        if threads > directions and _shares_steps(shape, steps):
            shared = alone / (1 + self.shared * (threads - 1))
            if len(lengths) == 1:
                return shared
        if slices == 1 or len(lengths) == 1:
            return alone / (1 + self.thread if directions == 2 else 1)
        # Slices of equal work; each walks as many steps as its longest sequence has.
        work = np.cumsum(lengths)
        first = np.searchsorted(work, steps * np.arange(slices) / slices, "right")
        walked = int(lengths[np.unique(first)].sum())
        sliced = max((step * walked + row * steps) / speed, (step + row) * int(lengths[0]))
        return float(min(sliced, shared))

    def _kernel(self, cell: str, hidden_size: int) -> tuple[float, float]:
        """Step and row, on straight lines between the measured sizes in logarithms."""
        table = self.kernels[cell]
        after = bisect_left(table, hidden_size, 1, len(table) - 1, key=lambda k: k.hidden_size)
        low, high = table[after - 1], table[after]
        share = log(hidden_size / low.hidden_size) / log(high.hidden_size / low.hidden_size)
        return low.step * (high.step / low.step) ** share, low.row * (high.row / low.row) ** share

    def as_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Costs:
        """The other way round; raises KeyError, TypeError or ValueError for anything else."""
        kernels = {
            cell: tuple(Kernel(k["hidden_size"], k["step"], k["row"]) for k in table)
            for cell, table in fields["kernels"].items()
        }
        overheads = {name: Overhead(**one) for name, one in fields["overheads"].items()}
        small = {name: Small(**one) for name, one in fields["small"].items()}
        costs = cls(
            str(fields["source"]),
            kernels,
            fields["multiply_add"],
            fields["double"],
            small,
            fields["thread"],
            fields["shared"],
            fields["memory"],
            overheads,
            dict(fields["sharing"]),
            tuple(Product(*one) for one in fields["products"]),
        )
        sizes = [k.hidden_size for table in kernels.values() for k in table]
        sizes += [n for one in costs.products for n in (one.itemsize, one.depth, one.columns)]
        if not all(type(size) is int and 0 < size < 1 << 31 for size in sizes):
            raise ValueError("a size is none")
        constants = [costs.multiply_add, costs.double, costs.thread, costs.shared, costs.memory]
        constants += [
            value for table in kernels.values() for k in table for value in (k.step, k.row)
        ]
        constants += [value for one in small.values() for value in (one.step, one.row)]
        constants += [one.blas for one in costs.products]
        if not all(len(table) > 1 for table in kernels.values()):
            raise ValueError("a cell has fewer than two hidden sizes")
        if any(a.hidden_size >= b.hidden_size for t in kernels.values() for a, b in pairwise(t)):
            raise ValueError("a cell's hidden sizes do not rise")
        if not all(isinstance(value, float) and LEAST <= value <= MOST for value in constants):
            raise ValueError(f"a constant is not a number from {LEAST} to {MOST}")
        for name, limit in costs.sharing.items():
            if name not in SHARING or type(limit) is not int or not 0 < limit < 1 << 31:
                raise ValueError(f"{name} is {limit!r}, which no limit of sharing is")
        moved = [value for one in overheads.values() for value in asdict(one).values()]
        if not all(isinstance(value, float) and 0 <= value <= MOST for value in moved):
            raise ValueError(f"an overhead's constant is not a number from 0 to {MOST}")
        return costs


def _shares_steps(shape: LayerShape, steps: int) -> bool:
    """Whether threads may run every step together: not where its weights are small."""
    if shape.kind.independent:  # its steps take no product: what is shared is not worth a term
        return False
    found = limits()
    weights = shape.gates * shape.hidden_size * shape.width
    step = weights * found["weight_picoseconds"] / 1000
    return (
        step >= MEETINGS * found["meeting_nanoseconds"]
        and step * steps >= found["wake_nanoseconds"]
    )
