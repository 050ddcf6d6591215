"""Quantised arithmetic: QuantizeLinear and back, and integer products and convolutions.

Integer products run on BLAS in floating point, which is exact while every partial sum is a whole
number below 2^24 (float32) or 2^53 (float64); constant weights say which of the two will do.
Types below a byte and float8 are refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from vledge.convolution.correlation import Kernel
from vledge.convolution.windows import check_auto_pad, window_of
from vledge.errors import UnsupportedError
from vledge.graph.operators.generation import target_dtype
from vledge.graph.operators.matrix import matmul
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.model.definition import Attributes
from vledge.model.element_types import NAMES
from vledge.pieces import converted, in_pieces, ufunc_into

_Given = TypeVar("_Given", np.ndarray, np.ndarray | None)
_Prepared = TypeVar("_Prepared", covariant=True)

_LARGEST = 255  # what an 8-bit number can be away from its zero point


# ---- between real numbers and integers


def _spread(parameter: np.ndarray, x: np.ndarray, axis: int, block_size: int) -> np.ndarray:
    """A scale or zero point so that it broadcasts over x: of all, of an axis, or of blocks."""
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    if (block_size or parameter.ndim == 1) and not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but the input has {x.ndim} axes")
    if block_size:
        repeated = np.repeat(parameter, block_size, axis)
        return repeated[(slice(None),) * (axis % x.ndim) + (slice(x.shape[axis]),)]
    if parameter.ndim == 1:
        return parameter.reshape(-1, *(1,) * (x.ndim - 1 - axis % x.ndim))
    return parameter


def _quantised(
    x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, precision: np.dtype
) -> np.ndarray:
    """round(x / scale) + zero_point, saturated; of the zero point's dtype."""
    steps = np.rint(np.divide(x, scale, dtype=precision, casting="unsafe"))
    steps = steps.astype(np.float64 if steps.dtype == np.float64 else np.float32, copy=False)
    limits = np.iinfo(zero_point.dtype)
    steps = steps + zero_point.astype(steps.dtype)
    return np.clip(steps, limits.min, limits.max).astype(zero_point.dtype)


