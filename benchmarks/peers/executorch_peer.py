"""ExecuTorch with XNNPACK: torch's cells a step at a time, and equal lengths as a scan of one layer
over time. It knows no lengths, and makes a program for each shape.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import ways
from benchmarks.peers.contestant import Array, Contestant, Outputs

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    if importlib.util.find_spec("executorch") is None:
        return None
    return importlib.metadata.version("executorch")


def notes() -> Sequence[str]:
    return [
        "ExecuTorch runs a sequence as a scan, for it would unroll torch's own layers for minutes: "
        "the input's product by XNNPACK, the steps, into which its partitioner does not look, by "
        "portable kernels. Each shape is a program that takes 9 s of CPU time or more to make: "
        "stacks and different lengths, which want several, are left out"
    ]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    import torch

    first = [torch.from_numpy(a[0]) for a in (inputs.h_0, inputs.c_0) if a is not None]
    if not workload.streaming:
        if workload.kind == "var" or workload.num_layers > 1:
            return []
        example = (torch.from_numpy(inputs.x), *first)
        forward = _program(_scan(workload, weights), example, threads)

        def batch() -> Outputs:
            y, *last = (np.array(part) for part in forward(example))
            return Outputs(y, *(part[None] for part in last))

        return [Contestant("executorch", batch, lambda result: result)]

    class Step(torch.nn.Module):  # type: ignore[misc, name-defined]
        """A cell whose states are plain arguments."""

        def __init__(self, cell: Any):
            super().__init__()
            self.cell = cell

        def forward(self, x: Any, *state: Any) -> Any:
            return self.cell(x, state if len(state) > 1 else state[0])

    cell = getattr(torch.nn, workload.cell + "Cell")(workload.input_size, workload.hidden_size)
    cell.load_state_dict(
        {name.removesuffix("_l0"): torch.from_numpy(value) for name, value in weights.items()}
    )
    forward = _program(Step(cell), (torch.from_numpy(inputs.x[0]), *first), threads)

    def step(x: Array, state: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
        state = forward((torch.from_numpy(x[0]), *state))
        return np.array(state[0]), state

    return [ways.stepped("executorch", inputs, step, first)]


def _program(
    module: Any, example: tuple[Any, ...], threads: int
) -> Callable[[tuple[Any, ...]], Sequence[Any]]:
    """The module's ``forward`` as an ExecuTorch program for inputs of the example's shapes."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib

    exported = torch.export.export(module.eval(), example)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    # before the program, which keeps the pool that it was loaded with
    portable_lib._unsafe_reset_threadpool(threads)
    content = lowered.to_executorch().buffer
    program = portable_lib._load_for_executorch_from_buffer(content)

    def forward(given: tuple[Any, ...]) -> Sequence[Any]:
        assert content  # the program points into it
        result: Sequence[Any] = program.forward(given)
        return result

    return forward


def _scan(workload: Workload, weights: dict[str, Array]) -> Any:
    """A layer over time, x [T, B, I] and its state -> y and the last state."""
    import torch
    from torch._higher_order_ops.scan import scan

    w_ih, w_hh, b_ih, b_hh = (
        torch.from_numpy(weights[f"{name}_l0"])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )

    class Layer(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.into = torch.nn.Linear(*reversed(w_ih.shape))
            self.into.load_state_dict({"weight": w_ih, "bias": b_ih})
            self.register_buffer("recurrent", w_hh.T.contiguous())
            self.register_buffer("bias", b_hh)

        def lstm(self, state: list[Any], gates: Any) -> tuple[list[Any], Any]:
            gates = gates + torch.addmm(self.bias, state[0], self.recurrent)
            i, f, g, o = gates.chunk(4, 1)
            c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            return [h, c], h.clone()

        def gru(self, state: list[Any], gates: Any) -> tuple[list[Any], Any]:
            r_x, z_x, n_x = gates.chunk(3, 1)
            r_h, z_h, n_h = torch.addmm(self.bias, state[0], self.recurrent).chunk(3, 1)
            n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
            h = n + torch.sigmoid(z_x + z_h) * (state[0] - n)
            return [h], h.clone()

        def forward(self, x: Any, *state: Any) -> Any:
            cell = self.lstm if len(state) > 1 else self.gru
            last, y = scan(cell, list(state), self.into(x))
            return y, *last

    return Layer()
