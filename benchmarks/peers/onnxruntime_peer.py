"""ONNX Runtime's CPU provider: the plain call, and tensors bound ahead for single steps."""

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
    if importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None:
        return None
    return importlib.metadata.version("onnxruntime")


def notes() -> Sequence[str]:
    return [
        "onnxruntime gets sequence_lens for different lengths; its threads spin between calls "
        "(its default)"
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_model.build(workload, weights), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    feeds = onnx_model.feeds(workload, inputs)
    if not workload.streaming:

        def run() -> Any:
            return session.run(names, feeds)

        def outputs(result: Any) -> Outputs:
            return onnx_model.outputs(workload, dict(zip(names, result, strict=True)))

        return [Contestant("onnxruntime", run, outputs)]
    return [_plain_steps(workload, session, inputs, feeds), _bound_steps(workload, session, inputs)]


def _plain_steps(
    workload: Workload, session: Any, inputs: Inputs, feeds: dict[str, np.ndarray]
) -> Contestant:
    final, initial = _state_names(workload)
    names = ["y", *final]
    steps = [inputs.x[t : t + 1] for t in range(workload.time_steps)]
    first = [feeds[name] for name in initial]

    def run() -> Any:
        state, outputs = first, []
        for step in steps:
            y, *state = session.run(names, dict(zip(initial, state, strict=True), x=step))
            outputs.append(y)
        return outputs, state

    def outputs(result: Any) -> Outputs:
        ys, state = result
        return Outputs(np.concatenate(ys), *state, *([None] * (2 - len(state))))

    return Contestant("onnxruntime", run, outputs)


def _bound_steps(workload: Workload, session: Any, inputs: Inputs) -> Contestant:
    """Bindings that hand the state to and fro: one for the first step, odd and even steps."""
    import onnxruntime

    final, initial = _state_names(workload)

    def value(array: Array) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array.copy())

    feeds = onnx_model.feeds(workload, inputs)
    x, y = value(inputs.x[:1]), value(np.zeros((1, *inputs.h_0.shape[1:]), np.float32))
    first = [value(feeds[name]) for name in initial]
    states = [[value(np.zeros_like(feeds[name])) for name in initial] for _ in range(2)]

    def binding(source: list[Any], target: list[Any]) -> Any:
        result = session.io_binding()
        result.bind_ortvalue_input("x", x)
        result.bind_ortvalue_output("y", y)
        for k, (name_0, name_n) in enumerate(zip(initial, final, strict=True)):
            result.bind_ortvalue_input(name_0, source[k])
            result.bind_ortvalue_output(name_n, target[k])
        return result

    to_and_fro = binding(states[1], states[0]), binding(states[0], states[1])
    bindings = [to_and_fro[t % 2] for t in range(workload.time_steps)]
    bindings[0] = binding(first, states[0])
    pairs = [(bindings[t], inputs.x[t : t + 1].copy()) for t in range(workload.time_steps)]

    def run() -> Any:
        outputs = []
        for binding, step in pairs:
            x.update_inplace(step)
            session.run_with_iobinding(binding)
            outputs.append(y.numpy().copy())
        return outputs

    def outputs(result: Any) -> Outputs:
        state = [value.numpy() for value in states[(len(pairs) - 1) % 2]]
        return Outputs(np.concatenate(result), *state, *([None] * (2 - len(state))))

    return Contestant("onnxruntime bound", run, outputs)


def _state_names(workload: Workload) -> tuple[list[str], list[str]]:
    """Names of the final and of the initial state, in the same order."""
    states = ("h", "c") if workload.cell == "LSTM" else ("h",)
    return [f"{state}_n_l0" for state in states], [f"{state}_0_l0" for state in states]
