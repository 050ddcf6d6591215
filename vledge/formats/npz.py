"""NumPy's ``.npz``: a zip archive of ``.npy`` members, read without pickle.

NumPy does not align what it stores, so that most arrays are copied once, out of the mapped file.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import math
from typing import Final, Literal

import numpy as np

from vledge.errors import FormatError
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import Source
from vledge.formats.tensor_view import DTYPES, checked_name, tensor_view
from vledge.formats.torch.archive import opened

__all__ = ["read"]

MAX_HEADER_BYTES: Final = 10_000  # NumPy's own limit
MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # version → width


def read(source: Source, key: str | None) -> Checkpoint:
    """Read every array of the file; it has no parts that a ``key`` could name."""
    if key is not None:
        raise FormatError(f"key={key!r} names no part: a .npz file has only one")
    archive = opened(source)
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    for member in archive.members:
        name = checked_name(member.removesuffix(".npy"))
        try:
            found = _read_array(archive.read(member))
        except FormatError as error:
            raise FormatError(f"array {name!r}: {error}") from None
        if isinstance(found, str):
            skipped[name] = found
        else:
            weights[name] = found
    return Checkpoint(source.format, "", weights, skipped, {})


def _read_array(content: memoryview) -> np.ndarray | str:
    """The array in a ``.npy`` file, or why it cannot be one of the weights."""
    width = _LENGTH_BYTES.get(bytes(content[6:8]))
    if content[:6] != MAGIC or width is None:
        raise FormatError("no .npy file of a known version")
    length = int.from_bytes(content[8 : 8 + width], "little")
    start = 8 + width
    if length > MAX_HEADER_BYTES or start + length > len(content):
        raise FormatError(f"a header of {length:,} bytes, of {len(content):,} in all")
    dtype, fortran_order, shape = _parse_header(bytes(content[start : start + length]))
    name = dtype.name if dtype.kind in "biufc" else ""
    if name not in DTYPES or name == "bfloat16":
        return f"an array of dtype {dtype}, which is none of numbers"
    data = content[start + length :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise FormatError(f"shape {shape} of {dtype} does not make {len(data):,} bytes")
    byte_order: Literal["<", ">"] = ">" if dtype.str[0] == ">" else "<"
    strides = [math.prod(shape[:axis]) for axis in range(len(shape))] if fortran_order else None
    return tensor_view(data, name, shape, strides, byte_order=byte_order)


def _parse_header(header: bytes) -> tuple[np.dtype, bool, tuple[int, ...]]:
    try:
        fields = ast.literal_eval(header.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise FormatError("a header that is no Python literal") from None
    match fields:
        case {"descr": descr, "fortran_order": bool(order), "shape": tuple(shape), **rest}:
            if not rest and all(type(size) is int and size >= 0 for size in shape):
                return _parse_dtype(descr), order, shape
    raise FormatError("a header without descr, fortran_order and shape")


def _parse_dtype(descr: object) -> np.dtype:
    if isinstance(descr, list):
        return np.dtype(np.void)  # a record of several fields
    try:
        return np.dtype(str(descr))
    except (TypeError, ValueError):
        raise FormatError(f"an unknown dtype {str(descr)[:80]!r}") from None
