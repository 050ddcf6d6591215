"""The one way in which vledge writes files: whole or not at all, whatever happens meanwhile.

A new file is written beside the one that is wanted, flushed to the disk and renamed over it, so a
crash, a full disk or ``kill -9`` at any moment leaves the old file or the new one. A killed
writer's scratch file is swept by the next writer of the same name: it is locked while its writer
lives, and the system lets go of the lock however that ends. Who writes many files into a folder
sweeps once for all of them, since each sweep lists the folder.
"""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing swept
    fcntl = None  # type: ignore[assignment]

__all__ = ["check_writable", "sweep", "write_text", "writing"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)
_LONG_NAME = 200  # bytes; scratch files have some 20 more, and a name may have 255
_SCRATCH: Final = re.compile(r"\.(.*)\.[0-9a-f]{8}\.tmp", re.DOTALL)


@contextmanager
def writing(path: str | os.PathLike[str], *, sweeps: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends, and is gone if the block raises.

    A link stays one: what it points to is replaced. Raises OSError where ``path`` is there and no
    regular file (a device, a pipe, a folder), before anything is written; it is left alone.
    Without ``sweeps``, whoever writes calls `sweep`.
    """
    target = os.path.realpath(os.fspath(path))
    _require_file(target)
    folder, name = os.path.split(target)
    if sweeps:
        _sweep(folder, {_label(name)})
    scratch, file = _scratch_file(folder, name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:  # while it is locked
                os.replace(scratch, target)
        if fcntl is None:  # Windows renames no open file
            os.replace(scratch, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(scratch)
        raise
    _flush_folder(folder)
    if sweeps:  # of a writer that was being killed when this one began, and held its lock
        _sweep(folder, {_label(name)})


def sweep(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Remove the scratch files of these whose writers are no more, listing each folder once.

    Those whose writers live, or are just being killed, are returned.
    """
    folders: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        target = os.path.realpath(path) if os.path.islink(path) else os.fspath(path)
        folder, name = os.path.split(target)
        folders[folder].add(_label(name))
    return [left for folder, labels in folders.items() for left in _sweep(folder, labels)]


def check_writable(*paths: str | os.PathLike[str] | None) -> None:
    """Before long work: OSError where `writing` one of these paths would fail at its end."""
    for path in paths:
        if path is None:
            continue
        target = os.path.realpath(os.fspath(path))
        _require_file(target)
        try:
            scratch, file = _scratch_file(*os.path.split(target))
        except OSError as error:  # which names the scratch file
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
        file.close()
        os.unlink(scratch)


def write_text(path: str | os.PathLike[str], text: str, *, sweeps: bool = True) -> None:
    """Write a text in UTF-8 as `writing` does."""
    with writing(path, sweeps=sweeps) as file:
        file.write(text.encode())


def _require_file(target: str) -> None:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
        raise OSError(f"{target} is {kind}; expected a file, which is replaced, or a new name")


def _label(name: str) -> str:
    """What a scratch file is named for: the file, or the beginning of a long name."""
    return name if len(os.fsencode(name)) <= _LONG_NAME else name[: _LONG_NAME // 4]


def _scratch_file(folder: str, name: str) -> tuple[str, BinaryIO]:
    """A new locked file beside the target, with the permissions that any new file has."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    while True:
        scratch = os.path.join(folder, f".{_label(name)}.{os.urandom(4).hex()}.tmp")
        try:
            descriptor = os.open(scratch, flags, 0o666)
        except FileExistsError:
            continue
        except OSError as error:  # of the file that was asked for: nobody knows the other's name
            raise OSError(error.errno, error.strerror, os.path.join(folder, name)) from error
        _lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return scratch, os.fdopen(descriptor, "wb")
        os.close(descriptor)  # somebody swept it before it was locked


def _sweep(folder: str, labels: Container[str]) -> list[str]:
    """Remove the scratch files that are named so and whose writers are no more; the others."""
    lying: list[str] = []
    if fcntl is None:
        return lying
    with suppress(OSError):  # a folder that cannot be listed may still be written to
        for left in os.listdir(folder or "."):
            match = _SCRATCH.fullmatch(left)
            if match is not None and match[1] in labels:
                scratch = os.path.join(folder, left)
                if not _removed_if_abandoned(scratch):
                    lying.append(scratch)
    return lying


def _removed_if_abandoned(scratch: str) -> bool:
    """False where its writer lives."""
    try:
        descriptor = os.open(scratch, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return True  # it has its name by now, or is nothing of ours
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return True
        if not _lock(descriptor, wait=False):
            return False
        with suppress(OSError):
            os.unlink(scratch)
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool:
    """Whether the lock was to be had; a file system without locks has none to give."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _flush_folder(folder: str) -> None:
    """Have the new name on the disk; a folder that cannot be flushed is left to the system."""
    with suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
