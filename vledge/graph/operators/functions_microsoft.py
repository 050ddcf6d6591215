"""com.microsoft's operators of real numbers that onnxruntime's optimizer joins from ONNX's own:
norms of sums, Gelus, products and convolutions with what is done to their result.

Source: ContribOperators.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from vledge.graph.functions import Writer, function

_DOMAIN: Final = "com.microsoft"


@function("BiasGelu", since=1, domain=_DOMAIN)
def bias_gelu(to: Writer, x: str, bias: str) -> str:
    return to.gelu(to.add("Add", [x, bias]))


@function("FastGelu", since=1, domain=_DOMAIN)
def fast_gelu(to: Writer, x: str, bias: str = "") -> str:
    return to.gelu(to.add("Add", [x, bias]) if bias else x, "tanh")


@function("Gelu", since=1, domain=_DOMAIN)
def gelu(to: Writer, x: str) -> str:
    return to.gelu(x)


@function("QuickGelu", since=1, domain=_DOMAIN)
def quick_gelu(to: Writer, x: str, *, alpha: float = 1.702) -> str:
    return to.add("Mul", [x, to.add("Sigmoid", [to.scaled(x, alpha)])])


@function("SkipLayerNormalization", since=1, domain=_DOMAIN)
def skip_layer_normalization(
    to: Writer,
    x: str,
    skip: str,
    gamma: str,
    beta: str = "",
    bias: str = "",
    *,
    epsilon: float = 1e-12,
) -> tuple[str, ...]:
    sum_ = _sum(to, x, skip, bias)
    count = 3 if to.wants(1) or to.wants(2) else 1
    made = to.norm("LayerNormalization", [sum_, gamma, beta], epsilon, count=count)
    return (*made, *[""] * (3 - count), sum_)


@function("SkipSimplifiedLayerNormalization", since=1, domain=_DOMAIN)
def skip_simplified_layer_normalization(
    to: Writer, x: str, skip: str, gamma: str, bias: str = "", *, epsilon: float = 1e-12
) -> tuple[str, ...]:
    sum_ = _sum(to, x, skip, bias)
    (y,) = to.norm("RMSNormalization", [sum_, gamma], epsilon)
    return y, "", "", sum_


def _sum(to: Writer, x: str, skip: str, bias: str) -> str:
    sum_ = to.add("Add", [x, skip])
    return to.add("Add", [sum_, bias]) if bias else sum_


@function("LayerNormalization", since=1, until=16)  # onnxruntime's, before ONNX had one
def layer_normalization(
    to: Writer,
    x: str,
    scale: str,
    bias: str = "",
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[str, ...]:
    wanted = 3 if to.wants(1) or to.wants(2) else 1
    return tuple(to.norm("LayerNormalization", [x, scale, bias], epsilon, axis, wanted))


@function("SimplifiedLayerNormalization", since=1)  # onnxruntime's, in the same way
def simplified_layer_normalization(
    to: Writer,
    x: str,
    scale: str,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> str:
    return to.norm("RMSNormalization", [x, scale], epsilon, axis)[0]


@function("EmbedLayerNormalization", since=1, domain=_DOMAIN)
def embed_layer_normalization(
    to: Writer,
    ids: str,
    segment_ids: str = "",
    words: str = "",
    positions: str = "",
    segments: str = "",
    gamma: str = "",
    beta: str = "",
    mask: str = "",
    position_ids: str = "",
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 1,
) -> tuple[str, ...]:
    places = position_ids or to.places(to.size(ids, 1))
    segment = to.add("Gather", [segments, segment_ids]) if segment_ids else ""
    word, place = to.add("Gather", [words, ids]), to.add("Gather", [positions, places])
    sum_ = _sum(to, word, place, segment)
    (y,) = to.norm("LayerNormalization", [sum_, gamma, beta], epsilon)
    return y, _lengths(to, ids, mask) if to.wants(1) else "", sum_


@function("QEmbedLayerNormalization", since=1, domain=_DOMAIN)
def q_embed_layer_normalization(
    to: Writer,
    ids: str,
    segment_ids: str = "",
    words: str = "",
    positions: str = "",
    segments: str = "",
    gamma: str = "",
    beta: str = "",
    mask: str = "",
    word_scale: str = "",
    position_scale: str = "",
    segment_scale: str = "",
    gamma_scale: str = "",
    beta_scale: str = "",
    word_zero: str = "",
    position_zero: str = "",
    segment_zero: str = "",
    gamma_zero: str = "",
    beta_zero: str = "",
    *,
    epsilon: float = 1e-12,
) -> tuple[str, ...]:
    def real(x: str, scale: str, zero: str) -> str:
        return to.add("DequantizeLinear", [x, scale, zero])

    places = to.places(to.size(ids, 1))
    word = real(to.add("Gather", [words, ids]), word_scale, word_zero)
    place = real(to.add("Gather", [positions, places]), position_scale, position_zero)
    segment = ""
    if segment_ids:
        segment = real(to.add("Gather", [segments, segment_ids]), segment_scale, segment_zero)
    norm = [real(gamma, gamma_scale, gamma_zero), real(beta, beta_scale, beta_zero)]
    sum_ = _sum(to, word, place, segment)
    (y,) = to.norm("LayerNormalization", [sum_, *norm], epsilon)
    return y, _lengths(to, ids, mask) if to.wants(1) else ""


def _lengths(to: Writer, ids: str, mask: str) -> str:
    """How many places of each row the mask has; 0 without one."""
    if not mask:
        return to.add("ConstantOfShape", [to.size(ids, 0)], value=np.zeros(1, np.int32))
    if to.opset < 13:
        return to.add("ReduceSum", [mask], axes=[1], keepdims=0)
    return to.add("ReduceSum", [mask, to.whole(1)], keepdims=0)


@function("FusedMatMul", since=1, domain=_DOMAIN)
def fused_matmul(
    to: Writer,
    a: str,
    b: str,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> str:
    a_given = a
    a = _turned(to, a, bool(transA), bool(transBatchA))
    b = _turned(to, b, bool(transB), bool(transBatchB))
    product = to.add("MatMul", [a, b])
    return product if alpha == 1 else to.add("Mul", [product, to.number(alpha, a_given)])


def _turned(to: Writer, x: str, rows: bool, batch: bool) -> str:
    """A batch of matrices: rows and columns change places, or the first axis moves behind the
    batch's others, in front of the matrix's."""
    if not (rows or batch):
        return x
    rank = to.rank(x)
    if rank < 2:
        return x
    order = list(range(rank))
    if batch:
        order = [*order[1:-1], 0, order[-1]]
    if rows:
        order[-2:] = order[:-3:-1]
    return to.transposed(x, *order)


@function("FusedConv", since=1, domain=_DOMAIN)
def fused_conv(
    to: Writer,
    x: str,
    w: str,
    b: str = "",
    z: str = "",
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> str:
    """``z`` is added before the activation."""
    inputs = [x, w, b] if b else [x, w]
    window: dict[str, Any] = {
        "auto_pad": auto_pad,
        "dilations": dilations,
        "group": group,
        "kernel_shape": kernel_shape,
        "pads": pads,
        "strides": strides,
    }
    y = to.add("Conv", inputs, **window)
    if z:
        y = to.add("Add", [y, z])
    return to.activated(y, activation, activation_params or []) if activation else y


@function("FusedGemm", since=1, domain=_DOMAIN)
def fused_gemm(
    to: Writer,
    a: str,
    b: str,
    c: str = "",
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
) -> str:
    inputs = [a, b, c] if c else [a, b]
    y = to.add("Gemm", inputs, alpha=alpha, beta=beta, transA=transA, transB=transB)
    given = [p for p in (activation_alpha, activation_beta, activation_gamma) if p is not None]
    return to.activated(y, activation, given) if activation else y
