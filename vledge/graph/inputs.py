"""What a run is given, held against what the model declares: the session's door for inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vledge.graph.described import shown_shape
from vledge.graph.values import TensorSequence, Value
from vledge.model.definition import ValueInfo
from vledge.model.element_types import DTYPES, element_of

__all__ = ["ExpectedInput", "as_declared", "check_run_arguments", "checked_input", "expected_of"]


def check_run_arguments(
    output_names: Sequence[str] | None, input_feed: object, inputs: Iterable[str]
) -> None:
    """TypeError for output names or a feed of a type that a run does not take."""
    if isinstance(output_names, str):
        raise TypeError(
            f"output_names is {output_names!r}, expected a list of names, or None for all: "
            f"run([{output_names!r}], feed)"
        )
    if not isinstance(input_feed, Mapping):
        raise TypeError(
            f"input_feed is a {type(input_feed).__name__}, expected a dict with an array for "
            f"each of {list(inputs)}"
        )


class ExpectedInput(NamedTuple):
    """An input as the model declares it."""

    name: str
    type: str
    dtype: np.dtype | None
    shape: tuple[int | str | None, ...] | None
    fixed: tuple[tuple[int, int], ...]  #: axis and size, of those that are no symbols


def expected_of(info: ValueInfo) -> ExpectedInput:
    sizes = enumerate(info.shape or ())
    fixed = tuple((axis, size) for axis, size in sizes if isinstance(size, int))
    return ExpectedInput(info.name, info.type, element_of(info.type), info.shape, fixed)


def as_declared(expected: ExpectedInput) -> tuple[str, int, tuple[int, ...] | None]:
    """What `Plan.run_feed` compares with; what it cannot say is -1, which no array is of."""
    dtype, shape = expected.dtype, expected.shape
    usual = dtype is not None and dtype.kind != "O" and expected.type in DTYPES
    number = dtype.num if dtype is not None and usual else -1
    sizes = None if shape is None else tuple(s if type(s) is int else -1 for s in shape)
    return expected.name, number, sizes


def checked_input(value: object, expected: ExpectedInput) -> Value:
    """A read-only view of an input, or ValueError if it is not as the model declares it."""
    name, type_, dtype, shape, fixed = expected
    if type(value) is np.ndarray and value.dtype is dtype and type_ in DTYPES:
        array = value.view()  # the usual case, without another look
    elif dtype is None or type_ in DTYPES:
        array = _as_array(value, expected)
    else:
        return _list_or_absent(value, expected)
    if shape is not None:
        if array.ndim != len(shape):
            raise ValueError(
                f"input {name!r} has the shape {array.shape}, expected {len(shape)} axes: "
                f"{shown_shape(shape)}"
            )
        for axis, wanted in fixed:
            if array.shape[axis] != wanted:
                raise ValueError(
                    f"input {name!r} has the shape {array.shape}, expected {wanted} on axis "
                    f"{axis}: {shown_shape(shape)}"
                )
    array.flags.writeable = False
    return array


def _as_array(value: object, expected: ExpectedInput) -> np.ndarray:
    """An array of the dtype that is declared, where the value is or may become one."""
    dtype = expected.dtype
    if value is None:
        raise ValueError(f"input {expected.name!r} is None, expected tensor({expected.type})")
    if not isinstance(value, np.ndarray):
        try:  # numbers of Python's become what is asked for, as in onnxruntime; tensors stay theirs
            value = np.asarray(value, None if hasattr(value, "dtype") else dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"input {expected.name!r} is no array: {error}") from None
    array: np.ndarray = value.view()
    if dtype is None or array.dtype == dtype:
        return array
    if dtype.kind == "O" and array.dtype.kind in "SU":
        return array.astype(object)
    if array.dtype.newbyteorder("=") == dtype:
        return array.astype(dtype)
    raise ValueError(
        f"input {expected.name!r} has the dtype {array.dtype}, expected tensor({expected.type}), "
        f"which is {dtype}"
    )


def _list_or_absent(value: object, expected: ExpectedInput) -> Value:
    """An input that is a list of arrays, or may be None."""
    name, type_, dtype = expected[:3]
    assert dtype is not None
    if type_.startswith("optional("):
        if value is None:
            return None
        type_ = type_[len("optional(") : -1]
    if type_.startswith("tensor("):
        return checked_input(
            value, ExpectedInput(name, type_[len("tensor(") : -1], dtype, None, ())
        )
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"input {name!r} is a {type(value).__name__}, expected a list: {type_}")
    element = type_[len("seq(tensor(") : -len("))")]
    arrays = (
        checked_input(item, ExpectedInput(f"{name}[{place}]", element, dtype, None, ()))
        for place, item in enumerate(value)
    )
    return TensorSequence(tuple(arrays), dtype)
