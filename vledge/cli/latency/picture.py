"""Histograms of steps' times, both axes logarithmic: the rare slow step is a bar like any other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vledge.errors import import_failure
from vledge.machine.atomic_file import writing

__all__ = ["draw"]


def draw(
    path: str | os.PathLike[str], times: Mapping[str, Mapping[str, np.ndarray]], title: str
) -> None:
    """One panel for each condition: ``{condition: {engine: nanoseconds}}``; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise import_failure(
            error, "matplotlib", "--histogram needs matplotlib: pip install 'vledge[plot]'"
        ) from error
    figure = Figure(figsize=(9, 2.6 * len(times) + 0.6), layout="constrained")
    panels = figure.subplots(len(times), sharex=True, squeeze=False)[:, 0]
    every = np.concatenate([t for engines in times.values() for t in engines.values()]) / 1000
    bins = np.geomspace(every.min(), every.max() * 1.01, 120)
    for panel, (condition, engines) in zip(panels, times.items(), strict=True):
        for engine, nanoseconds in engines.items():
            panel.hist(nanoseconds / 1000, bins, histtype="step", label=engine, linewidth=1.4)
        panel.set(xscale="log", yscale="log", ylabel="steps", title=condition)
        panel.grid(alpha=0.25)
    panels[0].legend()
    panels[-1].set_xlabel("microseconds a step")
    figure.suptitle(title)
    with writing(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:] or None, dpi=110)
