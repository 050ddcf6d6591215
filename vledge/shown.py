"""What a prompt shows of things: a few lines, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["MOST_LINES", "Weights", "html_table", "listed", "shortened"]

MOST_LINES = 6


def shortened(text: str, most: int = MOST_LINES) -> str:
    """The text, or its first lines, the last one, and how many are between them."""
    lines = text.split("\n")
    if len(lines) <= most:
        return text
    left = len(lines) - most + 1
    return "\n".join([*lines[: most - 2], f"  … {left} lines more, by print()", lines[-1]])


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first names, and how many follow."""
    every = list(names)
    more = [f"and {len(every) - most} more"] if len(every) > most else []
    return ", ".join([*every[:most], *more])


class Weights(dict[str, np.ndarray]):
    """Arrays by name: a dict whose ``repr`` says what they are, and not all of their numbers."""

    def __repr__(self) -> str:
        total = sum(array.nbytes for array in self.values())
        # small matrices have a storage in place of a dtype
        kinds = ((n, getattr(a, "storage", None) or a.dtype, a.shape) for n, a in self.items())
        shapes = (f"{name!r}: {kind} {list(shape)}" for name, kind, shape in kinds)
        return f"{{{listed(shapes)}}}, {counted(len(self), 'tensor')}, {total:,} bytes"


def counted(number: int, noun: str) -> str:
    """``1 tensor``, ``2 tensors``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def html_table(heads: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    """A plain table for notebooks, whose own style it takes."""
    import html  # 0.3 MB that only notebooks want

    def row(tag: str, cells: Iterable[object]) -> str:
        told = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{told}</tr>"

    body = "".join(row("td", cells) for cells in lines)
    return f"<table><thead>{row('th', heads)}</thead><tbody>{body}</tbody></table>"
