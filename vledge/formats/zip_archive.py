"""A strict reader of zip archives out of mapped memory; knows nothing of what is inside.

Python's ``zipfile`` believes the central directory and inflates what it is told to. Here both
directories must agree, members must not overlap, and every size is checked before it is used;
a stored member is a slice of the mapped file, never a copy.
Source: PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

import itertools
import mmap
import struct
import zlib
from typing import Final, NamedTuple

from vledge.budget import Budget
from vledge.errors import FormatError, cut
from vledge.pieces import spans

__all__ = ["Member", "ZipArchive"]

MAX_NAME_BYTES: Final = 4_096
# What a member costs before anybody reads it: two headers compared, a name, an entry.
STEPS_OF_A_MEMBER: Final = 12
BYTES_OF_A_MEMBER: Final = 600
# Bytes that zlib is given, and gives, at a time.
PACKED_AT_A_TIME: Final = 1 << 16
INFLATED_AT_A_TIME: Final = 1 << 20
COMPARED_AT_A_TIME: Final = 1 << 25

STORED: Final = 0
DEFLATED: Final = 8
ALLOWED_FLAGS: Final = 0x0806 | 0x0008  # UTF-8 names, deflate's level hints, data descriptor
DATA_DESCRIPTOR: Final = 0x0008
ZIP64_EXTRA: Final = 0x0001

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


class Member(NamedTuple):
    """One file of the archive as both directories describe it; its data begin at ``start``."""

    name: str
    start: int
    size: int
    packed_size: int
    crc: int
    method: int


class ZipArchive:
    """The members of the zip archive that ``data`` holds, by name; ``budget`` is the file's."""

    def __init__(self, data: bytes | mmap.mmap, budget: Budget) -> None:
        self._data = data
        self._budget = budget
        self._contents: dict[str, memoryview] = {}
        self.members = _read_members(data, budget)
        folders = {name.partition("/")[0] for name in self.members}
        inside = len(folders) == 1 and all("/" in name for name in self.members)
        # The one folder that all members are in, with its slash, as torch writes its archives.
        self.folder = f"{folders.pop()}/" if inside else ""

    def read(self, name: str) -> memoryview:
        """The bytes of a member, compared with their CRC-32: read-only, and no copy if stored.

        However often a member is asked for, it is inflated and compared once.
        """
        known = self._contents.get(name)
        if known is not None:
            return known
        member = self.members.get(name)
        if member is None:
            raise FormatError(f"the archive has no member {cut(name)!r}")
        packed = memoryview(self._data)[member.start : member.start + member.packed_size]
        content = packed if member.method == STORED else self._inflate(member, packed)
        # torch.serialization.set_crc32_options(False) writes 0 for "not computed".
        if member.crc != 0 and _crc_32(content) != member.crc:
            raise FormatError(f"member {name!r} is damaged: its CRC-32 differs")
        self._contents[name] = content
        return content

    def _inflate(self, member: Member, packed: memoryview) -> memoryview:
        self._budget.take(member.size, f"member {cut(member.name)!r}, inflated,")
        self._budget.step(member.size >> 8, f"member {cut(member.name)!r}, inflated,")
        content = bytearray(member.size)
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        filled = given = 0
        try:
            while not inflater.eof and filled <= member.size:
                more: bytes | memoryview = inflater.unconsumed_tail
                if not more:
                    more = packed[given : given + PACKED_AT_A_TIME]
                    given += len(more)
                piece = inflater.decompress(more, INFLATED_AT_A_TIME)
                if not piece and given == len(packed) and not inflater.unconsumed_tail:
                    break
                content[filled : filled + len(piece)] = piece
                filled += len(piece)
        except zlib.error as error:
            raise FormatError(f"member {member.name!r} is damaged: {error}") from None
        if filled != member.size or not inflater.eof:
            raise FormatError(f"member {member.name!r} does not inflate to {member.size:,} bytes")
        return memoryview(content).toreadonly()


def _crc_32(content: memoryview) -> int:
    crc = 0
    for some in spans(len(content), COMPARED_AT_A_TIME):
        crc = zlib.crc32(content[some], crc)
    return crc


