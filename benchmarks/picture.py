"""One picture: the ratio of the best peer's time to ours, a bar for each work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import row_of

__all__ = ["draw"]


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars by work and number of threads, targets as marks; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in map(row_of, records) if row["ratio"]]
    counts = sorted({row["threads"] for row in rows})
    figure, axes = pyplot.subplots(
        1, len(counts), figsize=(7 * len(counts), 0.22 * len(rows) / len(counts) + 1.5), sharey=True
    )
    for axis, threads in zip(axes if len(counts) > 1 else [axes], counts, strict=True):
        here = [row for row in rows if row["threads"] == threads][::-1]
        places = range(len(here))
        colours = ["#2a7f62" if row["ratio"] >= 1 else "#b3403a" for row in here]
        axis.barh(places, [row["ratio"] for row in here], color=colours, height=0.7)
        targets = [(i, row["target"]) for i, row in enumerate(here) if row["target"]]
        axis.plot([t for _, t in targets], [i for i, _ in targets], "k|", markersize=9)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_yticks(list(places), [row["name"] for row in here], fontsize=7)
        axis.set_xscale("log")
        axis.set_xticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
        axis.set_xlabel("best peer's time / vledge's (| target)")
        axis.set_title(f"{threads} thread{'s' if threads > 1 else ''}", fontsize=10)
        axis.margins(y=0.01)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
