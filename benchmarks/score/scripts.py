"""What users would write: the archive by torch, and by onnxruntime, in a process of its own.

``python -m benchmarks.score.scripts ENGINE MODEL THREADS OUTPUT CELL FILE…`` prints its seconds and
its processor seconds, from the first file's opening to the last one's closing, imports left out.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 64  # of a batch

Run = Callable[[list[np.ndarray]], np.ndarray]  # sequences, the longest first -> their last outputs


def sequences_of(table: pa.Table) -> list[np.ndarray]:
    """The column as arrays [L, features]."""
    frames = table["frames"].combine_chunks()
    features = frames.type.value_type.list_size
    flat = frames.values.values.to_numpy().reshape(-1, features).copy()  # torch wants to write
    offsets = frames.offsets.to_numpy()
    return [flat[a:b] for a, b in pairwise(offsets)]


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


def by_length(sequences: list[np.ndarray], run: Run) -> np.ndarray:
    """A DataLoader over the sequences sorted by length, and the results in their own order."""
    from torch.utils.data import DataLoader

    order = sorted(range(len(sequences)), key=lambda i: -len(sequences[i]))
    loader = DataLoader(
        [sequences[i] for i in order], batch_size=ROWS, collate_fn=lambda batch: batch
    )
    outputs = np.concatenate([run(batch) for batch in loader])
    back = np.empty_like(outputs)
    back[order] = outputs
    return back


def main() -> None:
    engine, model, threads, output, cell, *files = sys.argv[1:]
    made = {"torch": by_torch, "onnxruntime": by_onnxruntime}[engine]
    run = made(model, int(threads), cell)
    import torch.utils.data  # noqa: F401  (imports are left out of the time)

    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    for file in files:
        table = pq.read_table(file)
        last = by_length(sequences_of(table), run)
        column = pa.FixedSizeListArray.from_arrays(pa.array(last.reshape(-1)), last.shape[1])
        result = pa.table({"id": table["id"], "last": column})
        pq.write_table(result, Path(output) / Path(file).name)
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(seconds, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime)


if __name__ == "__main__":
    main()
