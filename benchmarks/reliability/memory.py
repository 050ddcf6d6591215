"""What this process holds, as the system counts it."""

from __future__ import annotations

import os
from pathlib import Path


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
