"""The figures as people read them: a terminal table, and benchmarks/README.md's generated part."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bounds import least_seconds
from benchmarks.workloads import TARGETS, matrix

__all__ = ["markdown", "row_of", "text_row", "write_readme"]

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """What a table shows of one measured work."""
    medians = {n: statistics.median(s) for n, s in record["microseconds"].items()}
    ratios = {n: statistics.median(record["ratios"][n]) for n in record["counted"] if n != "vledge"}
    best = min(ratios, key=lambda n: ratios[n]) if ratios else None
    ours = medians["vledge"]
    samples = record["microseconds"]["vledge"]
    return {
        "name": record["name"],
        "group": record["group"],
        "threads": record["threads"],
        "ours": ours,
        "spread": (max(samples) - min(samples)) / ours,
        "best": best,
        "best_time": medians[best] if best else None,
        "ratio": ratios[best] if best else None,
        "target": TARGETS[record["group"]].get(record["threads"]),
        "gflops": record["flops"] / ours / 1e3,
        "medians": medians,
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


def markdown(
    records: Iterable[dict[str, Any]], machine: dict[str, Any], limits: Mapping[str, float]
) -> str:
    """The generated part: the machine, then a table for each number of threads."""
    rows = [row_of(record) for record in records]
    works = {work.name: work for work in matrix()}
    for row in rows:
        row["least"] = 1e6 * least_seconds(works[row["name"]], limits, row["threads"])
    lines = ["### The machine", "", *(f"- {k}: {v}" for k, v in machine.items()), ""]
    for threads in sorted({row["threads"] for row in rows}):
        here = [row for row in rows if row["threads"] == threads]
        met = sum(1 for r in here if r["target"] and r["ratio"] and r["ratio"] >= r["target"])
        aimed = sum(1 for r in here if r["target"] and r["ratio"])
        behind = sum(1 for r in here if r["ratio"] and r["ratio"] < 1)
        beyond = sum(1 for r in here if _out_of_reach(r))
        lines += [
            f"### {threads} thread{'s' if threads > 1 else ''}",
            "",
            f"{met} of {aimed} rows with a target reach it; {behind} of {len(here)} rows are "
            f"slower than the best peer; {beyond} targets are more than this machine's limits "
            "allow.",
            "",
            "| work | vledge, us | GFLOP/s | best peer | its time, us | ratio | target "
            "| at the limits | of the limits | torch packed | onnxruntime | openvino | ncnn |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in here:
            others = [
                f"{m:.1f}" if m else "-"
                for m in (
                    row["medians"].get("torch packed") or row["medians"].get("torch"),
                    row["medians"].get("onnxruntime"),
                    row["medians"].get("openvino"),
                    row["medians"].get("ncnn"),
                )
            ]
            if row["ratio"] is None:
                verdict, best_time = "-", "-"
            else:
                mark = "" if not row["target"] or row["ratio"] >= row["target"] else " (short)"
                if _out_of_reach(row):
                    mark = " (out of reach)"
                verdict, best_time = f"**{row['ratio']:.2f}**{mark}", f"{row['best_time']:.1f}"
            target = f"{row['target']:.2f}" if row["target"] else "-"
            cells = [row["name"], f"{row['ours']:.1f}", f"{row['gflops']:.1f}", row["best"] or "-"]
            limit = f"{_at_the_limits(row):.2f}" if row["ratio"] else "-"
            bound = [limit, f"{row['least'] / row['ours']:.0%}"]
            lines.append(
                "| " + " | ".join([*cells, best_time, verdict, target, *bound, *others]) + " |"
            )
        lines.append("")
    return "\n".join(lines)


def _at_the_limits(row: dict[str, Any]) -> float:
    """The ratio of somebody who needs the least time that the machine's limits allow."""
    return float(row["ratio"] * row["ours"] / row["least"])


def _out_of_reach(row: dict[str, Any]) -> bool:
    """Whether the target asks for less time than the machine's limits allow."""
    return bool(row["target"] and row["ratio"]) and _at_the_limits(row) < row["target"]


def write_readme(path: Path, text: str) -> None:
    """Replace what stands between the markers of the page."""
    page = path.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
