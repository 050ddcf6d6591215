"""The report of a validation as one HTML file: tables and drawings inside, nothing loaded."""

from __future__ import annotations

import html as escaping
from collections.abc import Sequence

import numpy as np

from vledge.validation.reference.bundle import versions
from vledge.validation.report.svg import HALF, bars, lines
from vledge.validation.validate import Report

__all__ = ["html"]

MOST_DRAWN = 8  # values, those that fail before the others
MOST_BARS = 12  # of lengths
MOST_POWERS = 8  # of ten, so that each bar has room for its number

_STYLE = """
:root { color-scheme: light; --ink: #1d2430; --soft: #5b6472; --line: #dde1e7; --good: #1a7f4b;
  --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 76rem; margin: 2rem auto;
  padding: 0 1.2rem; background: #fff; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; }
.soft, figcaption { color: var(--soft); }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; color: #fff;
  font-weight: 600; background: var(--good); }
.verdict.bad { background: var(--bad); }
.diagnosis { border-left: 4px solid var(--bad); padding: .6rem 1rem; background: #fdf3f2; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 500; }
td.bad { color: var(--bad); font-weight: 600; }
td.good { color: var(--good); }
td.number, th.number { text-align: right; overflow-wrap: normal; }
td.number, td.good, td.bad { white-space: nowrap; }
td:last-child { min-width: 8rem; }
figure { margin: .4rem 0; overflow-x: auto; }
.side { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); }
svg { width: 100%; min-width: 26rem; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def html(report: Report) -> str:
    """The whole document."""
    passed = report.proven
    verdict = report.verdict
    made_by = versions(report.made_by)
    failed = sum(not one.passed for one in report.runs)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(report.model)}: {verdict}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(report.model)}</h1>",
        f'<p><span class="verdict{"" if passed else " bad"}">{verdict}</span>: '
        f"{failed or 'none'} of {len(report.runs)} ways of running failed</p>",
        f'<p class="soft">against {_text(report.reference)}, made by {_text(made_by)}</p>',
        f'<p class="soft">{_text(", ".join(filter(None, _when_and_where(report))))}</p>',
        *(f'<p class="soft">{_text(note)}</p>' for note in report.notes),
    ]
    parts += [f'<p class="diagnosis">{_text(why)}</p>' for why in report.unproven]
    if report.diagnosis:
        parts.append(f'<p class="diagnosis">{_text(report.diagnosis.summary)}</p>')
    left_out = report.left_out.items()
    errors = sorted({one.error for one in report.runs if one.error})
    parts += [f'<p class="diagnosis">{_text(error)}</p>' for error in errors]
    parts += ["<h2>Outputs</h2>", _outputs(report)]
    parts += _drawings(report)
    parts += ["<h2>Ways of running</h2>", _runs(report)]
    parts += [f'<p class="soft">Left out: {_text(n)} ({_text(w)})</p>' for n, w in left_out]
    parts += ["<h2>Machine</h2>", _machine(report)]
    return "\n".join([*parts, "</body></html>", ""])


def _when_and_where(report: Report) -> list[str]:
    """The date, the machine in a few words, and which file it was."""
    machine = report.machine
    where = [machine.get(key, "") for key in ("model", "machine") if machine.get(key)]
    return [report.date, *where, report.checksum]


def _outputs(report: Report) -> str:
    worst = report.worst()
    ways = {one.path: number for number, one in enumerate(report.runs, 1)}
    classes = any(found.same_answer for found, _ in worst)
    heads = ["output", "", "largest error", "tolerance", "relative", "ULP", "× reference's own"]
    heads += ["same answer"] * classes + ["in way", "worst at"]
    table = []
    for found, path in worst:
        own = found.of_own_error
        place = ", ".join(f"{key}\u00a0{value}" for key, value in found.worst.items())
        answers = found.same_answer
        same = f"{answers[0]} of {answers[1]}" if answers else ""
        table.append(
            [
                found.name,
                "passed" if found.passed else "failed",
                f"{found.absolute:.2e}",
                f"{found.tolerance.absolute:.2e}",
                f"{found.relative:.1e}",
                f"{found.ulp:.3g}",
                "" if own is None else f"{own:.3g}",
                *[same] * classes,
                str(ways[path]),
                found.problem or place,
            ]
        )
    rules = dict.fromkeys(
        f"{found.name}: {found.tolerance.absolute:.2e} = {found.tolerance.why}"
        for found, _ in worst
    )
    told = "<br>".join(map(_text, rules))
    return f'{_table(heads, table, range(2, len(heads) - 1))}<p class="soft">Tolerances. {told}</p>'


def _drawings(report: Report) -> list[str]:
    parts = []
    worst = sorted((found for found, _ in report.worst()), key=lambda found: found.passed)
    curves = [found for found in worst if len(found.over_time) > 1]
    if curves:
        shown = {found.name: found.over_time for found in curves[:MOST_DRAWN]}
        limits = [found.tolerance.absolute for found in curves[:MOST_DRAWN]]
        caption = (
            f"Largest error at each {report.step}, over all sequences, in the worst way of "
            f"running; dashed: tolerances.{_part(curves)}"
        )
        parts += [
            "<h2>Error over time</h2>",
            _figure(lines(shown, limits, report.step, "error"), caption),
        ]
    drawn = [found.name for found in worst if found.name in report.errors]
    if drawn:
        parts += ["<h2>How errors are distributed</h2>", '<div class="side">']
        for name in drawn[:MOST_DRAWN]:
            errors = report.errors[name]
            counts, labels = _histogram(errors)
            caption = f"{name}: {errors.size:,} values, way 1; under 0 those that are exact."
            parts.append(_figure(bars(counts, labels, "error, from", "values", HALF), caption))
        parts.append(f'</div><p class="soft">{_part(drawn)}</p>')
    if report.lengths:
        counts, labels = _by_length(report.lengths)
        parts += [
            "<h2>Lengths</h2>",
            _figure(
                bars(counts, labels, "steps", "sequences"), f"{len(report.lengths)} sequences."
            ),
        ]
    times = [one.seconds * 1e3 for one in report.runs]
    caption = "Milliseconds for all cases, in the order of the table below; not a benchmark."
    labels = [str(number) for number in range(1, len(times) + 1)]
    parts += ["<h2>Time</h2>", _figure(bars(times, labels, "way of running", "ms"), caption)]
    return parts


def _part(drawn: Sequence[object]) -> str:
    """That not all of them are shown, if so."""
    return f" {MOST_DRAWN} of {len(drawn)} are drawn." if len(drawn) > MOST_DRAWN else ""


def _by_length(lengths: Sequence[int]) -> tuple[list[int], list[str]]:
    """How many sequences have each length, or one of each range of lengths."""
    lowest, highest = min(lengths), max(lengths)
    if len(set(lengths)) <= MOST_BARS:
        values = sorted(set(lengths))
        return [lengths.count(value) for value in values], [str(value) for value in values]
    wide = -(-(highest - lowest + 1) // MOST_BARS)
    starts = range(lowest, highest + 1, wide)
    counts = np.bincount((np.array(lengths) - lowest) // wide, minlength=len(starts))
    labels = [f"{start}–{start + wide - 1}" if wide > 1 else str(start) for start in starts]
    return counts.tolist(), labels


def _histogram(errors: np.ndarray) -> tuple[list[int], list[str]]:
    """Counts by power of ten; the first is of those that are exact, the second of all smaller."""
    finite = errors[np.isfinite(errors)]
    some = finite[finite > 0]
    labels, counts = ["0"], [int((finite == 0).sum())]
    if some.size:
        powers = np.floor(np.log10(some)).astype(int)
        lowest = max(int(powers.min()), int(powers.max()) + 1 - MOST_POWERS)
        smaller = "≤" if powers.min() < lowest else ""
        powers = np.maximum(powers, lowest)
        for power in range(lowest, int(powers.max()) + 1):
            labels.append(f"{smaller if power == lowest else ''}1e{power}")
            counts.append(int((powers == power).sum()))
    if finite.size < errors.size:
        labels.append("not finite")
        counts.append(int(errors.size - finite.size))
    return counts, labels


def _runs(report: Report) -> str:
    table = [
        [
            f"{number + 1}",
            one.path.strategy,
            one.path.isa,
            str(one.path.threads),
            one.path.projection,
            f"{one.seconds * 1e3:.1f} ms",
            "passed" if one.passed else "failed",
            one.error or f"{max(c.absolute for c in one.comparisons):.1e}",
        ]
        for number, one in enumerate(report.runs)
    ]
    heads = ["way", "strategy", "instructions", "threads", "products", "time", "", "largest error"]
    return _table(heads, table, (0, 3, 5))


def _machine(report: Report) -> str:
    items = "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in report.machine.items())
    return f"<dl>{items}</dl>"


def _table(heads: Sequence[str], table: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """A table whose columns of ``numbers`` are set to the right."""
    colours = {"passed": "good", "failed": "bad"}

    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = [
            "number" if place in numbers else colours.get(cell, "")
            for place, cell in enumerate(cells)
        ]
        told = [
            f"<{tag}{f' class={kind!r}' if kind else ''}>{_text(cell)}</{tag}>"
            for kind, cell in zip(kinds, cells, strict=True)
        ]
        return f"<tr>{''.join(told)}</tr>"

    head = row("th", heads)
    body = "".join(row("td", cells) for cells in table)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{_text(caption)}</figcaption></figure>"


def _text(value: object) -> str:
    return escaping.escape(str(value))
