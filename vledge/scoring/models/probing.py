"""What a whole model's outputs are, told by running it: their axes, and whether padding shows.

A file says of its outputs' axes what its exporter happened to name. Two more runs say it surely: an
axis that grows with the batch is the batch's, one that grows with the steps is time's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from vledge.errors import UnsupportedError, VledgeError
from vledge.scoring.models.session_call import SessionCall
from vledge.scoring.tables.outputs import Output

__all__ = ["Probed", "probed"]

#: Steps of the tried sequences: a convolution, or a spectrum of samples, may want many.
STEPS: Final = ((7, 12), (16, 24), (64, 96), (400, 560), (4_000, 5_600))
FEATURES: Final = 4  # where the model leaves them open
# Padding may change the order of sums, and nothing else.
RELATIVE, ABSOLUTE = 1e-4, 1e-5


@dataclass(frozen=True)
class Probed:
    """One output."""

    output: Output
    source: str  #: the model's name for it
    batch_axis: int
    time_axis: int | None
    pads: bool  #: what stands behind a sequence's end does not show in its results
    last: bool = False  #: of the steps, each sequence's last one

    def in_order(self, array: np.ndarray) -> np.ndarray:
        """``[B, *]``, or ``[B, T, *]``."""
        if self.time_axis is None:
            return np.moveaxis(array, self.batch_axis, 0)
        return np.moveaxis(array, (self.batch_axis, self.time_axis), (0, 1))


def probed(call: SessionCall) -> dict[str, Probed]:
    """Each output that has an axis for the batch, and of those that have steps the last one,
    ``name:last``.

    Raises UnsupportedError where the model runs on none of the tried inputs, or where no output has
    such an axis.
    """
    failure: Exception | None = None
    for short, long in STEPS:
        if call.steps is not None:
            short = long = call.steps
        try:
            outputs = _Probe(call, short, long).outputs()
        except (VledgeError, ValueError, IndexError, ArithmeticError) as error:
            failure = error
            continue
        if not outputs:
            raise UnsupportedError("no output of the model has an axis for the batch")
        return outputs
    raise UnsupportedError(
        f"the model does not run on sequences of {STEPS[0][0]} to {STEPS[-1][1]:,} steps: {failure}"
    ) from failure


class _Probe:
    """Runs on sequences of two lengths and, where the model lets it, of two sizes of the batch."""

    def __init__(self, call: SessionCall, short: int, long: int) -> None:
        self.call, self.short, self.long = call, short, long
        self.names = [info.name for info in call.session.get_outputs()]
        self.rows, self.more = (2, 3) if call.batch is None else (call.batch, call.batch)

    def outputs(self) -> dict[str, Probed]:
        base = self._run(self.rows, self.short)
        longer = self._run(self.rows, self.long)
        wider = self._run(self.more, self.short)
        alone = None
        if self.call.batch is None and self.short != self.long:
            padded = self._run(2, self.long, [self.long, self.short])
            alone = self._run(1, self.short, row=1)
        outputs = {}
        for i, name in enumerate(self.names):
            one = self._described(name, base[i], longer[i], wider[i])
            if one is None:
                continue
            if alone is not None and one.output.per != "own steps":
                pads = self._same(one, padded[i], alone[i])
                one = replace(one, pads=pads)
            outputs[name] = one
            if one.output.per == "step":
                name = f"{name}:last"
                last = replace(one.output, name=name, per="row")
                outputs[name] = replace(one, output=last, last=True)
        return outputs

    def _run(
        self, rows: int, steps: int, lengths: list[int] | None = None, row: int | None = None
    ) -> list[np.ndarray]:
        """The outputs for noise that is the same for the same row, however many steps it has."""
        wanted = self.call.wanted
        width = () if wanted.bare else (wanted.features or FEATURES,)
        which = range(rows) if row is None else [row]
        x = np.stack([self._noise(r, width)[:steps] for r in which]).astype(wanted.dtype)
        own = np.array(lengths or [steps] * len(x), np.int64)
        if self.call.time_first:
            x = np.ascontiguousarray(x.swapaxes(0, 1))
        return self.call(x, own, self.names)

    def _noise(self, row: int, width: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng(row)
        shape = (max(self.short, self.long), *width)
        kind = self.call.wanted.dtype.kind
        return rng.standard_normal(shape) if kind == "f" else rng.integers(0, 2, shape)

    def _described(
        self, name: str, base: np.ndarray, longer: np.ndarray, wider: np.ndarray
    ) -> Probed | None:
        if not isinstance(base, np.ndarray) or base.dtype.kind not in "fiub":
            return None
        if not base.ndim == longer.ndim == wider.ndim:
            return None
        grows = [a for a in range(base.ndim) if base.shape[a] != wider.shape[a]]
        if self.rows == self.more:  # the model fixes it: the first axis of that size
            grows = [a for a in range(base.ndim) if base.shape[a] == self.rows][:1]
        lasts = [a for a in range(base.ndim) if base.shape[a] != longer.shape[a]]
        if len(grows) != 1 or len(lasts) > 1:
            return None
        batch, time = grows[0], lasts[0] if lasts else None
        per = "row"
        if time is not None:
            own = base.shape[time] == self.short and longer.shape[time] == self.long
            per = "step" if own else "own steps"
        rest = tuple(base.shape[a] for a in range(base.ndim) if a not in (batch, time))
        if rest == (1,):
            rest = ()
        output = Output(name, per, rest, base.dtype)
        return Probed(output, name, batch, time, False)

    def _same(self, one: Probed, padded: np.ndarray, alone: np.ndarray) -> bool:
        """Whether the short sequence's results are the same beside a longer one."""
        beside, by_itself = one.in_order(padded)[1], one.in_order(alone)[0]
        if one.time_axis is not None:
            beside = beside[: self.short]
        return beside.shape == by_itself.shape and np.allclose(
            beside.astype(np.float64), by_itself.astype(np.float64), RELATIVE, ABSOLUTE, True
        )
