"""Files mapped into memory, and how to copy out of one without its pages staying.

A touched page of a mapping brings many around it, 64 KB of them or all that Linux keeps together,
and each counts as memory of this process. What is copied anyway is therefore read from the file.
"""

from __future__ import annotations

import errno
import mmap
import os

import numpy as np

from vledge.errors import FormatError

__all__ = ["MappedFile", "contents", "in_memory", "release"]

# A file up to this size is read: mapping it and touching its pages takes as long, and whoever cuts
# it short afterwards cannot take the bytes away.
READ_BYTES = 1 << 20
READ_AT_A_TIME = 1 << 22


def contents(descriptor: int) -> bytes | MappedFile:
    """All of an open file: read where it is small, else mapped."""
    if os.fstat(descriptor).st_size > READ_BYTES:
        return MappedFile(descriptor)
    with open(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read(READ_BYTES)


class MappedFile(mmap.mmap):
    """All of a file that is not empty, mapped to be read.

    A file that is cut short while it is mapped takes its pages along: whoever then touches one of
    them is ended by the system (SIGBUS), and nothing here can prevent that.
    """

    descriptor: int | None = None
    address: int

    def __new__(cls, descriptor: int) -> MappedFile:
        try:
            self = super().__new__(cls, descriptor, 0, access=mmap.ACCESS_READ)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            size = os.fstat(descriptor).st_size
            raise MemoryError(f"no room to map a file of {size} bytes into memory") from None
        self.descriptor = os.dup(descriptor)
        self.address = np.frombuffer(self, np.uint8).ctypes.data
        return self

    def __del__(self) -> None:
        if self.descriptor is not None:  # it could be mapped
            os.close(self.descriptor)

    def copy_of(self, array: np.ndarray) -> np.ndarray:
        """What a C-contiguous array over the mapping holds, read from the file."""
        assert self.descriptor is not None
        begin, read = array.ctypes.data - self.address, np.empty(array.nbytes, np.uint8)
        for place in range(0, len(read), READ_AT_A_TIME):  # between two Ctrl-C is heard
            part = read[place : place + READ_AT_A_TIME]
            data = os.pread(self.descriptor, len(part), begin + place)
            if len(data) != len(part):
                raise FormatError("a file of weights was cut short after it had been opened")
            part[:] = np.frombuffer(data, np.uint8)
        read.flags.writeable = False
        return read.view(array.dtype).reshape(array.shape)


def in_memory(array: np.ndarray) -> np.ndarray:
    """The array itself, or a copy if it is a C-contiguous part of a mapped file."""
    file = _file_under(array)
    return array if file is None or not array.flags.c_contiguous else file.copy_of(array)


def release(array: np.ndarray) -> None:
    """Drop the pages of the mapped file under an array, if there is one, from this process.

    The array stays: pages come back from the file when they are touched.
    """
    file = _file_under(array)
    if file is not None and hasattr(mmap, "MADV_DONTNEED"):
        file.madvise(mmap.MADV_DONTNEED)


def _file_under(array: np.ndarray) -> MappedFile | None:
    owner: object = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner if isinstance(owner, MappedFile) else None
