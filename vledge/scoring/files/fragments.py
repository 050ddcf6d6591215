"""Fragments: the files that are scored, each into one file of its own.

Formats are told by the name: Parquet, Arrow's files and streams, and .npz with an array for each
sequence.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from vledge.shown import listed

__all__ = ["ARROW", "ENDINGS", "NPZ", "PARQUET", "Fragment", "find_fragments"]

PARQUET: Final = (".parquet", ".parq", ".pq")
ARROW: Final = (".arrow", ".feather", ".ipc", ".arrows")
NPZ: Final = (".npz",)
ENDINGS: Final = (*PARQUET, *ARROW, *NPZ)


@dataclass(frozen=True)
class Fragment:
    """One file, and the one that it becomes."""

    source: str
    target: str

    @property
    def ending(self) -> str:
        """Of the source, in small letters."""
        return os.path.splitext(self.source)[1].lower()


def find_fragments(patterns: Iterable[str], output: str) -> list[Fragment]:
    """The files that patterns, names and folders mean, in order; targets keep their subfolders.

    Hidden files and those that begin with ``_`` are left out of folders. Raises ValueError where
    nothing is found, for a file of another kind, and where two files would become one, or one of
    the sources.
    """
    sources = list(dict.fromkeys(source for one in patterns for source in _found(one)))
    for source in sources:
        if os.path.splitext(source)[1].lower() not in ENDINGS:
            raise ValueError(f"{source}: expected a file whose name ends in {', '.join(ENDINGS)}")
    folders = [os.path.dirname(os.path.abspath(source)) for source in sources]
    common = os.path.commonpath(folders) if folders else ""
    fragments = []
    targets: dict[str, str] = {}
    for source in sources:
        inner = os.path.relpath(os.path.abspath(source), common)
        target = os.path.join(output, os.path.splitext(inner)[0] + ".parquet")
        if target in targets:
            raise ValueError(f"{targets[target]} and {source} would both be written to {target}")
        targets[target] = source
        fragments.append(Fragment(source, target))
    written = set(map(os.path.realpath, targets))
    for source in sources:
        if os.path.realpath(source) in written:
            raise ValueError(f"{source} would be written over: choose another folder for output=")
    return fragments


def _found(pattern: str) -> list[str]:
    if os.path.isdir(pattern):
        files = list(_inside(pattern))
        if not files:
            raise ValueError(f"there are no files {listed(ENDINGS, len(ENDINGS))} in {pattern}")
        return files
    files = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise ValueError(f"there is no file {pattern}")
    return [inner for one in files for inner in (_inside(one) if os.path.isdir(one) else [one])]


def _inside(folder: str) -> Iterator[str]:
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.startswith((".", "_")):
            continue
        if os.path.isdir(path):
            yield from _inside(path)
        elif name.lower().endswith(ENDINGS):
            yield path
