"""safetensors, read and written: arrays are views of the file, and the library writes it.

The header is checked here, no less strictly than by the library, which takes 0.9 MB of memory. Its
NumPy reader also copies every tensor and knows no bfloat16.
Source: https://huggingface.co/docs/safetensors, "Format"; ``Metadata`` in its tensor.rs.
"""

import json
import math
import os
import stat
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from vledge.errors import FormatError
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.file_name import check_name
from vledge.formats.source import Source
from vledge.formats.tensor_view import MAX_DIMENSIONS, checked_name, item_size, tensor_view

__all__ = ["METADATA", "read", "read_all", "write"]

MAX_HEADER_BYTES: Final = 8 << 20  # the format allows 100 MB, which parsed is too much for a board
MAX_DIGITS: Final = 18  # a size is below 2^63

_DTYPES: Final = {
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "I8": "int8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "U8": "uint8",
}
_OTHER_BITS: Final = {  # what an element takes of the types that NumPy does not have
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
}
METADATA: Final = "__metadata__"


class _Entry(NamedTuple):
    """What a header says of a tensor; the offsets count from the header's end."""

    dtype: str
    shape: list[int]
    begin: int
    end: int


def read(source: Source, key: str | None) -> Checkpoint:
    """Read every tensor of the file; it has no parts that a ``key`` could name."""
    if key is not None:
        raise FormatError(f"key={key!r} names no part: a safetensors file has only one")
    weights, skipped, _ = read_all(source)
    return Checkpoint(source.format, "", weights, skipped, {})


def read_all(
    source: Source,
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """The file's tensors; those left out, with the reason; and its metadata."""
    size = int.from_bytes(source.data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise FormatError(f"a header of {size:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    start = 8 + size
    if start > len(source.data):
        raise FormatError(f"a header of {size:,} bytes in a file of {len(source.data):,}")
    entries, metadata = _parsed(source.data[8:start])
    contents = memoryview(source.data)[start:]
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    taken = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        checked_name(name)
        try:
            _check_place(entry, taken, len(contents))
            taken = entry.end
            if entry.dtype in _DTYPES:
                content = contents[entry.begin : entry.end]
                weights[name] = tensor_view(content, _DTYPES[entry.dtype], entry.shape)
            else:
                skipped[name] = f"a tensor of dtype {entry.dtype}, which NumPy does not have"
        except FormatError as error:
            raise FormatError(f"tensor {name!r}: {error}") from None
    if taken != len(contents):
        raise FormatError(f"the tensors take {taken:,} bytes of {len(contents):,}")
    return weights, skipped, metadata


def _parsed(header: bytes) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The tensors' entries by name, and the metadata."""
    try:
        # the only numbers in a header are sizes
        fields = json.loads(
            header.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_int=_size,
            parse_float=_size,
            parse_constant=_size,
        )
        if not isinstance(fields, dict):
            raise FormatError("its header is no JSON object")
        metadata = fields.pop(METADATA, {})
        if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
            raise FormatError(f"{METADATA} is no object of texts")
        "".join([*metadata, *metadata.values()]).encode()  # JSON can escape half a character
        return {name: _entry(name, entry) for name, entry in fields.items()}, metadata
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not a valid safetensors file: {error}") from None


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise FormatError("a name stands in the header twice")
    return entries


def _size(text: str) -> int:
    if len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        raise FormatError(f"its header has the number {text[:40]}, which is no size")
    return int(text)


def _entry(name: str, entry: object) -> _Entry:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end], **rest}:
            if not rest and all(type(number) is int for number in (*shape, begin, end)):
                return _Entry(dtype, shape, begin, end)
    raise FormatError(f"tensor {name[:80]!r} has not just a dtype, a shape and two data_offsets")


def _check_place(entry: _Entry, taken: int, held: int) -> None:
    """Raise FormatError unless the tensor's bytes follow those ``taken``, are among those ``held``,
    and are as many as its shape makes."""
    dtype, shape, begin, end = entry
    bits = 8 * item_size(_DTYPES[dtype]) if dtype in _DTYPES else _OTHER_BITS.get(dtype)
    if bits is None:
        raise FormatError(f"dtype {dtype[:40]!r} is none of the format's")
    if begin != taken or not begin <= end <= held:
        raise FormatError(
            f"it lies at bytes {begin:,} to {end:,}, expected it to begin at {taken:,} and to end "
            f"by {held:,}"
        )
    if len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"a shape of {len(shape):,} dimensions")
    if math.prod(size or 1 for size in shape) * bits > sys.maxsize:
        raise FormatError(f"shape {shape} is too large")
    if math.prod(shape) * bits != 8 * (end - begin):
        raise FormatError(f"shape {shape} of {dtype} does not make {end - begin:,} bytes")


def write(
    path: str | os.PathLike[str],
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``weights`` to ``path`` so that the file is there whole, old or new, at any moment.

    ValueError for a name that promises another format.
    """
    check_name(path)
    import threading  # 0.15 MB that who reads does not need

    import safetensors
    import safetensors.numpy

    if not isinstance(weights, Mapping):
        raise TypeError(f"weights is a {type(weights).__name__}, expected a dict of arrays by name")
    arrays = {name: _writable(name, array) for name, array in weights.items()}
    if not arrays:
        raise ValueError("there are no weights to save")
    target = os.path.realpath(os.fspath(path))  # a link stays one
    folder, name = os.path.split(target)
    scratch = os.path.join(folder, f".{name}.{os.getpid()}-{threading.get_ident()}.tmp")
    descriptor = os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        try:
            safetensors.numpy.save_file(arrays, scratch, dict(metadata) if metadata else None)
        except safetensors.SafetensorError as error:
            raise OSError(f"{target}: could not be written: {error}") from error
        os.chmod(scratch, mode)  # the library gives its files to the owner alone
        _flush(scratch)
        os.replace(scratch, target)
    except BaseException:
        os.unlink(scratch)
        raise
    _flush(folder)


def _writable(name: str, array: np.ndarray) -> np.ndarray:
    """The array as the library wants it: C-ordered, little-endian, of a dtype that is read back."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a weight must be a string, got {name!r}")
    if name == METADATA:
        raise ValueError(f"a weight cannot be named {name!r}: the format keeps that name to itself")
    array = np.asarray(array)
    # Complex tensors came to the format late: not every reader knows them.
    if array.dtype.name not in _DTYPES.values() or array.dtype.kind == "c":
        raise TypeError(f"weight {name!r} is of dtype {array.dtype}, which safetensors cannot hold")
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def _flush(path: str) -> None:
    """Have a file or a folder on the disk before anything else happens."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
