"""Strings beside a group of an HDF5 file, sliced out of the mapped bytes.

The HDF5 library would believe what a damaged file says of a string's length and reserve gigabytes.
Source: HDF5 File Format Specification 3.0, III.E (global heap) and IV.A (object headers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vledge.budget import Budget
from vledge.errors import FormatError

__all__ = ["texts_of"]

_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_MOST_BLOCKS = 1000
STEPS_OF_A_MESSAGE = 5


def texts_of(content: memoryview, address: int, budget: Budget) -> dict[str, str]:
    """The scalar attributes that are strings, of the object whose header is at ``address``."""
    texts = {}
    for kind, body in _messages(content, address):
        budget.step(STEPS_OF_A_MESSAGE, "the attributes of groups")
        if kind == _ATTRIBUTE:
            attribute = _attribute(content, body, budget)
            if attribute:
                budget.take(2 * sum(map(len, attribute)), "the attributes of groups")
                texts[attribute[0]] = attribute[1]
    return texts


def _messages(content: memoryview, address: int) -> Iterator[tuple[int, memoryview]]:
    """(type, body) of an object header's messages, in all of its blocks."""
    version, _, count, _, size = struct.unpack("<BBHII", _slice(content, address, 12))
    if version != 1:
        raise FormatError(
            "its object headers are of HDF5's newer form, which Keras does not write: load the "
            "weights and save them again by Keras"
        )
    blocks = [_slice(content, address + 16, size)]
    for number in range(_MOST_BLOCKS):
        if number == len(blocks):
            return
        block = blocks[number]
        while len(block) >= 8 and count:
            kind, length = struct.unpack("<HH", block[:4])
            body = _slice(block, 8, length)
            if kind == _CONTINUATION:
                blocks.append(_slice(content, *struct.unpack("<QQ", _slice(body, 0, 16))))
            yield kind, body
            block = block[8 + length :]
            count -= 1
    raise FormatError("an object header has no end")


def _attribute(content: memoryview, body: memoryview, budget: Budget) -> tuple[str, str] | None:
    version, _, *sizes = struct.unpack("<BBHHH", _slice(body, 0, 8))
    if version not in (1, 2, 3):
        raise FormatError(f"an attribute of version {version}")
    at, parts = 9 if version == 3 else 8, []
    for size in sizes:  # name, type, shape
        parts.append(_slice(body, at, size))
        at += (size + 7) // 8 * 8 if version == 1 else size
    name = bytes(parts[0]).rstrip(b"\0").decode("utf-8", "replace")
    _, axes = struct.unpack("<BB", _slice(parts[2], 0, 2))
    type_class, is_string, _, _, size = struct.unpack("<BBBBI", _slice(parts[1], 0, 8))
    if axes:
        return None
    if type_class & 15 == 3:  # a string of fixed length
        raw = bytes(_slice(body, at, size))
    elif type_class & 15 == 9 and is_string & 15 == 1:  # one of any length
        length, heap, index = struct.unpack("<IQI", _slice(body, at, 16))
        raw = bytes(_slice(_in_heap(content, heap, index, budget), 0, length)) if length else b""
    else:
        return None
    try:
        return name, raw.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"attribute {name!r} is no text") from None


def _in_heap(content: memoryview, address: int, wanted: int, budget: Budget) -> memoryview:
    """One object of the heap that keeps strings."""
    signature, _, size = struct.unpack("<4sIQ", _slice(content, address, 16))
    if signature != b"GCOL":
        raise FormatError("a string lies outside of every heap")
    heap = _slice(content, address, size)[16:]
    while len(heap) >= 16:
        budget.step(1, "a heap of strings")
        index, _, _, size = struct.unpack("<HHIQ", heap[:16])
        if index == wanted:
            return _slice(heap, 16, size)
        heap = heap[16 + (size + 7) // 8 * 8 :]
        if index == 0:  # the free space at the end
            break
    raise FormatError(f"a string is object {wanted} of a heap that has no such object")


def _slice(content: memoryview, start: int, size: int) -> memoryview:
    if start + size > len(content):
        raise FormatError(f"{size:,} bytes at {start:,}, of {len(content):,} that are there")
    return content[start : start + size]
