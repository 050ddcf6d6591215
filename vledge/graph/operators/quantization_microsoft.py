"""com.microsoft's quantised operators, as onnxruntime's quantiser writes them.

Bytes go in and come out; in between each is what its name says, of real numbers, but for sums and
products of two inputs, which onnxruntime makes with the scales' ratios.
Source: ContribOperators.md; onnxruntime's qladd.cpp, qlmul.cpp and quant_gemm.cc for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.operators.elementwise import multiply_add
from vledge.graph.operators.quantization import (
    IntegerOperator,
    dynamic_quantize_linear,
    integer_product,
    rescaled,
)
from vledge.graph.registry import Context, find, operator, prepared_operator

_DOMAIN: Final = "com.microsoft"
_OPSET: Final = 13  # whose AveragePool and Softmax are meant


def _real(x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None) -> np.ndarray:
    """Bytes as the numbers that they stand for."""
    steps = x.astype(np.float32)
    if zero is not None:
        steps -= zero.astype(np.float32)
    return steps * scale


def _steps(x: np.ndarray, zero: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """Rounded and saturated, of the zero point's type, or without one of ``like``'s."""
    limits = np.iinfo(like.dtype if zero is None else zero.dtype)
    whole = np.rint(x)
    if zero is not None:
        whole += zero.astype(np.float32)
    return np.clip(whole, limits.min, limits.max).astype(limits.dtype)


def _bytes(
    x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, like: np.ndarray
) -> np.ndarray:
    return _steps(x / scale, zero, like)


def _number(zero: np.ndarray | None) -> np.ndarray:
    return np.zeros((), np.float32) if zero is None else zero.astype(np.float32)


def spread_along_rows(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether broadcasting repeats each of the first's numbers along the last axis there is."""
    for own, other in zip(first[::-1], second[::-1], strict=False):
        if max(own, other) > 1:
            return own == 1
    return len(second) > len(first)


def zero_points(
    first: np.ndarray,
    second: np.ndarray,
    a_zero: np.ndarray,
    b_zero: np.ndarray,
    c_zero: np.ndarray,
) -> np.ndarray:
    """What the zero points of a sum come to, rounded as onnxruntime's compiler has it."""
    fixed: np.ndarray = c_zero - multiply_add(a_zero, first, second * b_zero)
    return fixed


@operator("QLinearAdd", since=1, domain=_DOMAIN)
def qlinear_add(
    a: np.ndarray,
    a_scale: np.ndarray,
    a_zero: np.ndarray | None,
    b: np.ndarray,
    b_scale: np.ndarray,
    b_zero: np.ndarray | None,
    c_scale: np.ndarray,
    c_zero: np.ndarray | None = None,
) -> np.ndarray:
    """onnxruntime begins with the second input, or, of one that is spread along rows, with that;
    each product is added unrounded."""
    first, second = a_scale / c_scale, b_scale / c_scale
    total = zero_points(first, second, *map(_number, (a_zero, b_zero, c_zero)))
    terms = [(b.astype(np.float32), second), (a.astype(np.float32), first)]
    for x, ratio in terms[::-1] if spread_along_rows(a.shape, b.shape) else terms:
        total = multiply_add(x, ratio, total)
    return _steps(total, None, a if c_zero is None else c_zero)


@operator("QLinearMul", since=1, domain=_DOMAIN)
def qlinear_mul(
    a: np.ndarray,
    a_scale: np.ndarray,
    a_zero: np.ndarray | None,
    b: np.ndarray,
    b_scale: np.ndarray,
    b_zero: np.ndarray | None,
    c_scale: np.ndarray,
    c_zero: np.ndarray | None = None,
) -> np.ndarray:
    centred = (a.astype(np.float32) - _number(a_zero)) * (b.astype(np.float32) - _number(b_zero))
    total = centred * (a_scale * b_scale / c_scale) + _number(c_zero)
    return _steps(total, None, a if c_zero is None else c_zero)


@operator("QLinearSigmoid", since=1, domain=_DOMAIN)
def qlinear_sigmoid(
    x: np.ndarray,
    x_scale: np.ndarray,
    x_zero: np.ndarray | None,
    y_scale: np.ndarray,
    y_zero: np.ndarray | None = None,
) -> np.ndarray:
    with np.errstate(over="ignore"):
        real = 1 / (1 + np.exp(-_real(x, x_scale, x_zero)))
    return _bytes(real, y_scale, y_zero, x)


@operator("QLinearLeakyRelu", since=1, domain=_DOMAIN)
def qlinear_leaky_relu(
    x: np.ndarray,
    x_scale: np.ndarray,
    x_zero: np.ndarray | None,
    y_scale: np.ndarray,
    y_zero: np.ndarray | None = None,
    *,
    alpha: float = 0.01,
) -> np.ndarray:
    real = _real(x, x_scale, x_zero)
    return _bytes(np.where(real < 0, real * np.float32(alpha), real), y_scale, y_zero, x)


