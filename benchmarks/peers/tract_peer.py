"""tract, which gets ONNX models of equal lengths, with initial states (a batch wants them)."""

import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import onnx_model, ways
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    if importlib.util.find_spec("tract") is None:
        return None
    return importlib.metadata.version("tract")


def notes() -> Sequence[str]:
    return ["tract ignores sequence_lens and so gets different lengths padded, and in four buckets"]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    if threads > 1:
        return []  # it has one
    if workload.streaming:
        model = _loaded(workload, weights)

        def step(x: Array, state: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
            y, *state = model.run([x, *state])
            return y.to_numpy(), state

        first = [inputs.h_0] if inputs.c_0 is None else [inputs.h_0, inputs.c_0]
        contestant = ways.stepped("tract", inputs, step, first)
        return [
            Contestant(
                contestant.name,
                contestant.run,
                lambda result: contestant.outputs((result[0], [s.to_numpy() for s in result[1]])),
            )
        ]

    def equal(part: Workload) -> ways.Run:
        model = _loaded(part, weights)
        shape = (part.directions, part.batch, part.hidden_size)
        count = part.num_layers * (2 if part.cell == "LSTM" else 1)
        states = [np.zeros(shape, np.float32) for _ in range(count)]

        def run(x: Array) -> Outputs:
            results = model.run([x, *states])
            named = (result.to_numpy() for result in results)
            return onnx_model.outputs(part, dict(zip(onnx_model.names(part), named, strict=True)))

        return run

    return ways.batches("tract", workload, inputs, equal)


def _loaded(workload: Workload, weights: dict[str, Array]) -> Any:
    import tract

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(onnx_model.build(workload, weights, states=True))
        return tract.onnx().load(path).into_model().into_runnable()
