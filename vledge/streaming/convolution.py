"""Conv1d with its left context carried from call to call."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vledge.array_like import array_of
from vledge.errors import UnsupportedError
from vledge.nn.convolution import Conv1d
from vledge.nn.module import Module
from vledge.streaming.machine import State

__all__ = ["StreamingConv1d"]


class StreamingConv1d(Module):
    """Stands in a streaming module where the Conv1d stood.

    The frames before the first one are zeros: a stream computes the causal convolution. A module
    may get there in the three ways that people use: padding of ``dilation * (kernel_size - 1)``
    whose outputs at the end it cuts off, zeros put in front of the input by itself, or none, where
    the whole run has no outputs for the first frames. With lookahead, one whose padding lies on
    both sides ("same") has frames ahead on its right, and zeros where they end.
    """

    time_axis = 2

    def __init__(self, layer: Conv1d, rows: int, name: str, lookahead: bool) -> None:
        super().__init__()
        self.row_axes = {"context": 0}
        self.name = f"Conv1d {name!r}" if name else "the Conv1d"
        span = layer.dilation[0] * (layer.kernel_size[0] - 1)
        both_sides = sum(layer.pads) == span > 0 and layer.padding_mode == "zeros"
        self.looks_ahead = lookahead and both_sides
        self.past, self.after = span, 0  # frames before the first, and zeros behind the last
        if self.looks_ahead:
            self.past, self.after = layer.pads
        elif any(layer.pads) and name:
            self.after = span
        self.extra = self.past + self.after - span  # outputs that the module cuts off
        if layer.stride != (1,):
            raise UnsupportedError(
                f"{self.name} has stride {layer.stride[0]}: a stream has an output for each frame"
            )
        causal = layer.pads in ((0, 0), (span, span))
        if not (causal or self.looks_ahead) or (any(layer.pads) and layer.padding_mode != "zeros"):
            raise UnsupportedError(
                f"{self.name} has padding={layer.padding!r} ({layer.padding_mode}): its outputs "
                f"need frames that are still to come. A causal one has padding=0 or {span}"
                + ("; this one can run with lookahead=" if both_sides and not lookahead else "")
            )
        self.valid = layer
        if any(layer.pads):
            self.valid = Conv1d(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                dilation=layer.dilation,
                groups=layer.groups,
                bias="bias" in layer.state_dict(),
                dtype=layer.weight.dtype,
            )
            self.valid.load_state_dict(layer.state_dict())
        dtype = layer.weight.dtype
        self.context = np.zeros((rows, layer.in_channels, self.past), dtype)
        self.expect(0, 0)

    def expect(self, steps: int, kept: int) -> None:
        """So many frames are coming; the context is to be that after the first ``kept``."""
        self.steps, self.kept = steps, kept
        self.served = False

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [B, in_channels, T]`` -> ``[B, out_channels, T]``, and what is to be cut off."""
        input = array_of(input, "input")
        if self.served:
            raise UnsupportedError(f"{self.name} is called twice for one frame")
        self.served = True
        if input.shape[:2] != self.context.shape[:2] or input.ndim != 3:
            raise ValueError(
                f"{self.name}: input has the shape {list(input.shape)}, expected "
                f"[{self.context.shape[0]}, {self.context.shape[1]}, T]"
            )
        steps = self.steps
        if not self.after and input.shape[2] == steps + self.past > steps:
            if input[:, :, : self.past].any():
                raise UnsupportedError(f"{self.name}: something other than zeros is put in front")
            input = input[:, :, self.past :]
        if input.shape[2] != steps:
            raise UnsupportedError(
                f"{self.name} gets {input.shape[2]} steps where {steps} frames were pushed: only "
                f"padding by {self.past} zeros on the left can be streamed"
            )
        zeros = np.zeros((*input.shape[:2], self.after), input.dtype)
        whole = np.concatenate([self.context, input, zeros], 2)
        if steps == 0:
            return np.zeros((len(input), self.valid.out_channels, self.extra), input.dtype)
        output: np.ndarray = self.valid(whole)
        self.context = whole[:, :, self.kept : self.kept + self.past].copy()
        return output

    def get_state(self) -> State:
        """``context [rows, in_channels, past]``: the frames before; past is ``dilation *
        (kernel_size - 1)``, or the padding on the left of one that looks ahead."""
        return {"context": self.context.copy()}

    def set_state(self, state: State) -> None:
        """Replace it."""
        self.context = state["context"].copy()