@operator("QLinearConcat", since=1, domain=_DOMAIN)
def qlinear_concat(
    y_scale: np.ndarray, y_zero: np.ndarray, *inputs: np.ndarray, axis: int
) -> np.ndarray:
    """``inputs``: x, its scale and its zero point, of each part."""
    if not inputs or len(inputs) % 3:
        raise ValueError(
            f"{len(inputs)} inputs follow the output's scale and zero point, expected three for "
            "each part: its numbers, scale and zero point"
        )
    parts = []
    for x, scale, zero in zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True):
        same = scale == y_scale and zero == y_zero and x.dtype == y_zero.dtype
        parts.append(x if same else _bytes(_real(x, scale, zero), y_scale, y_zero, x))
    return np.concatenate(parts, axis)


def _within(
    op_type: str, context: Context, attributes: dict[str, object]
) -> Callable[..., np.ndarray]:
    """ONNX's operator of real numbers with these attributes."""
    entry = find(op_type, "", _OPSET)
    assert entry is not None
    return (
        entry.function(context, **attributes)
        if entry.is_factory
        else lambda x: entry.function(x, **attributes)
    )


def _between_bytes(real: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def run(
        x: np.ndarray,
        x_scale: np.ndarray,
        x_zero: np.ndarray | None,
        y_scale: np.ndarray,
        y_zero: np.ndarray | None = None,
    ) -> np.ndarray:
        return _bytes(real(_real(x, x_scale, x_zero)), y_scale, y_zero, x)

    return run


def _check_layout(channels_last: int) -> None:
    if channels_last:
        raise UnsupportedError("channels_last=1 is not supported")


@prepared_operator("QLinearGlobalAveragePool", since=1, domain=_DOMAIN)
def qlinear_global_average_pool(
    context: Context, *, channels_last: int = 0
) -> Callable[..., np.ndarray]:
    _check_layout(channels_last)
    return _between_bytes(_within("GlobalAveragePool", context, {}))


@prepared_operator("QLinearAveragePool", since=1, domain=_DOMAIN)
def qlinear_average_pool(
    context: Context,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Callable[..., np.ndarray]:
    _check_layout(channels_last)
    given = {
        "kernel_shape": kernel_shape,
        "auto_pad": auto_pad,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
        "pads": pads,
        "strides": strides,
    }
    return _between_bytes(_within("AveragePool", context, given))


@prepared_operator("QLinearSoftmax", since=1, domain=_DOMAIN)
def qlinear_softmax(context: Context, *, opset: int, axis: int = -1) -> Callable[..., np.ndarray]:
    """``opset`` says which Softmax is meant: before 13 over all axes from `axis` on."""

    def softmax(x: np.ndarray) -> np.ndarray:
        flat = x if opset >= 13 else x.reshape(*x.shape[: axis % x.ndim], -1)
        over = axis if opset >= 13 else -1
        powers = np.exp(flat - flat.max(over, keepdims=True, initial=-np.inf))
        result: np.ndarray = powers / powers.sum(over, keepdims=True)
        return result.reshape(x.shape)

    return _between_bytes(softmax)


# ---- products


@prepared_operator("QGemm", since=1, domain=_DOMAIN)
def qgemm(
    context: Context, *, alpha: float = 1.0, transA: int = 0, transB: int = 0
) -> IntegerOperator:
    """A, its scale and zero point, B and its own, of all or of each column, C in int32, and the
    result's scale and zero point; without those the result is float32."""
    product, weights = integer_product(context, 3, 5, transposed=bool(transB))

    def run(
        a: np.ndarray,
        a_scale: np.ndarray,
        a_zero: np.ndarray,
        b: np.ndarray | None,
        b_scale: np.ndarray,
        b_zero: np.ndarray,
        c: np.ndarray | None = None,
        y_scale: np.ndarray | None = None,
        y_zero: np.ndarray | None = None,
    ) -> np.ndarray:
        if a.ndim != 2:
            raise ValueError(f"A has {a.ndim} axes, expected 2")
        total = product(a.T if transA else a, a_zero, b, b_zero)
        if c is not None:
            total += c
        scale = np.float32(alpha) * a_scale
        if y_scale is None or y_zero is None:
            return total.astype(np.float32) * (scale * b_scale)
        return rescaled(total, [scale, b_scale, y_scale], y_zero)

    return IntegerOperator(run, weights)


@prepared_operator("MatMulIntegerToFloat", since=1, domain=_DOMAIN)
def matmul_integer_to_float(context: Context) -> IntegerOperator:
    product, weights = integer_product(context, 1, 5)

    def run(
        a: np.ndarray,
        b: np.ndarray | None,
        a_scale: np.ndarray,
        b_scale: np.ndarray,
        a_zero: np.ndarray | None = None,
        b_zero: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        result = product(a, a_zero, b, b_zero).astype(np.float32) * (a_scale * b_scale)
        return result if bias is None else result + bias

    return IntegerOperator(run, weights)


@prepared_operator("DynamicQuantizeMatMul", since=1, domain=_DOMAIN)
def dynamic_quantize_matmul(context: Context) -> IntegerOperator:
    product, weights = integer_product(context, 1, 3)

    def run(
        a: np.ndarray,
        b: np.ndarray | None,
        b_scale: np.ndarray,
        b_zero: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> np.ndarray:
        if a.dtype != np.float32:
            raise FormatError(f"A is {a.dtype}, expected float32")
        steps, scale, zero = dynamic_quantize_linear(a)
        result = product(steps, zero, b, b_zero).astype(np.float32) * (scale * b_scale)
        return result if bias is None else result + bias

    return IntegerOperator(run, weights)
