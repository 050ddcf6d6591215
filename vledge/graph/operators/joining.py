"""Joining, splitting and repeating along axes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.shown import counted


@operator("Concat", since=4)
def concat(*parts: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate(parts, axis)


@operator("Tile", since=6)
def tile(x: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    times = integers(repeats, "repeats")
    if len(times) != x.ndim:
        raise ValueError(f"repeats has {len(times)} items, the input has {x.ndim} axes")
    return np.tile(x, times)


@prepared_operator("Split", since=2, until=12)
def split_by_attribute(
    context: Context, *, axis: int = 0, split: list[int] | None = None
) -> Callable[..., tuple[np.ndarray, ...]]:
    count = len(context.node.outputs)
    _check_count(split, count)
    return lambda x: _parts(x, axis, split or _equal(x.shape[axis], count))


@prepared_operator("Split", since=13)
def split(
    context: Context, *, axis: int = 0, num_outputs: int | None = None
) -> Callable[..., tuple[np.ndarray, ...]]:
    """With ``num_outputs`` and sizes that don't go up, the last part is the smaller one."""
    count = len(context.node.outputs)
    if num_outputs is not None and num_outputs != count:
        raise FormatError(f"num_outputs is {num_outputs}, the node has {counted(count, 'output')}")
    constant = context.constants[1] if len(context.constants) > 1 else None
    if constant is not None:
        fixed = integers(constant, "split")
        _check_count(fixed, count)
        return lambda x, _: _parts(x, axis, fixed)

    def run(x: np.ndarray, sizes: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        if sizes is not None:
            return _parts(x, axis, integers(sizes, "split"))
        if num_outputs is None:
            return _parts(x, axis, _equal(x.shape[axis], count))
        total = x.shape[axis]
        chunk = -(-total // count)
        ends = [min(chunk * i, total) for i in range(count + 1)]
        return _parts(x, axis, [b - a for a, b in itertools.pairwise(ends)])

    return run


def _check_count(sizes: list[int] | None, count: int) -> None:
    if sizes is not None and len(sizes) != count:
        raise FormatError(f"split has {len(sizes)} sizes, the node has {counted(count, 'output')}")


def _equal(total: int, count: int) -> list[int]:
    if total % count:
        raise ValueError(f"an axis of {total} cannot be split into {count} equal parts")
    return [total // count] * count


def _parts(x: np.ndarray, axis: int, sizes: list[int]) -> tuple[np.ndarray, ...]:
    axis = axis + x.ndim if axis < 0 else axis
    if sum(sizes) != x.shape[axis]:
        raise ValueError(
            f"split is {sizes}, {sum(sizes)} in sum, but the axis has {x.shape[axis]} elements"
        )
    before = (slice(None),) * axis
    parts, start = [], 0
    for size in sizes:
        place = (*before, slice(start, start + size))
        parts.append(x[place])
        start += size
    return tuple(parts)
