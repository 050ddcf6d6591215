"""TensorProto to ndarray: raw bytes, typed fields or external data, every size checked first.

Source: onnx.proto, TensorProto.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from vledge.errors import FormatError, UnsupportedError
from vledge.formats.onnx.external_data import ExternalFiles
from vledge.formats.tensor_view import MAX_DIMENSIONS
from vledge.model.element_types import DTYPES, NAMES

__all__ = ["array_of"]

EXTERNAL: Final = 1  # TensorProto.DataLocation
_BFLOAT16: Final = np.dtype(np.uint16)  # its bits

# element type → (field of the message, dtype of the field's items before they are reinterpreted)
_FIELDS: Final[dict[str, tuple[str, Any]]] = {
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


def array_of(tensor: Any, files: ExternalFiles) -> np.ndarray:
    """The array that a TensorProto holds; read-only where it is a view of the file.

    FormatError where the message contradicts itself, UnsupportedError for element types that NumPy
    does not have (float8, int4, …). bfloat16 is widened to float32.
    """
    type_name = NAMES.get(tensor.data_type)
    if type_name is None:
        raise FormatError(f"its element type {tensor.data_type} is not one of ONNX's")
    if type_name not in DTYPES:
        raise UnsupportedError(f"its element type {type_name} is not supported")
    shape = tuple(tensor.dims)
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise FormatError(f"its shape is {shape}")
    if tensor.HasField("segment"):
        raise FormatError("it is one segment of a tensor, a form that no writer uses")
    count = math.prod(shape)
    if type_name == "string":
        if len(tensor.string_data) != count:
            raise FormatError(_wrong_count(len(tensor.string_data), shape))
        try:
            strings = [item.decode() for item in tensor.string_data]
        except UnicodeDecodeError:
            raise FormatError("its strings are not UTF-8") from None
        array = np.empty(count, object)
        array[:] = strings
        return array.reshape(shape)
    dtype = _BFLOAT16 if type_name == "bfloat16" else DTYPES[type_name]
    content: Any
    if tensor.data_location == EXTERNAL:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        content = files.read(entries, count * dtype.itemsize)
        array = _view(content, dtype, shape)
    elif tensor.HasField("raw_data"):
        content = tensor.raw_data
        if len(content) != count * dtype.itemsize:
            raise FormatError(
                f"it has {len(content)} bytes, its shape {shape} needs {count * dtype.itemsize}"
            )
        array = _view(content, dtype, shape)
    else:
        array = _typed(tensor, type_name, dtype, shape)
    if type_name == "bfloat16":
        bits = array.reshape(-1).astype(np.uint32) << np.uint32(16)
        array = bits.view(np.float32).reshape(shape)
    return array


def _view(content: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind == "b":
        # any byte but 0 is true; NumPy wants exactly 1
        return (np.frombuffer(content, np.uint8) != 0).reshape(shape)
    array = np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    if not array.flags.aligned or not array.dtype.isnative:
        array = array.astype(dtype)
    return array


def _typed(tensor: Any, type_name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    field, item = _FIELDS[type_name]
    values = np.array(getattr(tensor, field), item)
    wanted = math.prod(shape) * (2 if dtype.kind == "c" else 1)
    if len(values) != wanted:
        raise FormatError(_wrong_count(len(values), shape))
    if dtype.kind == "c":
        return values.view(dtype).reshape(shape)
    if type_name in ("float16", "bfloat16"):
        return values.astype(np.uint16).view(dtype).reshape(shape)
    return values.astype(dtype).reshape(shape)


def _wrong_count(count: int, shape: tuple[int, ...]) -> str:
    return f"it has {count} elements, its shape {shape} needs {math.prod(shape)}"
