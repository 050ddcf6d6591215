"""safetensors, read and written: the library checks and writes the file, arrays are views of it.

The library's own NumPy reader copies every tensor and knows no bfloat16.
Source: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import os
import stat
import threading
from collections.abc import Mapping
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import Source
from vledge.formats.tensor_view import checked_name, tensor_view

__all__ = ["METADATA", "read", "read_all", "write"]

MAX_HEADER_BYTES: Final = 8 << 20  # the format allows 100 MB, which parsed is too much for a board

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
METADATA: Final = "__metadata__"


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
    import safetensors

    size = int.from_bytes(source.data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise FormatError(f"a header of {size:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    try:
        # opening checks the header: sizes, offsets, overlaps, holes, the file's length
        if source.path:
            with safetensors.safe_open(source.path, framework="numpy"):
                pass
        else:
            safetensors.deserialize(bytes(source.data))
        header = json.loads(source.data[8 : 8 + size], object_pairs_hook=_distinct)
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise FormatError(f"not a valid safetensors file: {error}") from None
    contents = memoryview(source.data)[8 + size :]
    metadata = header.pop(METADATA, {})
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        checked_name(name)
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            skipped[name] = f"a tensor of dtype {entry['dtype']}, which NumPy does not have"
            continue
        begin, end = entry["data_offsets"]
        try:
            weights[name] = tensor_view(contents[begin:end], dtype, entry["shape"])
        except FormatError as error:
            raise FormatError(f"tensor {name!r}: {error}") from None
    return weights, skipped, metadata


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise FormatError("a name stands in the header twice")
    return entries


def write(
    path: str | os.PathLike[str],
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``weights`` to ``path`` so that the file is there whole, old or new, at any moment."""
    import safetensors
    import safetensors.numpy

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
