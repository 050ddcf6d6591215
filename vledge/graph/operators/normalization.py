"""Normalisations: Batch, Instance, Layer, Group, RMS, Lp, LRN and mean-variance.

Means and variances of float16 are computed in single precision, as ``stash_type`` has it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.convolution.windows import Slide, along
from vledge.errors import FormatError, UnsupportedError
from vledge.graph.operators.generation import check_stash_type
from vledge.graph.operators.padding import padded
from vledge.graph.registry import Context, operator, prepared_operator
from vledge.model.definition import INTERNAL_DOMAIN
from vledge.pieces import in_slices, other_axes

_Axes = tuple[int, ...]


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _mean(x: np.ndarray, axes: _Axes) -> np.ndarray:
    """Over these axes, which stay as ones. `np.mean` has ten times the cost of a call."""
    total: np.ndarray = np.add.reduce(x, axes, keepdims=True)
    return np.divide(total, x.dtype.type(x.size // max(total.size, 1)))


def _standardised(
    x: np.ndarray, axes: _Axes, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x - mean) / sqrt(variance + epsilon), the mean, and one over the root."""
    mean = _mean(x, axes)
    centred = x - mean
    variance = _mean(np.square(centred), axes)
    inverse = np.reciprocal(np.sqrt(variance + x.dtype.type(epsilon)))
    centred *= inverse
    return centred, mean, inverse


def _by_channel(parameter: np.ndarray, rank: int) -> np.ndarray:
    """[C] → [C, 1, …], which broadcasts over [N, C, *spatial]."""
    return parameter.reshape(-1, *(1,) * (rank - 2))


# ---- BatchNormalization


@prepared_operator("BatchNormalization", since=7, until=8)
def batch_normalization_7(
    context: Context, *, epsilon: float = 1e-5, momentum: float = 0.9, spatial: int = 1
) -> Callable[..., np.ndarray | tuple[np.ndarray, ...]]:
    if spatial != 1:
        raise UnsupportedError("spatial=0 is not supported")
    return _batch_normalization(context, epsilon, momentum, 0)


@prepared_operator("BatchNormalization", since=9, until=13)
def batch_normalization_9(
    context: Context, *, epsilon: float = 1e-5, momentum: float = 0.9
) -> Callable[..., np.ndarray | tuple[np.ndarray, ...]]:
    return _batch_normalization(context, epsilon, momentum, 0)


@prepared_operator("BatchNormalization", since=14)
def batch_normalization(
    context: Context, *, epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0
) -> Callable[..., np.ndarray | tuple[np.ndarray, ...]]:
    return _batch_normalization(context, epsilon, momentum, training_mode)


def _batch_normalization(
    context: Context, epsilon: float, momentum: float, training_mode: int
) -> Callable[..., np.ndarray | tuple[np.ndarray, ...]]:
    if context.outputs_wanted > 1 and not training_mode:
        raise UnsupportedError("the statistics of training are not supported, only the output Y")

    def factors(
        scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The normalisation is x times one and plus the other; computed in double precision."""
        root = np.sqrt(variance.astype(np.float64) + epsilon)
        factor = scale / root
        return factor, bias - mean * factor

    known = context.constants[1:5]
    constant = None
    if len(known) == 4 and not training_mode:
        scale, bias, mean, variance = known
        if scale is not None and bias is not None and mean is not None and variance is not None:
            constant = factors(scale, bias, mean, variance)

    typed: dict[tuple[int, np.dtype], tuple[np.ndarray, np.ndarray]] = {}

    def run(x: np.ndarray, *parameters: np.ndarray) -> np.ndarray | tuple[np.ndarray, ...]:
        if training_mode:
            return _trained(x, *parameters, epsilon=epsilon, momentum=momentum)
        shaped = typed.get((x.ndim, x.dtype))
        if shaped is None:
            pair = constant or factors(*parameters)
            factor, offset = (
                _by_channel(part, x.ndim).astype(_wide_dtype(x.dtype)) for part in pair
            )
            shaped = factor, offset
            if constant is not None:
                typed[x.ndim, x.dtype] = shaped
        result = np.multiply(x, shaped[0])
        result += shaped[1]
        return result.astype(x.dtype, copy=False)

    return run


def _wide_dtype(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _trained(
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    *,
    epsilon: float,
    momentum: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By the batch's own mean and variance, which are mixed into the given ones."""
    axes = (0, *range(2, x.ndim))
    wide = _wide(x)
    y, _, _ = _standardised(wide, axes, epsilon)
    y = y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim)
    own = np.mean(wide, axes), np.var(wide, axes)
    running = (
        (given * momentum + batch * (1 - momentum)).astype(given.dtype)
        for given, batch in zip((mean, variance), own, strict=True)
    )
    return (y.astype(x.dtype, copy=False), *running)


# ---- Instance, Group, Layer, RMS


