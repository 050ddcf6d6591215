"""Hugging Face's cache, where files are links: ``snapshots/REVISION/a/file -> blobs/HASH``.

Source: huggingface_hub's guide to its cache. What a file names beside itself may be such a link;
any other would let it read what is elsewhere on the machine.
"""

import os

__all__ = ["is_cached"]


def is_cached(path: str, real: str) -> bool:
    """Whether an absolute path below a snapshot is a link to one of that repository's blobs.

    ``real`` is where it leads (``os.path.realpath``).
    """
    folder = os.path.dirname(path)
    snapshot = folder
    while os.path.basename(os.path.dirname(snapshot)) != "snapshots":
        if os.path.dirname(snapshot) == snapshot:
            return False
        snapshot = os.path.dirname(snapshot)
    repository = os.path.dirname(os.path.dirname(snapshot))
    # folders on the way are no links themselves
    return os.path.realpath(folder) == folder and os.path.split(real)[0] == os.path.join(
        repository, "blobs"
    )
