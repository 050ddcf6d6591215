"""torch: padded and packed, eager and scripted; cells for single steps."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return str(torch.__version__)


def notes() -> Sequence[str]:
    return [
        "torch runs in inference_mode with float32_matmul_precision 'highest' (no bfloat16)",
        "torch padded is left out where a bidirectional layer meets different lengths: its reverse "
        "direction starts in the padding and computes something else",
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    rnn = getattr(torch.nn, workload.cell)(
        workload.input_size,
        workload.hidden_size,
        num_layers=workload.num_layers,
        bidirectional=workload.bidirectional,
    )
    rnn.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    rnn.eval().requires_grad_(False)
    if workload.streaming:
        return _streaming(workload, rnn, inputs)
    return _batch(workload, rnn, inputs)


def _batch(workload: Workload, rnn: Any, inputs: Inputs) -> list[Contestant]:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    from benchmarks.peers.torch_modules import PackedPadded, Padded

    def padded_outputs(result: Any) -> Outputs:
        if workload.kind == "full":
            return _outputs(result)
        return Outputs(result[0].numpy(), None, None)  # the states are those after the padding

    x, lengths = torch.from_numpy(inputs.x), torch.from_numpy(inputs.lengths)
    contestants = []
    if workload.kind == "full" or not workload.bidirectional:
        scripted = torch.jit.script(Padded(rnn).eval())
        contestants.append(Contestant("torch", _inference(rnn, x), padded_outputs))
        contestants.append(Contestant("torch scripted", _inference(scripted, x), padded_outputs))
    if workload.batch > 1:
        module = PackedPadded(rnn).eval()
        scripted = torch.jit.script(module)
        contestants.append(Contestant("torch packed", _inference(module, x, lengths), _outputs))
        contestants.append(
            Contestant("torch packed scripted", _inference(scripted, x, lengths), _outputs)
        )
    if workload.kind == "var":
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        contestants.append(
            Contestant(
                "torch prepacked",
                _inference(rnn, packed),
                lambda result: _outputs((pad_packed_sequence(result[0])[0], result[1])),
                counted=False,
            )
        )
    return contestants


def _streaming(workload: Workload, rnn: Any, inputs: Inputs) -> list[Contestant]:
    import torch

    from benchmarks.peers.torch_modules import LSTMStep, Step

    h_0 = torch.from_numpy(inputs.h_0)
    c_0 = None if inputs.c_0 is None else torch.from_numpy(inputs.c_0)
    cell = getattr(torch.nn, workload.cell + "Cell")(workload.input_size, workload.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in rnn.state_dict().items()})
    cell.eval().requires_grad_(False)
    x = torch.from_numpy(inputs.x)
    layer_steps, cell_steps = list(x[:, None]), list(x)
    layer_state = h_0 if c_0 is None else (h_0, c_0)
    cell_state = h_0[0] if c_0 is None else (h_0[0], c_0[0])

    def layer_loop(layer: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                state, outputs = layer_state, []
                for step in layer_steps:
                    y, state = layer(step, state)
                    outputs.append(y)
            return outputs, state

        return run

    def cell_loop(layer: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                state, outputs = cell_state, []
                for step in cell_steps:
                    state = layer(step, state)
                    outputs.append(state if c_0 is None else state[0])
            return outputs, state

        return run

    module = (Step if c_0 is None else LSTMStep)(rnn).eval()

    def layer_outputs(result: Any) -> Outputs:
        return _outputs((torch.cat(result[0]), result[1]))

    def cell_outputs(result: Any) -> Outputs:
        outputs, state = result
        state = state[None] if c_0 is None else (state[0][None], state[1][None])
        return _outputs((torch.stack(outputs), state))

    return [
        Contestant("torch", layer_loop(rnn), layer_outputs),
        Contestant("torch scripted", layer_loop(torch.jit.script(module)), layer_outputs),
        Contestant("torch cell", cell_loop(cell), cell_outputs),
        Contestant("torch cell scripted", cell_loop(torch.jit.script(cell)), cell_outputs),
    ]


def _inference(module: Any, *arguments: Any) -> Callable[[], Any]:
    import torch

    def run() -> Any:
        with torch.inference_mode():
            return module(*arguments)

    return run


def _outputs(result: Any) -> Outputs:
    y, state = result
    h_n, c_n = state if isinstance(state, tuple) else (state, None)
    return Outputs(*(None if part is None else np.asarray(part) for part in (y, h_n, c_n)))  # type: ignore[arg-type]
