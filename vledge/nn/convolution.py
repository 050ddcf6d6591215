"""Conv1d: a kernel that slides over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vledge.array_like import ArrayLike
from vledge.convolution.correlation import Kernel
from vledge.convolution.small import SmallKernel
from vledge.convolution.windows import window_of
from vledge.nn.dtype import DType, checked_input, float_dtype, require_cpu
from vledge.nn.packed import PackedModule
from vledge.small_matrix import SmallMatrix, Weight, is_dynamic
from vledge.weights.plain import layer_weights

__all__ = ["Conv1d"]

_PAD_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Conv1d(PackedModule):
    """Cross-correlation over time; weight ``[out_channels, in_channels / groups, kernel_size]``.

    Source: torch.nn.Conv1d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] | str = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        dtype = float_dtype(dtype)
        if groups <= 0 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"in_channels and out_channels must be divisible by groups, got {in_channels}, "
                f"{out_channels} and groups={groups}"
            )
        if padding_mode not in _PAD_MODES:
            raise ValueError(
                f"padding_mode must be one of {sorted(_PAD_MODES)}, got {padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _single(kernel_size)
        self.stride = _single(stride)
        self.dilation = _single(dilation)
        self.groups = groups
        self.padding = padding if isinstance(padding, str) else _single(padding)
        self.padding_mode = padding_mode
        self.pads = self._padding_sides()
        shape = (out_channels, in_channels // groups, self.kernel_size[0])
        self.declare("weight", shape, dtype, small=groups == 1)
        if bias:
            self.declare("bias", (out_channels,), dtype)
        else:
            self.bias = None

    def _padding_sides(self) -> tuple[int, int]:
        if self.padding == "valid":
            return 0, 0
        if self.padding == "same":
            if self.stride != (1,):
                raise ValueError("padding='same' is not supported for strided convolutions")
            total = self.dilation[0] * (self.kernel_size[0] - 1)
            return total // 2, total - total // 2
        if isinstance(self.padding, str):
            raise ValueError(
                f"Invalid padding string {self.padding!r}, should be one of 'valid', 'same'"
            )
        return self.padding[0], self.padding[0]

    def _pack(self, arrays: dict[str, np.ndarray]) -> Kernel | SmallKernel:
        pads = self.pads if self.padding_mode == "zeros" else (0, 0)
        window = window_of(self.kernel_size, self.stride, self.dilation, pads)
        weight: Weight = arrays["weight"]
        if is_dynamic(weight):  # of a Linear; torch has no such convolution
            weight = np.asarray(weight).reshape(self._declared["weight"].shape)
        if isinstance(weight, SmallMatrix):
            return SmallKernel(weight, arrays.get("bias"), window)
        return Kernel(weight, arrays.get("bias"), window, self.groups)

    @classmethod
    def from_weights(
        cls, weights: Mapping[str, np.ndarray], prefix: str = "", **options: Any
    ) -> Conv1d:
        """Build the layer from ``weight`` and, if it is there, ``bias`` under ``prefix``; what does
        not show in the shapes (stride, padding, dilation, groups) is given in ``options``."""
        weights = layer_weights(weights, prefix, "Conv1d", 3)
        weight = weights["weight"]
        options.setdefault("dtype", np.float64 if weight.dtype == np.float64 else np.float32)
        bias = "bias" in weights
        in_channels = weight.shape[1] * options.get("groups", 1)
        layer = cls(in_channels, weight.shape[0], weight.shape[2], bias=bias, **options)
        layer.load_state_dict({n: weights[n] for n in layer._declared})
        return layer

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [B, in_channels, T]`` or ``[in_channels, T]`` -> the same with out_channels and
        ``(T + padding - dilation * (kernel_size - 1) - 1) // stride + 1`` steps."""
        kernel = self._loaded()
        input = checked_input(input, kernel.dtype)
        if input.ndim not in (2, 3) or input.shape[-2] != self.in_channels:
            raise RuntimeError(
                f"Conv1d: input has shape {input.shape}, expected [B, {self.in_channels}, T] or "
                f"[{self.in_channels}, T]"
            )
        x = input if input.ndim == 3 else input[None]
        if any(self.pads) and self.padding_mode != "zeros":
            mode: Any = _PAD_MODES[self.padding_mode]
            x = np.pad(x, ((0, 0), (0, 0), self.pads), mode=mode)
        (size,), (dilation,) = self.kernel_size, self.dilation
        length = x.shape[2] + (sum(self.pads) if self.padding_mode == "zeros" else 0)
        span = dilation * (size - 1) + 1
        if length < span:
            raise RuntimeError(
                f"Calculated padded input size per channel: ({length}). Kernel size: ({span}). "
                "Kernel size can't be greater than actual input size"
            )
        output: np.ndarray = kernel.convolved(x)
        return output if input.ndim == 3 else output[0]

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        parts.append(f"stride={self.stride}")
        if any(self.pads):
            parts.append(f"padding={self.padding!r}")
        if self.dilation != (1,):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        return ", ".join(parts)


def _single(value: int | tuple[int]) -> tuple[int]:
    return (int(value),) if isinstance(value, (int, np.integer)) else (int(value[0]),)
