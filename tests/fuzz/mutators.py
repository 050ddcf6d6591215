"""Files changed at random, by bytes and by what the bytes mean: members, headers, opcodes, fields.

A mutator takes a `random.Random` and the bytes of a file, and gives those of another. One that
finds no structure changes bytes.
"""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["Mutator", "by_bytes", "by_fields", "by_header", "by_members", "by_opcodes"]

Mutator = Callable[[random.Random, bytes], bytes]

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
           1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
LONGEST = 1 << 16


def by_bytes(rng: random.Random, data: bytes) -> bytes:
    """A few bytes overwritten, put in, taken out, repeated, or set to a number at a border."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(6):
            case 0:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                content[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 30)))
            case 2:
                del content[at : at + rng.choice((1, 2, 4, 8, 64))]
            case 3:
                piece = content[at : at + rng.choice((1, 4, 16, 64))]
                content[at:at] = piece * rng.choice((1, 2, 8))
            case 4:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) % (1 << 8 * width)
                content[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
            case 5:
                if content:
                    content[at % len(content)] ^= 1 << rng.randrange(8)
    return bytes(content[:LONGEST])


# ---- JSON


def value(rng: random.Random) -> Any:
    """Anything that JSON has."""
    return rng.choice(
        (None, True, False, "", "x", "ab" * 50, [], {}, [[]], {"a": {}}, 0.5, -1, "F32", "\ud800",
         *rng.sample(NUMBERS, 2))
    )  # fmt: skip


def tree(rng: random.Random, node: Any) -> Any:
    """A parsed JSON text with one of its values, names or elements changed."""
    if isinstance(node, dict) and node and rng.random() < 0.9:
        key = rng.choice(list(node))
        match rng.randrange(6):
            case 0:
                del node[key]
            case 1:
                node[rng.choice(("", "__metadata__", key + "2", "x" * 300))] = node.get(key)
            case 2:
                node[key] = value(rng)
            case _:
                node[key] = tree(rng, node[key])
        return node
    if isinstance(node, list) and node and rng.random() < 0.9:
        at = rng.randrange(len(node))
        match rng.randrange(5):
            case 0:
                del node[at]
            case 1:
                node.insert(at, copy.deepcopy(rng.choice(node)))
            case 2:
                node[at] = value(rng)
            case _:
                node[at] = tree(rng, node[at])
        return node
    return value(rng)


def text_of(rng: random.Random, text: bytes) -> bytes:
    """A JSON text changed; by bytes where it is none."""
    try:
        changed = json.dumps(tree(rng, json.loads(text))).encode()
    except (ValueError, RecursionError):
        return by_bytes(rng, text)
    return by_bytes(rng, changed) if rng.random() < 0.1 else changed


def by_header(rng: random.Random, data: bytes) -> bytes:
    """safetensors: the header's JSON, or that in its metadata, or bytes."""
    if len(data) < 8 or rng.random() < 0.2:
        return by_bytes(rng, data)
    (length,) = struct.unpack_from("<Q", data)
    header = data[8 : 8 + length]
    try:
        fields = json.loads(header)
        inner = fields["__metadata__"]
        name = rng.choice(list(inner))
        if rng.random() < 0.7:
            inner[name] = text_of(rng, inner[name].encode()).decode("utf-8", "replace")
            header = json.dumps(fields).encode()
        else:
            header = text_of(rng, header)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        header = text_of(rng, header)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


# ---- pickles

