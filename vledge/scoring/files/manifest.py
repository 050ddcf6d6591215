"""What each finished file was made of, so that a run that was stopped goes on where it was.

A file is finished when its manifest is there: it is written behind the result, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from operator import index
from typing import Final

from vledge.machine.atomic_file import sweep, write_text
from vledge.scoring.files.fragments import Fragment
from vledge.scoring.tables.bad_rows import BadRows

__all__ = ["FOLDER", "Identity", "Manifests", "Summary"]

#: What tells that a file is the one that was read, as JSON has it.
Identity = dict[str, str | int]

#: Of the output's folder; readers of datasets leave out what begins with an underscore.
FOLDER: Final = "_vledge"
BLOCK_NBYTES: Final = 1 << 20


@dataclass
class Summary:
    """What came of one file."""

    rows: int = 0  #: of the file
    written: int = 0  #: of the result
    bad: BadRows = field(default_factory=BadRows)


@dataclass(frozen=True)
class Manifests:
    """Those of one output folder, for one model and its options."""

    output: str
    made_by: dict[str, object]  #: the model's digest and the options, as JSON has them
    checksum: bool = False  #: inputs are known by a checksum, not by their time of change

    def identity(self, fragment: Fragment) -> Identity:
        """The file's: its size and time of change, or checksum."""
        about = os.stat(fragment.source)
        identity: Identity = {"path": os.path.abspath(fragment.source), "size": about.st_size}
        if self.checksum:
            identity["blake2b"] = _checksum(fragment.source)
        else:
            identity["mtime_ns"] = about.st_mtime_ns
        return identity

    def finished(self, fragment: Fragment) -> Summary | None:
        """What came of the file, if the result that is there is of this very input and model."""
        try:
            with open(self._path(fragment), encoding="utf-8") as file:
                told = json.load(file)
            about = os.stat(fragment.target)
            same = (
                told["input"] == self.identity(fragment)
                and told["made_by"] == self.made_by
                and told["output"]["size"] == about.st_size
            )
            if not same:
                return None
            counts = {words: index(count) for words, count in told["bad"]["counts"].items()}
            places = [(index(row), str(words)) for row, words in told["bad"]["places"]]
            return Summary(index(told["rows"]), index(told["written"]), BadRows(counts, places))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None  # there is none, or none of ours: the file is scored again

    def write(self, fragment: Fragment, identity: Identity, summary: Summary) -> None:
        """Say that the file is finished."""
        path = self._path(fragment)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        told = {
            "input": identity,
            "made_by": self.made_by,
            "output": {"size": os.stat(fragment.target).st_size},
            **asdict(summary),
        }
        write_text(path, json.dumps(told, indent=1) + "\n", sweeps=False)

    def sweep(self, fragments: Iterable[Fragment]) -> list[str]:
        """Remove what killed writers of these files have left; the names of files beside them that
        somebody is still writing."""
        paths = [path for one in fragments for path in (one.target, self._path(one))]
        return sweep(paths)

    def _path(self, fragment: Fragment) -> str:
        inner = os.path.relpath(fragment.target, self.output)
        return os.path.join(self.output, FOLDER, inner + ".json")


def _checksum(path: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(BLOCK_NBYTES):
            digest.update(block)
    return digest.hexdigest()
