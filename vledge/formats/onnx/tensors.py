"""TensorProto to ndarray: raw bytes, typed fields or external data, every size checked first.

Source: onnx.proto, TensorProto.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, UnsupportedError, cut
from vledge.formats.onnx.external_data import ExternalFiles
from vledge.formats.tensor_view import MAX_DIMENSIONS, widened_bfloat16
from vledge.model.element_types import DTYPES, NAMES
from vledge.pieces import converted, spans

if TYPE_CHECKING:
    from onnx import TensorProto

__all__ = ["array_of"]

BYTES_OF_A_TENSOR: Final = 300
BYTES_OF_A_STRING: Final = 80
# Of typed fields: what the message and the array hold of each, and what a step converts.
BYTES_OF_AN_ELEMENT: Final = 16
ELEMENTS_OF_A_STEP: Final = 8
EXTERNAL: Final = 1  # TensorProto.DataLocation
_BFLOAT16: Final = np.dtype(np.uint16)  # its bits

# element type → (field of the message, dtype of the field's items before they are reinterpreted)
_FIELDS: Final[dict[str, tuple[str, type[np.generic]]]] = {
    "float": ("float_data", np.float32),
    "complex64": ("float_data", np.float32),
    "double": ("double_data", np.float64),
    "complex128": ("double_data", np.float64),
    "int64": ("int64_data", np.int64),
    "uint64": ("uint64_data", np.uint64),
    "uint32": ("uint64_data", np.uint64),
    "int32": ("int32_data", np.int32),
    "int16": ("int32_data", np.int32),
    "int8": ("int32_data", np.int32),
    "uint16": ("int32_data", np.int32),
    "uint8": ("int32_data", np.int32),
    "bool": ("int32_data", np.int32),
    "float16": ("int32_data", np.int32),
    "bfloat16": ("int32_data", np.int32),
}


def array_of(tensor: TensorProto, files: ExternalFiles, budget: Budget) -> np.ndarray:
    """The array that a TensorProto holds; read-only where it is a view of the file.

    FormatError where the message contradicts itself, UnsupportedError for element types that NumPy
    does not have (float8, int4, …). bfloat16 is widened to float32. What is copied is charged.
    """
    type_name = NAMES.get(tensor.data_type)
    if type_name is None:
        raise FormatError(f"its element type {tensor.data_type} is not one of ONNX's")
    if type_name not in DTYPES:
        raise UnsupportedError(f"its element type {type_name} is not supported")
    shape = tuple(tensor.dims)
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise FormatError(f"its shape is {cut(str(shape))}")
    if math.prod(size for size in shape if size) > sys.maxsize // 16:
        raise FormatError(f"its shape {shape} is too large")
    budget.take(BYTES_OF_A_TENSOR, "the tensors of the file")
    if tensor.HasField("segment"):
        raise FormatError("it is one segment of a tensor, a form that no writer uses")
    count = math.prod(shape)
    if type_name == "string":
        if len(tensor.string_data) != count:
            raise FormatError(_wrong_count(len(tensor.string_data), shape))
        budget.take(BYTES_OF_A_STRING * count, "strings")
        try:
            strings = [item.decode() for item in tensor.string_data]
        except UnicodeDecodeError:
            raise FormatError("its strings are not UTF-8") from None
        array = np.empty(count, object)
        array[:] = strings
        return array.reshape(shape)
    dtype = _BFLOAT16 if type_name == "bfloat16" else DTYPES[type_name]
    content: bytes | memoryview
    if tensor.data_location == EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        content = files.read(entries, count * dtype.itemsize)
        key = (id(content), dtype.str, shape)  # the files keep what they have read
        if key not in files.arrays:
            files.arrays[key] = _viewed(content, dtype, shape, budget)
        array = files.arrays[key]
    elif tensor.HasField("raw_data"):
        content = tensor.raw_data
        if len(content) != count * dtype.itemsize:
            raise FormatError(
                f"it has {len(content)} bytes, its shape {shape} needs {count * dtype.itemsize}"
            )
        array = _viewed(content, dtype, shape, budget)
    else:
        array = _typed(tensor, type_name, dtype, shape, budget)
    if type_name == "bfloat16":
        budget.take(2 * array.nbytes, "bfloat16 widened to float32")
        array = widened_bfloat16(array)
    return array


def _viewed(
    content: bytes | memoryview, dtype: np.dtype, shape: tuple[int, ...], budget: Budget
) -> np.ndarray:
    """An array over little-endian bytes, or a copy where this machine cannot view them."""
    if dtype.kind == "b":
        budget.take(len(content), "truth values")
        # any byte but 0 is true; NumPy wants exactly 1
        return np.asarray(np.frombuffer(content, np.uint8) != 0).reshape(shape)
    array = np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    if not array.flags.aligned or not array.dtype.isnative:
        budget.take(array.nbytes, "a copy of what this machine cannot view")
        array = converted(array, dtype)
    return array


def _typed(
    tensor: TensorProto, type_name: str, dtype: np.dtype, shape: tuple[int, ...], budget: Budget
) -> np.ndarray:
    field, item = _FIELDS[type_name]
    given = getattr(tensor, field)
    budget.take(BYTES_OF_AN_ELEMENT * len(given), f"its {field}")
    budget.step(len(given) // ELEMENTS_OF_A_STEP, f"its {field}")
    values, rest = np.empty(len(given), item), iter(given)
    for some in spans(len(given)):
        values[some] = np.fromiter(rest, item, some.stop - some.start)
    wanted = math.prod(shape) * (2 if dtype.kind == "c" else 1)
    if len(values) != wanted:
        raise FormatError(_wrong_count(len(values), shape))
    if dtype.kind == "c":
        return values.view(dtype).reshape(shape)
    if type_name in ("float16", "bfloat16"):
        return converted(values, np.uint16).view(dtype).reshape(shape)
    return converted(values, dtype).reshape(shape)


def _wrong_count(count: int, shape: tuple[int, ...]) -> str:
    return f"it has {count} elements, its shape {shape} needs {math.prod(shape)}"
