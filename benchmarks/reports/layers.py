"""The figures as people read them: a terminal table, and what is generated in the pages here."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.measuring.parts import PARTS
from benchmarks.measuring.workloads import TARGETS
from benchmarks.peers.apart import ENVIRONMENTS

__all__ = ["boards", "markdown", "row_of", "text_row", "write_page"]

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """What a table shows of one measured work."""
    medians = {n: statistics.median(s) for n, s in record["microseconds"].items()}
    ratios = {n: statistics.median(record["ratios"][n]) for n in record["counted"] if n != "vledge"}
    best = min(ratios, key=lambda n: ratios[n]) if ratios else None
    ours = medians["vledge"]
    samples = record["microseconds"]["vledge"]
    ratio = ratios[best] if best else None
    quickest = min((min(record["microseconds"][n]) for n in ratios), default=None)
    return {
        "name": record["name"],
        "group": record["group"],
        "threads": record["threads"],
        "ours": ours,
        "spread": (max(samples) - min(samples)) / ours,
        "best": best,
        "best_time": medians[best] if best else None,
        "ratio": ratio,
        "quiet ratio": quickest / min(samples) if quickest else None,
        "target": TARGETS[record["group"]].get(record["threads"]),
        "gflops": record["flops"] / ours / 1e3,
        "medians": medians,
        "parts": record.get("parts"),  # records of before have none
        "most": _most(ratio, record.get("parts")),
    }


def text_row(row: dict[str, Any]) -> str:
    """One line of the terminal table."""
    ratio = f"{row['ratio']:6.2f}" if row["ratio"] else "     -"
    target = f"{row['target']:4.2f}" if row["target"] else "   -"
    verdict = (
        " "
        if not row["target"] or not row["ratio"]
        else "<"
        if row["ratio"] < row["target"]
        else " "
    )
    return (
        f"{row['threads']}t {row['name']:<44} {row['ours']:>10.1f} us {row['gflops']:>6.1f} GF/s "
        f"{ratio} of {row['best'] or '-':<22} target {target} {verdict}"
    )


def markdown(records: Iterable[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The generated part: the machine, then for each number of threads a table of all rows, and one
    of those that are short."""
    rows = [row_of(record) for record in records]
    alone = {row["name"]: row["medians"] for row in rows if row["threads"] == 1}
    lines = ["### The machine", "", *(f"- {k}: {v}" for k, v in machine.items()), ""]
    for threads in sorted({row["threads"] for row in rows}):
        here = [row for row in rows if row["threads"] == threads]
        short = [row for row in here if _short(row)]
        aimed = sum(1 for r in here if r["target"] and r["ratio"])
        behind = sum(1 for r in here if r["ratio"] and r["ratio"] < 1)
        beyond = sum(1 for r in short if _out_of_reach(r))
        count = f"{threads} thread{'s' if threads > 1 else ''}"
        lines += [
            f"### {count}",
            "",
            f"{aimed - len(short)} of {aimed} rows with a target reach it; {behind} of {len(here)} "
            f"rows are slower than the best peer; {beyond} targets are out of reach.",
            "",
            *_table(
                ["work", "vledge, us", "GFLOP/s", "best peer", "its time, us", "ratio", "target"]
                + ["at most", "torch packed", "onnxruntime", "openvino", "ncnn"],
                map(_cells, here),
            ),
            "",
        ]
        if short:
            lines += [f"### Rows that are short on {count}, and why", ""]
            lines += _table(*_reasons(short, alone if threads > 1 else None)) + [""]
    return "\n".join(lines)


