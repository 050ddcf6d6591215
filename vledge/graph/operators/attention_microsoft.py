"""com.microsoft's attention, as onnxruntime's optimizer joins it: Attention, MultiHeadAttention and
the quantised QAttention.

Source: ContribOperators.md, and attention_cpu_base.h of onnxruntime for what masks hide.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.functions import Writer, function
from vledge.graph.operators.attention_scores import (
    allowed_before,
    attended,
    heads_of,
    joined_heads,
    scaled_queries,
    scores,
)

_DOMAIN: Final = "com.microsoft"
_HIDDEN: Final = -10_000.0  # what is added to the scores of what a mask hides


@function("Attention", since=1, domain=_DOMAIN)
def attention(
    to: Writer,
    x: str,
    weights: str,
    bias: str = "",
    mask_index: str = "",
    past: str = "",
    attention_bias: str = "",
    past_sequence_length: str = "",
    *,
    do_rotary: int = 0,
    mask_filter_value: float = _HIDDEN,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[str, ...]:
    if do_rotary or past_present_share_buffer or past_sequence_length:
        raise UnsupportedError("do_rotary and past_present_share_buffer are not supported")
    product = to.add("MatMul", [x, weights])
    product = to.add("Add", [product, bias]) if bias else product
    q, k, v = _parts(to, product, num_heads, qkv_hidden_sizes)
    return _of_projections(
        to, (q, k, v), x, past, mask_index, attention_bias, scale, mask_filter_value, unidirectional
    )


@function("QAttention", since=1, domain=_DOMAIN)
def q_attention(
    to: Writer,
    x: str,
    weights: str,
    bias: str,
    x_scale: str,
    weights_scale: str,
    mask_index: str = "",
    x_zero: str = "",
    weights_zero: str = "",
    past: str = "",
    *,
    do_rotary: int = 0,
    mask_filter_value: float = _HIDDEN,
    num_heads: int,
    past_present_share_buffer: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[str, ...]:
    if do_rotary or past_present_share_buffer:
        raise UnsupportedError("do_rotary and past_present_share_buffer are not supported")
    inputs = [x, weights, x_scale, weights_scale, x_zero, weights_zero, bias]
    product = to.add("MatMulIntegerToFloat", inputs, _DOMAIN)
    parts = _parts(to, product, num_heads, None)
    return _of_projections(
        to, parts, bias, past, mask_index, "", scale, mask_filter_value, unidirectional
    )


def _parts(to: Writer, product: str, heads: int, sizes: list[int] | None) -> tuple[str, str, str]:
    """Queries, keys and values side by side → [batch, heads, steps, size] each."""
    if heads < 1:
        raise FormatError(f"num_heads is {heads}, expected 1 or more")
    if sizes:
        if len(sizes) != 3 or any(size < 1 or size % heads for size in sizes):
            raise FormatError(
                f"qkv_hidden_sizes are {sizes}, expected three multiples of num_heads={heads}"
            )
        ends = np.cumsum([0, *sizes])
        q, k, v = (
            heads_of(to, to.sliced(product, 2, int(ends[n]), int(ends[n + 1])), heads)
            for n in range(3)
        )
        return q, k, v
    apart = to.transposed(to.reshaped(product, 0, 0, 3, heads, -1), 2, 0, 3, 1, 4)
    q, k, v = (to.add("Gather", [apart, to.constant(n, np.int64)], axis=0) for n in range(3))
    return q, k, v


def _of_projections(
    to: Writer,
    parts: tuple[str, str, str],
    like: str,
    past: str,
    mask: str,
    bias: str,
    scale: float,
    hidden: float,
    unidirectional: int,
) -> tuple[str, ...]:
    """The result, and the keys and values that were seen, in one array."""
    q, k, v = parts
    before = ""
    if past:
        before = to.size(past, 3)
        old = [to.add("Gather", [past, to.constant(n, np.int64)], axis=0) for n in range(2)]
        k, v = (to.add("Concat", [a, b], axis=2) for a, b in zip(old, (k, v), strict=True))
    present = ""
    if to.wants(1):
        both = [to.add("Reshape", [x, _in_front(to, x)]) for x in (k, v)]
        present = to.add("Concat", both, axis=0)
    y, _ = _weighted(to, (q, k, v), like, mask, bias, scale, hidden, unidirectional, before)
    return y, present


def _in_front(to: Writer, x: str) -> str:
    """x's shape with an axis of one in front."""
    return to.add("Concat", [to.whole(1), to.add("Shape", [x])], axis=0)


