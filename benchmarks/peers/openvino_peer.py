"""OpenVINO's CPU plugin, float32, with tensors set ahead."""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import onnx_model
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    if importlib.util.find_spec("openvino") is None or importlib.util.find_spec("onnx") is None:
        return None
    return importlib.metadata.version("openvino")


def notes() -> Sequence[str]:
    import openvino

    default = openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()
    result = ["openvino is told to infer in f32, with inputs and outputs shared, not copied"]
    if default not in ("f32", "float32"):
        result.append(f"openvino by itself would use {default} on this CPU, which rounds results")
    return result


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(onnx_model.build(workload, weights)),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": False,
        },
    )
    feeds = onnx_model.feeds(workload, inputs)
    tensors = {name: openvino.Tensor(value, shared_memory=True) for name, value in feeds.items()}
    if workload.streaming:
        return [_steps(workload, compiled, inputs, tensors)]
    request = compiled.create_infer_request()
    for name, tensor in tensors.items():
        request.set_tensor(name, tensor)

    def run() -> Any:
        request.infer(share_outputs=True)

    def outputs(_: Any) -> Outputs:
        names = [output.any_name for output in compiled.outputs]
        return onnx_model.outputs(
            workload, {name: request.get_tensor(name).data.copy() for name in names}
        )

    return [Contestant("openvino", run, outputs)]


def _steps(
    workload: Workload, compiled: Any, inputs: Inputs, tensors: dict[str, Any]
) -> Contestant:
    """Requests that hand the state to and fro: one for the first step, odd and even steps."""
    import openvino

    states = ("h", "c") if workload.cell == "LSTM" else ("h",)
    steps = [inputs.x[t : t + 1] for t in range(workload.time_steps)]
    x_buffer = inputs.x[:1].copy()
    x = openvino.Tensor(x_buffer, shared_memory=True)
    y = openvino.Tensor(np.zeros((1, *inputs.h_0.shape[1:]), np.float32))
    first = {state: tensors[f"{state}_0_l0"] for state in states}
    buffers = [
        {state: openvino.Tensor(np.zeros_like(inputs.h_0)) for state in states} for _ in range(2)
    ]

    def request(source: dict[str, Any], target: dict[str, Any]) -> Any:
        result = compiled.create_infer_request()
        result.set_tensor("x", x)
        result.set_tensor("y", y)
        for state in states:
            result.set_tensor(f"{state}_0_l0", source[state])
            result.set_tensor(f"{state}_n_l0", target[state])
        return result

    to_and_fro = request(buffers[1], buffers[0]), request(buffers[0], buffers[1])
    requests = [to_and_fro[t % 2] for t in range(len(steps))]
    requests[0] = request(first, buffers[0])
    pairs = list(zip(requests, steps, strict=True))

    def run() -> Any:
        outputs = []
        for request, step in pairs:
            x_buffer[...] = step
            request.infer(share_outputs=True)
            outputs.append(y.data.copy())
        return outputs

    def outputs(result: Any) -> Outputs:
        state = [buffers[(len(steps) - 1) % 2][state].data.copy() for state in states]
        return Outputs(np.concatenate(result), *state, *([None] * (2 - len(state))))

    return Contestant("openvino", run, outputs)
