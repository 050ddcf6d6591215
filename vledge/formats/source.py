"""A file opened for reading, and the table by which its format is told: by bytes, not by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from vledge.budget import Budget, Limits
from vledge.errors import FormatError
from vledge.machine.mapped_file import MappedFile, contents

if TYPE_CHECKING:
    from vledge.formats.zip_archive import ZipArchive

__all__ = [
    "FORMATS",
    "Format",
    "Source",
    "file_of",
    "identified",
    "looks_like_onnx",
    "open_source",
]

# The first pickle of a legacy file holds torch's magic number, behind an optional FRAME opcode.
LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
HDF5_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_LEGACY_STARTS: Final = (
    b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little") + b".",
    f"L{LEGACY_MAGIC}L\n.".encode(),
)


class Source(NamedTuple):
    """The bytes of a file, mapped if it is large; ``archive`` when they are a zip archive.

    ``budget`` is what reading it may still cost.
    """

    path: str
    data: bytes | MappedFile
    budget: Budget
    archive: ZipArchive | None = None
    format: str = ""

    def has_member(self, name: str) -> bool:
        """Whether the archive has this member in its one folder."""
        return self.archive is not None and f"{self.archive.folder}{name}" in self.archive.members

    def starts_with(self, *magics: bytes, at: int = 0) -> bool:
        """Whether one of the magic strings stands at byte ``at``."""
        return any(self.data[at : at + len(magic)] == magic for magic in magics)


class Format(NamedTuple):
    """A format that is read: its name, the module whose ``read`` reads it, and how it is told."""

    name: str
    module: str
    matches: Callable[[Source], bool]


FORMATS: Final = (
    Format(
        "torch archive (torch.save: .pt, .pth, .bin)",
        "torch.archive",
        lambda source: source.has_member("data.pkl") and not source.has_member("constants.pkl"),
    ),
    Format(
        "TorchScript archive (torch.jit.save)",
        "torch.archive",
        lambda source: source.has_member("data.pkl") and source.has_member("constants.pkl"),
    ),
    Format(
        "exported program (torch.export.save: .pt2)",
        "torch.exported_program",
        lambda source: source.has_member("archive_format"),
    ),
    Format(
        "legacy torch file (torch.save before 1.6)",
        "torch.legacy",
        lambda source: any(magic in source.data[:32] for magic in _LEGACY_STARTS),
    ),
    Format(
        "safetensors",
        "safetensors_file",
        lambda source: source.starts_with(b"{", at=8),
    ),
    Format(
        "index of weights in several files (.index.json)",
        "sharded",
        lambda source: (
            source.data[:64].lstrip()[:1] == b"{" and source.data.find(b'"weight_map"') >= 0
        ),
    ),
    Format(
        "NumPy archive (.npz)",
        "npz",
        lambda source: (
            source.archive is not None
            and all(name.endswith(".npy") for name in source.archive.members)
        ),
    ),
    Format(
        "Keras archive (.keras)",
        "keras.file",
        lambda source: source.has_member("model.weights.h5") and source.has_member("config.json"),
    ),
    Format(
        "HDF5 as Keras writes it (.weights.h5, .h5)",
        "keras.file",
        lambda source: source.starts_with(HDF5_MAGIC),
    ),
)


def file_of(path: str | os.PathLike[str]) -> str:
    """The path, or of a folder the file with its weights; FormatError where there is none."""
    name = os.fspath(path)
    if os.path.isdir(name):
        # imported by who has a folder
        from vledge.formats.folder import weights_file

        return weights_file(name)
    return name


def open_source(path: str | os.PathLike[str], limits: Limits | Budget | None = None) -> Source:
    """Map a file into memory, or read a small one; OSError as ``open`` raises it.

    ``limits`` are the file's own, or the budget of the file that it belongs to.
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        data = contents(file.fileno())
    if isinstance(limits, Budget):
        limits.add_file(len(data))
        return Source(name, data, limits)
    return Source(name, data, Budget(len(data), limits))


def identified(source: Source) -> tuple[Source, str]:
    """The source with its format and archive, and the module that reads it.

    FormatError if the format is not known.
    """
    if not source.data:
        raise FormatError("the file is empty")
    if source.starts_with(b"PK\x03\x04", b"PK\x05\x06"):
        # imported with zlib by who has an archive
        from vledge.formats.zip_archive import ZipArchive

        source = source._replace(archive=ZipArchive(source.data, source.budget))
    for format in FORMATS:
        if format.matches(source):
            return source._replace(format=format.name), format.module
    known = "; ".join(format.name for format in FORMATS)
    raise FormatError(f"{_what_it_is(source)}. Weights are read from: {known}")


def looks_like_onnx(source: Source) -> bool:
    """ModelProto: field 1, ir_version, as a varint; then a field that is a message or a string."""
    return source.starts_with(b"\x08") and len(source.data) > 2 and source.data[2] & 7 == 2


def _what_it_is(source: Source) -> str:
    """A sentence on a file that is not read, naming what it is where that can be told."""
    if source.has_member(".data/extern_modules"):
        return (
            "an archive of torch.package, whose model is Python code: load it by "
            "torch.package.PackageImporter and save model.state_dict(), or use vledge.export"
        )
    if source.archive is not None:
        names = ", ".join(repr(name) for name in list(source.archive.members)[:3])
        return f"a zip archive that holds no weights of a known layout, but {names}"
    if source.starts_with(b"ustar", at=257):
        return (
            "a tar file, torch's layout before 0.1.10, which is an archive of bare pickles and not "
            "read: load it by torch and save it again"
        )
    if source.starts_with(b"\x93NUMPY"):
        return "a .npy file, one array without a name: save it by numpy.savez(path, name=array)"
    if source.starts_with(b"\x80", b"(dp", b"(lp", b"ctorch", b"ccollections"):
        return "a bare pickle, which torch.save did not write"
    if looks_like_onnx(source):
        return "it looks like an ONNX model: run it by vledge.InferenceSession(path)"
    return f"a file of an unknown format, beginning with the bytes {source.data[:8]!r}"
