"""One step of a layer, by each call of Python that makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import vledge
from benchmarks.measuring.workloads import Workload
from benchmarks.peers import onnx_model
from vledge import nn

__all__ = ["step_calls"]


def step_calls(
    cell: Literal["LSTM", "GRU"], hidden_size: int
) -> tuple[Workload, dict[str, Callable[[], object]]]:
    """A step of an LSTM or GRU, and the calls of Python that make it."""
    work = Workload("", "other", "step", cell, hidden_size, hidden_size, (1,))
    weights, inputs = work.weights(), work.inputs()
    initial = inputs.h_0 if inputs.c_0 is None else (inputs.h_0, inputs.c_0)
    layer = getattr(nn, cell).from_weights(weights)
    x, stream = inputs.x[0], layer.stream(batch=1)
    session = vledge.InferenceSession(onnx_model.build(work, weights))
    feeds = onnx_model.feeds(work, inputs)
    return work, {
        "stream.step(x)": lambda: stream.step(x),
        "layer(x, state)": lambda: layer(inputs.x, initial),
        "session.run": lambda: session.run(None, feeds),
    }
