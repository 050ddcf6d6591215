"""How far a run is: files, rows, rows a second, and what remains, by the bytes of the files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from vledge.progress import Bar
from vledge.scoring.files.fragments import Fragment
from vledge.scoring.pipeline import Failed, Finished, Written

__all__ = ["Progress", "duration"]

#: Seconds between two lines where stderr is no terminal but a log.
LOG_SECONDS: Final = 60.0


class Progress:
    """Call it with each event."""

    def __init__(self, fragments: Sequence[Fragment]) -> None:
        self._nbytes = {fragment: _size(fragment.source) for fragment in fragments}
        self._total = sum(self._nbytes.values())
        self._part: dict[Fragment, float] = {}
        self._done_nbytes = 0.0
        self.rows = self.files = 0
        self._seen: dict[Fragment, int] = {}
        self._start = self._said = time.monotonic()
        self._bar = Bar(len(fragments))

    def __call__(self, event: Written | Finished | Failed) -> None:
        """Count it, and draw."""
        fragment = event.fragment
        if isinstance(event, Written):
            self.rows += event.rows
            self._seen[fragment] = seen = self._seen.get(fragment, 0) + event.rows
            self._part[fragment] = seen / event.of * self._nbytes[fragment] if event.of else 0.0
        else:
            if isinstance(event, Finished):
                self.rows += event.summary.rows - self._seen.pop(fragment, 0)
            self.files += 1
            self._part.pop(fragment, None)
            self._done_nbytes += self._nbytes[fragment]
        self._bar(self.files, label=f"files, {self.text()}")
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._said >= LOG_SECONDS:
            self._said = now
            print(f"vledge: {self.files:,} files, {self.text()}", file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start

    def text(self) -> str:
        """``1,234 rows, 56 rows/s, 2 min left``."""
        said = f"{self.rows:,} rows, {self.rows / max(self.seconds, 1e-9):,.0f} rows/s"
        done = self._done_nbytes + sum(self._part.values())
        if not 0 < done < self._total:
            return said
        return f"{said}, {duration(self.seconds * (self._total - done) / done)} left"

    def close(self) -> None:
        """Leave the line."""
        self._bar.close()


def duration(seconds: float) -> str:
    """As people say it: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # whoever reads it says what is wrong
