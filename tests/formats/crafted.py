"""Weight files made by hand, byte by byte: the honest ones that attacks begin from, and pickles.

Written without torch and without what is tested, so that a file can say anything.
"""

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

__all__ = ["Raw", "archive", "assemble", "legacy", "tensor", "zip_of"]

MAGIC = 0x1950A86A20F9469CFC6C


class Raw(bytes):
    """Opcodes that stand in a pickle as they are."""


def assemble(value: object) -> Raw:
    """The opcodes (protocol 2, no memo) that build a value."""
    match value:
        case Raw():
            return value
        case None:
            return Raw(b"N")
        case bool():
            return Raw(b"\x88" if value else b"\x89")
        case int() if 0 <= value < 256:
            return Raw(b"K" + bytes([value]))
        case int():
            digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return Raw(b"\x8a" + bytes([len(digits)]) + digits)
        case float():
            return Raw(b"G" + struct.pack(">d", value))
        case str():
            return Raw(b"X" + struct.pack("<I", len(value.encode())) + value.encode())
        case tuple():
            return Raw(b"(" + b"".join(map(assemble, value)) + b"t")
        case list():
            return Raw(b"](" + b"".join(map(assemble, value)) + b"e")
        case dict():
            items = (part for item in value.items() for part in item)
            return Raw(b"}(" + b"".join(map(assemble, items)) + b"u")
    raise TypeError(f"no opcodes for {value!r}")


def named(module: str, name: str) -> Raw:
    """GLOBAL."""
    return Raw(f"c{module}\n{name}\n".encode())


def call(module: str, name: str, *arguments: object) -> Raw:
    """GLOBAL and REDUCE."""
    return Raw(named(module, name) + assemble(arguments) + b"R")


def instance(module: str, name: str, state: object) -> Raw:
    """NEWOBJ and BUILD."""
    return Raw(named(module, name) + b")\x81" + assemble(state) + b"b")


def pickled(value: object) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + assemble(value) + b"."


def storage(key: str, numel: int, kind: str = "FloatStorage", *rest: object) -> Raw:
    """BINPERSID with torch's description of a storage."""
    identity = ("storage", named("torch", kind), key, "cpu", numel, *rest)
    return Raw(assemble(identity) + b"Q")


def tensor(
    shape: object = (2, 3),
    strides: object = (3, 1),
    offset: object = 0,
    key: str = "0",
    numel: int = 6,
    kind: str = "FloatStorage",
    rest: tuple[object, ...] = (),
) -> Raw:
    """A tensor as torch pickles it; by default 2 × 3 float32 in storage "0"."""
    hooks = call("collections", "OrderedDict")
    described = storage(key, numel, kind, *rest)
    return call(
        "torch._utils", "_rebuild_tensor_v2", described, offset, shape, strides, False, hooks
    )


SIX = np.arange(6, dtype="<f4").tobytes()


def archive(value: object, storages: Mapping[str, bytes] | None = None, **others: bytes) -> bytes:
    """A torch.save archive of ``value``; ``others`` are more members, such as ``byteorder``."""
    storages = {"0": SIX} if storages is None else storages
    pickle = value if isinstance(value, bytes) and not isinstance(value, Raw) else pickled(value)
    members = {"model/data.pkl": pickle, **{f"model/data/{key}": b for key, b in storages.items()}}
    return zip_of(members | {f"model/{name}": content for name, content in others.items()})


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of these members."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return target.getvalue()


def legacy(value: object, storages: Mapping[str, tuple[int, bytes]], keys: object = None) -> bytes:
    """A legacy file; ``storages`` are key → (number of elements, bytes)."""
    system = {"protocol_version": 1001, "little_endian": True}
    pickles = (MAGIC, 1001, system, value, list(storages) if keys is None else keys)
    tail = (struct.pack("<q", count) + content for count, content in storages.values())
    return b"".join(map(pickled, pickles)) + b"".join(tail)
