"""Keras' files: ``.weights.h5`` and ``.keras`` of Keras 3, ``.h5`` of Keras 2 and later.

Weights keep their paths in the HDF5 file. The description of a model, where the file has one, is
read as text: no class is looked up and no function, lambdas included, is rebuilt.
Source: keras.src.saving.saving_lib and keras.src.legacy.saving.legacy_h5_format, Keras 3.15.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

import numpy as np

from vledge.budget import Budget, Limits
from vledge.errors import FormatError, placed
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.json_text import JsonObject
from vledge.formats.keras.config import parsed
from vledge.formats.keras.hdf5_file import read_hdf5
from vledge.formats.source import Source, identified, open_source

__all__ = ["KerasModel", "read", "read_config", "read_model"]

WEIGHTS_MEMBER: Final = "model.weights.h5"
MOST_METADATA: Final = 1 << 20
CONFIG_MEMBER: Final = "config.json"
METADATA_MEMBER: Final = "metadata.json"

_OPTIMIZERS: Final[tuple[str, ...]] = ("optimizer", "optimizer_weights")


class KerasModel(NamedTuple):
    """The weights of a Keras file, and what it says of the layers that they belong to.

    ``weights``: by path in the HDF5 file, in a legacy file without its ``model_weights/``.
    ``names``: group → the name of the layer whose weights are there, where that is recorded.
    ``config``: Keras' description of the model, parsed JSON; None in a file of weights alone.
    ``legacy``: whether the layout is Keras 2's, where variables have names and not numbers.
    ``version``: of the Keras that wrote the file, where it says so; "3" where only that shows.
    """

    weights: dict[str, np.ndarray]
    skipped: dict[str, str]
    elsewhere: dict[str, str]
    names: dict[str, str]
    config: JsonObject | None
    legacy: bool
    version: str | None


def read(source: Source, key: str | None) -> Checkpoint:
    """Read every weight of the file; it has no parts that a ``key`` could name."""
    if key is not None:
        raise FormatError(f"key={key!r} names no part: a Keras file has only one")
    model = _model(source)
    return Checkpoint(source.format, "", model.weights, model.skipped, model.elsewhere)


def read_model(path: str | os.PathLike[str], limits: Limits | None = None) -> KerasModel:
    """The model in a Keras file; FormatError, without the path in it, when it is another file."""
    source, module = identified(open_source(path, limits))
    if module != "keras.file":
        raise FormatError(
            f"a file of Keras was expected, not {source.format}: its weights are read by "
            "vledge.load_weights, and make a layer by from_weights"
        )
    return _model(source)


def read_config(
    path: str | os.PathLike[str], limits: Limits | None = None
) -> tuple[JsonObject, str | None]:
    """A model's description out of its JSON, a ``.keras`` or an ``.h5`` file, and the version of
    Keras that the file is of, where it says so; FormatError if the file has none."""
    source = open_source(path, limits)
    if source.starts_with(b"{"):
        config = parsed(source.data[:], source.budget)
        version = None
        beside = os.path.join(os.path.dirname(os.fspath(path)), METADATA_MEMBER)
        if os.path.basename(os.fspath(path)) == CONFIG_MEMBER and os.path.isfile(beside):
            with open(beside, "rb") as file:
                version = _said_version(file.read(MOST_METADATA), source.budget)
    else:
        model = read_model(path, limits)
        config, version = model.config, model.version
    if config is None or not isinstance(config.get("config", config.get("layers")), (dict, list)):
        raise FormatError("it holds no description of a Keras model")
    return config, version


_Held = TypeVar("_Held")


def _model(source: Source) -> KerasModel:
    described: str | bytes | None
    if source.archive is None:
        content = read_hdf5(memoryview(source.data), source.budget)
        described = content.texts[""].get("model_config")
    else:
        try:
            member = source.archive.read(source.archive.folder + WEIGHTS_MEMBER)
            content = read_hdf5(member, source.budget)
        except FormatError as error:
            raise placed(error, WEIGHTS_MEMBER) from None
        described = bytes(source.archive.read(source.archive.folder + CONFIG_MEMBER))
    # Keras 3's own layouts say their version elsewhere, and number all variables.
    legacy = "keras_version" in content.texts[""] or not any(
        group.rpartition("/")[2] == "vars" for group in content.texts
    )
    root = "model_weights/" if legacy else ""
    elsewhere = {
        group: "the state of an optimizer" for group in _OPTIMIZERS if group in content.texts
    }

    def own(by_path: Mapping[str, _Held]) -> dict[str, _Held]:
        return {
            path.removeprefix(root): value
            for path, value in by_path.items()
            if path.partition("/")[0] not in elsewhere
        }

    names = {}
    for group, texts in content.texts.items():
        if group.endswith("/vars") and "name" in texts:
            names[group.removesuffix("/vars")] = texts["name"]
    config = parsed(described, source.budget)
    version = content.texts[""].get("keras_version") or _archive_version(source)
    if version is None and names:  # Keras 2.12 to 2.15 have the same layout, without names
        version = "3"
    return KerasModel(
        own(content.arrays), own(content.skipped), elsewhere, names, config, legacy, version
    )


def _archive_version(source: Source) -> str | None:
    """What a ``.keras`` archive says of the Keras that wrote it."""
    if source.archive is None or not source.has_member(METADATA_MEMBER):
        return None
    metadata = bytes(source.archive.read(source.archive.folder + METADATA_MEMBER))
    return _said_version(metadata, source.budget)


def _said_version(metadata: bytes, budget: Budget) -> str | None:
    version = (parsed(metadata, budget) or {}).get("keras_version")
    return version if isinstance(version, str) else None
