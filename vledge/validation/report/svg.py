"""Two kinds of drawing as inline SVG: curves on a logarithmic scale, and bars."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

__all__ = ["HALF", "bars", "lines"]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 860, 240, 62, 34, 24, 12
HALF = 430  # of two drawings side by side
COLOURS = ("#2463a6", "#b85c00", "#1a7f4b", "#8a3ea8", "#b3261e", "#0c7c86", "#6b6200", "#555f6d")


def lines(
    curves: Mapping[str, Sequence[float]], limits: Sequence[float], across: str, up: str
) -> str:
    """Curves over 0, 1, 2, …, their values on a logarithmic scale, and dashed limits."""
    finite = [v for c in curves.values() for v in c if math.isfinite(v) and v > 0]
    finite += [limit for limit in limits if limit > 0]
    low = math.floor(math.log10(min(finite, default=1e-9)))
    low = max(low, math.ceil(math.log10(max(finite, default=1.0))) - 16)
    high = max(low + 1, math.ceil(math.log10(max(finite, default=1.0))))
    longest = max((len(c) for c in curves.values()), default=1)
    legend = 18 * len(curves)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / max(longest - 1, 1)

    def y(value: float) -> float:
        power = high if value == math.inf else math.log10(value) if value > 0 else low
        part = (min(max(power, low), high) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part

    parts = []
    for power in range(low, high + 1, max(1, (high - low) // 6)):
        parts.append(_rule(y(10.0**power), WIDTH))
        parts.append(_label(LEFT - 6, y(10.0**power) + 4, f"1e{power}", "end"))
    for step in _ticks(longest - 1):
        parts.append(_label(x(step), HEIGHT - BOTTOM + 16, str(step), "middle"))
    parts.append(_label(WIDTH - RIGHT, HEIGHT - 4, across, "end"))
    parts.append(_label(4, 12, up, "start"))
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(curve))
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{points}"/>'
        )
        if number < len(limits):
            at = y(limits[number])
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" '
                f'stroke="{colour}" stroke-dasharray="5 4" opacity="0.6"/>'
            )
        below = HEIGHT + 14 + 18 * number
        parts.append(f'<rect x="{LEFT}" y="{below - 9}" width="14" height="4" fill="{colour}"/>')
        parts.append(_label(LEFT + 20, below - 3, name, "start"))
    return _svg(WIDTH, HEIGHT + legend + 6, parts)


def bars(
    values: Sequence[float], labels: Sequence[str], across: str, up: str, width: int = WIDTH
) -> str:
    """A bar for each value, its label below, its number above or, of many, the scale beside."""
    highest = max(values, default=0) or 1
    height = 190
    top, bottom = TOP + 14, height - BOTTOM - 10
    room = (width - LEFT - RIGHT) / max(len(values), 1)
    parts = [_rule(bottom, width), _label(4, 12, up, "start")]
    parts.append(_label(width - RIGHT, height - 4, across, "end"))
    sparse = math.ceil(34 / room)
    if room < 34:
        parts += [_rule(top, width), _label(LEFT - 6, top + 4, _number(highest), "end")]
        parts.append(_label(LEFT - 6, bottom + 4, "0", "end"))
    for number, (value, label) in enumerate(zip(values, labels, strict=True)):
        tall = (bottom - top) * value / highest
        left = LEFT + room * number
        middle = left + room / 2
        parts.append(
            f'<rect x="{left + room * 0.12:.1f}" y="{bottom - tall:.1f}" '
            f'width="{room * 0.76:.1f}" height="{tall:.1f}" fill="{COLOURS[0]}"/>'
        )
        if room >= 34 and value:
            parts.append(_label(middle, bottom - tall - 4, _number(value), "middle"))
        if number % sparse == 0:
            parts.append(_label(middle, bottom + 16, label, "middle"))
    return _svg(width, height, parts)


def _number(value: float) -> str:
    """In at most five letters, but for what is very large."""
    if isinstance(value, int):
        if value < 10_000:
            return str(value)
        return f"{value / 1e3:.0f}k" if value < 999_500 else f"{value / 1e6:.1f}M"
    return f"{value:.3g}"


def _ticks(last: int) -> list[int]:
    """About eight numbers from 0, round ones."""
    power = 10 ** math.floor(math.log10(max(last / 8, 1)))
    step = next(power * part for part in (1, 2, 5, 10) if power * part >= last / 8)
    return list(range(0, last + 1, step))


def _rule(y: float, width: int) -> str:
    return f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dde1e7"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'
