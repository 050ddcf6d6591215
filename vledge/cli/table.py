"""Plain aligned columns, readable over a slow line and in a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["rows", "size"]


def rows(lines: Iterable[Sequence[object]], indent: str = "  ", right: Sequence[int] = ()) -> str:
    """Lines of cells as text, columns aligned; those in ``right`` to the right."""
    cells = [[str(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))] if cells else []
    return "\n".join(
        indent
        + "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def size(count: float) -> str:
    """A number of bytes as people read it: ``102 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
