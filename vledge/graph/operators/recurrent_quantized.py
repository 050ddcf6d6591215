"""com.microsoft's DynamicQuantizeLSTM: an LSTM with 8-bit weights, as quantize_dynamic writes it.

X is quantized once for the whole call, padding included, and h anew at each step over all
sequences that ran in the step before, to uint8 with one scale and zero point (so that a result
depends a little on what else is in the batch: that is the operator's definition, not an
approximation of it). Biases, gates and states are float32.
Source: ContribOperators.md; onnxruntime's dynamic_quantize_lstm.cc for what that leaves open.
"""

from __future__ import annotations

import functools

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.recurrent import RecurrentNode, Weights
from vledge.graph.operators.recurrent_generic import Cell, GenericDirection
from vledge.graph.registry import Context, prepared_operator


@prepared_operator("DynamicQuantizeLSTM", since=1, domain="com.microsoft")
def dynamic_quantize_lstm(
    context: Context,
    *,
    hidden_size: int | None = None,
    direction: str = "forward",
    activations: list[str] | None = None,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    clip: float | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> RecurrentNode:
    """X, W [D, I, 4H], R [D, H, 4H], B, sequence_lens, initial_h, initial_c, P, and W_scale,
    W_zero_point, R_scale, R_zero_point: [D], or [D, 4H] with one scale a column."""
    cell = Cell("LSTM", activations, activation_alpha, activation_beta, clip, direction)
    cell.input_forget = bool(input_forget)
    return RecurrentNode(context, cell, direction, hidden_size, layout, QuantizedWeights)


class QuantizedWeights(Weights):
    """Weights of integers, and their scales."""

    def __init__(
        self,
        cell: Cell,
        direction: str,
        hidden_size: int | None,
        w: np.ndarray,
        r: np.ndarray,
        b: np.ndarray | None = None,
        p: np.ndarray | None = None,
        *scales: np.ndarray | None,
    ) -> None:
        if w.ndim != 3 or r.ndim != 3:
            raise FormatError(f"W and R have {w.ndim} and {r.ndim} axes, expected 3")
        w_t, r_t = w.transpose(0, 2, 1), r.transpose(0, 2, 1)
        self._check_shapes(cell, direction, hidden_size, w_t, r_t, b, p)
        given = [scale for scale in scales if scale is not None]
        if not len(scales) == len(given) == 4:
            raise FormatError("W_scale, W_zero_point, R_scale and R_zero_point cannot be absent")
        kernel = cell.kernel(self.count) if p is None else None
        own = kernel is not None and all(
            cell.kernel_activations(index, kernel) is None for index in range(self.count)
        )
        self.plain = own  #: of sigmoid and tanh, and nothing else: as the native program has it
        self.outer_dtype = np.dtype(np.float32)
        self.dtype = np.dtype(np.float32)
        self.stack = None
        self.generic = []
        w_scale, w_zero, r_scale, r_zero = given
        for index in range(self.count):
            wb, rb = (None, None) if b is None else np.split(b[index], 2)
            self.generic.append(
                QuantizedDirection(
                    cell,
                    index,
                    QuantizedMatrix("W", w[index], w_scale, w_zero, index),
                    QuantizedMatrix("R", r[index], r_scale, r_zero, index),
                    wb,
                    rb,
                    None if p is None else p[index],
                    direction == "reverse" or index == 1,
                )
            )


class QuantizedMatrix:
    """One direction's ``[rows, 4H]`` of integers, without their zero point, and its scale."""

    def __init__(
        self, name: str, matrix: np.ndarray, scale: np.ndarray, zero: np.ndarray, index: int
    ) -> None:
        if matrix.dtype not in (np.int8, np.uint8):
            raise FormatError(f"{name} is {matrix.dtype}, expected int8 or uint8")
        for what, array in (("scale", scale), ("zero_point", zero)):
            if array.ndim not in (1, 2) or array.shape[1:] not in ((), (1,), matrix.shape[1:]):
                raise FormatError(
                    f"{name}_{what} has the shape {array.shape}, expected one number, or "
                    f"{matrix.shape[1]}, for each direction"
                )
        if zero.dtype != matrix.dtype:
            raise FormatError(
                f"{name}_zero_point is {zero.dtype}, expected {matrix.dtype} as {name} is"
            )
        if matrix.dtype == np.int8 and zero.any():
            raise FormatError(f"{name} is signed, its zero point must be 0")
        self.matrix = matrix
        self.zero_point = np.asarray(zero[index])
        self.scale = np.asarray(scale[index], np.float32)

    @functools.cached_property
    def integers(self) -> np.ndarray:
        """In floating point, which is exact for integers up to the width of its fraction: NumPy has
        no quick product of integers. The native program has, and does not ask for these."""
        exact = len(self.matrix) * 255 * 255 < 1 << 24
        dtype = np.dtype(np.float32 if exact else np.float64)
        return np.ascontiguousarray(self.matrix.astype(dtype) - self.zero_point.astype(dtype))

    def product(self, rows: np.ndarray, low: np.float32, high: np.float32) -> np.ndarray:
        """``rows @ matrix`` with rows quantized for the range from low to high, which has 0."""
        scale = np.float32((high - low) / np.float32(255)) if high != low else np.float32(1)
        zero = np.rint(np.clip(-low / scale, 0, 255))
        quantized = np.clip(np.rint(rows / scale) + zero, 0, 255) - zero
        exact = quantized.astype(self.integers.dtype) @ self.integers
        return exact.astype(np.float32) * (scale * self.scale)


class QuantizedDirection(GenericDirection):
    """One direction, whose two products are of integers."""

    def __init__(
        self,
        cell: Cell,
        index: int,
        w: QuantizedMatrix,
        r: QuantizedMatrix,
        wb: np.ndarray | None,
        rb: np.ndarray | None,
        p: np.ndarray | None,
        reverse: bool,
    ) -> None:
        super().__init__(cell, index, w.matrix.T, r.matrix.T, wb, rb, p, reverse)
        self.input_matrix, self.recurrent_matrix = w, r

    def input_part(self, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        gates = self.input_matrix.product(rows, x.min(initial=0), x.max(initial=0))
        return gates if self.wb is None else gates + self.wb

    def recurrent_part(self, h: np.ndarray, count: int) -> np.ndarray:
        gates = self.recurrent_matrix.product(h[:count], h.min(initial=0), h.max(initial=0))
        return gates if self.rb is None else gates + self.rb
