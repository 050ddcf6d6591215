"""Where vledge keeps what it has measured, and that it has."""

from __future__ import annotations

import os
import sys

__all__ = ["cache_folder", "is_measured"]


def cache_folder() -> str:
    """``$XDG_CACHE_HOME/vledge`` where that is set, else the platform's: in ``~/.cache``,
    ``~/Library/Caches`` or ``%LOCALAPPDATA%``."""
    named = os.environ.get("XDG_CACHE_HOME")
    home = os.path.expanduser("~")
    if named:
        folder = named
    elif sys.platform == "darwin":
        folder = os.path.join(home, "Library", "Caches")
    elif sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA", os.path.join(home, "AppData", "Local"))
    else:
        folder = os.path.join(home, ".cache")
    return os.path.join(folder, "vledge")


def is_measured() -> bool:
    """Whether `vledge calibrate` has run, on this machine or one that shares the folder."""
    try:
        names = os.listdir(cache_folder())
    except OSError:
        return False
    return any(name.startswith("costs-") and name.endswith(".json") for name in names)
