"""The matrix: which layers, sizes and lengths are timed, and the ratio each group must reach.

Weights, inputs and lengths are drawn from seeds that depend on the work's name alone, so every
process and every thread count gets the same numbers. Nothing here runs a model.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["TARGETS", "Inputs", "Workload", "matrix", "quick_matrix"]

Array = NDArray[np.float32]
Kind = Literal["step", "loop", "full", "var"]

# The ratio (best peer's median / ours) that each group must reach, by number of threads.
TARGETS: Mapping[str, Mapping[int, float]] = {
    "streaming step, H 64-256": {1: 4.0},
    "streaming step, H 512": {1: 1.2, 2: 1.5},
    "batch 1 sequences, H <= 192": {1: 1.5, 2: 1.2},
    "batch 1 sequences, H 256": {1: 1.3, 2: 1.2},
    "variable lengths, H <= 128": {1: 3.0, 2: 3.0},
    "variable lengths, H 192-512": {1: 1.5, 2: 1.5},
    "equal lengths, B 32": {1: 1.05, 2: 1.05},
    "other": {1: 1.0, 2: 1.0},
}


@dataclass(frozen=True)
class Inputs:
    """What every contestant gets: a padded batch with its lengths, and the initial state."""

    x: Array  # [T, B, I], zero beyond each length
    lengths: NDArray[np.int64]  # [B], in no particular order
    h_0: Array  # [L * D, B, H]
    c_0: Array | None  # [L * D, B, H], LSTM only


@dataclass(frozen=True)
class Workload:
    """One row of the matrix.

    ``step`` is one step of a stream, state in and state out. ``loop`` is ``time_steps`` such
    calls, each given the state of the one before. ``full`` is a batch of equal lengths, ``var``
    one of different lengths; both start from a zero state.
    """

    name: str
    group: str
    kind: Kind
    cell: Literal["LSTM", "GRU"]
    input_size: int
    hidden_size: int
    lengths: tuple[int, ...]
    num_layers: int = 1
    bidirectional: bool = False

    @property
    def gates(self) -> int:
        return 4 if self.cell == "LSTM" else 3

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def batch(self) -> int:
        return len(self.lengths)

    @property
    def time_steps(self) -> int:
        return max(self.lengths)

    @property
    def real_steps(self) -> int:
        return sum(self.lengths)

    @property
    def streaming(self) -> bool:
        return self.kind in ("step", "loop")

    def layer_input_size(self, layer: int) -> int:
        return self.input_size if layer == 0 else self.hidden_size * self.directions

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weight matrices in float32."""
        elements = sum(
            self.layer_input_size(layer) + self.hidden_size for layer in range(self.num_layers)
        )
        return 4 * self.directions * self.gates * self.hidden_size * elements

    @property
    def flops(self) -> int:
        """Multiplications and additions of the real steps' matrix products, without padding."""
        return self.weight_bytes // 4 * 2 * self.real_steps

    @property
    def flops_per_weight_byte(self) -> float:
        """How often a weight that has been read is used: 2 · mean live rows / 4 bytes."""
        return self.real_steps / self.time_steps / 2

    def weights(self) -> dict[str, Array]:
        """Weights by torch's names, uniform in ±1/sqrt(hidden_size) as torch initialises them."""
        generator = np.random.default_rng(zlib.crc32(b"weights " + self.name.encode()))
        bound = self.hidden_size**-0.5
        rows = self.gates * self.hidden_size
        result: dict[str, Array] = {}
        for layer in range(self.num_layers):
            for suffix in ("", "_reverse")[: self.directions]:
                for name, shape in (
                    ("weight_ih", (rows, self.layer_input_size(layer))),
                    ("weight_hh", (rows, self.hidden_size)),
                    ("bias_ih", (rows,)),
                    ("bias_hh", (rows,)),
                ):
                    values = generator.uniform(-bound, bound, shape)
                    result[f"{name}_l{layer}{suffix}"] = values.astype(np.float32)
        return result

    def inputs(self) -> Inputs:
        generator = np.random.default_rng(zlib.crc32(b"inputs " + self.name.encode()))
        lengths = np.array(self.lengths, np.int64)
        x = generator.standard_normal((self.time_steps, self.batch, self.input_size))
        x[np.arange(self.time_steps)[:, None] >= lengths] = 0.0
        shape = (self.num_layers * self.directions, self.batch, self.hidden_size)
        h_0, c_0 = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        if self.streaming:
            h_0 = np.tanh(generator.standard_normal(shape)).astype(np.float32)
            c_0 = generator.standard_normal(shape).astype(np.float32)
        return Inputs(x.astype(np.float32), lengths, h_0, c_0 if self.cell == "LSTM" else None)


