"""A plan as a picture: the lengths, the padding beside what is packed, each strategy's time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vledge.errors import import_failure
from vledge.machine.atomic_file import writing
from vledge.planning.ranking import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "draw_shape"]

REAL, PADDING, OVER = "#2a7f62", "#d9d4c7", "#b3403a"


def draw(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a picture; the ending of the path says in which format.

    Raises MissingDependencyError without matplotlib, ValueError for a format that it has not.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise import_failure(
            error, "matplotlib", "a picture of a plan needs matplotlib: pip install 'vledge[plot]'"
        ) from error
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    histogram, shape, times = figure.subplots(1, 3)
    _histogram(histogram, plan)
    draw_shape(shape, plan)
    _times(times, plan)
    with writing(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:] or None, dpi=120)


def _histogram(axis: Axes, plan: Plan) -> None:
    axis.hist(plan.lengths, bins=min(40, max(8, len(np.unique(plan.lengths)))), color=REAL)
    axis.set_xlabel("length")
    axis.set_ylabel("sequences")
    axis.set_title(f"{len(plan.lengths):,} sequences, {plan.lengths.sum():,} steps", fontsize=10)


def draw_shape(axis: Axes, plan: Plan) -> None:
    """The padded rectangle and what is packed of it, on an axis of matplotlib's."""
    falling = np.sort(plan.lengths)[::-1]
    edges = np.arange(len(falling) + 1)
    axis.stairs(np.full(len(falling), falling[0]), edges, fill=True, color=PADDING, label="padding")
    axis.stairs(falling, edges, fill=True, color=REAL, label="packed")
    axis.set_xlabel("sequences, longest first")
    axis.set_ylabel("steps")
    axis.margins(0)
    axis.legend(loc="upper right", fontsize=8)
    axis.set_title(f"{plan.padding:.0%} of the padded batch is padding", fontsize=10)


def _times(axis: Axes, plan: Plan) -> None:
    shown = [*plan.ranking, plan.rectangle][::-1]
    milliseconds = [one.seconds * 1e3 for one in shown]
    colours = [PADDING if one is plan.rectangle else REAL if one.fits else OVER for one in shown]
    names = [
        "rectangle,\nlengths unknown" if one is plan.rectangle else one.strategy for one in shown
    ]
    bars = axis.barh(names, milliseconds, color=colours)
    axis.bar_label(bars, [f" {value:.3g}" for value in milliseconds], fontsize=8)
    axis.margins(x=0.15)
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel("predicted ms")
    over = "" if all(one.fits for one in plan.ranking) else ", red: over the memory limit"
    axis.set_title(f"{plan.threads} thread(s){over}", fontsize=10)
