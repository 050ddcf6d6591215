"""Reductions over axes (ReduceSum, ArgMax, …) and running ones (CumSum).

A reduction over no elements gives what ONNX says: 0 for sums, 1 for products, the least or the
greatest number for Max and Min.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from vledge.graph.operators.elementwise import divided
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.pieces import in_slices, other_axes

__all__ = ["extreme"]

_Axes = tuple[int, ...] | None
_Reduce = Callable[[np.ndarray, _Axes, bool], np.ndarray]

# NumPy's type stubs know no keepdims that is only known at run time.
_add: Final[Callable[..., np.ndarray]] = np.add.reduce
_multiply: Final[Callable[..., np.ndarray]] = np.multiply.reduce
_greatest: Final[Callable[..., np.ndarray]] = np.maximum.reduce
_least: Final[Callable[..., np.ndarray]] = np.minimum.reduce


def _sum(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    return _add(x, axis=axes, dtype=x.dtype, keepdims=keepdims)


def _product(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    return _multiply(x, axis=axes, dtype=x.dtype, keepdims=keepdims)


def _mean(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    total = _sum(x, axes, keepdims)
    count = x.size // total.size if total.size else 1
    if x.dtype.kind == "f":
        return np.divide(total, x.dtype.type(count))
    return divided(np.asarray(total), np.asarray(count, x.dtype))


def extreme(dtype: np.dtype, greatest: bool) -> Any:
    """The greatest or least number of a dtype; infinity where there is one."""
    if dtype.kind == "b":
        return greatest
    if dtype.kind == "f":
        return dtype.type(np.inf if greatest else -np.inf)
    return dtype.type(np.iinfo(dtype).max if greatest else np.iinfo(dtype).min)


def _max(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    if x.size:
        return _greatest(x, axis=axes, keepdims=keepdims)
    lowest = extreme(x.dtype, greatest=False)
    return _greatest(x, axis=axes, keepdims=keepdims, initial=lowest)


def _min(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    if x.size:
        return _least(x, axis=axes, keepdims=keepdims)
    highest = extreme(x.dtype, greatest=True)
    return _least(x, axis=axes, keepdims=keepdims, initial=highest)


def _l1(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    return _sum(np.abs(x), axes, keepdims)


def _sum_square(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    return _sum(np.square(x), axes, keepdims)


def _l2(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    return np.sqrt(_sum_square(x, axes, keepdims)).astype(x.dtype, copy=False)


def _log_sum(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    return np.log(_sum(x, axes, keepdims)).astype(x.dtype, copy=False)


def _log_sum_exp(x: np.ndarray, axes: _Axes, keepdims: bool) -> np.ndarray:
    if x.dtype.kind != "f":
        return _log_sum_exp(x.astype(np.float64), axes, keepdims).astype(x.dtype)
    top = _max(x, axes, True)
    top = np.where(np.isfinite(top), top, x.dtype.type(0))
    result = np.log(_sum(np.exp(x - top), axes, True)) + top
    return result if keepdims else result.squeeze(axes)


def _reduction(op_type: str, reduce: _Reduce, axes_input_since: int) -> None:
    @prepared_operator(op_type, since=1, until=axes_input_since - 1)
    def by_attribute(
        context: Context, *, axes: list[int] | None = None, keepdims: int = 1
    ) -> Callable[..., np.ndarray]:
        over = tuple(axes) if axes else None
        keep = bool(keepdims)

        def run(x: np.ndarray) -> np.ndarray:
            return reduce(x, over, keep)

        return run

    @prepared_operator(op_type, since=axes_input_since)
    def by_input(
        context: Context, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Callable[..., np.ndarray]:
        keep = bool(keepdims)
        # with no axes to reduce over, what happens to each element still does
        without: _Axes = () if noop_with_empty_axes else None
        constant = context.constants[1] if len(context.constants) > 1 else None
        if constant is not None:
            over = tuple(integers(constant, "axes")) or without
            return lambda x, _: reduce(x, over, keep)

        def run(x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
            if axes is None or not axes.size:
                return reduce(x, without, keep)
            return reduce(x, tuple(integers(axes, "axes")), keep)

        return run


_reduction("ReduceL1", _l1, 18)
_reduction("ReduceL2", _l2, 18)
_reduction("ReduceLogSum", _log_sum, 18)
_reduction("ReduceLogSumExp", _log_sum_exp, 18)
_reduction("ReduceMax", _max, 18)
_reduction("ReduceMean", _mean, 18)
_reduction("ReduceMin", _min, 18)
_reduction("ReduceProd", _product, 18)
_reduction("ReduceSum", _sum, 13)
_reduction("ReduceSumSquare", _sum_square, 18)


def _arg(op_type: str, arg: Callable[[np.ndarray, int], np.ndarray]) -> None:
    @operator(op_type, since=1)
    def run(
        x: np.ndarray, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> np.ndarray:
        if select_last_index:
            places = x.shape[axis] - 1 - arg(np.flip(x, axis), axis)
        else:
            places = arg(x, axis)
        places = np.asarray(places, np.int64)
        return np.expand_dims(places, axis) if keepdims else places


_arg("ArgMax", np.argmax)
_arg("ArgMin", np.argmin)


def _running(op_type: str, since: int, ufunc: np.ufunc) -> None:
    @operator(op_type, since=since)
    def run(x: np.ndarray, axis: np.ndarray, *, exclusive: int = 0, reverse: int = 0) -> np.ndarray:
        along = int(axis.item())

        def running(some: np.ndarray) -> np.ndarray:
            some = np.flip(some, along) if reverse else some
            result = ufunc.accumulate(some, along, dtype=x.dtype)
            if exclusive:
                start = some
                if some.shape[along]:
                    start = np.full_like(np.take(some, [0], along), ufunc.identity)
                kept = np.take(result, np.arange(max(some.shape[along] - 1, 0)), along)
                result = np.concatenate((start, kept), along)
            return np.flip(result, along) if reverse else result

        return in_slices(running, x, other_axes(x.ndim, along))


_running("CumSum", 11, np.add)
_running("CumProd", 26, np.multiply)
