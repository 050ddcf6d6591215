"""ncnn, which runs one sequence at a time: works of batch 1."""

import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]

# ncnn's gate order as indices into torch's: LSTM i,f,o,g from i,f,g,o; GRU r,u,n is torch's.
GATES = {"LSTM": (0, 1, 3, 2), "GRU": (0, 1, 2)}
PARAM_MAGIC = "7767517"
FLOAT32_TAG = np.zeros(1, np.int32).tobytes()


def version() -> str | None:
    return importlib.metadata.version("ncnn") if importlib.util.find_spec("ncnn") else None


def notes() -> Sequence[str]:
    return ["ncnn runs works of batch 1 only, with 16-bit storage and arithmetic switched off"]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    if workload.batch != 1:
        return []
    net = _load(workload, weights, threads)
    return [_steps(workload, net, inputs) if workload.streaming else _sequence(net, inputs)]


def _load(workload: Workload, weights: dict[str, Array], threads: int) -> Any:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16", "use_int8")):
            setattr(net.opt, option, False)
    param, model = _files(workload, weights)
    with tempfile.TemporaryDirectory() as folder:
        param_path, model_path = Path(folder, "work.param"), Path(folder, "work.bin")
        param_path.write_text(param)
        model_path.write_bytes(model)
        if net.load_param(str(param_path)) or net.load_model(str(model_path)):
            raise RuntimeError(f"ncnn refused the model of {workload.name}")
    return net


def _files(workload: Workload, weights: dict[str, Array]) -> tuple[str, bytes]:
    """The text of the .param file and the content of the .bin file."""
    states = [] if not workload.streaming else ["h", "c"][: 2 if workload.cell == "LSTM" else 1]
    blobs = ["x", *(f"{state}_0" for state in states)]
    layers = [f"Input {blob} 0 1 {blob}" for blob in blobs]
    model = b""
    for layer in range(workload.num_layers):
        last = layer == workload.num_layers - 1
        source = "x" if layer == 0 else f"y_{layer - 1}"
        operands = [source, *(f"{state}_0" for state in states)]
        results = ["y" if last else f"y_{layer}", *(f"{state}_n" for state in states)]
        blobs += results
        suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: workload.directions]
        stacks = {
            part: np.stack([_block(workload, weights, part + suffix) for suffix in suffixes])
            for part in ("weight_ih", "bias", "weight_hh")
        }
        layers.append(
            f"{workload.cell} layer_{layer} {len(operands)} {len(results)} "
            f"{' '.join(operands + results)} 0={workload.hidden_size} "
            f"1={stacks['weight_ih'].size} 2={2 if workload.bidirectional else 0}"
        )
        model += b"".join(FLOAT32_TAG + stack.tobytes() for stack in stacks.values())
    text = "\n".join([PARAM_MAGIC, f"{len(layers)} {len(blobs)}", *layers]) + "\n"
    return text, model


def _block(workload: Workload, weights: dict[str, Array], name: str) -> Array:
    """A weight or bias in ncnn's gate order; a GRU keeps its two biases of n apart."""
    if not name.startswith("bias"):
        gates = np.split(weights[name], workload.gates)
        return np.concatenate([gates[k] for k in GATES[workload.cell]])
    suffix = name.removeprefix("bias")
    bias_ih = np.split(weights["bias_ih" + suffix], workload.gates)
    bias_hh = np.split(weights["bias_hh" + suffix], workload.gates)
    if workload.cell == "GRU":
        parts = [bias_ih[0] + bias_hh[0], bias_ih[1] + bias_hh[1], bias_ih[2], bias_hh[2]]
    else:
        parts = [bias_ih[k] + bias_hh[k] for k in GATES["LSTM"]]
    return np.concatenate(parts)


def _sequence(net: Any, inputs: Inputs) -> Contestant:
    import ncnn

    x = ncnn.Mat(np.ascontiguousarray(inputs.x[:, 0]))

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("x", x)
        return extractor.extract("y")[1]

    def outputs(result: Any) -> Outputs:
        return Outputs(np.array(result)[:, None], None, None)

    return Contestant("ncnn", run, outputs)


def _steps(workload: Workload, net: Any, inputs: Inputs) -> Contestant:
    import ncnn

    steps = [ncnn.Mat(np.ascontiguousarray(step)) for step in inputs.x]
    h_0 = ncnn.Mat(np.ascontiguousarray(inputs.h_0[:, 0]))

    def run_gru() -> Any:
        h, outputs = h_0, []
        for step in steps:
            extractor = net.create_extractor()
            extractor.input("x", step)
            extractor.input("h_0", h)
            outputs.append(extractor.extract("y")[1])
            h = extractor.extract("h_n")[1]
        return outputs, [h]

    if inputs.c_0 is None:
        return Contestant("ncnn", run_gru, _step_outputs)
    c_0 = ncnn.Mat(np.ascontiguousarray(inputs.c_0[:, 0]))

    def run_lstm() -> Any:
        h, c, outputs = h_0, c_0, []
        for step in steps:
            extractor = net.create_extractor()
            extractor.input("x", step)
            extractor.input("h_0", h)
            extractor.input("c_0", c)
            outputs.append(extractor.extract("y")[1])
            h = extractor.extract("h_n")[1]
            c = extractor.extract("c_n")[1]
        return outputs, [h, c]

    return Contestant("ncnn", run_lstm, _step_outputs)


def _step_outputs(result: Any) -> Outputs:
    outputs, states = result
    y = np.stack([np.array(y).reshape(1, -1) for y in outputs])
    arrays = [np.array(state).reshape(1, 1, -1) for state in states]
    return Outputs(y, *arrays, *([None] * (2 - len(arrays))))
