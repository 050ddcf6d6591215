"""Folders of weights: which of their files is read."""

import os
import re
from typing import Final

from vledge.errors import FormatError, cut

__all__ = ["listed", "weights_file"]

SHOWN: Final = 10

# What stands in a folder, in the order in which transformers looks, and its usual name.
_FOLDERS: Final = ((".safetensors", "model.safetensors"), (".bin", "pytorch_model.bin"))
_INDEX: Final = ".index.json"
_ONE_OF_MANY = re.compile(r".*-\d+-of-\d+\.\w+")


def weights_file(folder: str) -> str:
    """The one file of weights, or index of several, in a folder; FormatError if that is not clear.

    safetensors go before torch's files, and transformers' own names before others, as there.
    """
    names = sorted(os.listdir(folder))
    for ending, usual in _FOLDERS:
        fitting = [
            name
            for name in names
            if name.endswith((ending, ending + _INDEX)) and not _ONE_OF_MANY.fullmatch(name)
        ]
        own = [name for name in fitting if name in (usual, usual + _INDEX)]
        if len(own or fitting) > 1:
            raise FormatError(f"a folder with several files of weights: {listed(own or fitting)}")
        if own or fitting:
            return os.path.join(folder, (own or fitting)[0])
    if ".metadata" in names:
        raise FormatError(
            "a folder of torch.distributed.checkpoint, which is not read: make one file of it by "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    raise FormatError(
        "a folder without a file of weights or an index of them (*.safetensors, *.bin, "
        f"*{_INDEX}); it holds {listed(names) or 'nothing'}"
    )


def listed(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(cut(name, 200) for name in names[:SHOWN]) + more
