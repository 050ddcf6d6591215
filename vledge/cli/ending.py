"""How a live input ends: Ctrl-C, SIGTERM or a reader that has gone, between two frames.

A signal stops what waits for input or output at once, and anything else when it has ended, so that
a state that is written afterwards is that of a whole frame.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Ended", "Ending"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ended(BaseException):  # not to be caught by who handles errors
    """A signal came while the program waited."""


class Ending:
    """Within ``with``, the two signals are noted; the exit status tells them afterwards.

    A signal that the process was started to ignore, as shells do for jobs behind ``&``, stays so.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._waits = False

    def __enter__(self) -> Ending:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a read or a write: `Ended` is raised at once, here and now if it has come."""
        self._waits = True
        try:
            if self.signal is not None:
                raise Ended
            yield
        finally:
            self._waits = False

    @property
    def status(self) -> int:
        """What a shell expects of a process that the signal ended; 0 if none came."""
        return 0 if self.signal is None else 128 + self.signal

    def _came(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        if self._waits:
            self._waits = False
            raise Ended