def boards(records: Iterable[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The generated part of boards.md: for each peer that has an environment, its best way's ratio,
    or why there is none."""
    lines = [*(f"- {k}: {v}" for k, v in machine.items()), ""]
    rows, failures = [], []
    for record in records:
        row = row_of(record)
        rows.append([row["name"], f"{row['ours']:.1f}"])
        for peer in ENVIRONMENTS:
            ratios = {
                name: statistics.median(record["ratios"][name])
                for name in record["counted"]
                if name.split()[0] == peer
            }
            best = min(ratios, key=lambda name: ratios[name], default=None)
            way = " " + best.partition(" ")[2] if best else ""
            rows[-1].append(f"{ratios[best]:.2f}{way}".rstrip() if best else "-")
            failures += [
                f"- {row['name']}: {name}: {why}"
                for name, why in record["failures"].items()
                if name.split()[0] == peer
            ]
    lines += _table(["work", "vledge, us", *ENVIRONMENTS], rows)
    return "\n".join([*lines, *(["", "Left out:", "", *failures] if failures else [])])


def _table(heads: list[str], rows: Iterable[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


def _cells(row: dict[str, Any]) -> list[str]:
    """A row of the table of all."""
    medians = row["medians"]
    mark = " (out of reach)" if _out_of_reach(row) else " (short)" if _short(row) else ""
    others = (
        medians.get("torch packed") or medians.get("torch"),
        *(medians.get(name) for name in ("onnxruntime", "openvino", "ncnn")),
    )
    return [
        row["name"],
        f"{row['ours']:.1f}",
        f"{row['gflops']:.1f}",
        row["best"] or "-",
        f"{row['best_time']:.1f}" if row["best"] else "-",
        f"**{row['ratio']:.2f}**{mark}" if row["best"] else "-",
        f"{row['target']:.2f}" if row["target"] else "-",
        f"{row['most']:.2f}" if row["most"] else "-",
        *(f"{median:.1f}" if median else "-" for median in others),
    ]


def _reasons(
    rows: list[dict[str, Any]], alone: dict[str, dict[str, float]] | None
) -> tuple[list[str], list[list[str]]]:
    """The table of those that are short; ``alone`` has the medians of one thread, for more."""
    heads = ["work", "ratio of target", "quickest turns", *PARTS, "limits need", "at most"]
    heads += ["products at"] if alone is None else ["gain of threads", "best peer's"]
    lines = []
    for row in rows:
        parts, reached = row["parts"], row["ratio"] / row["target"]
        cells = [
            row["name"],
            f"{row['ratio']:.2f} of {row['target']:.2f} ({_percent(reached)})",
            f"{row['quiet ratio']:.2f}",
        ]
        if parts:
            cells += [_percent(parts[part]) for part in (*PARTS, "products at the limits")]
            cells += [f"{row['most']:.2f}{' (out of reach)' if _out_of_reach(row) else ''}"]
        else:
            cells += ["-"] * (len(PARTS) + 2)
        if alone is None:
            cells += [_speed(parts) if parts else "-"]
        else:
            one = alone.get(row["name"], {})
            cells += [
                f"{one[name] / row['medians'][name]:.2f}" if name in one else "-"
                for name in ("vledge", row["best"])
            ]
        lines.append(cells)
    return heads, lines


def _speed(parts: dict[str, float]) -> str:
    """Of the products, as a share of the limit that takes most of their least time."""
    least = parts["products at the limits"]
    limit = "fastest read" if parts["reading"] > least / 2 else "FMA peak"
    return f"{_percent(least / (parts['projection'] + parts['recurrent products']))} of the {limit}"


def _percent(share: float) -> str:
    return f"{round(100 * share)}%"


def _most(ratio: float | None, parts: dict[str, float] | None) -> float | None:
    """The most that a better kernel could bring: the ratio with products at the machine's limits,
    equations as measured, and nothing else."""
    if not ratio or not parts:
        return None
    return ratio / (parts["products at the limits"] + parts["equations"])


def _short(row: dict[str, Any]) -> bool:
    return bool(row["target"] and row["ratio"]) and row["ratio"] < row["target"]


def _out_of_reach(row: dict[str, Any]) -> bool:
    """Whether the target is missed, and would be with the best of kernels."""
    return _short(row) and bool(row["most"]) and row["most"] < row["target"]


def write_page(path: Path, text: str) -> None:
    """Replace what stands between the markers of the page."""
    page = path.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
