"""Names for values that a graph gets on its way: like those that it has, and none of them."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Names"]


class Names:
    """Those that are taken; each that `fresh` gives is, too."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._counts: dict[str, int] = {}  # the last number behind a name

    def fresh(self, name: str) -> str:
        """A name that no value has, like the one given."""
        candidate, count = name, self._counts.get(name, 1)
        while candidate in self._taken:
            count += 1
            candidate = f"{name}~{count}"
        self._counts[name] = count
        self._taken.add(candidate)
        return candidate
