"""What attention is made of, for ONNX's and onnxruntime's: heads, scores, what may be seen.

Queries are [batch, heads, steps, size], keys and values [batch, groups of heads, seen, size].
"""

from __future__ import annotations

import numpy as np

from vledge.graph.functions import Writer

__all__ = ["allowed_before", "attended", "heads_of", "joined_heads", "scaled_queries", "scores"]


def heads_of(to: Writer, x: str, heads: int) -> str:
    """[batch, steps, heads * size] → [batch, heads, steps, size]."""
    return to.transposed(to.reshaped(x, 0, 0, heads, -1), 0, 2, 1, 3)


def joined_heads(to: Writer, x: str) -> str:
    """[batch, heads, steps, size] → [batch, steps, heads * size]."""
    return to.reshaped(to.transposed(x, 0, 2, 1, 3), 0, 0, -1)


def scaled_queries(to: Writer, q: str, scale: float | None, like: str) -> str:
    """The queries times the scale, which is one over the root of a head's size where none is
    given. ``like`` is of their type."""
    if scale is not None:
        return to.add("Mul", [q, to.number(scale, like)])
    size = to.cast(to.size(q, 3), to.dtype(like))
    return to.add("Mul", [q, to.add("Reciprocal", [to.add("Sqrt", [size])])])


def scores(to: Writer, q: str, k: str, groups: str = "") -> str:
    """Products of queries and keys, [batch, heads, steps, seen]; heads of a group stand one after
    another as further steps of it. ``groups`` is their count, a vector, where it may be another."""
    keys = to.transposed(k, 0, 1, 3, 2)
    if not groups:
        return to.add("MatMul", [q, keys])
    return _as_heads(to, to.add("MatMul", [_as_groups(to, q, groups), keys]), q)


def attended(to: Writer, weights: str, v: str, groups: str = "") -> str:
    """The values, weighted: [batch, heads, steps, size]."""
    if not groups:
        return to.add("MatMul", [weights, v])
    return _as_heads(to, to.add("MatMul", [_as_groups(to, weights, groups), v]), weights)


def _as_groups(to: Writer, x: str, groups: str) -> str:
    shape = to.add("Concat", [to.whole(0), groups, to.whole(-1, 0)], axis=0)
    return to.add("Reshape", [x, shape])


def _as_heads(to: Writer, x: str, like: str) -> str:
    shape = to.add("Concat", [to.whole(0), to.size(like, 1), to.whole(-1, 0)], axis=0)
    return to.add("Reshape", [x, shape])


def allowed_before(
    to: Writer, steps: str, seen: str, offset: str, left: int = -1, right: int = 0
) -> str:
    """Whether step i of ``steps`` sees key j of ``seen``: from i + offset - left to i + offset +
    right, each where it is not -1. [steps, seen], or what that and the offset's axes make."""
    rows = to.reshaped(to.places(steps), -1, 1)
    if offset:
        rows = to.add("Add", [rows, offset])
    distance = to.add("Sub", [rows, to.places(seen)])  # of a key behind the step
    parts = []
    if right >= 0:
        parts.append(to.add("Not", [to.add("Less", [distance, to.constant(-right, np.int64)])]))
    if left >= 0:
        parts.append(to.add("Not", [to.add("Greater", [distance, to.constant(left, np.int64)])]))
    return parts[0] if len(parts) == 1 else to.add("And", parts)
