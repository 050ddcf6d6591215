"""BatchNorm1d (with its running statistics) and LayerNorm."""

from __future__ import annotations

import numpy as np

from vledge.array_like import ArrayLike, array_of, each_sequence
from vledge.nn.dtype import DType, checked_input, float_dtype, require_cpu
from vledge.nn.module import Module
from vledge.pieces import in_pieces, in_slices

__all__ = ["BatchNorm1d", "LayerNorm"]


class BatchNorm1d(Module):
    """``(x - running_mean) / sqrt(running_var + eps) * weight + bias``, per channel.

    Without running statistics there is nothing to run at inference: refused.
    Source: torch.nn.BatchNorm1d in ``eval()`` mode.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        dtype = float_dtype(dtype)
        if not track_running_stats:
            raise ValueError("BatchNorm1d needs its running statistics: track_running_stats=True")
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        if affine:
            self.declare("weight", (num_features,), dtype)
            self.declare("bias", (num_features,), dtype)
        self.declare("running_mean", (num_features,), dtype, buffer=True)
        self.declare("running_var", (num_features,), dtype, buffer=True)
        self.declare("num_batches_tracked", (), np.int64, buffer=True, optional=True)

    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [B, num_features]`` or ``[B, num_features, T]`` -> the same shape."""
        mean, variance = self._array("running_mean"), self._array("running_var")
        input = checked_input(input, mean.dtype)
        if input.ndim not in (2, 3) or input.shape[1] != self.num_features:
            raise ValueError(
                f"BatchNorm1d: input has shape {input.shape}, expected [B, {self.num_features}] or "
                f"[B, {self.num_features}, T]"
            )
        scale = 1 / np.sqrt(variance + mean.dtype.type(self.eps))
        if self.affine:
            scale *= self._array("weight")
        shift = -mean * scale
        if self.affine:
            shift += self._array("bias")
        if input.ndim == 3:
            scale, shift = scale[:, None], shift[:, None]
        normalized: np.ndarray = in_pieces(lambda x, a, b: x * a + b)(input, scale, shift)
        return normalized

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}"


class LayerNorm(Module):
    """Zero mean and unit variance over the last axes, then scale and shift.

    Source: torch.nn.LayerNorm.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...] | list[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: object = None,
        dtype: DType = None,
    ) -> None:
        super().__init__()
        require_cpu(device)
        dtype = float_dtype(dtype)
        shape = (
            (int(normalized_shape),)
            if isinstance(normalized_shape, (int, np.integer))
            else tuple(normalized_shape)
        )
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.has_bias = elementwise_affine and bias
        if elementwise_affine:
            self.declare("weight", shape, dtype)
        if self.has_bias:
            self.declare("bias", shape, dtype)

    @each_sequence
    def forward(self, input: ArrayLike) -> np.ndarray:
        """``input [*, *normalized_shape]`` -> the same shape; a list of arrays, each."""
        if self.elementwise_affine:
            input = checked_input(input, self._array("weight").dtype)
        else:
            input = array_of(input, "input")
            float_dtype(input.dtype)
        if input.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            raise RuntimeError(
                f"LayerNorm: input has shape {input.shape}, expected [*, "
                f"{', '.join(map(str, self.normalized_shape))}]"
            )
        return in_slices(self._normalized, input, range(input.ndim - len(self.normalized_shape)))

    def _normalized(self, input: np.ndarray) -> np.ndarray:
        axes = tuple(range(-len(self.normalized_shape), 0))
        centred = input - input.mean(axes, keepdims=True)
        variance = np.square(centred).mean(axes, keepdims=True)
        output: np.ndarray = centred / np.sqrt(variance + input.dtype.type(self.eps))
        if self.elementwise_affine:
            output *= self._array("weight")
        if self.has_bias:
            output += self._array("bias")
        return output

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )
