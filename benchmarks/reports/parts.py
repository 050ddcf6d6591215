"""A page of which each kind of machine has a part of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["renew_part"]


def renew_part(path: Path, part: str, lines: Iterable[str]) -> None:
    """Put the lines between the markers of this part; one that the page has not yet goes to its
    end."""
    begin, end = (f"<!-- generated: {part}: {one} -->" for one in ("begin", "end"))
    block = "\n".join([begin, *lines, "", end])
    page = path.read_text()
    if begin in page:
        before, rest = page.split(begin)
        page = before + block + rest.split(end)[1]
    else:
        page = f"{page.rstrip()}\n\n{block}\n"
    path.write_text(page)