@function("MultiHeadAttention", since=1, domain=_DOMAIN)
def multi_head_attention(
    to: Writer,
    query: str,
    key: str = "",
    value: str = "",
    bias: str = "",
    key_padding_mask: str = "",
    attention_bias: str = "",
    past_key: str = "",
    past_value: str = "",
    past_sequence_length: str = "",
    cache_indirection: str = "",
    *,
    mask_filter_value: float = _HIDDEN,
    num_heads: int,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[str, ...]:
    if past_sequence_length or cache_indirection:
        raise UnsupportedError("past_sequence_length and cache_indirection are not supported")
    if num_heads < 1:
        raise FormatError(f"num_heads is {num_heads}, expected 1 or more")
    if (past_key == "") != (past_value == ""):
        raise FormatError("past_key and past_value come together")
    parts = _given(to, (query, key, value), bias, num_heads)
    q, k, v = parts
    before = ""
    if past_key:
        before = to.size(past_key, 2)
        k = to.add("Concat", [past_key, k], axis=2)
        v = to.add("Concat", [past_value, v], axis=2)
    y, raw = _weighted(
        to, (q, k, v), query, key_padding_mask, attention_bias, scale, mask_filter_value,
        unidirectional, before,
    )  # fmt: skip
    return y, k, v, raw


def _given(to: Writer, given: tuple[str, str, str], bias: str, heads: int) -> tuple[str, str, str]:
    """[batch, heads, steps, size] of queries, keys and values; their biases stand side by side."""
    if not (given[1] and given[2]):
        raise UnsupportedError("queries, keys and values in one input are not supported")
    parts = []
    start = to.whole(0)
    for x in given:
        if to.rank(x) == 4:  # of another attention, or of its cache: as they are
            if bias:
                raise UnsupportedError("a bias of keys of 4 axes is not supported")
            parts.append(x)
            continue
        if bias:
            end = to.add("Add", [start, to.size(x, 2)])
            x, start = to.add("Add", [x, to.between(bias, 0, start, end)]), end
        parts.append(heads_of(to, x, heads))
    q, k, v = parts
    return q, k, v


def _weighted(
    to: Writer,
    parts: tuple[str, str, str],
    like: str,
    mask: str,
    bias: str,
    scale: float,
    hidden: float,
    unidirectional: int,
    before: str,
) -> tuple[str, str]:
    """[batch, steps, heads * size], and the scores."""
    q, k, v = parts
    raw = scores(to, scaled_queries(to, q, scale or None, like), k)
    total = raw
    if bias:
        total = to.add("Add", [total, bias])
    if mask:
        total = to.add("Add", [total, _hiding(to, mask, k, hidden, like)])
    if unidirectional:
        seen = allowed_before(to, to.size(q, 2), to.size(k, 2), before)
        lowest = to.number(float(np.finfo(to.dtype(like)).min), like)
        total = to.add("Where", [seen, total, lowest])
    y = attended(to, to.add("Softmax", [total], axis=-1), v)
    return joined_heads(to, y), raw


def _hiding(to: Writer, mask: str, k: str, hidden: float, like: str) -> str:
    """What is added to the scores of what a mask hides: [batch, 1, 1 or steps, seen]."""
    rank = to.rank(mask)
    if rank == 1:  # how many keys of each sample are there
        batch = to.add("Concat", [to.size(k, 0), to.whole(1, 1, 1)], axis=0)
        counts = to.add("Reshape", [mask, batch])
        there = to.add("Less", [to.cast(to.places(to.size(k, 2)), np.int32), counts])
    elif rank in (2, 3):
        axes = [1, 2] if rank == 2 else [1]
        there = to.add("Greater", [to.unsqueezed(mask, axes), to.constant(0, np.int32)])
    else:
        raise UnsupportedError("a mask of 4 axes is not supported")
    return to.add("Where", [there, to.number(0, like), to.number(hidden, like)])
