"""What a record says of the machine that made it, and when."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path

__all__ = ["caches", "cpu", "today"]


def cpu() -> str:
    """The CPU's name, and how many there are."""
    try:
        named = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        named = None
    name = named[1] if named else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} CPUs"


def caches() -> list[str]:
    """The levels that hold data, such as ``L1 32K``, where Linux tells them."""
    levels = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / f).read_text().strip() for f in ("level", "type", "size"))
        if kind != "Instruction":
            levels.append(f"L{level} {size}")
    return levels


def today() -> str:
    """The date as pages have it: ``28 November 2026``."""
    date = datetime.date.today()
    return f"{date.day} {date:%B %Y}"
