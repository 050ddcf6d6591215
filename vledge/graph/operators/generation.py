"""Arrays from nothing or from a few numbers: constants, ranges, windows, identity matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.graph.operators.lists import integers
from vledge.graph.registry import Context, prepared_operator
from vledge.model.element_types import NAMES, NUMBERS, dtype_of
from vledge.pieces import PIECE, spans

__all__ = ["check_stash_type", "element_dtype", "target_dtype"]


def target_dtype(number: int, attribute: str) -> np.dtype:
    """The dtype of an element type that an attribute gives; UnsupportedError if NumPy has none."""
    dtype = element_dtype(number, attribute)
    if dtype.kind == "O":
        raise UnsupportedError(f"{attribute}={NAMES[number]} is not supported")
    return dtype


def element_dtype(number: int, attribute: str) -> np.dtype:
    """The same, strings allowed."""
    if number not in NAMES:
        raise FormatError(f"{attribute} is {number}, which is no element type")
    dtype = dtype_of(number)
    if dtype is None:
        raise UnsupportedError(f"{attribute}={NAMES[number]} is not supported")
    return dtype


def check_stash_type(stash_type: int) -> None:
    """Only float: UnsupportedError for any other type of what is computed in between."""
    if stash_type != NUMBERS["float"]:
        name = NAMES.get(stash_type, stash_type)
        raise UnsupportedError(f"stash_type={name} is not supported, only float (1) is")


@prepared_operator("Constant", since=1)
def constant(
    context: Context,
    *,
    value: np.ndarray | None = None,
    value_float: float | None = None,
    value_floats: list[float] | None = None,
    value_int: int | None = None,
    value_ints: list[int] | None = None,
    value_string: str | None = None,
    value_strings: list[str] | None = None,
    sparse_value: None = None,  # which the registry refuses
) -> Callable[..., np.ndarray]:
    """One attribute of the seven, of any name."""
    made = [
        np.asarray(given, dtype)
        for given, dtype in (
            (value, None),
            (value_float, np.float32),
            (value_floats, np.float32),
            (value_int, np.int64),
            (value_ints, np.int64),
            (value_string, object),
            (value_strings, object),
        )
        if given is not None
    ]
    if len(made) != 1:
        raise FormatError(f"it has {len(made)} of the attributes that hold a value, expected one")
    return lambda: made[0]


@prepared_operator("ConstantOfShape", since=9)
def constant_of_shape(
    context: Context, *, value: np.ndarray | None = None
) -> Callable[..., np.ndarray]:
    fill = np.zeros((), np.float32) if value is None else value.reshape(-1)
    if fill.size != 1:
        raise FormatError(f"value has {fill.size} elements, expected one")
    fill = fill.reshape(())
    if not fill:
        return lambda shape: np.zeros(integers(shape, "input"), fill.dtype)
    return lambda shape: np.full(integers(shape, "input"), fill)


@prepared_operator("Range", since=11)
def range_(context: Context, *, stash_type: int = 1) -> Callable[..., np.ndarray]:
    check_stash_type(stash_type)
    return _range


def _range(start: np.ndarray, limit: np.ndarray, delta: np.ndarray) -> np.ndarray:
    first, last, step = start.item(), limit.item(), delta.item()
    if step == 0:
        raise ValueError("delta is 0")
    if start.dtype.kind in "iu":
        count = max(-(-(last - first) // step), 0)
        return _by_place(count, start.dtype, lambda k: first + k * step)
    count = max(int(np.ceil((last - first) / step)), 0)
    wide = np.dtype(np.float32) if start.dtype == np.float16 else start.dtype
    return _by_place(
        count, start.dtype, lambda k: wide.type(first) + k.astype(wide) * wide.type(step)
    )


def _by_place(
    count: int, dtype: np.dtype, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """``function`` of 0, 1, ... count - 1, a piece at a time."""
    values = np.empty(count, dtype)
    for some in spans(count):
        values[some] = function(np.arange(some.start, some.stop))
    return values


@prepared_operator("EyeLike", since=9)
def eye_like(
    context: Context, *, dtype: int | None = None, k: int = 0
) -> Callable[..., np.ndarray]:
    wanted = None if dtype is None else target_dtype(dtype, "dtype")

    def run(x: np.ndarray) -> np.ndarray:
        rows, columns = x.shape
        result = np.zeros((rows, columns), wanted or x.dtype)
        row, column = max(-k, 0), max(k, 0)
        diagonal = result.reshape(-1)[row * columns + column :: columns + 1]
        count = max(min(rows - row, columns - column), 0)
        # each is on a page of its own, new and to be cleared
        for some in spans(count, PIECE // max(columns, 1)):
            diagonal[some] = 1
        return result

    return run


def _window(op_type: str, cosines: tuple[float, ...]) -> None:
    """Sum of ``cosines[i] cos(2 pi i n / N)``."""

    @prepared_operator(op_type, since=17)
    def window(
        context: Context, *, output_datatype: int = 1, periodic: int = 1
    ) -> Callable[..., np.ndarray]:
        dtype = target_dtype(output_datatype, "output_datatype")

        def run(size: np.ndarray) -> np.ndarray:
            count = int(size.item())
            turns = max(count if periodic else count - 1, 1)

            def summed(places: np.ndarray) -> np.ndarray:
                turn = 2 * np.pi * places / turns
                terms = [weight * np.cos(i * turn) for i, weight in enumerate(cosines)]
                return np.sum(terms, axis=0).astype(dtype)

            return _by_place(max(count, 0), dtype, summed)

        return run


_window("BlackmanWindow", (0.42, -0.5, 0.08))
_window("HammingWindow", (25 / 46, -21 / 46))
_window("HannWindow", (0.5, -0.5))
