"""What quantizing did to weights: bytes and rounding, layer by layer, as text and HTML."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vledge.nn.module import Module
from vledge.pieces import PIECE, spans
from vledge.shown import html_table
from vledge.small_matrix import SmallMatrix, Weight

__all__ = ["Entry", "Report", "report"]

_HEADS = ("weight", "held as", "shape", "bytes before", "after", "error, rms", "largest")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;color:#1d2430;max-width:72rem;margin:2rem auto;"
    "padding:0 1rem}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #dde1e7}"
    "th{color:#5b6472;font-weight:500}"
)


class Entry(NamedTuple):
    """One array of the model."""

    name: str
    storage: str  #: int8, int8-fast, int16, or the dtype that it keeps
    shape: tuple[int, ...]
    bytes_before: int
    bytes_after: int
    rms: float  #: root mean square of the rounding, over that of the weights; 0: as it was
    largest: float  #: rounding, over the weights' largest magnitude

    @property
    def is_small(self) -> bool:
        """Whether it was rounded."""
        return self.bytes_after < self.bytes_before or self.rms > 0


class Report(NamedTuple):
    """All arrays, in the model's order."""

    entries: list[Entry]

    @property
    def bytes_before(self) -> int:
        """Of all arrays."""
        return sum(entry.bytes_before for entry in self.entries)

    @property
    def bytes_after(self) -> int:
        """Likewise."""
        return sum(entry.bytes_after for entry in self.entries)

    @property
    def summary(self) -> str:
        """One line."""
        small = [entry for entry in self.entries if entry.is_small]
        rest = sum(entry.bytes_after for entry in self.entries if not entry.is_small)
        share = self.bytes_after / max(self.bytes_before, 1)
        return (
            f"{len(small)} of {len(self.entries)} arrays are small: {self.bytes_before:,} bytes "
            f"became {self.bytes_after:,} ({share:.0%}), of which {rest:,} stay as they were"
        )

    def lines(self) -> list[tuple[str, ...]]:
        """The table's rows, small arrays before the others."""
        ordered = sorted(self.entries, key=lambda entry: not entry.is_small)
        return [
            (
                entry.name,
                entry.storage,
                "x".join(map(str, entry.shape)) or "scalar",
                f"{entry.bytes_before:,}",
                f"{entry.bytes_after:,}",
                f"{entry.rms:.2e}" if entry.is_small else "",
                f"{entry.largest:.2e}" if entry.is_small else "",
            )
            for entry in ordered
        ]

    def __repr__(self) -> str:
        worst = max((entry for entry in self.entries if entry.is_small), key=_rms, default=None)
        told = "" if worst is None else f"\n  most rounded: {worst.name}, rms {worst.rms:.2e}"
        return f"Report: {self.summary}{told}"

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        return f"<p>{html.escape(self.summary)}</p>{html_table(_HEADS, self.lines())}"

    def __str__(self) -> str:
        table = [_HEADS, *self.lines()]
        widths = [max(len(row[place]) for row in table) for place in range(len(_HEADS))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in table]
        return "\n".join([*(line.rstrip() for line in lines), self.summary])

    def html(self, title: str) -> str:
        """One document, which loads nothing."""
        return (
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>'
            f"{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>"
            f"{html.escape(title)}</h1><p>{html.escape(self.summary)}</p>"
            f"{html_table(_HEADS, self.lines())}<p>Errors are of the weights' rounding: its root "
            "mean square over theirs, and its largest over their largest.</p></body></html>\n"
        )


def _rms(entry: Entry) -> float:
    return entry.rms


def rounding_errors(exact: np.ndarray, held: Weight) -> tuple[float, float]:
    """How far ``held`` is from ``exact``, of the same shape: the root mean square over that of the
    weights, and the largest over their largest; 0 of weights that are nothing but zeros."""
    squares, tops = np.zeros(2), np.zeros(2)  # of the weights, of what is apart
    for some in spans(len(exact), PIECE * len(exact) // max(exact.size, 1)):
        part = np.asarray(exact[some], np.float64)
        for i, numbers in enumerate((part, np.asarray(held[some]) - part)):
            squares[i] += np.sum(numbers**2)
            tops[i] = max(tops[i], np.abs(numbers).max(initial=0))
    if not tops[0]:
        return 0.0, 0.0
    return float(np.sqrt(squares[1]) / np.sqrt(squares[0])), float(tops[1] / tops[0])


def report(
    before: Module | Mapping[str, np.ndarray], after: Module | Mapping[str, Weight]
) -> Report:
    """Compare a model, or weights by name, with what `quantize` made of them.

    ValueError where names or shapes are not the same.
    """
    olds, news = _by_name(before, "before"), _by_name(after, "after")
    if list(olds) != list(news):
        raise ValueError("the two have different names: report compares a model with its quantized")
    entries = []
    for name, old in olds.items():
        new = news[name]
        small = isinstance(new, SmallMatrix)  # of two axes, however many the array had
        if old.shape != new.shape and not (small and old.size == new.size):
            raise ValueError(f"{name} has shape {old.shape} before and {new.shape} after")
        rms = largest = 0.0
        if isinstance(new, SmallMatrix):
            rms, largest = rounding_errors(np.asarray(old).reshape(new.shape), new)
        held = new.storage if isinstance(new, SmallMatrix) else str(new.dtype)
        entries.append(Entry(name, held, old.shape, old.nbytes, new.nbytes, rms, largest))
    return Report(entries)


def _by_name(model: Module | Mapping[str, Weight], called: str) -> Mapping[str, Weight]:
    if isinstance(model, Module):
        return model.state_dict()
    if isinstance(model, Mapping):
        return model
    raise TypeError(
        f"{called} is a value of the type {type(model).__name__}, expected a Module of vledge.nn "
        "or weights by name; of an ONNX model quantize_onnx gives the report"
    )
