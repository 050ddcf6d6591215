"""vledge itself, by its public interface alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.peers.contestant import Array, Contestant, Outputs
from benchmarks.workloads import Inputs, Workload

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    import vledge

    return vledge.__version__


def notes() -> Sequence[str]:
    return [
        "vledge in the ratio is layer.step for single steps, layer(x) for equal lengths, and for "
        "different lengths pack_padded_sequence, layer and pad_packed_sequence together"
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    import vledge
    from vledge import nn

    vledge.set_num_threads(threads)
    layer = getattr(nn, workload.cell).from_weights(weights)
    if workload.streaming:
        return _streaming(workload, layer, inputs)
    if workload.kind == "full":
        return [Contestant("vledge", lambda: layer(inputs.x), _outputs)]

    def run() -> Any:
        packed = vledge.pack_padded_sequence(inputs.x, inputs.lengths, enforce_sorted=False)
        output, state = layer(packed)
        return vledge.pad_packed_sequence(output)[0], state

    prepacked = vledge.pack_padded_sequence(inputs.x, inputs.lengths, enforce_sorted=False)
    return [
        Contestant("vledge", run, _outputs),
        Contestant(
            "vledge prepacked",
            lambda: layer(prepacked),
            lambda result: _outputs((vledge.pad_packed_sequence(result[0])[0], result[1])),
            counted=False,
        ),
    ]


def _streaming(workload: Workload, layer: Any, inputs: Inputs) -> list[Contestant]:
    initial = inputs.h_0 if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
    rows, steps = list(inputs.x), list(inputs.x[:, None])
    pre_bound = layer.step

    def run_step() -> Any:
        state, outputs = initial, []
        for x in rows:
            y, state = pre_bound(x, state)
            outputs.append(y)
        return outputs, state

    def run_call() -> Any:
        state, outputs = initial, []
        for x in steps:
            y, state = layer(x, state)
            outputs.append(y[0])
        return outputs, state

    def outputs(result: Any) -> Outputs:
        return _outputs((np.stack(result[0]), result[1]))

    return [
        Contestant("vledge", run_step, outputs),
        Contestant("vledge call", run_call, outputs, counted=False),
    ]


def _outputs(result: Any) -> Outputs:
    y, state = result
    h_n, c_n = state if isinstance(state, tuple) else (state, None)
    return Outputs(y, h_n, c_n)
