"""One recurrent layer as a function that takes a step, in each runtime that is installed.

Each carries the state itself, as its users must, on one thread, with the cheapest calls that the
runtime offers from Python: vledge's stream with ``out=``, onnxruntime with I/O binding, torch's
traced layer without gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from vledge.errors import MissingDependencyError, UnsupportedError
from vledge.nn.recurrent import RNN, RecurrentBase

__all__ = ["ENGINES", "Step"]

Step = Callable[[], np.ndarray]  # one step on the frame that it was made with; its output

# ONNX's gate order as indices into torch's: LSTM i,o,f,c from i,f,g,o; GRU z,r,h from r,z,n.
_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def vledge_step(layer: RecurrentBase, x: np.ndarray) -> Step:
    """A stream that writes where it was told."""
    stream = layer.stream(batch=len(x))
    out = stream.step(x)
    stream.reset()
    step = stream.step
    return lambda: step(x, out)


def onnxruntime_step(layer: RecurrentBase, x: np.ndarray) -> Step:
    """The layer as an ONNX model with its states as inputs and outputs, bound once to two sets of
    buffers in turn."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError("pip install onnxruntime onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _onnx_model(layer, len(x)), options, ["CPUExecutionProvider"]
    )
    shape = (1, len(x), layer.hidden_size)
    names = [info.name for info in session.get_inputs()[1:]]
    states = [{name: np.zeros(shape, np.float32) for name in names} for _ in range(2)]
    outputs = [np.zeros((1, 1, len(x), layer.hidden_size), np.float32) for _ in range(2)]
    bindings = []
    for turn in range(2):
        binding = session.io_binding()
        binding.bind_cpu_input("x", x[None])
        for name in names:
            binding.bind_cpu_input(name, states[turn][name])
            _bind_output(binding, f"{name}_n", states[1 - turn][name])
        _bind_output(binding, "y", outputs[turn])
        bindings.append((binding, outputs[turn][0, 0]))
    turn = 0

    def step() -> np.ndarray:
        nonlocal turn
        binding, output = bindings[turn]
        session.run_with_iobinding(binding)
        turn = 1 - turn
        return output

    return step


def _bind_output(binding: Any, name: str, array: np.ndarray) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _require_torchs(layer: RecurrentBase) -> None:
    """UnsupportedError for what the other runtimes' layers would be another layer."""
    if layer._activations is not None or not getattr(layer, "reset_after", True):
        raise UnsupportedError(f"{layer!r} is compared with torch's equations only: it has others")


def torch_step(layer: RecurrentBase, x: np.ndarray) -> Step:
    """torch's own layer, traced, on a sequence of one step."""
    try:
        import torch
    except ImportError:
        raise MissingDependencyError("pip install torch") from None
    _require_torchs(layer)
    kind = type(layer).__name__
    options = {"nonlinearity": layer.nonlinearity} if isinstance(layer, RNN) else {}
    rnn = getattr(torch.nn, kind)(
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, **options
    )
    rnn.load_state_dict({n: torch.from_numpy(a.copy()) for n, a in layer.state_dict().items()})
    frame = torch.from_numpy(x[None])
    zeros = torch.zeros(layer.num_layers, len(x), layer.hidden_size)
    state = (zeros, zeros) if kind == "LSTM" else zeros
    torch.set_num_threads(1)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is called old, and is the fastest for a step
        traced = torch.jit.trace(rnn.eval(), (frame, state))

    def step() -> np.ndarray:
        nonlocal state
        with torch.inference_mode():
            y, state = traced(frame, state)
        return y[0].numpy()

    return step


def _onnx_model(layer: RecurrentBase, rows: int) -> bytes:
    """x [1, rows, I] and a state for each layer -> y [1, 1, rows, H] and the next states."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingDependencyError("pip install onnxruntime onnx") from None
    _require_torchs(layer)
    kind = type(layer).__name__
    arrays = layer.state_dict()
    gates, size = _ORDER[kind], layer.hidden_size

    def ordered(name: str) -> np.ndarray:
        parts = np.split(arrays[name], len(gates))
        return np.concatenate([parts[gate] for gate in gates])

    def info(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes, weights, x = [], [], "x"
    inputs, outputs = [info("x", 1, rows, layer.input_size)], [info("y", 1, 1, rows, size)]
    for index in range(layer.num_layers):
        names = [f"{part}_{index}" for part in ("w", "r", "b")]
        values = [ordered(f"weight_{part}_l{index}") for part in ("ih", "hh")]
        if layer.bias:
            both = [ordered(f"bias_{part}_l{index}") for part in ("ih", "hh")]
            values.append(np.concatenate(both))
        else:
            values.append(np.zeros(2 * len(gates) * size, np.float32))
        weights += [numpy_helper.from_array(v[None], n) for n, v in zip(names, values, strict=True)]
        states = [f"{s}_{index}" for s in ("hc" if kind == "LSTM" else "h")]
        inputs += [info(state, 1, rows, size) for state in states]
        outputs += [info(f"{state}_n", 1, rows, size) for state in states]
        y = "y" if index == layer.num_layers - 1 else f"y_{index}"
        attributes: dict[str, Any] = {"hidden_size": size}
        if kind == "GRU":
            attributes["linear_before_reset"] = 1
        if isinstance(layer, RNN):
            attributes["activations"] = [layer.nonlinearity.capitalize()]
        results = [y, *(f"{state}_n" for state in states)]
        nodes.append(helper.make_node(kind, [x, *names, "", *states], results, **attributes))
        if y != "y":
            x = f"x_{index + 1}"
            nodes.append(helper.make_node("Squeeze", [y, "axis"], [x]))
    if layer.num_layers > 1:
        weights.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    graph = helper.make_graph(nodes, "layer", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return model


ENGINES: dict[str, Callable[[RecurrentBase, np.ndarray], Step]] = {
    "vledge": vledge_step,
    "onnxruntime": onnxruntime_step,
    "torch": torch_step,
}
