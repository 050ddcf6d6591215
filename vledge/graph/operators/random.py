"""Operators on random numbers. Their distribution is ONNX's; the numbers are NumPy's, not another
runtime's.

With ``seed`` a session draws the same numbers each time that it is made; its runs differ, as
onnxruntime's do. Threads may share it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.operators.generation import target_dtype
from vledge.graph.registry import Context, prepared_operator
from vledge.model.element_types import NAMES, NUMBERS
from vledge.pieces import PIECE, in_pieces

_Draw = Callable[[tuple[int, ...], np.dtype], np.ndarray]


def _generator(seed: float | None) -> np.random.Generator:
    """NumPy's own, seeded by the bits of the attribute, which is a float of any value."""
    bits = None if seed is None else int(np.float32(seed).view(np.uint32))
    return np.random.default_rng(bits)


def _floating(number: int, attribute: str = "dtype") -> np.dtype:
    dtype = target_dtype(number, attribute)
    if dtype.kind != "f":
        raise UnsupportedError(f"{attribute}={NAMES[number]} is not supported, expected a float")
    return dtype


def _normal(seed: float | None, mean: float, scale: float) -> _Draw:
    if not scale >= 0:
        raise FormatError(f"scale is {scale}, expected 0 or more")
    generator = _generator(seed)
    return _drawn(lambda count: generator.normal(mean, scale, count))


def _uniform(seed: float | None, low: float, high: float) -> _Draw:
    width = high - low
    if not np.isfinite(width):
        raise FormatError(f"low and high are {low} and {high}, expected finite numbers")
    generator = _generator(seed)
    return _drawn(lambda count: low + width * generator.random(count))


def _drawn(draw: Callable[[int], np.ndarray]) -> _Draw:
    """The same numbers, a piece at a time: Ctrl-C is heard between two."""

    def drawn(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        whole = np.empty(shape, dtype)
        flat = whole.reshape(-1)
        for begin in range(0, flat.size, PIECE):
            piece = flat[begin : begin + PIECE]
            piece[...] = draw(piece.size)
        return whole

    return drawn


def _of_shape(draw: _Draw, dtype: int, shape: list[int]) -> Callable[[], np.ndarray]:
    wanted, sizes = _floating(dtype), tuple(shape)
    if any(size < 0 for size in sizes):
        raise FormatError(f"shape is {shape}, expected sizes from 0")
    return lambda: draw(sizes, wanted)


def _like(draw: _Draw, dtype: int | None) -> Callable[[np.ndarray], np.ndarray]:
    if dtype is not None:
        wanted = _floating(dtype)
        return lambda x: draw(x.shape, wanted)

    def run(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "f":
            raise ValueError(
                f"the input is {x.dtype}, expected a floating-point type, or the attribute dtype"
            )
        return draw(x.shape, x.dtype)

    return run


@prepared_operator("RandomNormal", since=1, foldable=False)
def random_normal(
    context: Context,
    *,
    shape: list[int],
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Callable[[], np.ndarray]:
    return _of_shape(_normal(seed, mean, scale), dtype, shape)


@prepared_operator("RandomNormalLike", since=1, foldable=False)
def random_normal_like(
    context: Context,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    return _like(_normal(seed, mean, scale), dtype)


@prepared_operator("RandomUniform", since=1, foldable=False)
def random_uniform(
    context: Context,
    *,
    shape: list[int],
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Callable[[], np.ndarray]:
    return _of_shape(_uniform(seed, low, high), dtype, shape)


@prepared_operator("RandomUniformLike", since=1, foldable=False)
def random_uniform_like(
    context: Context,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    return _like(_uniform(seed, low, high), dtype)


@prepared_operator("Bernoulli", since=15, foldable=False)
def bernoulli(
    context: Context, *, dtype: int | None = None, seed: float | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """1 with the probability that the input gives, else 0."""
    wanted = None if dtype is None else target_dtype(dtype, "dtype")
    generator = _generator(seed)
    return in_pieces(lambda x: (generator.random(x.shape) < x).astype(wanted or x.dtype))


def _rising(logits: np.ndarray) -> np.ndarray:
    """exp of the logarithms, added up from class to class."""
    ends = np.empty(len(logits))
    greatest, total = float(logits.max()), 0.0
    for begin in range(0, len(logits), PIECE):
        piece = ends[begin : begin + PIECE]
        np.exp(logits[begin : begin + PIECE] - greatest, out=piece, dtype=np.float64)
        piece[0] += total
        np.cumsum(piece, out=piece)
        total = piece[-1]
    return ends


@prepared_operator("Multinomial", since=7, foldable=False)
def multinomial(
    context: Context,
    *,
    dtype: int = NUMBERS["int32"],
    sample_size: int = 1,
    seed: float | None = None,
) -> Callable[[np.ndarray], np.ndarray]:
    """x [B, classes], logarithms of probabilities up to a constant → [B, sample_size] classes."""
    wanted = target_dtype(dtype, "dtype")
    if wanted not in (np.int32, np.int64):
        raise UnsupportedError(f"dtype={NAMES[dtype]} is not supported, expected int32 or int64")
    if sample_size < 1:
        raise FormatError(f"sample_size is {sample_size}, expected 1 or more")
    generator = _generator(seed)

    def run(x: np.ndarray) -> np.ndarray:
        if x.ndim != 2 or not x.shape[1]:
            raise ValueError(f"the input has the shape {x.shape}, expected [B, classes]")
        result = np.empty((len(x), sample_size), wanted)
        for row, out in zip(x, result, strict=True):
            ends = _rising(row)
            for begin in range(0, sample_size, PIECE):
                piece = out[begin : begin + PIECE]
                drawn = generator.random(len(piece)) * ends[-1]
                piece[...] = ends.searchsorted(drawn, "right").clip(0, len(row) - 1)
        return result

    return run
