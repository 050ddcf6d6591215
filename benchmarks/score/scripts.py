"""What users would write: the archive by torch, and by onnxruntime, in a process of its own.

``python -m benchmarks.score.scripts ENGINE MODEL THREADS OUTPUT CELL LIMIT FILE…`` prints its
seconds and its processor seconds, from the first file's opening to the last one's closing, imports
left out; and the share of all steps that it has run: it gives up after LIMIT seconds.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.score.archive import sequences_of

ROWS = 64  # of a batch

Run = Callable[[list[np.ndarray]], np.ndarray]  # sequences, the longest first -> their last outputs


class OutOfTime(Exception):
    """The script has run as long as it may."""


class Clock:
    """How long the script has run, and what it has done by then."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.steps = 0
        self._start, self._before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)

    def ran(self, batch: list[np.ndarray]) -> None:
        """These sequences are done; OutOfTime if there may be no more."""
        self.steps += sum(map(len, batch))
        if time.perf_counter() - self._start > self.limit:
            raise OutOfTime

    def seconds(self) -> tuple[float, float]:
        """Since the beginning, and those of the processor."""
        seconds = time.perf_counter() - self._start
        used, before = resource.getrusage(resource.RUSAGE_SELF), self._before
        return seconds, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


def by_torch(model: str, threads: int, cell: str) -> Run:
    """Packed batches, as torch's documentation has them."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    weights = load_file(model)
    size = weights["weight_ih_l0"].shape[1]
    layer: Any = getattr(torch.nn, cell)(size, weights["weight_hh_l0"].shape[1])
    layer.load_state_dict(weights)
    layer.eval()

    def run(batch: list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            packed = torch.nn.utils.rnn.pack_sequence([torch.from_numpy(s) for s in batch])
            _, state = layer(packed)
            h = state[0] if cell == "LSTM" else state
            return h[-1].numpy()

    return run


def by_onnxruntime(model: str, threads: int, cell: str) -> Run:
    """Padded batches with their lengths."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(batch: list[np.ndarray]) -> np.ndarray:
        lengths = np.array([len(s) for s in batch], np.int32)
        x = np.zeros((lengths[0], len(batch), batch[0].shape[1]), np.float32)
        for i, sequence in enumerate(batch):
            x[: len(sequence), i] = sequence
        return session.run(None, {"x": x, "lengths": lengths})[0]

    return run


def by_length(sequences: list[np.ndarray], run: Run, clock: Clock) -> np.ndarray:
    """A DataLoader over the sequences sorted by length, and the results in their own order."""
    from torch.utils.data import DataLoader

    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    loader = DataLoader(
        [sequences[i] for i in order], batch_size=ROWS, collate_fn=lambda batch: batch
    )
    parts = []
    for batch in loader:
        parts.append(run(batch))
        clock.ran(batch)
    outputs = np.concatenate(parts)
    back = np.empty_like(outputs)
    back[order] = outputs
    return back


def score(files: list[str], output: str, run: Run, clock: Clock) -> None:
    """Files to files."""
    for file in files:
        table = pq.read_table(file)
        last = by_length(sequences_of(table), run, clock)
        column = pa.FixedSizeListArray.from_arrays(pa.array(last.reshape(-1)), last.shape[1])
        result = pa.table({"id": table["id"], "last": column})
        pq.write_table(result, Path(output) / Path(file).name)


def main() -> None:
    engine, model, threads, output, cell, limit, *files = sys.argv[1:]
    made = {"torch": by_torch, "onnxruntime": by_onnxruntime}[engine]
    run = made(model, int(threads), cell)
    import torch.utils.data  # noqa: F401  (imports are left out of the time)

    clock = Clock(float(limit))
    with suppress(OutOfTime):
        score(files, output, run, clock)
    seconds, cpu = clock.seconds()
    steps = sum(sum(map(len, sequences_of(pq.read_table(file)))) for file in files)
    print(seconds, cpu, clock.steps / steps)


if __name__ == "__main__":
    main()
