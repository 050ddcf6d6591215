"""Pictures of ``benchmarks.lengths``: what is padding, and each way's measured time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vledge.planning import Plan
from vledge.planning.picture import PADDING, REAL, draw, draw_shape

__all__ = ["draw_measured", "draw_pictures"]

Figures = Mapping[str, tuple[float, float]]  # milliseconds and megabytes by way


def draw_pictures(figures: Mapping[str, Figures], plans: Mapping[str, Plan], folder: Path) -> None:
    """``lengths.png``, what is measured, and ``plan.png``, what is predicted for the first work."""
    draw_measured(figures, plans, folder / "lengths.png")
    draw(next(iter(plans.values())), folder / "plan.png")


def draw_measured(figures: Mapping[str, Figures], plans: Mapping[str, Plan], path: Path) -> None:
    """A row for each work that has a plan: its lengths, times and memory; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6 * len(plans)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(plans), 3, squeeze=False)
    for (shape, times, memory), (work, plan) in zip(axes, plans.items(), strict=True):
        draw_shape(shape, plan)
        ways = list(figures[work])[::-1]
        _bars(times, ways, [figures[work][way][0] for way in ways], "ms, measured")
        _bars(memory, ways, [figures[work][way][1] for way in ways], "peak MB beyond the inputs")
        memory.set_yticklabels([])
        times.set_title(work, fontsize=10)
    figure.savefig(path, dpi=90)


def _bars(axis: Any, ways: list[str], values: list[float], label: str) -> None:
    colours = [PADDING if way.startswith("rectangle") else REAL for way in ways]
    bars = axis.barh(ways, values, color=colours)
    axis.bar_label(bars, [f" {value:.3g}" for value in values], fontsize=8)
    axis.margins(x=0.15)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel(label)