OPCODES = (b"(", b".", b"0", b"1", b"2", b"N", b"K\x02", b"J\xff\xff\xff\x7f", b"}", b"]", b")",
           b"\x85", b"\x86", b"\x87", b"t", b"R", b"b", b"Q", b"s", b"u", b"a", b"e", b"h\x00",
           b"h\x01", b"q\x00", b"q\x01", b"\x94", b"\x88", b"\x89", b"\x93", b"\x81", b"\x8f",
           b"\x90", b"\x91", b"X\x01\x00\x00\x00a", b"ctorch\nSize\n", b"cx\ny\n", b"\x8c\x01a",
           b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
           b"G\x7f\xf0\x00\x00\x00\x00\x00\x00", b"L99999999999999999999L\n", b"B\x00\x00\x00\x00",
           b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00")  # fmt: skip


def by_opcodes(rng: random.Random, data: bytes) -> bytes:
    """A pickle with opcodes put in, or bytes changed."""
    content = data
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        if rng.random() < 0.6:
            left_out = rng.choice((0, 0, 1, 3))
            content = content[:at] + rng.choice(OPCODES) + content[at + left_out :]
        else:
            content = by_bytes(rng, content)
    return content[:LONGEST]


# ---- archives


def by_members(rng: random.Random, data: bytes) -> bytes:
    """A zip archive with a member changed by what it is, renamed, left out; or its own bytes."""
    if rng.random() < 0.25:
        return without_checksums(by_bytes(rng, data)) if rng.random() < 0.5 else by_bytes(rng, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
            EOFError, struct.error, LookupError):  # fmt: skip
        return by_bytes(rng, data)
    if not members:
        return by_bytes(rng, data)
    at = rng.randrange(len(members))
    name, content = members[at]
    match rng.randrange(8):
        case 0:
            del members[at]
        case 1:
            members[at] = (by_bytes(rng, name.encode()).decode("utf-8", "replace"), content)
        case 2:
            members.append((rng.choice(members)[0] + rng.choice(("", "2", "/../x")), content))
        case _:
            members[at] = (name, inside(rng, name, content))
    target = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(target, "w", method) as writer:
        for own, body in members:
            writer.writestr(zipfile.ZipInfo(own[:200] or "x"), body, method)
    return target.getvalue()


def inside(rng: random.Random, name: str, content: bytes) -> bytes:
    """A member changed by what its name says it is."""
    if name.endswith(".pkl"):
        return by_opcodes(rng, content)
    if name.endswith(".json"):
        return text_of(rng, content)
    return by_bytes(rng, content)


def without_checksums(content: bytes) -> bytes:
    """A zip archive with every CRC-32 set to 0, which reads as "not computed"."""
    changed = bytearray(content)
    for magic, at in ((b"PK\x03\x04", 14), (b"PK\x01\x02", 16)):
        start = changed.find(magic)
        while start >= 0:
            changed[start + at : start + at + 4] = bytes(4)
            start = changed.find(magic, start + 1)
    return bytes(changed)


# ---- protobuf


def by_fields(rng: random.Random, data: bytes) -> bytes:
    """A message of protobuf with a field changed, repeated, moved, taken out, however deep."""
    if rng.random() < 0.15:
        return by_bytes(rng, data)
    return message(rng, data, 0)[:LONGEST]


def message(rng: random.Random, data: bytes, depth: int) -> bytes:
    fields = split(data)
    if not fields:
        return by_bytes(rng, data)
    at = rng.randrange(len(fields))
    key, body = fields[at]
    match rng.randrange(12):
        case 0:
            del fields[at]
        case 1:
            fields.insert(rng.randrange(len(fields) + 1), fields[at])
        case 2:
            other = rng.randrange(len(fields))
            fields[at], fields[other] = fields[other], fields[at]
        case 3:
            fields[at] = (key & 7 | rng.randrange(1, 30) << 3, body)
        case _ if key & 7 == 0:
            fields[at] = (key, varint(rng.choice((*NUMBERS, *range(20)))))
        case _ if key & 7 == 2 and depth < 12:
            fields[at] = (key, message(rng, body, depth + 1))
        case _:
            fields[at] = (key, by_bytes(rng, body))
    return b"".join(
        varint(key) + (varint(len(body)) if key & 7 == 2 else b"") + body for key, body in fields
    )


def split(data: bytes) -> list[tuple[int, bytes]]:
    """(key, contents) of each field; nothing where the bytes are no message."""
    fields, at = [], 0
    while at < len(data):
        key, at = number(data, at)
        match key & 7:
            case 0:
                _, end = number(data, at)
            case 1:
                end = at + 8
            case 5:
                end = at + 4
            case 2:
                length, at = number(data, at)
                end = at + length
            case _:
                return []
        if end > len(data) or not key >> 3:
            return []
        fields.append((key, data[at:end]))
        at = end
    return fields


def number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7
    return 1 << 40, at


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)
