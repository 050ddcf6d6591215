"""NumPy's ``.npz``: a zip archive of ``.npy`` members, read without pickle.

NumPy does not align what it stores, so that most arrays are copied once, out of the mapped file.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import math
import re
from typing import Final, Literal

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, cut, placed
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import Source
from vledge.formats.tensor_view import DTYPES, MAX_DIMENSIONS, checked_name, tensor_view
from vledge.formats.torch.archive import opened

__all__ = ["read"]

MAX_HEADER_BYTES: Final = 10_000  # NumPy's own limit
MAGIC: Final = b"\x93NUMPY"
_STEPS_OF_AN_ARRAY: Final = 30
_AS_NUMPY_WRITES_IT = re.compile(
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, )*(?:\d{1,18},?)?)\), \}\s*"
)
_DESCR = re.compile(r"[<>|=]?([a-zA-Z?])\d{0,9}(?:\[\w{1,9}\])?")
_LENGTH_BYTES: Final = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # version → width


def read(source: Source, key: str | None) -> Checkpoint:
    """Read every array of the file; it has no parts that a ``key`` could name."""
    if key is not None:
        raise FormatError(f"key={key!r} names no part: a .npz file has only one")
    archive = opened(source)
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    source.budget.step(_STEPS_OF_AN_ARRAY * len(archive.members), "the arrays of the file")
    for member in archive.members:
        name = checked_name(member.removesuffix(".npy"))
        try:
            array = _read_array(archive.read(member), source.budget)
        except FormatError as error:
            raise placed(error, f"array {name!r}") from None
        if isinstance(array, str):
            skipped[name] = array
        else:
            weights[name] = array
    return Checkpoint(source.format, "", weights, skipped, {})


def _read_array(content: memoryview, budget: Budget) -> np.ndarray | str:
    """The array in a ``.npy`` file, or why it cannot be one of the weights."""
    width = _LENGTH_BYTES.get(bytes(content[6:8]))
    if bytes(content[:6]) != MAGIC or width is None:
        raise FormatError("no .npy file of a known version")
    length = int.from_bytes(content[8 : 8 + width], "little")
    start = 8 + width
    if length > MAX_HEADER_BYTES or start + length > len(content):
        raise FormatError(f"a header of {length:,} bytes, of {len(content):,} in all")
    header = bytes(content[start : start + length])
    descr, fortran_order, shape = _parse_header(header, budget)
    dtype = _dtype(descr)
    name = "" if isinstance(dtype, str) else dtype.name
    if isinstance(dtype, str) or name not in DTYPES or name == "bfloat16":
        return f"an array of dtype {dtype}, which is none of numbers"
    if len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"a shape of {len(shape):,} dimensions")
    data = content[start + length :]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise FormatError(f"shape {shape} of {dtype} does not make {len(data):,} bytes")
    byte_order: Literal["<", ">"] = ">" if dtype.str[0] == ">" else "<"
    strides = [math.prod(shape[:axis]) for axis in range(len(shape))] if fortran_order else None
    return tensor_view(data, name, shape, strides, byte_order=byte_order, budget=budget)


def _parse_header(header: bytes, budget: Budget) -> tuple[str, bool, tuple[int, ...]]:
    """Its descr ("" for a record of several fields), whether in Fortran's order, and the shape."""
    usual = _AS_NUMPY_WRITES_IT.fullmatch(header)
    if usual is not None:
        sizes = tuple(int(size) for size in usual[3].replace(b",", b" ").split())
        return usual[1].decode(), usual[2] == b"True", sizes
    budget.step(len(header), "headers of arrays")
    try:
        fields = ast.literal_eval(header.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise FormatError("a header that is no Python literal") from None
    match fields:
        case {
            "descr": str() | list() as descr,
            "fortran_order": bool(order),
            "shape": shape,
            **rest,
        }:
            if not rest and isinstance(shape, tuple) and all(map(_is_size, shape)):
                return descr if isinstance(descr, str) else "", order, shape
    raise FormatError("a header without descr, fortran_order and shape")


def _is_size(size: object) -> bool:
    return type(size) is int and 0 <= size < 1 << 63


def _dtype(descr: str) -> np.dtype | str:
    """The dtype of numbers that a descr names; its text if it is of something else."""
    described = _DESCR.fullmatch(descr)
    if descr and described is None:
        raise FormatError(f"an unknown dtype {cut(descr)!r}")
    if described is None:
        return "of several fields"
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError):
        raise FormatError(f"an unknown dtype {cut(descr)!r}") from None
    return dtype if dtype.kind in "biufc" else str(dtype)
