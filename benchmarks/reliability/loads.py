"""Files that are loaded again and again: layers from weights, and sessions from a model."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path

import numpy as np

import vledge
from benchmarks.reliability.memory import resident
from vledge import nn

COUNT = 10_000


def _model(path: Path) -> None:
    """x -> Relu(x W), in vledge's own format, which needs no other package."""
    from vledge.formats.vledge_model import write
    from vledge.model.definition import Graph, Model, Node, ValueInfo

    w = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    nodes = [Node("MatMul", ["x", "w"], ["z"], {}), Node("Relu", ["z"], ["y"], {})]
    ends = [[ValueInfo(name, "float", (None, 8))] for name in "xy"]
    write(path, Model(Graph(nodes, *ends, {"w": w}), {"": 17}, ir_version=8))


def measure(count: int) -> tuple[int, str]:
    """Faults, and what there is to say."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        weights, model = Path(folder) / "weights", Path(folder) / "model"
        shapes = {"weight_ih_l0": (256, 32), "weight_hh_l0": (256, 64)}
        vledge.save_weights(
            weights, {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        )
        _model(model)
        x, rows = np.ones((3, 1, 32), np.float32), np.ones((2, 8), np.float32)
        held = []
        begin = time.perf_counter()
        for load in range(count):
            nn.LSTM.from_weights(vledge.load_weights(weights))(x)
            vledge.InferenceSession(model).run(None, {"x": rows})
            if load in (count // 10, count - 1):
                gc.collect()
                held.append(resident())
        seconds = time.perf_counter() - begin
    grown = held[-1] - held[0]
    line = (
        f"{count:,} loads of a layer and of a model, with a run each, in {seconds:.0f} s: "
        f"{grown / 1024:+,.0f} kB from a tenth of the way to the end"
    )
    return int(grown > 1 << 20), line
