"""safetensors, read and written: arrays are views of the file, and are written without a copy.

The header is checked here, no less strictly than by the library, which takes 0.9 MB of memory. Its
NumPy reader also copies every tensor and knows no bfloat16; its writer goes by a file of its own,
which a killed process leaves behind.
Source: https://huggingface.co/docs/safetensors, "Format"; ``Metadata`` in its tensor.rs.
"""

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, cut, placed
from vledge.formats import small_weights
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.file_name import check_name
from vledge.formats.json_text import distinct, parsed
from vledge.formats.source import Source
from vledge.formats.tensor_view import MAX_DIMENSIONS, checked_name, item_size, tensor_view
from vledge.machine.atomic_file import writing
from vledge.pieces import converted, spans

__all__ = ["METADATA", "read", "read_all", "write"]

MAX_HEADER_BYTES: Final = 100_000_000  # the format's own; parsed it is charged
# What a tensor takes beside its bytes: its array, its name, its entry.
STEPS_OF_A_TENSOR: Final = 8
BYTES_OF_A_TENSOR: Final = 500
MAX_DIGITS: Final = 18  # a size is below 2^63
_WRITTEN_AT_ONCE: Final = 1 << 24  # bytes: some ten milliseconds

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
_NAMES: Final = {name: dtype for dtype, name in _DTYPES.items()}
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
    weights, skipped, metadata = read_all(source)
    if small_weights.KEY in metadata:
        text = metadata[small_weights.KEY]
        weights = small_weights.joined(weights, text, source.budget)
    for name, kept in metadata.items():  # of weights with two names, save_model writes one so
        if kept in weights and name not in weights and name not in skipped:
            weights[checked_name(name)] = weights[kept]
    return Checkpoint(source.format, "", weights, skipped, {})


def read_all(
    source: Source,
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """The file's tensors; those left out, with the reason; and its metadata."""
    size = int.from_bytes(source.data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise FormatError(
            f"no safetensors file: its first bytes, {bytes(source.data[:8])!r}, as the length of a "
            f"header are {size:,}, and at most {MAX_HEADER_BYTES:,} bytes are read"
        )
    start = 8 + size
    if start > len(source.data):
        raise FormatError(f"a header of {size:,} bytes in a file of {len(source.data):,}")
    entries, metadata = _parsed(source.data[8:start], source.budget)
    contents = memoryview(source.data)[start:]
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    taken = 0
    source.budget.step(STEPS_OF_A_TENSOR * len(entries), "the file's tensors")
    source.budget.take(BYTES_OF_A_TENSOR * len(entries), "the file's tensors")
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        checked_name(name)
        try:
            _check_place(entry, taken, len(contents))
            taken = entry.end
            if entry.dtype in _DTYPES:
                content = contents[entry.begin : entry.end]
                weights[name] = tensor_view(
                    content, _DTYPES[entry.dtype], entry.shape, budget=source.budget
                )
            else:
                skipped[name] = f"a tensor of dtype {entry.dtype}, which NumPy does not have"
        except FormatError as error:
            raise placed(error, f"tensor {name!r}") from None
    if taken != len(contents):
        raise FormatError(f"the tensors take {taken:,} bytes of {len(contents):,}")
    return weights, skipped, metadata


def _parsed(header: bytes, budget: Budget) -> tuple[dict[str, _Entry], dict[str, str]]:
    """The tensors' entries by name, and the metadata."""
    # the only numbers in a header are sizes
    fields = parsed(header, budget, "the file's header", pairs=distinct, number=_size)
    try:
        if not isinstance(fields, dict):
            raise FormatError("its header is no JSON object")
        metadata = fields.pop(METADATA, {})
        if not isinstance(metadata, dict) or any(type(v) is not str for v in metadata.values()):
            raise FormatError(f"{METADATA} is no object of texts")
        "".join([*metadata, *metadata.values()]).encode()  # JSON can escape half a character
        return {name: _entry(name, entry) for name, entry in fields.items()}, metadata
    except UnicodeEncodeError as error:
        raise FormatError(f"not a valid safetensors file: {cut(str(error))}") from None


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

    Small weights become two tensors, and what they are stands in the metadata. ValueError for a
    name that promises another format.
    """
    check_name(path)
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights is a {type(weights).__name__}, expected a dict of arrays by name")
    weights, described = small_weights.taken_apart(weights)
    if described:
        metadata = {**(metadata or {}), small_weights.KEY: described}
    arrays = {name: _writable(name, array) for name, array in weights.items()}
    if not arrays:
        raise ValueError("there are no weights to save")
    # wide elements first, so that each tensor begins at a multiple of its element's size
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    with writing(path) as file:
        file.write(_header({name: arrays[name] for name in order}, metadata))
        for name in order:
            numbers = arrays[name].reshape(-1).view(np.uint8).data
            for some in spans(len(numbers), _WRITTEN_AT_ONCE):
                file.write(numbers[some])


def _header(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None) -> bytes:
    """Its length and the header, which ends at a multiple of 8 bytes."""
    fields: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    begin = 0
    for name, array in arrays.items():
        offsets = [begin, begin + array.nbytes]
        dtype = _NAMES[array.dtype.name]
        fields[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        begin = offsets[1]
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _writable(name: str, array: np.ndarray) -> np.ndarray:
    """The array as the file holds it: C-ordered, little-endian, of a dtype that is read back."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a weight must be a string, got {name!r}")
    if name == METADATA:
        raise ValueError(f"a weight cannot be named {name!r}: the format keeps that name to itself")
    array = np.asarray(array)
    # Complex tensors came to the format late: not every reader knows them.
    if array.dtype.name not in _DTYPES.values() or array.dtype.kind == "c":
        raise TypeError(f"weight {name!r} is of dtype {array.dtype}, which safetensors cannot hold")
    return converted(array, array.dtype.newbyteorder("<"))
