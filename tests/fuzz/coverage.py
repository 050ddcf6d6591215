"""Which lines of vledge a call reaches that none before it has: what a fuzzer grows towards.

From Python 3.12 on lines are told once each and cost nothing after that; before, every line of the
modules watched is traced, which takes several times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

import vledge

__all__ = ["Coverage", "Line", "watching"]

Line: TypeAlias = tuple[CodeType, int]

_ROOT = str(Path(vledge.__file__).parent)


@contextmanager
def watching(lines: set[Line]) -> Iterator[Coverage]:
    """A coverage that adds to these lines; one at a time."""
    coverage = Coverage(lines)
    try:
        yield coverage
    finally:
        coverage.close()


class Coverage:
    """``with coverage:`` counts; ``grown`` says whether the last block reached a new line."""

    def __init__(self, lines: set[Line]) -> None:
        self.lines = lines
        self.grown = False
        self._before = 0
        self._inside = False
        self._monitoring: Any = getattr(sys, "monitoring", None)
        if self._monitoring is not None:
            tool = self._monitoring.COVERAGE_ID
            self._monitoring.use_tool_id(tool, "vledge fuzz")
            self._monitoring.register_callback(tool, self._monitoring.events.LINE, self._line)
            self._monitoring.restart_events()  # lines that another one was told are new to this
            self._monitoring.set_events(tool, self._monitoring.events.LINE)

    def __enter__(self) -> Coverage:
        self._before = len(self.lines)
        self._inside = True
        if self._monitoring is None:
            sys.settrace(self._called)
        return self

    def __exit__(self, *error: object) -> None:
        if self._monitoring is None:
            sys.settrace(None)
        self._inside = False
        self.grown = len(self.lines) > self._before

    def close(self) -> None:
        """Let the next one watch."""
        if self._monitoring is not None:
            self._monitoring.set_events(self._monitoring.COVERAGE_ID, 0)
            self._monitoring.free_tool_id(self._monitoring.COVERAGE_ID)

    def _line(self, code: CodeType, line: int) -> Any:
        if code.co_filename.startswith(_ROOT):
            if not self._inside:
                return None
            self.lines.add((code, line))
        return self._monitoring.DISABLE

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._traced if frame.f_code.co_filename.startswith(_ROOT) else None

    def _traced(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.lines.add((frame.f_code, frame.f_lineno))
        return self._traced
