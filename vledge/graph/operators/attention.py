"""Attention, and RotaryEmbedding: pairs of numbers of each head, turned by an angle that their
position says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError
from vledge.graph.functions import Writer, function
from vledge.graph.operators.attention_scores import (
    allowed_before,
    attended,
    heads_of,
    joined_heads,
    scaled_queries,
    scores,
)
from vledge.graph.operators.convolution import single
from vledge.graph.registry import Context, prepared_operator
from vledge.pieces import PIECE


@prepared_operator("RotaryEmbedding", since=23)
def rotary_embedding(
    context: Context,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Callable[..., np.ndarray]:
    """x [batch, heads, steps, size] or [batch, steps, heads * size], and cosines and sines of
    positions or of steps, [..., turned / 2]."""
    if rotary_embedding_dim < 0 or rotary_embedding_dim % 2 or num_heads < 0:
        raise FormatError(
            f"rotary_embedding_dim is {rotary_embedding_dim} and num_heads {num_heads}, expected "
            "an even number and a number, from 0"
        )

    def run(
        x: np.ndarray, cos: np.ndarray, sin: np.ndarray, positions: np.ndarray | None = None
    ) -> np.ndarray:
        if x.ndim == 3 and num_heads and x.shape[2] % num_heads == 0:
            heads = x.reshape(*x.shape[:2], num_heads, x.shape[2] // num_heads)
        elif x.ndim == 4:
            heads = x.transpose(0, 2, 1, 3)
        else:
            raise ValueError(
                f"X has the shape {x.shape}, expected 4 axes, or 3 with num_heads={num_heads} in "
                "the last"
            )
        batch, steps, _, size = heads.shape
        turned = rotary_embedding_dim or size
        tables = [
            _table(t, positions, name) for t, name in ((cos, "cos_cache"), (sin, "sin_cache"))
        ]
        for table in tables:
            if turned > size or table.shape != (batch, steps, turned // 2):
                raise ValueError(
                    f"cos_cache and sin_cache have the shape {table.shape} for X's positions, "
                    f"expected {(batch, steps, turned // 2)} of {size} numbers in a head"
                )
        result = np.empty(x.shape, x.dtype)
        out = result.reshape(heads.shape) if x.ndim == 3 else result.transpose(0, 2, 1, 3)
        length = max(PIECE // max(math.prod(heads.shape[2:]), 1), 1)
        for sample in range(batch):
            for begin in range(0, steps, length):
                at = sample, slice(begin, begin + length)
                c, s = (single(table[at])[:, None] for table in tables)
                _turn(single(heads[at]), c, s, turned, bool(interleaved), out[at])
        return result

    return run


def _table(table: np.ndarray, positions: np.ndarray | None, name: str) -> np.ndarray:
    """Of each position of each sample."""
    if positions is None:
        return table
    if table.ndim != 2:
        raise ValueError(f"{name} has the shape {table.shape}, expected [positions, numbers]")
    if ((positions < 0) | (positions >= len(table))).any():
        raise ValueError(f"position_ids has positions outside of the {len(table)} of {name}")
    taken: np.ndarray = table[positions]
    return taken


def _turn(
    x: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    turned: int,
    interleaved: bool,
    out: np.ndarray,
) -> None:
    """x [steps, heads, size] → out: (a, b) becomes (a cos - b sin, a sin + b cos)."""
    if interleaved:
        first, second = slice(0, turned, 2), slice(1, turned, 2)
    else:
        first, second = slice(0, turned // 2), slice(turned // 2, turned)
    a, b = x[..., first], x[..., second]
    out[..., first] = cos * a - sin * b
    out[..., second] = sin * a + cos * b
    out[..., turned:] = x[..., turned:]


# ---- Attention


@function("Attention", since=23, until=23)
def attention_23(
    to: Writer,
    q: str,
    k: str,
    v: str,
    attn_mask: str = "",
    past_key: str = "",
    past_value: str = "",
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
) -> str | tuple[str, ...]:
    return attention(
        to, q, k, v, attn_mask, past_key, past_value, is_causal=is_causal,
        kv_num_heads=kv_num_heads, q_num_heads=q_num_heads, scale=scale, softcap=softcap,
        qk_matmul_output_mode=qk_matmul_output_mode, softmax_precision=softmax_precision,
    )  # fmt: skip


@function("Attention", since=24, until=24)
def attention_24(
    to: Writer,
    q: str,
    k: str,
    v: str,
    attn_mask: str = "",
    past_key: str = "",
    past_value: str = "",
    nonpad_kv_seqlen: str = "",
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
) -> str | tuple[str, ...]:
    return attention(
        to, q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen, is_causal=is_causal,
        kv_num_heads=kv_num_heads, q_num_heads=q_num_heads, scale=scale, softcap=softcap,
        qk_matmul_output_mode=qk_matmul_output_mode, softmax_precision=softmax_precision,
    )  # fmt: skip


@function("Attention", since=25)
def attention(
    to: Writer,
    q: str,
    k: str,
    v: str,
    attn_mask: str = "",
    past_key: str = "",
    past_value: str = "",
    nonpad_kv_seqlen: str = "",
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
) -> tuple[str, ...]:
    if min(left_window_size, right_window_size) < -1:
        raise FormatError(
            f"left_window_size is {left_window_size} and right_window_size {right_window_size}, "
            "expected -1 or more"
        )
    heads = (q_num_heads, kv_num_heads)
    window = (left_window_size, 0 if is_causal else right_window_size)
    return _attention(
        to, (q, k, v), (past_key, past_value), attn_mask, nonpad_kv_seqlen, heads, window, scale,
        softcap, softmax_precision, qk_matmul_output_mode,
    )  # fmt: skip


def _attention(
    to: Writer,
    given: tuple[str, str, str],
    past: tuple[str, str],
    mask: str,
    filled: str,
    heads: tuple[int, int],
    window: tuple[int, int],
    scale: float | None,
    softcap: float,
    precision: int,
    mode: int,
) -> tuple[str, ...]:
    """The result, the keys and values that were seen, and what the mode says of the scores.

    ``filled`` has how many keys of each sample are there; ``window`` how far a step looks back and
    ahead, -1 for any distance.
    """
    like = given[0]
    flat = to.rank(like) == 3
    groups = ""
    if flat:
        own, shared = heads
        if min(heads) < 1 or own % shared:
            raise FormatError(
                f"q_num_heads is {own} and kv_num_heads {shared}, expected a multiple of the other "
                "for queries of 3 axes"
            )
        q, k, v = (heads_of(to, x, n) for x, n in zip(given, (own, shared, shared), strict=True))
        groups = to.whole(shared) if own != shared else ""
    else:
        q, k, v = given
        groups = to.size(k, 1)
    if (past[0] == "") != (past[1] == "") or (filled and past[0]):
        raise FormatError("past_key and past_value come together, and not with nonpad_kv_seqlen")
    if past[0]:
        k, v = (to.add("Concat", [a, b], axis=2) for a, b in zip(past, (k, v), strict=True))
    raw = scores(to, scaled_queries(to, q, scale, like), k, groups)
    capped = raw
    if softcap > 0:
        limit = to.number(softcap, like)
        capped = to.add("Mul", [to.add("Tanh", [to.add("Div", [raw, limit])]), limit])
    bias, hidden = _bias(to, q, k, mask, past[0], filled, window, like)
    biased = to.add("Add", [capped, bias]) if bias else capped
    wide = biased if not precision else to.add("Cast", [biased], to=precision)
    weights = to.add("Softmax", [wide], axis=-1)
    weights = weights if not precision else to.cast(weights, to.dtype(like))
    y = attended(to, weights, v, groups)
    if hidden:
        y = to.add("Where", [hidden, to.number(0, like), y])
    shown = {0: raw, 1: capped, 2: biased, 3: weights}.get(mode)
    if shown is None:
        raise FormatError(f"qk_matmul_output_mode is {mode}, expected 0 to 3")
    if hidden and mode == 3 and to.wants(3):
        shown = to.add("Where", [hidden, to.number(0, like), weights])
    if hidden and mode == 2 and to.wants(3):
        shown = to.add("Where", [hidden, to.number(-np.inf, like), biased])
    return joined_heads(to, y) if flat else y, k, v, shown


def _bias(
    to: Writer,
    q: str,
    k: str,
    mask: str,
    past: str,
    filled: str,
    window: tuple[int, int],
    like: str,
) -> tuple[str, str]:
    """What is added to the scores, and which steps see no key at all: those have no bias, for no
    softmax is of nothing. "" where there is none."""
    seen = to.size(k, 2)
    allowed: list[str] = []
    bias = ""
    if mask:
        bias = _mask(to, mask, seen, like)
    if max(window) >= 0:
        offset = to.size(past, 2) if past else ""
        if filled:
            offset = to.reshaped(to.add("Sub", [filled, to.size(q, 2)]), -1, 1, 1, 1)
        allowed.append(allowed_before(to, to.size(q, 2), seen, offset, *window))
    if filled:
        there = to.reshaped(filled, -1, 1, 1, 1)
        allowed.append(to.add("Less", [to.places(seen), there]))
    unseen = to.number(-np.inf, like)
    if allowed:
        both = allowed[0] if len(allowed) == 1 else to.add("And", allowed)
        bias = to.add("Where", [both, bias or to.number(0, like), unseen])
    if not bias or not (mask or filled or window[0] >= 0):
        return bias, ""  # of what comes before a step, one thing at least is seen
    highest = to.add("ReduceMax", [bias, to.whole(-1)], keepdims=1)
    hidden = to.add("Equal", [highest, unseen])
    return to.add("Where", [hidden, to.number(0, like), bias]), hidden


def _mask(to: Writer, mask: str, seen: str, like: str) -> str:
    """The mask as what is added; keys behind it are not seen."""
    unseen = to.number(-np.inf, like)
    if to.dtype(mask).kind == "b":
        mask = to.add("Where", [mask, to.number(0, like), unseen])
    missing = to.add("Sub", [seen, to.size(mask, -1)])
    pads = to.add("Concat", [to.whole(0), to.add("Max", [missing, to.whole(0)])], axis=0)
    return to.add("Pad", [mask, pads, unseen, to.whole(-1)], mode="constant")
