"""A progress bar on stderr, and nothing where that is no terminal."""

from __future__ import annotations

import sys
import time

__all__ = ["Bar"]

WIDTH = 30
# A terminal over a slow line should not be what a run waits for.
SECONDS_BETWEEN = 0.1


class Bar:
    """Call it with what is done; it draws at most ten times a second, and the end always."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._shown = sys.stderr.isatty()
        self._last = 0.0

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if self._shown and (done >= self.total or now - self._last >= SECONDS_BETWEEN):
            self._last = now
            print("\r" + self.text(done), end="", file=sys.stderr, flush=True)

    def text(self, done: int) -> str:
        """The line: ``[######......] 12 of 24``."""
        filled = WIDTH * done // max(self.total, 1)
        return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done:,} of {self.total:,}"

    def close(self) -> None:
        """Leave the line."""
        if self._shown:
            print(file=sys.stderr)
