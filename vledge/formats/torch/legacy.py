"""The layout of ``torch.save`` before torch 1.6: five pickles in a row, then the storages.

Source: _legacy_save and _legacy_load in torch/serialization.py. Storages are little-endian, on
whatever machine they were written.
"""

import struct

from vledge.errors import FormatError, cut
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import LEGACY_MAGIC, Source
from vledge.formats.torch.parts import read_weights
from vledge.formats.torch.pickle_records import PickleReader
from vledge.formats.torch.tensors import Storage, TensorReader, as_storage

__all__ = ["read"]

PROTOCOL_VERSION = 1001
STEPS_OF_A_REFERENCE = 4


def read(source: Source, key: str | None) -> Checkpoint:
    """Read the weights of the file; ``key`` as in `vledge.formats.load_weights`."""
    data = source.data
    position = 0
    values = []
    for _ in range(5):
        pickle = PickleReader(data, source.budget, position)
        values.append((pickle.read(), pickle.persistent))
        position = pickle.position
    (magic, _), (version, _), _, (root, references), (keys, _) = values
    if magic != LEGACY_MAGIC:
        raise FormatError("a legacy torch file does not begin with torch's magic number")
    if version != PROTOCOL_VERSION:
        raise FormatError(f"legacy protocol version {cut(repr(version))} is not {PROTOCOL_VERSION}")
    storages: dict[str, Storage] = {}
    source.budget.step(STEPS_OF_A_REFERENCE * len(references), "references to storages")
    for reference in references:
        if isinstance(reference.identity, tuple) and reference.identity[:1] == ("storage",):
            storage, _ = as_storage(reference)
            if storages.setdefault(storage.key, storage) != storage:
                raise FormatError(f"storage {cut(storage.key)!r} is described in two ways")
    contents = _locate(source, position, keys, storages)
    reader = TensorReader(lambda storage: contents[storage.key], "<", source.budget)
    return read_weights(root, key, reader, source.format)


def _locate(
    source: Source, position: int, keys: object, storages: dict[str, Storage]
) -> dict[str, memoryview]:
    """The bytes of every storage: they follow each other, each behind its number of elements."""
    if not isinstance(keys, list):
        raise FormatError("the list of storages is no list")
    whole = memoryview(source.data)
    contents: dict[str, memoryview] = {}
    for key in keys:
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or key in contents:
            raise FormatError(f"storage {str(key)[:80]!r} is listed, but not once in the pickle")
        if position + 8 > len(whole):
            raise FormatError(f"the file is truncated before storage {cut(key)!r}")
        (count,) = struct.unpack_from("<q", whole, position)
        end = position + 8 + storage.nbytes
        if count != storage.length:
            raise FormatError(f"storage {cut(key)!r} has {count} elements, not {storage.length}")
        if end > len(whole):
            raise FormatError(
                f"storage {cut(key)!r} ends at byte {end:,} of {len(whole):,}: truncated"
            )
        contents[key] = whole[position + 8 : end]
        position = end
    missing = storages.keys() - contents.keys()
    if missing:
        raise FormatError(f"storage {cut(min(missing))!r} is not in the file")
    return contents
