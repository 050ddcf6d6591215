"""RotaryEmbedding: pairs of numbers of each head, turned by an angle that their position says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError
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
