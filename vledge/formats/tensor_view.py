"""Arrays over raw bytes: every size, stride and offset is checked before an array exists.

What a machine cannot hold as it is gets copied: bfloat16 is widened to float32, a foreign byte
order is swapped, misaligned data are moved. Everything else is a read-only view of the file.
"""

import math
import sys
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError
from vledge.pieces import converted, copy_into

__all__ = [
    "DTYPES",
    "MAX_DIMENSIONS",
    "MAX_NAME_LENGTH",
    "checked_name",
    "item_size",
    "tensor_view",
]

MAX_DIMENSIONS: Final = 32  # NumPy 1's limit
MAX_NAME_LENGTH: Final = 1_000

# torch's name of a dtype → NumPy's; bfloat16 is read as its bits and widened.
DTYPES: Final = {
    "bfloat16": "u2",
    "bool": "u1",
    "complex128": "c16",
    "complex64": "c8",
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "int8": "i1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "uint8": "u1",
}


def item_size(dtype: str) -> int:
    """Bytes that one element of a dtype takes in a file."""
    return np.dtype(DTYPES[dtype]).itemsize


def checked_name(name: str) -> str:
    """The name of a weight, when it is one that can be shown and kept."""
    if len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise FormatError(f"a weight has the unprintable or overlong name {name[:80]!r}")
    return name


def tensor_view(
    content: bytes | memoryview,
    dtype: str,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
    byte_order: Literal["<", ">"] = "<",
    *,
    budget: Budget,
) -> np.ndarray:
    """The tensor of torch dtype ``dtype`` that starts at element ``offset`` of ``content``.

    ``strides`` count elements, as torch's do, and default to those of a C-ordered array. Raises
    FormatError unless every element lies inside ``content`` and no two share their memory. What is
    copied is charged to the ``budget``.
    """
    stored = np.dtype(DTYPES[dtype]).newbyteorder(byte_order)
    strides = _c_strides(shape) if strides is None else strides
    _check_layout(shape, strides, offset, len(content) // stored.itemsize)
    if 0 in shape:
        array = np.empty(shape, stored)
    else:
        # The stride of an axis of one element means nothing, and can be anything.
        byte_strides = [
            stride * stored.itemsize if size > 1 else 0
            for size, stride in zip(shape, strides, strict=True)
        ]
        array = np.ndarray(shape, stored, content, offset * stored.itemsize, byte_strides)
    if not stored.isnative or not array.flags.aligned:
        budget.take(array.nbytes, "a copy of what this machine cannot view")
        array = converted(array, stored.newbyteorder("="))
    if dtype == "bfloat16":
        budget.take(2 * array.nbytes, "bfloat16 widened to float32")
        array = widened_bfloat16(array)
    elif dtype == "bool":
        if array.size and array.max() > 1:
            raise FormatError("a bool is neither 0 nor 1")
        array = array.view(np.bool_)
    array.flags.writeable = False
    return array


def widened_bfloat16(bits: np.ndarray) -> np.ndarray:
    """As float32, which has the same bits in front."""
    wide = np.zeros((*bits.shape, 2), np.uint16)
    copy_into(wide[..., 1 if sys.byteorder == "little" else 0], bits)
    return wide.view(np.float32)[..., 0]


def _c_strides(shape: Sequence[int]) -> list[int]:
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * max(shape[axis], 1)
    return strides


def _check_layout(shape: Sequence[int], strides: Sequence[int], offset: int, held: int) -> None:
    """Raise FormatError unless the elements lie inside the ``held`` ones, each in its own place."""
    if len(shape) > MAX_DIMENSIONS or len(shape) != len(strides):
        raise FormatError(f"a shape of {len(shape)} dimensions with {len(strides)} strides")
    if min([*shape, *strides, offset], default=0) < 0:
        raise FormatError(f"a negative size, stride or offset: {shape}, {strides}, {offset}")
    if 0 in shape:
        if math.prod(size for size in shape if size) > sys.maxsize // 16:
            raise FormatError(f"shape {tuple(shape)} is too large")
        return
    last = offset
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1:
            if stride <= last - offset:
                raise FormatError(
                    f"elements overlap in memory (shape {tuple(shape)}, strides {tuple(strides)}): "
                    "an expanded or unfolded view; save tensor.contiguous() instead"
                )
            last += (size - 1) * stride
    if last >= held:
        raise FormatError(
            f"shape {tuple(shape)} at offset {offset} reaches past the {held:,} elements stored"
        )
