"""ExecuTorch with XNNPACK: torch's cells, a step at a time. A sequence it would unroll for minutes;
and it knows no lengths.
"""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measuring.workloads import Inputs, Workload
from benchmarks.peers import ways
from benchmarks.peers.contestant import Array, Contestant

__all__ = ["notes", "prepare", "version"]


def version() -> str | None:
    if importlib.util.find_spec("executorch") is None:
        return None
    return importlib.metadata.version("executorch")


def notes() -> Sequence[str]:
    return ["ExecuTorch runs single steps only: it unrolls a layer's time, which takes minutes"]


def prepare(
    workload: Workload, weights: dict[str, Array], inputs: Inputs, threads: int
) -> list[Contestant]:
    if not workload.streaming:
        return []
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib

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
    first = [torch.from_numpy(a[0]) for a in (inputs.h_0, inputs.c_0) if a is not None]
    example = (torch.from_numpy(inputs.x[0]), *first)
    exported = torch.export.export(Step(cell).eval(), example)
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    # before the program, which keeps the pool that it was loaded with
    portable_lib._unsafe_reset_threadpool(threads)
    content = lowered.to_executorch().buffer
    program = portable_lib._load_for_executorch_from_buffer(content)

    def step(x: Array, state: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
        assert content  # the program points into it
        state = program.forward((torch.from_numpy(x[0]), *state))
        return np.array(state[0]), state

    return [ways.stepped("executorch", inputs, step, first)]
