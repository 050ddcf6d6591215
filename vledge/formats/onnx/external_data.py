"""Tensor data that an ONNX model keeps beside it: only ordinary files of the model's own folder.

A model that comes from elsewhere must not be able to read what lies around on the machine, so that
absolute paths, "..", links (but those of Hugging Face's cache) and anything but regular files are
refused.
Source: onnx's ExternalData.md. CVE-2022-25882, CVE-2024-27318 and CVE-2026-27489 say why.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, cut, quoted
from vledge.formats.hub_cache import is_cached
from vledge.machine.mapped_file import contents

__all__ = ["ExternalFiles"]


class ExternalFiles:
    """The files beside one model, each mapped into memory once, and counted to its size.

    ``arrays`` are those that were made of what `read` gave, for tensors that share it.
    """

    def __init__(self, folder: str | None, budget: Budget) -> None:
        self.folder = None if folder is None else os.path.realpath(folder)
        self.arrays: dict[tuple[int, str, tuple[int, ...]], np.ndarray] = {}
        self._budget = budget
        self._files: dict[str, memoryview] = {}
        self._parts: dict[tuple[str, int, int], memoryview] = {}
        self._checksums: dict[str, str] = {}

    def read(self, entries: Mapping[str, str], nbytes: int) -> memoryview:
        """The ``nbytes`` bytes that a tensor's ``external_data`` entries point at; of the same
        place the same object."""
        location = entries.get("location", "")
        location = str(PurePosixPath(location)) if location else ""
        offset = _number(entries, "offset", 0)
        length = _number(entries, "length", nbytes)
        if length != nbytes:
            raise FormatError(f"its external data are {length} bytes, its shape needs {nbytes}")
        content = self._content(location)
        if offset > len(content) or nbytes > len(content) - offset:
            raise FormatError(
                f"its external data, {nbytes} bytes from {offset}, lie outside of "
                f"{quoted(location)}, which has {len(content)} bytes"
            )
        checksum = entries.get("checksum")
        if checksum and self._checksum(location) != checksum:
            raise FormatError(f"the SHA-1 checksum of {quoted(location)} is not {cut(checksum)}")
        return self._parts.setdefault((location, offset, nbytes), content[offset : offset + nbytes])

    def _checksum(self, location: str) -> str:
        if location not in self._checksums:
            digest = hashlib.sha1(self._content(location), usedforsecurity=False)
            self._checksums[location] = digest.hexdigest()
        return self._checksums[location]

    def _content(self, location: str) -> memoryview:
        if location not in self._files:
            self._files[location] = self._mapped(location)
        return self._files[location]

    def _mapped(self, location: str) -> memoryview:
        if self.folder is None:
            raise FormatError(
                f"its data are in the file {quoted(location)}, which a model given as bytes cannot "
                "have: give the path of the model"
            )
        plain = PurePosixPath(location)
        if (
            not location
            or plain.is_absolute()
            or ".." in plain.parts
            or "\\" in location
            or "\0" in location
            or os.path.splitdrive(location)[0]
        ):
            raise FormatError(
                f"its data are said to be in {quoted(location)}: only plain paths below the "
                "model's folder are read"
            )
        path = os.path.join(self.folder, *plain.parts)
        real = os.path.realpath(path)
        if real != path and not is_cached(path, real):
            raise FormatError(f"its data are in {quoted(location)}, which is or lies behind a link")
        try:
            if not stat.S_ISREG(os.lstat(real).st_mode):
                raise FormatError(
                    f"its data are in {quoted(location)}, which is not a regular file"
                )
            # Neither follows a link nor waits for a pipe that came in between.
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(real, flags)
        except OSError as error:
            raise FormatError(
                f"its data are in {quoted(location)}, which cannot be opened: {error.strerror}"
            ) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(
                    f"its data are in {quoted(location)}, which is not a regular file"
                )
            # holes take no room, and give none
            stored = getattr(status, "st_blocks", status.st_size) * 512
            self._budget.add_file(min(status.st_size, stored))
            return memoryview(contents(descriptor))
        finally:
            os.close(descriptor)


def _number(entries: Mapping[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise FormatError(f"the {key} of its external data is {text[:40]!r}, not a number")
    return int(text)
