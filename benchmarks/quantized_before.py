"""What others have quantised, as it comes: ``benchmarks.quantization --graphs`` or ``--dynamic``.

ONNX models, whole, by turns with onnxruntime: files, folders of some or installed packages, as
`benchmarks.unseen` takes them. And layers that torch has quantised dynamically, read from torch's
file, beside torch: how far answers are apart, and times.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import vledge
from benchmarks import unseen
from benchmarks.measuring.guessing import Given
from benchmarks.models import measured
from benchmarks.quantization import SECONDS, Shape
from tests.peers import peer
from vledge import nn

__all__ = ["of_graphs", "of_torchs_files"]


def of_graphs(names: list[str], rounds: int) -> list[str]:
    """The table's lines for whole models, printed as they come."""
    paths = [path for name in names for path in unseen.files(name)]
    lines = ["graph | ms | onnxruntime, ms | x onnxruntime | outputs differ by | nodes in Python"]
    lines.append("---|---|---|---|---|---")
    print("\n".join(lines))
    for path, name in zip(paths, unseen.short_names(paths), strict=True):
        parts: list[str] = []
        nothing = Given({}, {}, {})
        prepare = partial(unseen.prepared, path, name, nothing, 1, 0, None, parts)
        got = measured(name, prepare, 1, rounds)
        if got.failure:
            lines.append(f"{name} | {got.failure} | | | |")
        else:
            peer = got.peers["onnxruntime"]
            cells = f"{got.seconds * 1e3:.2f} | {peer * 1e3:.2f} | {got.ratio or 0:.2f}"
            lines.append(f"{name} | {cells} | {got.difference:.1e} | {got.in_python}")
        print(lines[-1], flush=True)
    return lines


# Of layers that torch quantises: both cells at batch 1, a batch, and a single step.
DYNAMIC = [
    Shape(cell, *sizes)
    for cell in ("LSTM", "GRU")
    for sizes in ((64, 256, 1, 100), (512, 512, 1, 100), (64, 256, 32, 50), (256, 256, 1, 1))
]


def of_torchs_files(rounds: int) -> list[str]:
    """The table's lines for torch's dynamically quantised layers, printed as they come."""
    torch = peer("torch")
    torch.set_num_threads(1)
    torch.backends.quantized.engine = "x86"
    lines = [
        "layer | us a step | torch, us | float32, us | x torch | largest difference | within 1e-6"
    ]
    lines.append("---|---|---|---|---|---|---")
    print("\n".join(lines))
    for shape in DYNAMIC:
        torch.manual_seed(0)
        kind = getattr(torch.nn, shape.cell)
        model = torch.nn.Sequential(kind(shape.input_size, shape.hidden_size)).eval()
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            theirs = torch.ao.quantization.quantize_dynamic(model, {kind})[0]
            torch.save(torch.nn.Sequential(theirs).state_dict(), f"{folder}/model.pt")
            weights = vledge.load_weights(f"{folder}/model.pt")
        own = getattr(nn, shape.cell).from_weights(weights, "0.")
        floats = {name: np.array(array) for name, array in weights.items()}
        wide = getattr(nn, shape.cell).from_weights(floats, "0.")
        x = torch.randn(shape.steps, shape.batch, shape.input_size)
        ways: list[Callable[[], Any]] = [
            partial(own, x.numpy()),
            partial(theirs, x),
            partial(wide, x.numpy()),
        ]
        with torch.no_grad():
            apart = np.abs(ways[0]()[0] - ways[1]()[0].numpy())
            took = [[_seconds(way) for way in ways] for _ in range(rounds)]
        times = [f"{statistics.median(t) / shape.steps * 1e6:.1f}" for t in zip(*took, strict=True)]
        ratio = statistics.median(t[1] / t[0] for t in took)
        share = f"{(apart < 1e-6).mean():.1%}"
        cells = [str(shape), *times, f"{ratio:.2f}", f"{apart.max():.1e}", share]
        lines.append(" | ".join(cells))
        print(lines[-1], flush=True)
    return lines


def _seconds(way: Callable[[], object]) -> float:
    """Of this thread's CPU time for a call, of as many as take long enough."""
    calls, begin = 0, time.thread_time()
    while not calls or time.thread_time() - begin < SECONDS:
        way()
        calls += 1
    return (time.thread_time() - begin) / calls
