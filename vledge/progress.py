"""A progress bar on stderr, and nothing where that is no terminal."""

from __future__ import annotations

import sys
import time

__all__ = ["Bar"]

WIDTH = 30
# A terminal over a slow line should not be what a run waits for.
SECONDS_BETWEEN = 0.1


class Bar:
    """Call it with what is done; it draws at most ten times a second, and the end always.

    What is done may come with a new total, and with a label of what is being done, which is drawn
    at once when it changes. One that is ``erased`` leaves no line behind.
    """

    def __init__(self, total: int = 0, *, erased: bool = False, shown: bool | None = None) -> None:
        self.total = total
        self._erased, self._label = erased, ""
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._last = 0.0

    def __call__(self, done: int, total: int | None = None, label: str = "") -> None:
        now = time.monotonic()
        new = label != self._label
        self.total, self._label = self.total if total is None else total, label
        if self._shown and (new or done >= self.total or now - self._last >= SECONDS_BETWEEN):
            self._last = now
            end = "\x1b[K" if label or new else ""  # clears what is left of a longer label
            print("\r" + self.text(done) + end, end="", file=sys.stderr, flush=True)

    def text(self, done: int) -> str:
        """The line: ``[######......] 12 of 24``, and the label."""
        filled = WIDTH * done // max(self.total, 1)
        line = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done:,} of {self.total:,}"
        return f"{line} {self._label}" if self._label else line

    def close(self) -> None:
        """Leave the line, or erase it."""
        if self._shown:
            print("\r\x1b[K" if self._erased else "\n", end="", file=sys.stderr, flush=True)