@prepared_operator("QuantizeLinear", since=10)
def quantize_linear(
    context: Context,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Callable[..., np.ndarray]:
    dtype = _integer_dtype(output_dtype) if output_dtype else np.dtype(np.uint8)
    exact = target_dtype(precision, "precision") if precision else None

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> np.ndarray:
        divided_in = exact or scale.dtype
        scale = _spread(scale, x, axis, block_size)
        if zero_point is None:
            zero = np.zeros((), dtype)
        else:
            zero = _spread(zero_point, x, axis, block_size)
        quantised = in_pieces(lambda x, s, z: _quantised(x, s, z, divided_in))
        return np.asarray(quantised(x, scale, zero))

    return run


def _integer_dtype(number: int) -> np.dtype:
    dtype = target_dtype(number, "output_dtype")
    if dtype.kind not in "iu":
        raise UnsupportedError(f"output_dtype={NAMES[number]} is not supported")
    return dtype


@prepared_operator("DequantizeLinear", since=10)
def dequantize_linear(
    context: Context, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Callable[..., np.ndarray]:
    wanted = target_dtype(output_dtype, "output_dtype") if output_dtype else None

    def run(x: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | None = None) -> np.ndarray:
        dtype = wanted or scale.dtype
        inner = np.float32 if dtype == np.float16 else dtype
        scale = _spread(scale, x, axis, block_size).astype(inner)
        zero = np.zeros((), np.int32)
        if zero_point is not None:
            zero = _spread(zero_point, x, axis, block_size).astype(np.int32)

        def number(x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
            steps = (x.astype(np.int32) - zero).astype(inner)
            return (steps * scale).astype(dtype, copy=False)

        return np.asarray(in_pieces(number)(x, scale, zero))

    return run


@operator("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 over the range of x and 0; a scale of 1 where all of x is 0, as onnxruntime has it."""
    of = x.dtype.type
    low = np.minimum(x.min(initial=0), of(0))
    high = np.maximum(x.max(initial=0), of(0))
    scale = (high - low) / of(255) if high > low else of(1)
    zero_point = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    zero = np.asarray(zero_point)
    quantised = in_pieces(lambda x: _quantised(x, np.asarray(scale), zero, x.dtype))
    return quantised(x), np.asarray(scale), zero


@operator("ByteTable", since=1, domain="vledge")
def byte_table(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """What passes make of functions of one byte: ``table [256]`` by the bytes' bits."""
    result: np.ndarray = in_pieces(lambda some: table[some])(x.view(np.uint8))
    return result


# ---- weights that are known


class KnownIntegers(Generic[_Prepared]):
    """Constant integers as in the file, and what they are multiplied as, made when first wanted."""

    def __init__(
        self,
        integers: np.ndarray,
        zero_point: np.ndarray | None,
        prepare: Callable[[np.ndarray, np.ndarray | None], _Prepared],
    ) -> None:
        self.integers, self.zero_point = integers, zero_point
        self._prepare = prepare

    @functools.cached_property
    def prepared(self) -> _Prepared:
        return self._prepare(self.integers, self.zero_point)


class IntegerOperator:
    """An operator's function, and its weights, which the native program packs in its own way."""

    def __init__(
        self, function: Callable[..., np.ndarray], weights: KnownIntegers[object] | None
    ) -> None:
        self.function, self.weights = function, weights

    def __call__(self, *arguments: np.ndarray | None) -> np.ndarray:
        return self.function(*arguments)


def _known_integers(
    context: Context,
    index: int,
    zero_index: int,
    prepare: Callable[[np.ndarray, np.ndarray | None], _Prepared],
    transposed: bool = False,
) -> KnownIntegers[_Prepared] | None:
    integers = context.constants[index]
    if integers is None or not _known(context, zero_index):
        return None
    context.release(index)
    if transposed and integers.ndim > 1:
        integers = np.ascontiguousarray(integers.swapaxes(-1, -2))
    return KnownIntegers(integers, _constant(context, zero_index), prepare)


# ---- integer products


def _centred(x: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
    if zero_point is None:
        return converted(x, np.int32)
    centred: np.ndarray = in_pieces(np.subtract)(
        converted(x, np.int32), zero_point.astype(np.int32)
    )
    return centred


def _exact(weights: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Centred weights in the smallest floating-point type that sums over axes exactly."""
    largest = np.abs(weights).sum(axes, dtype=np.int64).max(initial=0) * _LARGEST
    return weights.astype(np.float32 if largest < 1 << 24 else np.float64)


def _rows(zero_point: _Given) -> _Given:
    """One zero point for each row, so that it broadcasts over them."""
    if zero_point is None or zero_point.ndim != 1:
        return zero_point
    return zero_point[:, None]


def integer_product(
    context: Context, b_index: int, zero_index: int, transposed: bool = False
) -> tuple[Callable[..., np.ndarray], KnownIntegers[object] | None]:
    """A function (a, a_zero_point, b, b_zero_point) → int32, and b if it is constant, whose last
    two axes are exchanged where it is ``transposed``."""

    def prepared(b: np.ndarray, zero_point: np.ndarray | None) -> np.ndarray:
        return _exact(_centred(b, zero_point), (-2,) if b.ndim > 1 else (0,))

    constant = _known_integers(context, b_index, zero_index, prepared, transposed)

    def run(
        a: np.ndarray,
        a_zero_point: np.ndarray | None,
        b: np.ndarray | None,
        b_zero_point: np.ndarray | None,
    ) -> np.ndarray:
        if constant is not None:
            right = constant.prepared
        else:
            assert b is not None
            right = prepared(b.swapaxes(-1, -2) if transposed else b, b_zero_point)
        left = a.astype(right.dtype)
        if a_zero_point is not None:
            left -= _rows(a_zero_point).astype(right.dtype)
        return np.asarray(_whole(matmul(left, right)))

    return run, constant


_whole = in_pieces(lambda exact: exact.astype(np.int32))


def _constant(context: Context, index: int) -> np.ndarray | None:
    return context.constants[index] if index < len(context.constants) else None


def _known(context: Context, index: int) -> bool:
    """Whether an input is absent or constant."""
    names = context.node.inputs
    return index >= len(names) or not names[index] or context.constants[index] is not None


@prepared_operator("MatMulInteger", since=10)
def matmul_integer(context: Context) -> IntegerOperator:
    product, weights = integer_product(context, 1, 3)

    def run(
        a: np.ndarray,
        b: np.ndarray | None,
        a_zero_point: np.ndarray | None = None,
        b_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        return product(a, a_zero_point, b, b_zero_point)

    return IntegerOperator(run, weights)


@prepared_operator("QLinearMatMul", since=10)
def qlinear_matmul(context: Context) -> IntegerOperator:
    product, weights = integer_product(context, 3, 5)

    def run(
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero_point: np.ndarray,
        b: np.ndarray | None,
        b_scale: np.ndarray,
        b_zero_point: np.ndarray,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray,
    ) -> np.ndarray:
        total = product(a, a_zero_point, b, b_zero_point)
        scales = [_rows(a_scale), b_scale, _rows(y_scale)]
        return rescaled(total, scales, _rows(y_zero_point))

    return IntegerOperator(run, weights)


def rescaled(total: np.ndarray, scales: list[np.ndarray], zero_point: np.ndarray) -> np.ndarray:
    """int32 sums in units of the two inputs' scales, in units of the output's scale; in float32, as
    onnxruntime has it."""
    first, second, target = (np.asarray(scale, np.float32) for scale in scales)
    steps = np.rint(total.astype(np.float32) * (first * second / target))
    limits = np.iinfo(zero_point.dtype)
    steps += zero_point.astype(np.float32)
    return np.clip(steps, limits.min, limits.max).astype(zero_point.dtype)


# ---- integer convolutions


def _integer_convolution(
    context: Context,
    w_index: int,
    zero_index: int,
    group: int,
    kernel_shape: list[int] | None,
    window: Attributes,
) -> tuple[Callable[..., np.ndarray], KnownIntegers[object] | None]:
    """A function (x, x_zero_point, w, w_zero_point) → int32; pads are the input's zero point. And w
    if it is constant."""
    check_auto_pad(window["auto_pad"])

    def prepared(w: np.ndarray, zero_point: np.ndarray | None) -> Kernel:
        if zero_point is not None and zero_point.ndim == 1:
            zero_point = zero_point.reshape(-1, *(1,) * (w.ndim - 1))
        weights = _exact(_centred(w, zero_point), tuple(range(1, w.ndim)))
        return Kernel(weights, None, window_of(kernel_shape or w.shape[2:], **window), group)

    constant = _known_integers(context, w_index, zero_index, prepared)
    if constant is not None:
        assert constant.prepared  # now, so that what is wrong is said at load

    def run(
        x: np.ndarray,
        x_zero_point: np.ndarray | None,
        w: np.ndarray | None,
        w_zero_point: np.ndarray | None,
    ) -> np.ndarray:
        if constant is not None:
            kernel = constant.prepared
        else:
            assert w is not None
            kernel = prepared(w, w_zero_point)
        centred = converted(x, kernel.dtype)
        if x_zero_point is not None:
            ufunc_into(np.subtract, centred, centred, x_zero_point.astype(centred.dtype))
        return converted(kernel.convolved(centred), np.int32)

    return run, constant


@prepared_operator("ConvInteger", since=10)
def conv_integer(
    context: Context,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> IntegerOperator:
    window = {"strides": strides, "dilations": dilations, "pads": pads, "auto_pad": auto_pad}
    convolution, weights = _integer_convolution(context, 1, 3, group, kernel_shape, window)

    def run(
        x: np.ndarray,
        w: np.ndarray | None,
        x_zero_point: np.ndarray | None = None,
        w_zero_point: np.ndarray | None = None,
    ) -> np.ndarray:
        return convolution(x, x_zero_point, w, w_zero_point)

    return IntegerOperator(run, weights)


@prepared_operator("QLinearConv", since=10)
def qlinear_conv(
    context: Context,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> IntegerOperator:
    window = {"strides": strides, "dilations": dilations, "pads": pads, "auto_pad": auto_pad}
    convolution, weights = _integer_convolution(context, 3, 5, group, kernel_shape, window)

    def run(
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero_point: np.ndarray,
        w: np.ndarray | None,
        w_scale: np.ndarray,
        w_zero_point: np.ndarray,
        y_scale: np.ndarray,
        y_zero_point: np.ndarray,
        b: np.ndarray | None = None,
    ) -> np.ndarray:
        total = convolution(x, x_zero_point, w, w_zero_point)
        over_channels = (-1, *(1,) * (x.ndim - 2))
        if b is not None:
            total += b.reshape(over_channels)
        if w_scale.ndim == 1:
            w_scale = w_scale.reshape(over_channels)
        return rescaled(total, [x_scale, w_scale, y_scale], y_zero_point)

    return IntegerOperator(run, weights)
