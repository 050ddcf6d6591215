"""Quantised operators: handlers of ``quantise.c``, ``integer.c`` and others in ``ext/program``."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from vledge._ext import isa
from vledge._ext.integer_matrix import IntegerMatrix, gates_in_panels
from vledge._ext.layout import aligned_copy
from vledge._ext.program import type_code
from vledge.convolution.windows import window_of
from vledge.graph.native.families.convolution import axes, window
from vledge.graph.native.lowering import Lowered, Site, lowering
from vledge.graph.operators.quantization import IntegerOperator
from vledge.graph.operators.recurrent import RecurrentNode
from vledge.graph.operators.recurrent_quantized import (
    QuantizedDirection,
    QuantizedMatrix,
    QuantizedWeights,
)
from vledge.recurrent.cells import gate_order

_BYTES: Final = (np.dtype(np.uint8), np.dtype(np.int8))
_LARGEST: Final = 255 * 255  # of a product of bytes
_MOST: Final = (1 << 31) - 1  # of a sum


@lowering("DynamicQuantizeLinear")
def dynamic_quantize(site: Site) -> Lowered:
    """Its three outputs have slots, whether somebody reads them or not."""
    named = [*site.node.outputs, *[""] * (3 - len(site.node.outputs))]
    base = next(name for name in named if name)
    return Lowered(
        "dynamic_quantize",
        outputs=[name or f"{base}~quantized{k}" for k, name in enumerate(named)],
    )


@lowering("QuantizeLinear")
def quantize(site: Site) -> Lowered | None:
    if site.attribute("block_size", 0) or site.attribute("precision", 0):
        return None
    wanted = site.attribute("output_dtype", 0)
    dtype = np.dtype({0: np.uint8, 2: np.uint8, 3: np.int8}.get(wanted, np.int16))
    if dtype not in _BYTES:
        return None
    return Lowered("quantize_linear", [site.attribute("axis", 1), type_code(dtype) or 0])


@lowering("DequantizeLinear")
def dequantize(site: Site) -> Lowered | None:
    if site.attribute("block_size", 0) or site.attribute("output_dtype", 0) not in (0, 1):
        return None
    return Lowered("dequantize_linear", [site.attribute("axis", 1)])


@lowering("MatMulInteger")
def matmul_integer(site: Site) -> Lowered | None:
    return scaled_product(site, site.node.outputs[0])


def scaled_product(
    site: Site,
    result: str,
    x_scale: str = "",
    scale: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    x_zero: str | None = None,
) -> Lowered | None:
    """A MatMulInteger, or with a scale the float result that a Cast, a Mul and an Add make of it.

    ``x_scale`` names the value that each of the weights' scales is multiplied by, ``x_zero`` the
    input's zero point where it is not the third input.
    """
    if x_zero is None:
        x_zero = site.node.inputs[2] if site.has(2) else ""
    weights = _weights(site)
    if weights is None or weights[0].ndim != 2 or not _fits(weights[0].shape[0]):
        return None
    for parameter in (weights[1], scale, bias):
        if parameter is not None and not _by_column(parameter, weights[0].shape[1]):
            return None
    matrix = IntegerMatrix(*weights, scale, bias)
    inputs = [site.node.inputs[0], x_zero, x_scale]
    return Lowered("matmul_integer", matrix.ints, (), matrix.objects, inputs, [result])


@lowering("ByteTable", domain="vledge")
def byte_table(site: Site) -> Lowered | None:
    table = site.constant(1)
    code = None if table is None else type_code(table.dtype)
    if table is None or table.shape != (256,) or code is None:
        return None
    return Lowered("byte_table", [code], (), [np.ascontiguousarray(table)], site.node.inputs[:1])


def _weights(site: Site) -> tuple[np.ndarray, np.ndarray | None] | None:
    operator = site.prepared.function
    if not isinstance(operator, IntegerOperator) or operator.weights is None:
        return None
    integers, zero_point = operator.weights.integers, operator.weights.zero_point
    if integers.dtype not in _BYTES or not integers.size:
        return None
    if zero_point is not None and zero_point.dtype != integers.dtype:
        return None
    return integers, zero_point


def _fits(depth: int) -> bool:
    """Whether no sum of so many products of bytes is beyond int32."""
    return depth * _LARGEST <= _MOST


def _by_column(parameter: np.ndarray, columns: int) -> bool:
    return parameter.ndim <= 1 and parameter.size in (1, columns)


@lowering("QLinearMatMul")
def qlinear_matmul(site: Site) -> Lowered | None:
    weights = _weights(site)
    if weights is None or weights[0].ndim != 2 or not _fits(weights[0].shape[0]):
        return None
    if weights[1] is not None and not _by_column(weights[1], weights[0].shape[1]):
        return None
    matrix = IntegerMatrix(*weights)
    inputs = [site.node.inputs[k] for k in (0, 2, 1, 4, 6, 7)]
    return Lowered("qlinear_matmul", matrix.ints, (1.0,), matrix.objects, inputs)


@lowering("QGemm", domain="com.microsoft")
def qgemm(site: Site) -> Lowered | None:
    """With a result of bytes as QLinearMatMul, else as a MatMulInteger that is scaled."""
    weights = _weights(site)
    if weights is None or weights[0].ndim != 2 or not _fits(weights[0].shape[0]):
        return None
    columns, alpha = weights[0].shape[1], np.float32(site.attribute("alpha", 1.0))
    if weights[1] is not None and not _by_column(weights[1], columns):
        return None
    if site.attribute("transA", 0) or site.has(7) != site.has(8):
        return None
    names = [*site.node.inputs, *[""] * (9 - len(site.node.inputs))]
    if site.has(7):
        inputs = [names[k] for k in (0, 2, 1, 4, 7, 8, 6)]
        matrix = IntegerMatrix(*weights)
        return Lowered("qlinear_matmul", matrix.ints, (alpha,), matrix.objects, inputs)
    a_scale, b_scale, bias = site.constant(1), site.constant(4), site.constant(6)
    if a_scale is None or b_scale is None or (bias is None and site.has(6)) or a_scale.size != 1:
        return None
    scale = (alpha * a_scale.reshape(-1)) * b_scale
    if bias is not None:
        if bias.shape[:-1] != (1,) * (bias.ndim - 1) or bias.dtype != np.int32:
            return None
        bias = bias.reshape(-1).astype(np.float32) * scale
    if not all(p is None or _by_column(p, columns) for p in (scale, bias)):
        return None
    matrix = IntegerMatrix(*weights, scale, bias)
    inputs = [names[0], names[2], ""]
    return Lowered("matmul_integer", matrix.ints, (), matrix.objects, inputs)


@lowering("MatMulIntegerToFloat", domain="com.microsoft")
def matmul_integer_to_float(site: Site) -> Lowered | None:
    scale, bias = site.constant(3), site.constant(6)
    if scale is None or scale.dtype != np.float32 or (bias is None and site.has(6)):
        return None
    names = [*site.node.inputs, *[""] * (7 - len(site.node.inputs))]
    return scaled_product(site, site.node.outputs[0], names[2], scale, bias, names[4])


# ---- convolutions


@lowering("ConvInteger")
def conv_integer(site: Site) -> Lowered | None:
    return scaled_convolution(site, site.node.outputs[0])


def scaled_convolution(
    site: Site,
    result: str,
    x_scale: str = "",
    scale: np.ndarray | None = None,
    bias: np.ndarray | None = None,
) -> Lowered | None:
    """A ConvInteger, or with a scale the float result; as `scaled_product`."""
    made = _convolution(site, scale, bias)
    if made is None:
        return None
    inputs = [site.node.inputs[0], site.node.inputs[2] if site.has(2) else "", x_scale]
    return Lowered("conv_integer", made[0], (), made[1], inputs, [result])


@lowering("QLinearConv")
def qlinear_conv(site: Site) -> Lowered | None:
    made = _convolution(site, None, None)
    if made is None:
        return None
    names = [*site.node.inputs, *[""] * (9 - len(site.node.inputs))]
    inputs = [names[k] for k in (0, 2, 1, 4, 6, 7, 8)]
    return Lowered("qlinear_conv", made[0], (), made[1], inputs)


def _convolution(
    site: Site, scale: np.ndarray | None, bias: np.ndarray | None
) -> tuple[list[int], list[object]] | None:
    """The handlers' integers and objects."""
    weights = _weights(site)
    if weights is None:
        return None
    w, zero_point = weights
    rank, channels, groups = w.ndim - 2, len(w), site.attribute("group", 1)
    parameters = [_along_channels(p, channels, w.ndim) for p in (scale, bias)]
    if zero_point is not None and not _by_column(zero_point, channels):
        return None
    wrong = any((p is None) != (q is None) for p, q in zip(parameters, (scale, bias), strict=True))
    if wrong or not 1 <= rank <= 3 or not _fits(w[0].size):
        return None
    kernel = window_of(
        site.attribute("kernel_shape") or w.shape[2:],
        site.attribute("strides"),
        site.attribute("dilations"),
        site.attribute("pads"),
        site.attribute("auto_pad", "NOTSET"),
    )
    ints = [*window(kernel), *axes(kernel.dilations, 1), *axes(kernel.kernel, 1)]
    zeros = np.zeros(channels, w.dtype)
    if zero_point is not None:
        zeros[:] = zero_point.reshape(-1)
    if groups == channels and w.shape[1] == 1 and groups > 1:
        flags, packed = _by_channel(w, zeros, *parameters)
        return [*ints, 1, 1, channels, channels, flags], packed
    merged = _merged(groups, channels // groups)
    ints += [0, groups // merged, merged * w.shape[1], merged * channels // groups]
    objects: list[object] = []
    # taps along the last axis are one run where nothing of others is between
    taps = kernel.kernel[:-1] if groups == merged and kernel.dilations[-1] == 1 else kernel.kernel
    for part in np.split(np.arange(channels), groups // merged):
        scale_, bias_ = (p if p is None or p.size == 1 else p[part] for p in parameters)
        whole = _by_tap(w[part], zeros[part], merged)
        matrix = IntegerMatrix(whole, zeros[part], scale_, bias_, math.prod(taps))
        ints += matrix.ints
        objects += matrix.objects
    return ints, objects


def _by_channel(
    w: np.ndarray, zeros: np.ndarray, scale: np.ndarray | None, bias: np.ndarray | None
) -> tuple[int, list[object]]:
    """``[C, 1, *kernel]`` as the handler takes it: which parameters there are, and all."""
    channels, lanes = len(w), isa.lanes(np.float32)
    centred = w.reshape(channels, -1).astype(np.int32).T - zeros.astype(np.int32)
    rows = [centred, centred.sum(0, dtype=np.int32, keepdims=True)]
    for parameter in (scale, bias):
        if parameter is not None:
            rows.append(np.broadcast_to(parameter.astype(np.float32), (1, channels)))
    packed: list[object] = []
    for row in rows:
        whole = np.zeros((len(row), -(-channels // lanes) * lanes), row.dtype)
        whole[:, :channels] = row
        packed.append(aligned_copy(whole))
    return 2 * (scale is not None) + 4 * (bias is not None), packed


def _merged(groups: int, channels: int) -> int:
    """How many groups are multiplied at a time, so that their channels fill a vector."""
    most = max(isa.lanes(np.float32) // channels, 1)
    return max(n for n in range(1, most + 1) if groups % n == 0)


def _by_tap(w: np.ndarray, zeros: np.ndarray, groups: int) -> np.ndarray:
    """``[M, C, *kernel]`` of some groups → ``[tap and channel of all the groups, M]``; what is not
    of a group counts for nothing, so it is the zero point."""
    own = len(w) // groups
    taps = np.moveaxis(w, (0, 1), (-1, -2)).reshape(-1, w.shape[1], len(w))
    whole = np.empty((len(taps), groups, w.shape[1], len(w)), w.dtype)
    whole[:] = zeros
    for group in range(groups):
        columns = slice(group * own, (group + 1) * own)
        whole[:, group, :, columns] = taps[:, :, columns]
    return whole.reshape(-1, len(w))


def _along_channels(parameter: np.ndarray | None, channels: int, rank: int) -> np.ndarray | None:
    """What broadcasts over [N, C, ...] as one number or one for each channel, else None."""
    if parameter is None or parameter.ndim > rank:
        return None
    shape = (1,) * (rank - parameter.ndim) + parameter.shape
    if parameter.size == 1 or shape == (1, channels, *(1,) * (rank - 2)):
        return parameter.reshape(-1)
    return None


# ---- DynamicQuantizeLSTM


@lowering("DynamicQuantizeLSTM", domain="com.microsoft")
def quantised_lstm(site: Site) -> Lowered | None:
    node = site.prepared.function
    if not isinstance(node, RecurrentNode) or node.weights is None or node.cell.clip is not None:
        return None
    weights = node.weights
    if not isinstance(weights, QuantizedWeights) or not weights.plain:
        return None
    directions = [d for d in weights.generic if isinstance(d, QuantizedDirection)]
    size = node.weights.hidden_size
    if not _fits(max(node.weights.input_size, size)) or not size:
        return None
    ints = [node.layout, int(node.empty_state == "zero"), size, len(directions), 4, 0]
    objects: list[object] = []
    for direction in directions:
        ints.append(int(direction.reverse))
        for matrix, bias in (
            (direction.input_matrix, direction.wb),
            (direction.recurrent_matrix, direction.rb),
        ):
            packed = _in_panels(matrix, bias, size)
            ints += packed.ints
            objects += packed.objects
    names = [*site.node.inputs, *[""] * (7 - len(site.node.inputs))]
    return Lowered("quantised_recurrent", ints, (), objects, [names[k] for k in (0, 4, 5, 6)])


def _in_panels(matrix: QuantizedMatrix, bias: np.ndarray | None, size: int) -> IntegerMatrix:
    """With gates in the kernels' order."""

    def moved(array: np.ndarray) -> np.ndarray:
        gates = array.reshape(*array.shape[:-1], 4, size)
        return gates_in_panels(gates[..., gate_order("LSTM", "ONNX", "PyTorch"), :])

    def by_column(parameter: np.ndarray) -> np.ndarray:
        return moved(np.broadcast_to(parameter.reshape(-1), (4 * size,)))

    return IntegerMatrix(
        moved(matrix.matrix),
        by_column(matrix.zero_point),
        by_column(matrix.scale),
        None if bias is None else moved(bias),
    )