@operator("InstanceNormalization", since=6)
def instance_normalization(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *, epsilon: float = 1e-5
) -> np.ndarray:
    y, _, _ = _standardised(_wide(x), tuple(range(2, x.ndim)), epsilon)
    y = y * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim)
    return y.astype(x.dtype, copy=False)


@prepared_operator("GroupNormalization", since=18, until=20)
def group_normalization_18(
    context: Context, *, num_groups: int, epsilon: float = 1e-5
) -> Callable[..., np.ndarray]:
    """Scale and bias have one element a group."""
    normalise = group_normalization(context, num_groups=num_groups, epsilon=epsilon)

    def run(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        each = x.shape[1] // num_groups
        return normalise(x, np.repeat(scale, each), np.repeat(bias, each))

    return run


@prepared_operator("GroupNormalization", since=21)
def group_normalization(
    context: Context, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Callable[..., np.ndarray]:
    check_stash_type(stash_type)
    if num_groups < 1:
        raise FormatError(f"num_groups is {num_groups}, expected 1 or more")

    def run(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        groups = _wide(x).reshape(len(x), num_groups, x.shape[1] // num_groups, *x.shape[2:])
        y, _, _ = _standardised(groups, tuple(range(2, groups.ndim)), epsilon)
        y = y.reshape(x.shape) * _by_channel(scale, x.ndim) + _by_channel(bias, x.ndim)
        return y.astype(x.dtype, copy=False)

    return run


def _from_axis(x: np.ndarray, axis: int) -> _Axes:
    return tuple(range(axis + x.ndim if axis < 0 else axis, x.ndim))


@prepared_operator("LayerNormalization", since=1, domain=INTERNAL_DOMAIN)  # of `functions`
@prepared_operator("LayerNormalization", since=17)
def layer_normalization(
    context: Context, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    check_stash_type(stash_type)

    def run(
        x: np.ndarray, scale: np.ndarray, bias: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        y, mean, inverse = _standardised(_wide(x), _from_axis(x, axis), epsilon)
        y = y.astype(x.dtype, copy=False) * scale
        return y if bias is None else y + bias, mean, inverse

    return run


@prepared_operator("RMSNormalization", since=1, domain=INTERNAL_DOMAIN)  # of `functions`
@prepared_operator("RMSNormalization", since=23)
def rms_normalization(
    context: Context, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Callable[..., np.ndarray]:
    check_stash_type(stash_type)

    def run(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        wide = _wide(x)
        mean_square = np.mean(np.square(wide), _from_axis(x, axis), keepdims=True)
        y = wide / np.sqrt(mean_square + wide.dtype.type(epsilon))
        return y.astype(x.dtype, copy=False) * scale

    return run


# ---- without parameters


@operator("MeanVarianceNormalization", since=9)
def mean_variance_normalization(x: np.ndarray, *, axes: list[int] | None = None) -> np.ndarray:
    over = (0, 2, 3) if axes is None else tuple(axes)

    def normalised(some: np.ndarray) -> np.ndarray:
        wide = _wide(some)
        centred = wide - _mean(wide, over)
        deviation = np.sqrt(_mean(np.square(centred), over))
        # what the specification's own definition adds to the deviation
        return (centred / (deviation + wide.dtype.type(1e-9))).astype(x.dtype, copy=False)

    return in_slices(normalised, x, other_axes(x.ndim, *over))


@prepared_operator("LpNormalization", since=1)
def lp_normalization(context: Context, *, axis: int = -1, p: int = 2) -> Callable[..., np.ndarray]:
    if p not in (1, 2):
        raise FormatError(f"p is {p}, expected 1 or 2")

    def normalised(x: np.ndarray) -> np.ndarray:
        if p == 1:
            norm = np.add.reduce(np.abs(x), axis, keepdims=True)
        else:
            norm = np.sqrt(np.add.reduce(np.square(x), axis, keepdims=True))
        return np.where(norm == 0, x.dtype.type(0), x / norm)

    return lambda x: in_slices(normalised, x, other_axes(x.ndim, axis))


@prepared_operator("LRN", since=1)
def lrn(
    context: Context, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Callable[..., np.ndarray]:
    """Each element by those of the ``size`` channels around it."""
    if size < 1:
        raise FormatError(f"size is {size}, expected 1 or more")

    def normalised(x: np.ndarray) -> np.ndarray:
        of = x.dtype.type
        squares, channels = np.square(x), x.shape[1]
        pads = [(0, 0)] * x.ndim  # further away there is nothing
        pads[1] = min((size - 1) // 2, channels), min(size // 2, channels)
        total = along(padded(squares, pads), 1, Slide(sum(pads[1]) + 1, channels), np.add)
        return x / np.power(of(bias) + of(alpha / size) * total, of(beta))

    return lambda x: in_slices(normalised, x, other_axes(x.ndim, 1))
