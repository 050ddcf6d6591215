"""Two pictures: the ratio of the best peer's time to ours, and ours under the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring.limits import LEVELS
from benchmarks.reports.layers import row_of

__all__ = ["draw", "draw_roofline"]


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


def draw_roofline(records: Sequence[dict[str, Any]], limits: dict[str, float], path: Path) -> None:
    """One-thread works under the FMA peak and under each memory level's reading speed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 5.5))
    intensity = [2.0**k for k in range(-2, 9)]
    colours = dict(zip(LEVELS, ("#2a7f62", "#2f5d9b", "#b3403a"), strict=True))
    peak = limits["FMA peak"]
    axis.axhline(peak, color="black", linewidth=1)
    axis.annotate(f"FMA peak {peak:.0f} GFLOP/s", (intensity[0], peak * 1.04))
    for level in LEVELS:
        roof = [min(peak, limits[level] * x) for x in intensity]
        axis.plot(intensity, roof, "--", color=colours[level], linewidth=0.9)
    for level, size in LEVELS.items():
        smaller = max((s for s in LEVELS.values() if s < size), default=0)
        here = [
            r
            for r in records
            if r["threads"] == 1
            and smaller < r["weight_bytes"]
            and (r["weight_bytes"] <= size or size == max(LEVELS.values()))
        ]
        axis.plot(
            [r["flops_per_weight_byte"] for r in here],
            [row_of(r)["gflops"] for r in here],
            "o",
            color=colours[level],
            markersize=5,
            label=f"weights in {level}, read at {limits[level]:.0f} GB/s",
        )
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xlabel("FLOP per byte of weights read")
    axis.set_ylabel("GFLOP/s, one thread, projection and activations included")
    axis.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
