"""``torch.save`` archives (since torch 1.6): a zip archive of a pickle and the storages it names.

TorchScript archives (``torch.jit.save``) are laid out alike and read here too. What is a parameter
of theirs, what a buffer and what a plain tensor attribute is said only in their code, which is not
looked at: all three are weights here.
Source: torch/serialization.py and caffe2/serialize/inline_container.h of torch 2.
"""

from typing import Final, Literal

from vledge.errors import FormatError, cut
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import Source
from vledge.formats.torch.parts import read_weights
from vledge.formats.torch.pickle_records import PickleReader
from vledge.formats.torch.tensors import Storage, TensorReader
from vledge.formats.zip_archive import ZipArchive

__all__ = ["archive_byte_order", "opened", "read"]

_BYTE_ORDERS: Final[dict[bytes, Literal["<", ">"]]] = {b"little": "<", b"big": ">"}


def read(source: Source, key: str | None) -> Checkpoint:
    """Read the weights of the archive; ``key`` as in `vledge.formats.load_weights`."""
    archive = opened(source)
    name = f"{archive.folder}data.pkl"
    source.budget.take(archive.members[name].size, "its pickle")
    root = PickleReader(bytes(archive.read(name)), source.budget).read()

    def read_storage(storage: Storage) -> memoryview:
        expected = storage.nbytes
        member = f"{archive.folder}data/{storage.key}"
        if expected == 0 and member not in archive.members:
            return memoryview(b"")
        content = archive.read(member)
        if len(content) != expected:
            raise FormatError(
                f"storage {cut(storage.key)!r} claims {expected:,} bytes, "
                f"but the archive has {len(content):,}"
            )
        return content

    reader = TensorReader(read_storage, archive_byte_order(archive), source.budget)
    return read_weights(root, key, reader, source.format)


def opened(source: Source) -> ZipArchive:
    """The zip archive of a source that was recognised by its members."""
    assert source.archive is not None
    return source.archive


def archive_byte_order(archive: ZipArchive) -> Literal["<", ">"]:
    """NumPy's sign for the archive's byte order; little where it does not say."""
    name = f"{archive.folder}byteorder"
    if name not in archive.members:
        return "<"
    content = bytes(archive.read(name))
    if content not in _BYTE_ORDERS:
        raise FormatError(f"the archive is of the unknown byte order {content[:20]!r}")
    return _BYTE_ORDERS[content]
