"""One recurrent layer as a function that takes a step, in each runtime that is installed.

Each carries the state itself, as its users must, on one thread, with the cheapest calls that the
runtime offers from Python: vledge's stream with ``out=``, onnxruntime with I/O binding, torch's
traced layer without gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from vledge.errors import UnsupportedError, import_failure
from vledge.integrations.onnx_layers import layer_model
from vledge.nn.recurrent import RNN, RecurrentBase

if TYPE_CHECKING:
    from onnxruntime import IOBinding

__all__ = ["ENGINES", "Step"]

Step = Callable[[], np.ndarray]  # one step on the frame that it was made with; its output


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
    except ImportError as error:
        raise import_failure(
            error,
            "onnxruntime",
            "--engines onnxruntime needs onnxruntime and onnx: pip install onnxruntime onnx",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _onnx_model(layer, len(x)), options, ["CPUExecutionProvider"]
    )
    shape = (1, len(x), layer.hidden_size)
    names = [info.name for info in session.get_inputs()[1:]]
    states = [{name: np.zeros(shape, np.float32) for name in names} for _ in range(2)]
    outputs = [np.zeros((1, 1, len(x), layer.hidden_size), np.float32) for _ in range(2)]
    bindings: list[tuple[IOBinding, np.ndarray]] = []
    for turn in range(2):
        binding = session.io_binding()
        binding.bind_cpu_input("x", x[None])
        for name in names:
            binding.bind_cpu_input(name, states[turn][name])
            _bind_output(binding, name.replace("_0_", "_n_"), states[1 - turn][name])
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


def _bind_output(binding: IOBinding, name: str, array: np.ndarray) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _require_torchs(layer: RecurrentBase) -> None:
    """UnsupportedError for what the other runtimes' layers would be another layer."""
    if layer.stack.directions[0].activations is not None or not getattr(layer, "reset_after", True):
        raise UnsupportedError(f"{layer!r} is compared with torch's equations only: it has others")


def torch_step(layer: RecurrentBase, x: np.ndarray) -> Step:
    """torch's own layer, traced, on a sequence of one step."""
    try:
        import torch
    except ImportError as error:
        raise import_failure(
            error, "torch", "--engines torch needs torch: pip install torch"
        ) from error
    _require_torchs(layer)
    kind = type(layer).__name__
    options = {"nonlinearity": layer.nonlinearity} if isinstance(layer, RNN) else {}
    rnn = getattr(torch.nn, kind)(
        layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, **options
    )
    rnn.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in layer.state_dict().items()})
    frame = torch.from_numpy(x[None])
    zeros = torch.zeros(layer.num_layers, len(x), layer.hidden_size)
    state = (zeros, zeros) if kind == "LSTM" else zeros
    torch.set_num_threads(1)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # TorchScript is called old, and is the fastest for a step
        traced: Any = torch.jit.trace(rnn.eval(), (frame, state))  # type: ignore[no-untyped-call]

    def step() -> np.ndarray:
        nonlocal state
        with torch.inference_mode():
            y, state = traced(frame, state)
        output: np.ndarray = y[0].numpy()
        return output

    return step


def _onnx_model(layer: RecurrentBase, rows: int) -> bytes:
    """x [1, rows, I] and a state for each layer -> y [1, 1, rows, H] and the next states."""
    _require_torchs(layer)
    own = [str(layer.nonlinearity).capitalize()] if isinstance(layer, RNN) else None
    kind = type(layer).__name__
    weights = {name: np.asarray(a) for name, a in layer.state_dict().items()}  # if small: as floats
    return layer_model(kind, weights, 1, rows, states=True, joined=False, activations=own)


ENGINES: dict[str, Callable[[RecurrentBase, np.ndarray], Step]] = {
    "vledge": vledge_step,
    "onnxruntime": onnxruntime_step,
    "torch": torch_step,
}
