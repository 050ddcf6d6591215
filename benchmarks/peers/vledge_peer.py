"""vledge itself, by its public interface alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]

# Weights of a step that threads share.
SHARED_BYTES = 4 << 20


def version() -> str | None:
    import vledge

    return vledge.__version__


def notes() -> Sequence[str]:
    return [
        "vledge in the ratio is layer.stream(batch=1).step for single steps (streams run on their "
        "caller's thread; where two share a step, from 4 MB on, it is layer.step), layer(x) for "
        "equal lengths, and layer(x, lengths=lengths) for different ones, padded array to padded "
        "array. A stream's first run begins at the initial state and is compared, later ones carry "
        "on."
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    import vledge
    from vledge import nn

    vledge.set_num_threads(threads)
    layer = getattr(nn, workload.cell).from_weights(weights)
    if workload.streaming:
        step_shared = threads > 1 and workload.weight_bytes >= SHARED_BYTES
        return _streaming(layer, inputs, step_shared)
    if workload.kind == "full":
        return [Contestant("vledge", lambda: layer(inputs.x), _outputs)]

    def pack_and_pad() -> Any:
        packed = vledge.pack_padded_sequence(inputs.x, inputs.lengths, enforce_sorted=False)
        output, state = layer(packed)
        return vledge.pad_packed_sequence(output)[0], state

    prepacked = vledge.pack_padded_sequence(inputs.x, inputs.lengths, enforce_sorted=False)
    return [
        Contestant("vledge", lambda: layer(inputs.x, lengths=inputs.lengths), _outputs),
        Contestant("vledge packed", pack_and_pad, _outputs, counted=False),
        Contestant(
            "vledge prepacked",
            lambda: layer(prepacked),
            lambda result: _outputs((vledge.pad_packed_sequence(result[0])[0], result[1])),
            counted=False,
        ),
    ]


def _streaming(layer: Any, inputs: Inputs, step_shared: bool) -> list[Contestant]:
    initial = inputs.h_0 if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
    rows, steps = list(inputs.x), list(inputs.x[:, None])
    pre_bound = layer.step
    stream = layer.stream(batch=inputs.x.shape[1])
    stream.state = dict(zip(stream.state, (inputs.h_0, inputs.c_0), strict=False))
    stream_step = stream.step

    def run_stream() -> Any:
        return [stream_step(x) for x in rows]

    def stream_outputs(result: Any) -> Outputs:
        state = stream.state
        return outputs((result, (state["h"], state["c"]) if "c" in state else state["h"]))

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
        Contestant(
            "vledge stream" if step_shared else "vledge",
            run_stream,
            stream_outputs,
            counted=not step_shared,
        ),
        Contestant(
            "vledge" if step_shared else "vledge step", run_step, outputs, counted=step_shared
        ),
        Contestant("vledge call", run_call, outputs, counted=False),
    ]


def _outputs(result: Any) -> Outputs:
    y, state = result
    h_n, c_n = state if isinstance(state, tuple) else (state, None)
    return Outputs(y, h_n, c_n)
