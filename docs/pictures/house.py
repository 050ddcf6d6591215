"""Draws house.svg: the rooms of vledge, and a padded batch on its way through them.

python docs/pictures/house.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 920, 690
INK, SOFT, LINE = "#1f2933", "#52606d", "#9aa5b1"
ROOM, DOOR, KERNEL, REAL, PADDING = "#eef4fb", "#fdf3e1", "#e6f4ea", "#4a90d9", "#e4e7eb"
COLOURS = ("#2f6fb3", "#c2671d", "#3d8b53", "#8554a8")
LENGTHS = (3, 7, 2, 5)  # in the caller's order
NAMES = "abcd"
CELL = 24


def small(x: float, y: float, words: str) -> str:
    return text(x, y, words, 12, SOFT)


def frame(x: float, y: float, height: float, width: float) -> str:
    return (
        f'<rect x="{x - 2}" y="{y - 2}" width="{CELL + 1}" height="{height}" rx="4" fill="none" '
        f'stroke="{INK}" stroke-width="{width}"/>'
    )


def text(x: float, y: float, words: str, size: int = 13, colour: str = INK, **more: str) -> str:
    attributes = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{attributes}>{words}</text>'


def room(x: int, y: int, width: int, height: int, name: str, *lines: str, fill: str = ROOM) -> str:
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" '
        f'fill="{fill}" stroke="{LINE}"/>',
        text(x + 10, y + 20, name, 14, font_weight="bold"),
    ]
    parts += [small(x + 10, y + 38 + 16 * i, line) for i, line in enumerate(lines)]
    return "\n".join(parts)


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{SOFT}" stroke-width="1.5" '
        'marker-end="url(#head)"/>'
    )


def house() -> list[str]:
    """The upper half: rooms in the order in which data go through them."""
    return [
        text(20, 30, "The house", 17, font_weight="bold"),
        room(20, 46, 880, 44, "cli, validation, streaming", fill=DOOR),
        small(240, 66, "what people call: commands, proofs, live input; on all the rooms below"),
        room(
            20,
            112,
            130,
            84,
            "your file",
            ".pt  .keras  .onnx",
            ".safetensors  .npz",
            fill="#ffffff",
        ),
        arrow(150, 154, 180, 154),
        room(182, 112, 150, 84, "formats, model", "plain arrays, a graph;", "nothing is trusted"),
        arrow(332, 140, 362, 132),
        arrow(332, 168, 362, 210),
        room(364, 104, 170, 66, "nn", "Modules and layers,", "with torch's names"),
        room(364, 184, 170, 66, "graph", "an ONNX model: passes,", "a native program"),
        arrow(534, 137, 564, 160),
        arrow(534, 217, 564, 194),
        room(566, 134, 152, 84, "lengths, planning", "which way to handle", "these lengths"),
        arrow(718, 176, 748, 176),
        room(750, 134, 150, 84, "packing", "rows that are alive,", "in torch's layout"),
        room(20, 268, 880, 44, "ext", fill=KERNEL),
        small(
            70,
            288,
            "compiled: time loops, products, convolutions, chains; a C header an idea, for SSE2,",
        ),
        small(
            70,
            304,
            "AVX2, AVX-512 and NEON, chosen when the program starts; pointers and sizes, no layers",
        ),
        arrow(449, 250, 449, 266),
        arrow(642, 218, 642, 266),
        arrow(825, 218, 825, 266),
    ]


def cell(x: float, y: float, which: int | None, label: str = "") -> str:
    fill = PADDING if which is None else COLOURS[which]
    box = f'<rect x="{x}" y="{y}" width="{CELL - 3}" height="{CELL - 3}" rx="3" fill="{fill}"/>'
    word = (
        text(x + (CELL - 3) / 2, y + 15, label, 11, "#ffffff", text_anchor="middle")
        if label
        else ""
    )
    return box + word


def grid(left: int, top: int, order: tuple[int, ...], padding: bool) -> list[str]:
    """Sequences as rows, time to the right."""
    parts = []
    for row, which in enumerate(order):
        y = top + row * CELL
        parts.append(text(left - 16, y + 15, NAMES[which], 13, COLOURS[which], font_weight="bold"))
        for step in range(max(LENGTHS)):
            if step < LENGTHS[which]:
                parts.append(cell(left + step * CELL, y, which, str(step)))
            elif padding:
                parts.append(cell(left + step * CELL, y, None))
    return parts


def batch() -> list[str]:
    """The lower half: padded, by length, step by step, and padded again."""
    by_length = tuple(sorted(range(len(LENGTHS)), key=lambda i: -LENGTHS[i]))
    sizes = [sum(length > step for length in LENGTHS) for step in range(max(LENGTHS))]
    top, first, second = 400, 44, 370
    parts = [
        text(20, 350, "A padded batch goes through it", 17, font_weight="bold"),
        text(20, 376, "1  what you give", 13),
        *grid(first, top, tuple(range(len(LENGTHS))), True),
        small(20, top + 116, "x [4, 7, features], lengths (3, 7, 2, 5):"),
        small(20, top + 132, "11 of its 28 steps are padding"),
        arrow(228, top + 46, 330, top + 46),
        small(236, top + 36, "rows by length"),
        text(350, 376, "2  what runs: the rows that are alive", 13),
        *grid(second, top, by_length, False),
    ]
    for step, size in enumerate(sizes):
        x = second + step * CELL
        parts.append(frame(x, top, size * CELL + 1, 1.2))
        parts.append(text(x + 10, top + 116, str(size), 12, SOFT, text_anchor="middle"))
    step_of_a_tile = (
        "sums stay in registers,",
        "then the cell's equations,",
        "then h (and c) are written",
    )
    parts += [
        small(second + len(sizes) * CELL + 8, top + 116, "rows at each step"),
        text(670, 376, "3  one step, one register tile", 13),
        room(670, 392, 230, 104, "rows × gates × units", *step_of_a_tile, fill=KERNEL),
        arrow(560, top + 46, 664, top + 46),
        text(
            20,
            556,
            "4  what you get: output [4, 7, units], zeros in the padding, and final states",
            13,
        ),
    ]
    for row, which in enumerate(range(len(LENGTHS))):
        y = 570 + row * CELL
        parts.append(text(first - 16, y + 15, NAMES[which], 13, COLOURS[which], font_weight="bold"))
        for step in range(max(LENGTHS)):
            live = step < LENGTHS[which]
            parts.append(
                cell(first + step * CELL, y, which if live else None, f"{step}" if live else "")
            )
            if step == LENGTHS[which] - 1:
                parts.append(frame(first + step * CELL, y, CELL + 1, 2))
    parts.append(small(250, 602, "A frame marks each final state. In the reverse direction every"))
    parts.append(small(250, 620, "sequence begins at its own end: the frame is at its step 0."))
    parts.append(small(250, 638, "Nothing was transposed or copied on the way."))
    return parts


def main() -> None:
    body = "\n".join([*house(), *batch()])
    Path(__file__).with_name("house.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif" role="img">\n'
        "<title>The rooms of vledge, and a padded batch on its way through them</title>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        f'markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{SOFT}"/></marker>'
        "</defs>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>\n{body}\n</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
