"""Between two threads: items in order, of which so many bytes wait at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["LOOK", "Channel", "Stopped"]

#: Between two looks whether the run has been stopped, in seconds: Ctrl-C waits no longer.
LOOK: Final = 0.02
#: Items that wait at most, however small: of an archive of a million empty files, say.
MOST_ITEMS: Final = 100

_Item = TypeVar("_Item")


class Stopped(Exception):
    """The run is over for a thread of it."""


class Channel(Generic[_Item]):
    """One thread puts, another one takes; `Stopped` is raised in both when ``stop`` is set."""

    def __init__(self, room: int, stop: threading.Event) -> None:
        """Of ``room`` bytes; what is larger than that waits alone."""
        self._room, self._stop = room, stop
        self._items: deque[tuple[_Item | None, int]] = deque()
        self._nbytes = 0
        self._changed = threading.Condition()

    def put(self, item: _Item | None, nbytes: int = 0) -> None:
        """Add an item that takes so much memory, when there is room for it; None is the last."""
        with self._changed:
            self._wait_until(lambda: self._fits(nbytes))
            self._items.append((item, nbytes))
            self._nbytes += nbytes
            self._changed.notify()

    def take(self) -> _Item | None:
        """The next item, when there is one."""
        with self._changed:
            self._wait_until(lambda: bool(self._items))
            item, nbytes = self._items.popleft()
            self._nbytes -= nbytes
            self._changed.notify()
            return item

    def _fits(self, nbytes: int) -> bool:
        if nbytes and self._nbytes and self._nbytes + nbytes > self._room:
            return False
        return len(self._items) < MOST_ITEMS

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            if ready():
                return
            self._changed.wait(LOOK)
        raise Stopped
