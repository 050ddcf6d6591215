"""``torch.export`` archives (.pt2): the weights by the names of the program's ``state_dict``.

Only raw weights are read: no graph, no pickled payload, no compiled library.
Source: torch/export/pt2_archive/constants.py and torch/_export/serde/schema.py of torch 2.13.
"""

import json
from collections.abc import Mapping
from typing import Final

import numpy as np

from vledge.errors import FormatError
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.source import Source
from vledge.formats.tensor_view import checked_name, tensor_view
from vledge.formats.torch.archive import archive_byte_order, opened

__all__ = ["read"]

MAX_CONFIG_BYTES: Final = 8 << 20

_SUFFIX: Final = "_weights_config.json"
# schema.ScalarType → torch's name
_DTYPES: Final = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
}


def read(source: Source, key: str | None) -> Checkpoint:
    """Read the weights of the model named ``key``, or of the only model of the archive."""
    archive = opened(source)
    folder = f"{archive.folder}data/weights/"
    models = [
        name.removeprefix(folder).removesuffix(_SUFFIX)
        for name in archive.members
        if name.startswith(folder) and name.endswith(_SUFFIX)
    ]
    if key not in models and (key is not None or len(models) != 1):
        raise FormatError(f"say by key= which model's weights to read: {models}")
    model = models[0] if key is None else key
    member = f"{folder}{model}{_SUFFIX}"
    if archive.members[member].size > MAX_CONFIG_BYTES:
        raise FormatError(f"{member!r} has more than {MAX_CONFIG_BYTES:,} bytes")
    try:
        config = json.loads(bytes(archive.read(member)))["config"]
        entries = dict(config.items())
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise FormatError(f"{member!r} is no description of weights") from None
    byte_order = archive_byte_order(archive)
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    for name, entry in entries.items():
        checked_name(name)
        try:
            path, dtype, shape, strides, offset = _layout(entry)
            if isinstance(dtype, str):
                content = archive.read(f"{folder}{path}")
                weights[name] = tensor_view(content, dtype, shape, strides, offset, byte_order)
            else:
                skipped[name] = f"a tensor of dtype number {dtype}, which is not read"
        except FormatError as error:
            raise FormatError(f"tensor {name!r}: {error}") from None
    others = {other: "the weights of another model" for other in models if other != model}
    return Checkpoint(source.format, key or "", weights, skipped, others)


def _layout(entry: object) -> tuple[str, str | int, list[int], list[int], int]:
    """Payload, dtype (a number if unknown), shape, strides and offset of one weight."""
    match entry:
        case {
            "path_name": str(path),
            "use_pickle": False,
            "tensor_meta": {
                "dtype": int(number),
                "sizes": [*sizes],
                "strides": [*strides],
                "storage_offset": offset,
            },
        }:
            shape = [_integer(size) for size in sizes]
            dtype = _DTYPES.get(number, number)
            return path, dtype, shape, [_integer(stride) for stride in strides], _integer(offset)
        case {"use_pickle": True}:
            raise FormatError("its payload is a pickle, which is not read")
    raise FormatError("it is not described as torch.export does")


def _integer(value: object) -> int:
    """A size in the schema's clothes, ``{"as_int": 3}``; symbolic ones have no values to read."""
    if isinstance(value, Mapping):
        value = value.get("as_int")
    if type(value) is not int:
        raise FormatError("a size or a stride that is no integer")
    return value
