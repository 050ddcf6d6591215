"""Pages of a mapped file, given back to the system once what they hold has been copied."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["pages_of"]


def pages_of(array: np.ndarray) -> Callable[[], None]:
    """A function that drops the mapped file under an array from this process's memory.

    The array stays: pages come back from the file when they are touched. The whole mapping goes,
    for the system maps many pages around the one that is touched. Nothing happens unless the
    mapping is read-only: a writable one's pages would come back without what was written.
    """
    owner: Any = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    mapped = isinstance(owner, mmap.mmap) and memoryview(owner).readonly
    if not mapped or not hasattr(mmap, "MADV_DONTNEED"):
        return lambda: None
    return lambda: owner.madvise(mmap.MADV_DONTNEED)
