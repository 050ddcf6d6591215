"""What doors of harnesses have in common: what is a finding, and a file for those that take one."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from vledge.errors import VledgeError

__all__ = ["Finding", "as_file", "refusing", "scratch"]


class Finding(Exception):
    """What a harness has found; the cause is what was raised."""


def refusing(door: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """A door that may refuse in our own words."""

    def opened(content: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                door(content)
            except VledgeError as error:
                if len(str(error)) > 9_000:
                    raise Finding(f"a message of {len(str(error)):,} characters") from error

    return opened


@cache
def scratch() -> Path:
    """A folder for what is written."""
    return Path(tempfile.mkdtemp(prefix="vledge-fuzz-"))


def as_file(content: bytes, name: str = "model") -> Path:
    """The bytes as a file, over that of before."""
    path = scratch() / name
    path.write_bytes(content)
    return path
