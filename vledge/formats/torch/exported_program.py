"""``torch.export`` archives (.pt2): the weights by the names of the program's ``state_dict``.

Only raw weights are read: no graph, no pickled payload, no compiled library.
Source: torch/export/pt2_archive/constants.py and torch/_export/serde/schema.py of torch 2.13.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from vledge.errors import FormatError, cut, placed, quoted
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.json_text import parsed
from vledge.formats.source import Source
from vledge.formats.tensor_view import MAX_DIMENSIONS, checked_name, tensor_view
from vledge.formats.torch.archive import archive_byte_order, opened

__all__ = ["read"]

STEPS_OF_A_WEIGHT: Final = 25
BYTES_OF_A_WEIGHT: Final = 500

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
        raise FormatError(
            f"say by key= which model's weights to read: {cut(str(models[:100]), 1_000)}"
        )
    model = models[0] if key is None else key
    member = f"{folder}{model}{_SUFFIX}"
    described = parsed(bytes(archive.read(member)), source.budget, cut(repr(member), 200))
    entries = described.get("config") if isinstance(described, dict) else None
    if not isinstance(entries, dict):
        raise FormatError(f"{quoted(member)} is no description of weights")
    source.budget.step(STEPS_OF_A_WEIGHT * len(entries), "the weights of the file")
    source.budget.take(BYTES_OF_A_WEIGHT * len(entries), "the weights of the file")
    byte_order = archive_byte_order(archive)
    weights: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    made: dict[tuple[object, ...], np.ndarray] = {}  # tied weights are one array
    for name, entry in entries.items():
        checked_name(name)
        try:
            path, dtype, shape, strides, offset = _layout(entry)
            if isinstance(dtype, str):
                same = (path, dtype, tuple(shape), tuple(strides), offset)
                if same not in made:
                    content = archive.read(f"{folder}{path}")
                    made[same] = tensor_view(
                        content, dtype, shape, strides, offset, byte_order, budget=source.budget
                    )
                weights[name] = made[same]
            else:
                skipped[name] = f"a tensor of dtype number {dtype}, which is not read"
        except FormatError as error:
            raise placed(error, f"tensor {name!r}") from None
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
            if len(sizes) > MAX_DIMENSIONS or len(strides) > MAX_DIMENSIONS:
                raise FormatError(f"{len(sizes):,} sizes and {len(strides):,} strides")
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
