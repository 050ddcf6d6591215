"""Keras' files: ``.weights.h5`` and ``.keras`` of Keras 3, ``.h5`` of Keras 2 and later.

Weights keep their paths in the HDF5 file. The description of a model, where the file has one, is
read as text: no class is looked up and no function, lambdas included, is rebuilt.
Source: keras.src.saving.saving_lib and keras.src.legacy.saving.legacy_h5_format, Keras 3.15.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final, NamedTuple

import numpy as np

from vledge.errors import FormatError
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.hdf5_file import read_hdf5
from vledge.formats.source import Source, identified, open_source

__all__ = ["KerasModel", "read", "read_model"]

MAX_CONFIG_BYTES: Final = 16 << 20
WEIGHTS_MEMBER: Final = "model.weights.h5"
CONFIG_MEMBER: Final = "config.json"

_OPTIMIZERS: Final[tuple[str, ...]] = ("optimizer", "optimizer_weights")


class KerasModel(NamedTuple):
    """The weights of a Keras file, and what it says of the layers that they belong to.

    ``weights``: by path in the HDF5 file, in a legacy file without its ``model_weights/``.
    ``names``: group → the name of the layer whose weights are there, where that is recorded.
    ``config``: Keras' description of the model, parsed JSON; None in a file of weights alone.
    ``legacy``: whether the layout is Keras 2's, where variables have names and not numbers.
    """

    weights: dict[str, np.ndarray]
    skipped: dict[str, str]
    elsewhere: dict[str, str]
    names: dict[str, str]
    config: dict[str, Any] | None
    legacy: bool


def read(source: Source, key: str | None) -> Checkpoint:
    """Read every weight of the file; it has no parts that a ``key`` could name."""
    if key is not None:
        raise FormatError(f"key={key!r} names no part: a Keras file has only one")
    model = _model(source)
    return Checkpoint(source.format, "", model.weights, model.skipped, model.elsewhere)


def read_model(path: str | os.PathLike[str]) -> KerasModel:
    """The model in a Keras file; FormatError, without the path in it, when it is another file."""
    source, module = identified(open_source(path))
    if module != "keras_file":
        raise FormatError(f"a file of Keras was expected, not {source.format}")
    return _model(source)


def _model(source: Source) -> KerasModel:
    described: str | bytes | None
    if source.archive is None:
        content = read_hdf5(memoryview(source.data))
        described = content.texts[""].get("model_config")
    else:
        try:
            content = read_hdf5(source.archive.read(source.archive.folder + WEIGHTS_MEMBER))
        except FormatError as error:
            raise FormatError(f"{WEIGHTS_MEMBER}: {error}") from None
        described = bytes(source.archive.read(source.archive.folder + CONFIG_MEMBER))
    legacy = "keras_version" in content.texts[""]  # Keras 3's own layouts say it elsewhere
    root = "model_weights/" if legacy else ""
    elsewhere = {
        group: "the state of an optimizer" for group in _OPTIMIZERS if group in content.texts
    }

    def own(found: dict[str, Any]) -> dict[str, Any]:
        return {
            path.removeprefix(root): value
            for path, value in found.items()
            if path.partition("/")[0] not in elsewhere
        }

    names = {}
    for group, texts in content.texts.items():
        if group.endswith("/vars") and "name" in texts:
            names[group.removesuffix("/vars")] = texts["name"]
    config = _parsed(described)
    return KerasModel(own(content.arrays), own(content.skipped), elsewhere, names, config, legacy)


def _parsed(described: str | bytes | None) -> dict[str, Any] | None:
    """The JSON text of a model's description, parsed."""
    if described is None:
        return None
    if len(described) > MAX_CONFIG_BYTES:
        raise FormatError(f"the model's description has {len(described):,} bytes")
    try:
        config = json.loads(described)
    except (ValueError, RecursionError):
        raise FormatError("the model's description is no JSON") from None
    if not isinstance(config, dict):
        raise FormatError("the model's description is JSON, but no object")
    return config
