"""ONNX's element types: numbers in files, names as onnxruntime writes them, and NumPy's dtypes.

NumPy has no bfloat16: such data are widened to float32 when read. float8, int4 and the other types
below a byte are not held at all. Source: onnx.proto, TensorProto.DataType.
"""

from typing import Final

import numpy as np

__all__ = ["DTYPES", "NAMES", "NUMBERS", "dtype_of", "element_of", "name_of"]

NUMBERS: Final[dict[str, int]] = {
    "float": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "string": 8,
    "bool": 9,
    "float16": 10,
    "double": 11,
    "uint32": 12,
    "uint64": 13,
    "complex64": 14,
    "complex128": 15,
    "bfloat16": 16,
    "float8e4m3fn": 17,
    "float8e4m3fnuz": 18,
    "float8e5m2": 19,
    "float8e5m2fnuz": 20,
    "uint4": 21,
    "int4": 22,
    "float4e2m1": 23,
    "float8e8m0": 24,
    "uint2": 25,
    "int2": 26,
}
NAMES: Final = {number: name for name, number in NUMBERS.items()}

DTYPES: Final[dict[str, np.dtype]] = {
    "float": np.dtype(np.float32),
    "uint8": np.dtype(np.uint8),
    "int8": np.dtype(np.int8),
    "uint16": np.dtype(np.uint16),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "string": np.dtype(object),
    "bool": np.dtype(np.bool_),
    "float16": np.dtype(np.float16),
    "double": np.dtype(np.float64),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "complex64": np.dtype(np.complex64),
    "complex128": np.dtype(np.complex128),
    "bfloat16": np.dtype(np.float32),  # widened
}
_NAME_OF = {dtype: name for name, dtype in DTYPES.items() if name != "bfloat16"}


def element_of(type_: str) -> np.dtype | None:
    """The dtype of a value's tensors: of "float", "seq(tensor(float))", "optional(…)"; or None."""
    inner = type_
    for wrapper in ("optional(", "seq(", "tensor("):
        if inner.startswith(wrapper) and inner.endswith(")"):
            inner = inner[len(wrapper) : -1]
    return DTYPES.get(inner)


def dtype_of(number: int) -> np.dtype | None:
    """The dtype that holds an element type, given by its number as in ``Cast``; None for none."""
    return DTYPES.get(NAMES.get(number, ""))


def name_of(dtype: np.dtype) -> str:
    """``float`` for float32, ``double`` for float64, … ; KeyError for what ONNX has no type for."""
    return "string" if dtype.kind in "SU" else _NAME_OF[dtype.newbyteorder("=")]
