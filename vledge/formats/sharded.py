"""Weights in several files with an index, as transformers writes them.

``model.safetensors.index.json`` and ``pytorch_model.bin.index.json`` map each weight to its file.
The files must lie beside the index: it must not be able to read what is elsewhere on the machine.
Source: huggingface_hub's serialization, ``split_state_dict_into_shards_factory``.
"""

import importlib
import os
import stat
from pathlib import PurePosixPath
from typing import Final

from vledge.budget import Budget
from vledge.errors import FormatError, placed
from vledge.formats.checkpoint import Checkpoint
from vledge.formats.folder import listed
from vledge.formats.hub_cache import is_cached
from vledge.formats.json_text import distinct, parsed
from vledge.formats.source import Source, identified, open_source
from vledge.formats.tensor_view import checked_name

__all__ = ["read"]

STEPS_OF_A_WEIGHT: Final = 3
MAX_SHARDS: Final = 1_000

# Formats that a shard may be of: those that hold named tensors and nothing else.
_SHARDS: Final = {"safetensors_file", "torch.archive", "torch.legacy"}


def read(source: Source, key: str | None) -> Checkpoint:
    """Read every weight of the index; it has no parts that a ``key`` could name."""
    if key is not None:
        raise FormatError(f"key={key!r} names no part: an index of weights has only one")
    places = _weight_map(source)
    folder = os.path.realpath(os.path.dirname(os.path.abspath(source.path)))
    shards = list(dict.fromkeys(places.values()))
    if len(shards) > MAX_SHARDS:
        raise FormatError(f"an index of {len(shards):,} files; at most {MAX_SHARDS:,} are read")
    paths = {shard: _path_of(folder, shard) for shard in shards}
    missing = [shard for shard, path in paths.items() if not os.path.exists(path)]
    if missing:
        raise FormatError(f"the index names files that are not beside it: {listed(missing)}")
    checkpoints: dict[str, Checkpoint] = {}
    owner: dict[str, str] = {}
    for shard, path in paths.items():
        checkpoints[shard] = _read_shard(shard, path, source.budget)
        for name in checkpoints[shard].weights:
            if name in owner:
                raise FormatError(f"weight {name!r} is in two files, {owner[name]} and {shard}")
            owner[name] = shard
    absent = [
        f"{name!r} ({shard})"
        for name, shard in places.items()
        if owner.get(name) != shard and name not in checkpoints[shard].skipped
    ]
    if absent:
        raise FormatError(
            f"weights that are not in the files that the index names: {listed(absent)}"
        )
    weights = {name: checkpoints[s].weights[name] for name, s in places.items() if name in owner}
    skipped = {name: why for shard in checkpoints.values() for name, why in shard.skipped.items()}
    skipped |= {
        name: f"in {shard}, but not in the index"
        for name, shard in owner.items()
        if name not in places
    }
    return Checkpoint(source.format, "", weights, skipped, {})


def _weight_map(source: Source) -> dict[str, str]:
    index = parsed(source.data[:], source.budget, "the index of weights", pairs=distinct)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise FormatError("its weight_map is no object of files' names")
    if not places:
        raise FormatError("its weight_map names no weights")
    source.budget.step(STEPS_OF_A_WEIGHT * len(places), "the weights of the index")
    return {checked_name(name): file for name, file in places.items()}


def _path_of(folder: str, shard: str) -> str:
    """Where a shard is; FormatError for whatever is, or leads, out of the folder.

    Links are refused but those of Hugging Face's cache.
    """
    plain = PurePosixPath(shard)
    if (
        not plain.name
        or plain.is_absolute()
        or ".." in plain.parts
        or "\\" in shard
        or not shard.isprintable()
        or len(shard) > 255
        or os.path.splitdrive(shard)[0]
    ):
        raise FormatError(
            f"the index names the file {shard[:80]!r}: only plain paths below its folder are read"
        )
    path = os.path.join(folder, *plain.parts)
    real = os.path.realpath(path)
    if real != path and not is_cached(path, real):
        raise FormatError(f"the index names the file {shard!r}, which is or lies behind a link")
    if os.path.exists(real) and not stat.S_ISREG(os.stat(real).st_mode):
        raise FormatError(f"the index names {shard!r}, which is not a regular file")
    return real


def _read_shard(shard: str, path: str, budget: Budget) -> Checkpoint:
    try:
        source, module = identified(open_source(path, budget))
        if module not in _SHARDS:
            raise FormatError(f"{source.format} cannot be one of several files of weights")
        checkpoint: Checkpoint = importlib.import_module(f"vledge.formats.{module}").read(
            source, None
        )
    except FormatError as error:
        raise placed(error, shard) from None
    return checkpoint
