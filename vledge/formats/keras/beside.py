"""Descriptions of models that lie beside a file of weights alone.

``Model.to_json`` is usually written there, and an unpacked ``.keras`` archive has its
``config.json`` there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from vledge.errors import FormatError, MissingDependencyError
from vledge.formats.json_text import JsonObject
from vledge.formats.keras.file import CONFIG_MEMBER, WEIGHTS_MEMBER, read_config

__all__ = ["Neighbour", "neighbours"]

MOST_NEIGHBOURS: Final = 200
MOST_BYTES: Final = 16 << 20  # of JSON that nobody asked for
_ENDINGS: Final = (".weights.h5", ".h5", ".hdf5", ".keras", ".json")


class Neighbour(NamedTuple):
    """A description in the folder of a file of weights."""

    name: str
    config: JsonObject
    version: str | None  #: of Keras, where its file says so
    belongs: bool  #: whether its name says that it is of these weights


def neighbours(path: str | os.PathLike[str]) -> list[Neighbour]:
    """The JSON and ``.keras`` files in a file's folder that describe models, by name."""
    own = Path(os.fspath(path))
    try:
        names = [n for n in sorted(os.listdir(own.parent)) if n.endswith((".json", ".keras"))]
    except OSError:
        return []
    beside = []
    for name in names[:MOST_NEIGHBOURS]:
        candidate = own.parent / name
        try:
            if not candidate.is_file() or (
                name.endswith(".json") and candidate.stat().st_size > MOST_BYTES
            ):
                continue
            config, version = read_config(candidate)
        except (FormatError, MissingDependencyError, OSError):
            continue  # some other file, which nobody asked for
        unpacked = (name, own.name) == (CONFIG_MEMBER, WEIGHTS_MEMBER)
        beside.append(Neighbour(name, config, version, unpacked or _stem(name) == _stem(own.name)))
    return beside


def _stem(name: str) -> str:
    for ending in _ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name
