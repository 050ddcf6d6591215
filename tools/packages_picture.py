"""Draws the packages of vledge, and which imports which.

    python tools/packages_picture.py

writes docs/pictures/packages.svg, which CONTRIBUTING.md shows.

Read from every import in the source, by ``tests/imports.py``. A package stands above all that it
imports. An arrow that follows from two others is left out, and so are the small modules that
everybody imports. Doors, where a low package offers a high one, are dashed; ``test_import.py``
names them.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.imports import arrows  # noqa: E402
from tests.test_import import DOORS, package_of  # noqa: E402

PICTURE = ROOT / "docs" / "pictures" / "packages.svg"
EVERYBODY_S = {
    "",
    "__main__",
    "_version",
    "array_like",
    "errors",
    "out_arrays",
    "progress",
    "shown",
}

WIDTH, BOX_HEIGHT, ROW_HEIGHT, MARGIN = 860, 30, 80, 20
PIXELS_A_LETTER, PADDING, LEAST_WIDTH = 8, 26, 80  # of 14 px sans-serif, whose letters are narrower


def packages() -> dict[str, set[str]]:
    """Package → those that it imports, doors apart."""
    imported: dict[str, set[str]] = {}
    for source, target in arrows():
        pair = package_of(source), package_of(target)
        if not EVERYBODY_S & set(pair):
            for package in pair:
                imported.setdefault(package, set())
            if pair[0] != pair[1] and (source, target) not in DOORS:
                imported[pair[0]].add(pair[1])
    return imported


def doors() -> list[tuple[str, str, str]]:
    """(package, package that it offers, what for)."""
    offered: dict[tuple[str, str], list[str]] = {}
    for (source, target), what in DOORS.items():
        pair = package_of(source), package_of(target)
        if pair[0] != pair[1]:
            offered.setdefault(pair, []).append(what)
    return [(*pair, "; ".join(what)) for pair, what in sorted(offered.items())]


def below(package: str, imported: dict[str, set[str]]) -> set[str]:
    """All that a package needs, directly or not."""
    needed: set[str] = set()
    waiting = [*imported[package]]
    while waiting:
        one = waiting.pop()
        if one not in needed:
            needed.add(one)
            waiting += imported[one]
    return needed


def heights(imported: dict[str, set[str]]) -> dict[str, int]:
    """The longest way down from each package."""
    found: dict[str, int] = {}

    def height(package: str) -> int:
        if package not in found:
            found[package] = 1 + max((height(p) for p in imported[package]), default=-1)
        return found[package]

    for package in imported:
        height(package)
    return found


def places(imported: dict[str, set[str]]) -> dict[str, tuple[float, float, int]]:
    """Package → middle x, top y and width: a row a height, each package over what it imports."""
    rows: dict[int, list[str]] = {}
    for package, height in sorted(heights(imported).items()):
        rows.setdefault(height, []).append(package)
    middle: dict[str, float] = {}
    placed: dict[str, tuple[float, float, int]] = {}
    for height, row in sorted(rows.items()):
        wanted = {p: _mean([middle[q] for q in imported[p]], WIDTH / 2) for p in row}
        row.sort(key=lambda p: (wanted[p], p))
        widths = [max(PIXELS_A_LETTER * len(p) + PADDING, LEAST_WIDTH) for p in row]
        gap = (WIDTH - 2 * MARGIN - sum(widths)) / (len(row) + 1)
        x = MARGIN + gap
        for package, width in zip(row, widths, strict=True):
            middle[package] = x + width / 2
            placed[package] = middle[package], (max(rows) - height) * ROW_HEIGHT + MARGIN, width
            x += width + gap
    return placed


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def picture() -> str:
    """The SVG's text."""
    imported = packages()
    placed = places(imported)
    bottom = max(y for _, y, _ in placed.values()) + BOX_HEIGHT + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom:.0f}" '
        f'viewBox="0 0 {WIDTH} {bottom:.0f}" font-family="sans-serif" font-size="14">',
        "<title>The packages of vledge: each imports only what stands below it</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto-start-reverse">'
        '<path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{bottom:.0f}" fill="#ffffff"/>',
    ]
    for source, targets in sorted(imported.items()):
        implied = set().union(*(below(target, imported) for target in targets))
        for target in sorted(targets - implied):
            lines.append(_arrow(placed[source], placed[target], 'stroke="#5b6b7b"', ""))
    for source, target, what in doors():
        if source in placed and target in placed:
            style = 'stroke="#c2571a" stroke-dasharray="5 4"'
            lines.append(_arrow(placed[source], placed[target], style, what))
    for package, (x, y, width) in sorted(placed.items()):
        lines.append(
            f'<rect x="{x - width / 2:.0f}" y="{y:.0f}" width="{width}" height="{BOX_HEIGHT}" '
            'rx="5" fill="#eef3f8" stroke="#35506b"/>'
            f'<text x="{x:.0f}" y="{y + 20:.0f}" text-anchor="middle" fill="#16283a">'
            f"{package}</text>"
        )
    lines.append(
        f'<text x="{MARGIN}" y="{MARGIN + 14}" font-size="12" fill="#5b6b7b">imports</text>'
        f'<text x="{MARGIN}" y="{MARGIN + 32}" font-size="12" fill="#c2571a">offers (a door)</text>'
    )
    return "\n".join([*lines, "</svg>", ""])


def _arrow(
    source: tuple[float, float, int], target: tuple[float, float, int], style: str, what: str
) -> str:
    (x1, y1, width), (x2, y2, other) = source, target
    title = f"<title>{escape(what)}</title>" if what else ""
    end = f'fill="none" {style} stroke-width="1.4" marker-end="url(#tip)">{title}</path>'
    if y1 == y2:  # in one row: from side to side
        towards = 1 if x2 > x1 else -1
        x1, x2 = x1 + towards * width / 2, x2 - towards * other / 2
        return f'<path d="M{x1:.0f} {y1 + BOX_HEIGHT / 2:.0f}H{x2:.0f}" {end}'
    up = y2 < y1
    y1, y2 = (y1, y2 + BOX_HEIGHT) if up else (y1 + BOX_HEIGHT, y2)
    aside = 10 if up else 0  # beside the arrow down, if there is one
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1 + aside:.0f} {y1:.0f}C{x1 + aside:.0f} {y1 + bend:.0f} '
        f'{x2 + aside:.0f} {y2 - bend:.0f} {x2 + aside:.0f} {y2:.0f}" {end}'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(packages())} packages")
