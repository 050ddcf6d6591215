"""The constants that this machine's user has measured, in the platform's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import warnings
from functools import cache
from pathlib import Path

from vledge._ext import isa
from vledge._version import __version__
from vledge.errors import cut
from vledge.machine.atomic_file import write_text
from vledge.machine.cache_folder import cache_folder
from vledge.planning.costs import Costs
from vledge.planning.defaults import DEFAULT

__all__ = ["cache_path", "costs", "save"]


def cache_path() -> Path:
    """The file for this CPU, instruction set and version of vledge.

    ``$XDG_CACHE_HOME/vledge`` where that is set, else the platform's: ``~/.cache``,
    ``~/Library/Caches`` or ``%LOCALAPPDATA%``.
    """
    digest = hashlib.sha256("\n".join(_key().values()).encode()).hexdigest()[:12]
    return Path(cache_folder()) / f"costs-{digest}.json"


def costs() -> Costs:
    """What ``vledge calibrate`` has measured here, else the built-in constants.

    Warns (UserWarning) of a file that cannot be read; the built-in constants stand in then.
    """
    return _read(os.environ.get("XDG_CACHE_HOME"), isa.selected())


def save(measured: Costs) -> Path:
    """Write the file, whole or not at all."""
    path = cache_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"key": _key(), "costs": measured.as_dict()}, indent=1)
    write_text(path, text)
    _read.cache_clear()
    return path


@cache
def _read(folder: str | None, instructions: str) -> Costs:
    """Read once in a process for each of what the file's name depends on: ``strategy="auto"`` asks
    at every call."""
    path = cache_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return DEFAULT
    except (OSError, UnicodeDecodeError) as error:
        return _default_instead(path, str(error))
    try:
        stored = json.loads(text)
        if stored["key"] != _key():
            raise ValueError("it was measured on another machine")
        measured = Costs.from_dict(stored["costs"])
        for held, needed in (
            (measured.kernels, DEFAULT.kernels),
            (measured.overheads, DEFAULT.overheads),
            (measured.small, DEFAULT.small),
        ):
            if missing := sorted(set(needed) - set(held)):
                raise ValueError(f"nothing on {', '.join(missing)}")
        return measured
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        return _default_instead(path, cut(f"{type(error).__name__}: {error}", 200))


def _default_instead(path: Path, why: str) -> Costs:
    warnings.warn(
        f"{path}: {why}; plans use the built-in constants until `vledge calibrate` writes it anew",
        stacklevel=4,
    )
    return DEFAULT


def _key() -> dict[str, str]:
    return {"cpu": _cpu(), "isa": isa.selected(), "vledge": __version__}


@cache
def _cpu() -> str:
    """The CPU's name where the system tells it, and what it can do."""
    name = platform.processor() or platform.machine()
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        info = ""
    if match := re.search(r"^(?:model name|Model|CPU part)\s*:\s*(.+)$", info, re.MULTILINE):
        name = match[1]
    return f"{name}; {isa.cpu_features()}"
