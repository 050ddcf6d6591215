"""Resize and Upsample: nearest, linear and cubic, axis by axis, as taps with weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.lists import integers, numbers
from vledge.graph.registry import Context, prepared_operator

_COORDINATES = (
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",
)
_NEAREST = ("ceil", "floor", "round_prefer_ceil", "round_prefer_floor")
_POLICIES = ("not_larger", "not_smaller", "stretch")


@dataclass(frozen=True)
class _Interpolation:
    """How an output element is made of the input's, from the node's attributes."""

    mode: str
    coordinates: str
    nearest: str
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation_value: float = 0.0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, ("nearest", "linear", "cubic")),
            ("coordinate_transformation_mode", self.coordinates, _COORDINATES),
            ("nearest_mode", self.nearest, _NEAREST),
        ):
            if value not in allowed:
                raise FormatError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")

    def along(
        self, x: np.ndarray, axis: int, size: int, scale: float, roi: tuple[float, float]
    ) -> np.ndarray:
        """x with ``size`` elements on an axis."""
        count = x.shape[axis]
        places = self._places(count, size, scale, roi)
        if size == count and np.array_equal(places, np.arange(count)):
            return x
        if count == 0:
            raise ValueError(f"axis {axis} has no elements to interpolate")
        if self.mode == "nearest":
            result = x.take(self._nearest(places).clip(0, count - 1), axis)
        else:
            result = self._weighted(x, axis, places, scale)
        if self.coordinates == "tf_crop_and_resize":
            outside = (places < 0) | (places > count - 1)
            shape = [1] * x.ndim
            shape[axis] = size
            value = x.dtype.type(self.extrapolation_value)
            result = np.where(outside.reshape(shape), value, result)
        return result

    def _places(self, count: int, size: int, scale: float, roi: tuple[float, float]) -> np.ndarray:
        """Where in the input each output element is.

        In single precision, like onnxruntime: half way between two elements, a scale's rounding
        decides, and decides alike.
        """
        i = np.arange(size, dtype=np.float32)
        start, end = roi
        # where scales are given, onnx's tests take the length before it is rounded down
        length = count * scale
        match self.coordinates:
            case "align_corners":
                return i * (count - 1) / (length - 1) if size > 1 else i * 0
            case "asymmetric":
                return i / scale
            case "pytorch_half_pixel":
                return (i + 0.5) / scale - 0.5 if size > 1 else i * 0
            case "tf_half_pixel_for_nn":
                return (i + 0.5) / scale
            case "half_pixel_symmetric":
                offset = count / 2 * (1 - size / length)
                return offset + (i + 0.5) / scale - 0.5
            case "tf_crop_and_resize":
                if size > 1:
                    return start * (count - 1) + i * (end - start) * (count - 1) / (size - 1)
                return i * 0 + 0.5 * (start + end) * (count - 1)
        return (i + 0.5) / scale - 0.5

    def _nearest(self, places: np.ndarray) -> np.ndarray:
        match self.nearest:
            case "ceil":
                places = np.ceil(places)
            case "floor":
                places = np.floor(places)
            case "round_prefer_ceil":
                places = np.floor(places + 0.5)
            case _:
                places = np.ceil(places - 0.5)
        return places.astype(np.int64)

    def _weighted(self, x: np.ndarray, axis: int, places: np.ndarray, scale: float) -> np.ndarray:
        count = x.shape[axis]
        base = np.floor(places)
        # shrinking with antialias widens the kernel, so that every input element counts
        squeeze = min(scale, 1.0) if self.antialias else 1.0
        radius = 1 if self.mode == "linear" else 2
        first = math.floor(-radius / squeeze) + 1
        offsets = np.arange(first, 2 - first)
        weights = self._kernel((offsets - (places - base)[:, None]) * squeeze)
        taps = base.astype(np.int64)[:, None] + offsets
        if self.exclude_outside:
            weights = np.where((taps >= 0) & (taps < count), weights, 0)
        if self.exclude_outside or self.antialias:
            weights = weights / weights.sum(1, keepdims=True)
        taps = taps.clip(0, count - 1)
        inner = x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        shape = [1] * x.ndim
        shape[axis] = len(places)
        result = np.zeros((), inner)
        for tap, weight in zip(taps.T, weights.T.astype(inner), strict=True):
            result = result + x.take(tap, axis) * weight.reshape(shape)
        if x.dtype.kind in "iu":
            limits = np.iinfo(x.dtype)
            result = np.clip(np.rint(result), limits.min, limits.max)
        return result.astype(x.dtype, copy=False)

    def _kernel(self, distance: np.ndarray) -> np.ndarray:
        d = np.abs(distance)
        if self.mode == "linear":
            return np.maximum(1 - d, 0)
        a = self.cubic_coeff_a
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0))


@prepared_operator("Upsample", since=7, until=8)
def upsample_by_attribute(
    context: Context, *, scales: list[float], mode: str = "nearest"
) -> Callable[..., np.ndarray]:
    _check_old_mode(mode)
    return lambda x: _scaled(x, scales, mode)


@prepared_operator("Upsample", since=9, until=9)
@prepared_operator("Resize", since=10, until=10)
def resize_10(context: Context, *, mode: str = "nearest") -> Callable[..., np.ndarray]:
    _check_old_mode(mode)
    return lambda x, scales: _scaled(x, numbers(scales, "scales", scalar=True), mode)


def _check_old_mode(mode: str) -> None:
    if mode not in ("nearest", "linear"):
        raise FormatError(f"mode is {mode!r}, expected 'nearest' or 'linear'")


def _scaled(x: np.ndarray, scales: list[float], mode: str) -> np.ndarray:
    """As before operator set 11, which left the rounding open; this is onnxruntime's."""
    if len(scales) != x.ndim:
        raise ValueError(f"scales has {len(scales)} items, the input has {x.ndim} axes")
    for axis, scale in enumerate(scales):
        interpolation = _Interpolation(mode, "asymmetric", "ceil" if scale < 1 else "floor")
        size = _extent(x.shape[axis], scale)
        x = interpolation.along(x, axis, size, scale, (0.0, 1.0))
    return x


