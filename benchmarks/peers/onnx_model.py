"""The work as an ONNX model, for the runtimes that read ONNX."""

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Outputs
from vledge.integrations.onnx_layers import layer_model

__all__ = ["build", "feeds", "names", "outputs"]


def build(workload: Workload, weights: dict[str, Array], states: bool = False) -> bytes:
    """`layer_model` of the work: T is 1 for a stream, which has states; var has sequence_lens.

    All shapes are static, which lets a runtime plan its memory ahead.
    """
    return layer_model(
        workload.cell,
        weights,
        1 if workload.streaming else workload.time_steps,
        workload.batch,
        lengths=workload.kind == "var",
        states=states or workload.streaming,
    )


def names(workload: Workload) -> list[str]:
    """The model's outputs, in its order: as ``y``, then each layer's states."""
    states = ("h", "c") if workload.cell == "LSTM" else ("h",)
    layers = range(workload.num_layers)
    return ["y", *(f"{state}_n_l{layer}" for layer in layers for state in states)]


def feeds(workload: Workload, inputs: Inputs) -> dict[str, np.ndarray]:
    """The model's inputs by name; ``x`` is the first step of a stream."""
    result: dict[str, np.ndarray] = {"x": inputs.x}
    if workload.kind == "var":
        result["sequence_lens"] = inputs.lengths.astype(np.int32)
    if workload.streaming:
        result["x"] = inputs.x[:1]
        for layer in range(workload.num_layers):
            rows = slice(layer * workload.directions, (layer + 1) * workload.directions)
            result[f"h_0_l{layer}"] = inputs.h_0[rows]
            if inputs.c_0 is not None:
                result[f"c_0_l{layer}"] = inputs.c_0[rows]
    return result


def outputs(workload: Workload, results: dict[str, np.ndarray]) -> Outputs:
    """The model's outputs by name in the common layout."""
    h_n = np.concatenate([results[f"h_n_l{layer}"] for layer in range(workload.num_layers)])
    c_n = None
    if workload.cell == "LSTM":
        c_n = np.concatenate([results[f"c_n_l{layer}"] for layer in range(workload.num_layers)])
    return Outputs(results["y"], h_n, c_n)
