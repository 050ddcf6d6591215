"""What detectors of objects are made of: NonMaxSuppression, RoiAlign, MaxRoiPool."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.graph.operators.convolution import single
from vledge.graph.operators.matrix import matmul
from vledge.graph.registry import Context, prepared_operator

_MODES: Final = ("avg", "max")
_COORDINATES: Final = ("half_pixel", "output_half_pixel")


# ---- NonMaxSuppression


@prepared_operator("NonMaxSuppression", since=10)
def non_max_suppression(
    context: Context, *, center_point_box: int = 0
) -> Callable[..., np.ndarray]:
    """Boxes of each class in the order of their scores, without those that overlap a chosen one."""

    def run(
        boxes: np.ndarray,
        scores: np.ndarray,
        most: np.ndarray | None = None,
        iou_threshold: np.ndarray | None = None,
        score_threshold: np.ndarray | None = None,
    ) -> np.ndarray:
        if boxes.ndim != 3 or boxes.shape[2] != 4:
            raise ValueError(f"boxes has the shape {boxes.shape}, expected [batch, boxes, 4]")
        if scores.ndim != 3 or scores.shape[::2] != boxes.shape[:2]:
            raise ValueError(
                f"scores has the shape {scores.shape}, expected {boxes.shape[0]} samples, classes, "
                f"{boxes.shape[1]} boxes"
            )
        count = 0 if most is None else max(int(_number(most, "max_output_boxes_per_class")), 0)
        overlap = 0.0 if iou_threshold is None else _number(iou_threshold, "iou_threshold")
        if not 0 <= overlap <= 1:
            raise ValueError(f"iou_threshold is {overlap:g}, expected 0 to 1")
        least = None if score_threshold is None else _number(score_threshold, "score_threshold")
        chosen = [np.empty((0, 3), np.int64)]
        for sample, (corners, of_classes) in enumerate(zip(boxes, scores, strict=True)):
            ends = _ends(corners, bool(center_point_box))
            for number, own in enumerate(of_classes if count else ()):
                kept = _kept(ends, own, count, overlap, least)
                row = np.full((len(kept), 3), (sample, number, 0), np.int64)
                row[:, 2] = kept
                chosen.append(row)
        return np.concatenate(chosen)

    return run


def _number(array: np.ndarray, name: str) -> float:
    if array.size != 1:
        raise ValueError(f"{name} has the shape {array.shape}, expected one number")
    return float(array.item())


def _ends(boxes: np.ndarray, by_center: bool) -> np.ndarray:
    """[boxes, 4] → least and greatest of both axes, [4, boxes]."""
    a, b, c, d = boxes.T
    if by_center:  # x, y of the middle, width, height
        return np.array([a - c / 2, a + c / 2, b - d / 2, b + d / 2])
    return np.array([np.minimum(a, c), np.maximum(a, c), np.minimum(b, d), np.maximum(b, d)])


def _kept(
    ends: np.ndarray, scores: np.ndarray, most: int, overlap: float, least: float | None
) -> list[int]:
    order = np.argsort(-scores, kind="stable")  # of equal scores the lower index first
    if least is not None:
        order = order[scores[order] > least]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        first, order = order[0], order[1:]
        kept.append(int(first))
        order = order[~_overlaps(ends[:, order], ends[:, first], overlap)]
    return kept


def _overlaps(boxes: np.ndarray, one: np.ndarray, most: float) -> np.ndarray:
    """Which of the boxes share more than that part of their union with the one."""
    width = np.minimum(boxes[1], one[1]) - np.maximum(boxes[0], one[0])
    height = np.minimum(boxes[3], one[3]) - np.maximum(boxes[2], one[2])
    shared = width * height
    areas = (boxes[1] - boxes[0]) * (boxes[3] - boxes[2])
    area = (one[1] - one[0]) * (one[3] - one[2])
    union = areas + area - shared
    some = (width > 0) & (height > 0) & (shared > 0) & (areas > 0) & (area > 0) & (union > 0)
    return some & (np.divide(shared, union, where=some, out=np.zeros_like(union)) > most)


# ---- RoiAlign


@prepared_operator("RoiAlign", since=16)
def roi_align(
    context: Context,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Callable[..., np.ndarray]:
    """Each region as bins [output_height, output_width], of samples between elements."""
    if mode not in _MODES:
        raise FormatError(f"mode is {mode!r}, expected {', '.join(_MODES)}")
    if coordinate_transformation_mode not in _COORDINATES:
        raise FormatError(
            f"coordinate_transformation_mode is {coordinate_transformation_mode!r}, expected "
            f"{', '.join(_COORDINATES)}"
        )
    bins = _bins(output_height, output_width)
    half = coordinate_transformation_mode == "half_pixel"

    def run(x: np.ndarray, rois: np.ndarray, batch_indices: np.ndarray) -> np.ndarray:
        _check_regions(x, rois, 4, batch_indices)
        result = np.empty((len(rois), x.shape[1], *bins), x.dtype)
        wide = single(x)
        of = wide.dtype.type
        for out, roi, sample in zip(result, rois.astype(of), batch_indices, strict=True):
            first, last = roi[[1, 0]] * of(spatial_scale), roi[[3, 2]] * of(spatial_scale)
            if half:
                first, last = first - of(0.5), last - of(0.5)
            sizes = last - first
            if not half:  # regions without an extent are of one element
                sizes = np.maximum(sizes, of(1))
            taps = [
                _bin_taps(start, length, count, sampling_ratio, size)
                for start, length, count, size in zip(first, sizes, bins, x.shape[2:], strict=True)
            ]
            out[...] = (_mean if mode == "avg" else _greatest)(wide[sample], *taps)
        return result

    return run


@prepared_operator("RoiAlign", since=10, until=15)
def roi_align_until_15(
    context: Context,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Callable[..., np.ndarray]:
    return roi_align(
        context,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


def _bins(height: int, width: int) -> tuple[int, int]:
    if height < 1 or width < 1:
        raise FormatError(f"the output has {height} x {width} bins, expected 1 or more")
    return height, width


def _check_regions(
    x: np.ndarray, rois: np.ndarray, columns: int, samples: np.ndarray | None
) -> None:
    if x.ndim != 4 or 0 in x.shape[2:]:
        raise ValueError(f"X has the shape {x.shape}, expected [N, C, H, W] with elements")
    if rois.ndim != 2 or rois.shape[1] != columns:
        raise ValueError(f"rois has the shape {rois.shape}, expected [regions, {columns}]")
    if not np.isfinite(rois).all():
        raise ValueError("rois has numbers that are not finite")
    if samples is None:
        samples = rois[:, 0]
    elif samples.shape != rois.shape[:1]:
        raise ValueError(f"batch_indices has the shape {samples.shape}, expected ({len(rois)},)")
    if ((samples < 0) | (samples >= len(x))).any():
        raise ValueError(f"a region is of a sample outside of the {len(x)} of X")


_Taps = tuple[np.ndarray, np.ndarray, np.ndarray]  # lower elements, weights, upper weights


def _bin_taps(start: np.ndarray, length: np.ndarray, bins: int, ratio: int, size: int) -> _Taps:
    """Of each sample of each bin, [bins, samples]: the element below it, and what it and the next
    one weigh; nothing outside."""
    of = start.dtype.type
    each = length / of(bins)
    samples = ratio if ratio > 0 else max(math.ceil(each), 0)
    within = (np.arange(samples, dtype=start.dtype) + of(0.5)) * each / of(max(samples, 1))
    place = start + np.arange(bins, dtype=start.dtype)[:, None] * each + within
    outside = (place < -1) | (place > size)
    place = place.clip(0, size - 1)
    low = np.minimum(place.astype(np.int64), max(size - 2, 0))
    upper = place - low
    return low, np.where(outside, of(0), 1 - upper), np.where(outside, of(0), upper)


def _mean(x: np.ndarray, rows: _Taps, columns: _Taps) -> np.ndarray:
    """x [C, H, W] → [C, *bins]. Weights along both axes are independent: two products."""
    left, height = _shares(rows, x.shape[1])
    right, width = _shares(columns, x.shape[2])
    count = x.dtype.type(max(rows[0].shape[1] * columns[0].shape[1], 1))
    return matmul(matmul(left, np.ascontiguousarray(x[:, height, width])), right.T) / count


def _shares(taps: _Taps, size: int) -> tuple[np.ndarray, slice]:
    """What each element weighs in each bin, [bins, elements], for those that any has."""
    low, lower, upper = taps
    begin, end = (int(low.min()), min(int(low.max()) + 2, size)) if low.size else (0, 1)
    shares = np.zeros((len(low), end - begin), lower.dtype)
    bins = np.arange(len(low))[:, None]
    np.add.at(shares, (bins, low - begin), lower)
    np.add.at(shares, (bins, (low + 1 - begin).clip(0, end - begin - 1)), upper)
    return shares, slice(begin, end)


def _greatest(x: np.ndarray, rows: _Taps, columns: _Taps) -> np.ndarray:
    """The greatest of the weighted elements around all samples, as onnx has it: no sums."""
    if not rows[0].size or not columns[0].size:
        return np.zeros((len(x), len(rows[0]), len(columns[0])), x.dtype)
    best: np.ndarray | None = None
    for down in (0, 1):
        for right in (0, 1):
            y = (rows[0] + down).clip(0, x.shape[1] - 1)
            z = (columns[0] + right).clip(0, x.shape[2] - 1)
            for sy in range(y.shape[1]):
                line = x[:, y[:, sy]] * rows[1 + down][:, sy, None]
                for sx in range(z.shape[1]):
                    one = line[:, :, z[:, sx]] * columns[1 + right][:, sx]
                    best = one if best is None else np.maximum(best, one)
    assert best is not None
    return best


# ---- MaxRoiPool


@prepared_operator("MaxRoiPool", since=1)
def max_roi_pool(
    context: Context, *, pooled_shape: list[int], spatial_scale: float = 1.0
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """x [N, C, H, W], rois [regions, 5] as sample, x1, y1, x2, y2 → [regions, C, *pooled_shape]."""
    if len(pooled_shape) != 2:
        raise FormatError(f"pooled_shape is {pooled_shape}, expected two numbers")
    bins = _bins(*pooled_shape)

    def run(x: np.ndarray, rois: np.ndarray) -> np.ndarray:
        _check_regions(x, rois, 5, None)
        result = np.zeros((len(rois), x.shape[1], *bins), x.dtype)
        for out, roi in zip(result, single(rois), strict=True):
            own = x[int(roi[0])]
            left, top, right, bottom = (_rounded(end * spatial_scale) for end in roi[1:])
            rows = _stretches(top, bottom, bins[0], x.shape[2])
            columns = _stretches(left, right, bins[1], x.shape[3])
            for row, down in enumerate(rows):
                for column, across in enumerate(columns):
                    part = own[:, down, across]
                    if part.size:
                        out[:, row, column] = part.max((1, 2))
        return result

    return run


def _rounded(number: float) -> int:
    return math.floor(number + 0.5) if number >= 0 else math.ceil(number - 0.5)


def _stretches(first: int, last: int, bins: int, size: int) -> list[slice]:
    """Elements of each bin of [first, last]; neighbours may share one."""
    each = np.float32(max(last - first + 1, 1)) / np.float32(bins)
    starts = [int(np.floor(np.float32(k) * each)) + first for k in range(bins)]
    ends = [int(np.ceil(np.float32(k + 1) * each)) + first for k in range(bins)]
    return [
        slice(min(max(a, 0), size), min(max(b, 0), size)) for a, b in zip(starts, ends, strict=True)
    ]