def _read_members(data: bytes | mmap.mmap, budget: Budget) -> dict[str, Member]:
    count, size, offset = _central_directory(data)
    if count * _CENTRAL.size > size:
        raise FormatError("the zip archive's directory is truncated")
    budget.step(STEPS_OF_A_MEMBER * count, f"a zip archive of {count:,} members")
    budget.take(BYTES_OF_A_MEMBER * count + 2 * size, f"a zip archive of {count:,} members")
    directory = data[offset : offset + size]
    members: dict[str, Member] = {}
    extents: list[tuple[int, int]] = []
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > size:
            raise FormatError("the zip archive's directory is truncated")
        magic, _, _, flags, method, _, _, crc, packed_size, full_size, *rest = _CENTRAL.unpack_from(
            directory, position
        )
        name_length, extra_length, comment_length, _, _, _, header = rest
        if magic != b"PK\x01\x02":
            raise FormatError("the zip archive's directory is damaged")
        position += _CENTRAL.size
        raw_name = directory[position : position + name_length]
        extra = directory[position + name_length : position + name_length + extra_length]
        position += name_length + extra_length + comment_length
        name = _checked_name(raw_name)
        full_size, packed_size, header = _widened(extra, [full_size, packed_size, header], name)
        if flags & ~ALLOWED_FLAGS:
            raise FormatError(f"member {name!r} is encrypted, or of a kind that is not read here")
        if method not in (STORED, DEFLATED):
            raise FormatError(f"member {name!r} is compressed by method {method}, not by deflate")
        if method == STORED and packed_size != full_size:
            raise FormatError(f"member {name!r} is stored as it is, but has two sizes")
        if name in members:
            raise FormatError(f"the archive has two members named {name!r}")
        start = _local_data(data, header, raw_name, flags, method, (crc, packed_size, full_size))
        if start + packed_size > offset:
            raise FormatError(f"member {name!r} claims more bytes than the archive has")
        members[name] = Member(name, start, full_size, packed_size, crc, method)
        extents.append((header, start + packed_size))
    if position != size:
        raise FormatError("the zip archive's directory is not as long as it says")
    extents.sort()
    for (_, end), (following, _) in itertools.pairwise(extents):
        if end > following:
            raise FormatError("members of the zip archive overlap")
    return members


def _local_data(
    data: bytes | mmap.mmap,
    header: int,
    raw_name: bytes,
    flags: int,
    method: int,
    described: tuple[int, int, int],
) -> int:
    """Where a member's data begin, once its local header has confirmed the central directory."""
    if header + _LOCAL.size > len(data):
        raise FormatError(f"member {raw_name!r} lies outside the archive")
    magic, _, local_flags, local_method, _, _, *sizes, name_length, extra_length = (
        _LOCAL.unpack_from(data, header)
    )
    name_start = header + _LOCAL.size
    extra_start = name_start + name_length
    start: int = extra_start + extra_length
    crc, packed_size, full_size = sizes
    if flags & DATA_DESCRIPTOR:  # written before the sizes were known: they may be left open
        agree = all(
            value in (0, 0xFFFFFFFF, known) for value, known in zip(sizes, described, strict=True)
        )
    else:
        extra = data[extra_start:start]
        full_size, packed_size = _widened(extra, [full_size, packed_size], repr(raw_name))
        agree = (crc, packed_size, full_size) == described
    if (
        magic != b"PK\x03\x04"
        or not agree
        or (local_flags, local_method) != (flags, method)
        or data[name_start:extra_start] != raw_name
    ):
        raise FormatError(f"member {raw_name!r} is described differently in two places")
    return start


def _central_directory(data: bytes | mmap.mmap) -> tuple[int, int, int]:
    """Number of members, size and offset of the central directory, which must end the file."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - 0xFFFF))
    if end < 0 or end + _END.size > len(data):
        raise FormatError("a zip archive without its end: the file is truncated")
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(data, end)
    if end + _END.size + comment != len(data):
        raise FormatError("bytes follow the end of the zip archive, or its end is damaged")
    locator = end - _LOCATOR64.size
    if locator >= 0 and data[locator : locator + 4] == b"PK\x06\x07":
        _, disk64, end64, _ = _LOCATOR64.unpack_from(data, locator)
        if (
            disk64 != 0
            or end64 + _END64.size != locator
            or data[end64 : end64 + 4] != b"PK\x06\x06"
        ):
            raise FormatError("the zip archive's end (zip64) is damaged")
        narrow = (disk, first_disk, here, count, size, offset)
        wide = _END64.unpack_from(data, end64)[4:]
        for value, wider, unknown in zip(
            narrow, wide, [0xFFFF] * 4 + [0xFFFFFFFF] * 2, strict=True
        ):
            if value not in (wider, unknown):
                raise FormatError("the zip archive has two ends that differ")
        disk, first_disk, here, count, size, offset = wide
        end = end64
    if (disk, first_disk) != (0, 0) or here != count:
        raise FormatError("a part of a zip archive in several parts")
    if offset + size != end:
        raise FormatError("the zip archive's directory is not where its end says")
    return count, size, offset


def _checked_name(raw: bytes) -> str:
    if len(raw) > MAX_NAME_BYTES:
        raise FormatError("a member of the zip archive has an overlong name")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"a member of the zip archive has the name {raw!r}") from None
    # Nothing is ever written under these names; one that climbs out of a folder is still an attack.
    parts = name.removesuffix("/").split("/")
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise FormatError(f"a member of the zip archive has the unsafe name {name!r}")
    return name


def _widened(extra: bytes, values: list[int], name: str) -> list[int]:
    """Replace the fields that are all ones by those of the zip64 extra field, in their order."""
    if 0xFFFFFFFF not in values:
        return values
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        body = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if kind == ZIP64_EXTRA:
            wanted = values.count(0xFFFFFFFF)
            if len(body) < 8 * wanted:
                break
            wide = iter(struct.unpack_from(f"<{wanted}Q", body))
            return [next(wide) if value == 0xFFFFFFFF else value for value in values]
    raise FormatError(f"member {name!r} lacks its zip64 sizes")