def matrix() -> list[Workload]:
    """Every row, LSTM first."""
    return [replace(row, cell=cell, name=f"{cell} {row.name}") for cell in CELLS for row in _rows()]


def quick_matrix() -> list[Workload]:
    """One or two rows of each group, small enough for a look after every change."""
    return [row for row in matrix() if row.name.partition(" ")[2] in QUICK]


CELLS: tuple[Literal["LSTM", "GRU"], ...] = ("LSTM", "GRU")
QUICK = {
    "I64 H128 B1 T1",
    "I512 H512 B1 T1",
    "I64 H64 B1 T100",
    "I128 H256 B1 T100",
    "I40 H256 B32 T100 full",
    "I40 H128 B32 T200 var",
    "I64 H192 B32 T200 var",
    "I40 H100 B4 T200 var",
}


def _rows() -> list[Workload]:
    """The rows without their cell; sizes in a name are input, hidden, batch and time."""
    rows = []

    def add(
        group: str,
        kind: Kind,
        sizes: tuple[int, int],
        lengths: tuple[int, ...],
        note: str = "",
        num_layers: int = 1,
        bidirectional: bool = False,
    ) -> None:
        name = f"I{sizes[0]} H{sizes[1]} B{len(lengths)} T{max(lengths)}"
        if num_layers > 1:
            name += f" {num_layers} layers"
        if bidirectional:
            name += " bidirectional"
        if note:
            name += f" {note}"
        rows.append(Workload(name, group, kind, "LSTM", *sizes, lengths, num_layers, bidirectional))

    add("other", "step", (32, 32), (1,))
    for sizes in ((64, 64), (64, 100), (64, 128), (256, 256)):
        add("streaming step, H 64-256", "step", sizes, (1,))
    add("streaming step, H 512", "step", (512, 512), (1,))
    add("streaming step, H 64-256", "loop", (64, 128), (1000,), "step by step")

    add("other", "full", (32, 32), (100,))
    for sizes in ((64, 64), (64, 100), (64, 192)):
        add("batch 1 sequences, H <= 192", "full", sizes, (100,))
    add("batch 1 sequences, H <= 192", "full", (40, 128), (1000,))
    add("batch 1 sequences, H 256", "full", (128, 256), (100,))
    add("other", "full", (512, 512), (100,))

    add("other", "full", (40, 128), (100,) * 4, "full")
    add("equal lengths, B 32", "full", (40, 100), (100,) * 32, "full")
    add("equal lengths, B 32", "full", (40, 256), (100,) * 32, "full")
    add("equal lengths, B 32", "full", (256, 256), (100,) * 32, "full", 2, True)
    add("other", "full", (40, 256), (160,) * 10, "speaker encoder", 3)

    small, large = "variable lengths, H <= 128", "variable lengths, H 192-512"
    add(small, "var", (40, 32), log_normal(32, 200), "var")
    add(small, "var", (40, 100), log_normal(4, 200), "var")
    add(small, "var", (40, 100), log_normal(32, 200), "var")
    add(small, "var", (40, 128), log_normal(32, 200), "var")
    add(small, "var", (40, 128), log_normal(8, 1000), "var")
    add(small, "var", (64, 128), uniform(256, 5, 400), "lengths 5-400")
    add(small, "var", (40, 128), (2000,) + (10,) * 31, "one long, 31 short")
    add(large, "var", (64, 192), log_normal(32, 200), "var")
    add(large, "var", (256, 256), log_normal(32, 200), "var", 2, True)
    add(large, "var", (128, 512), log_normal(64, 300), "var")
    add("other", "var", (40, 128), uniform(32, 190, 200), "nearly equal lengths")
    return rows


def log_normal(batch: int, time_steps: int) -> tuple[int, ...]:
    """Lengths with median T/4 and sigma 0.7, clipped to 1..T, one of them T, shuffled."""
    generator = np.random.default_rng([batch, time_steps])
    drawn = generator.lognormal(np.log(time_steps / 4), 0.7, batch).astype(int)
    lengths = np.clip(drawn, 1, time_steps)
    lengths[generator.integers(batch)] = time_steps
    return tuple(int(length) for length in lengths)


def uniform(batch: int, low: int, high: int) -> tuple[int, ...]:
    """Lengths between low and high inclusive, one of them high, shuffled."""
    generator = np.random.default_rng([batch, low, high])
    lengths = generator.integers(low, high + 1, batch)
    lengths[generator.integers(batch)] = high
    return tuple(int(length) for length in lengths)