@prepared_operator("Resize", since=11)
def resize(
    context: Context,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Callable[..., np.ndarray]:
    interpolation = _Interpolation(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    if keep_aspect_ratio_policy not in _POLICIES:
        raise FormatError(
            f"keep_aspect_ratio_policy is {keep_aspect_ratio_policy!r}, expected one of "
            f"{', '.join(_POLICIES)}"
        )
    cropping = coordinate_transformation_mode == "tf_crop_and_resize"

    def run(
        x: np.ndarray,
        roi: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        sizes: np.ndarray | None = None,
    ) -> np.ndarray:
        over = range(x.ndim) if axes is None else axes
        regions = [(0.0, 1.0)] * len(over)
        if cropping and roi is not None:
            bounds = numbers(roi, "roi")
            regions = list(zip(bounds[: len(over)], bounds[len(over) :], strict=True))
        factors: list[float]
        if scales is not None and scales.size:
            factors = numbers(scales, "scales", scalar=True)
            extents = [
                _extent(x.shape[axis] * (end - start), factor)
                for axis, (start, end), factor in zip(over, regions, factors, strict=True)
            ]
        elif sizes is not None:
            extents, factors = _extents(
                x, over, integers(sizes, "sizes", scalar=True), keep_aspect_ratio_policy
            )
        else:
            raise ValueError("neither scales nor sizes are given")
        for axis, extent, factor, region in zip(over, extents, factors, regions, strict=True):
            x = interpolation.along(x, axis, extent, factor, region)
        return x

    return run


def _extent(length: float, scale: float) -> int:
    if not scale > 0:
        raise ValueError(f"scales has {scale:g}, expected numbers above 0")
    return math.floor(length * scale)


def _extents(
    x: np.ndarray, axes: range | list[int], sizes: list[int], policy: str
) -> tuple[list[int], list[float]]:
    if min(sizes, default=0) < 0:
        raise ValueError(f"sizes has {min(sizes)}, expected no less than 0")
    factors = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        return sizes, factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    extents = [math.floor(factor * x.shape[axis] + 0.5) for axis in axes]
    return extents, [factor] * len(extents)
