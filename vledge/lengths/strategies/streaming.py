"""The streaming strategy: windows of a few steps one after another, the state carried or reset."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np

from vledge.lengths.batch import Batch
from vledge.lengths.strategies.strategy import Strategy
from vledge.lengths.strategies.work import Case, Overhead, Work, back_nbytes, step_nbytes
from vledge.packing.sequence import Output
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import State, put, take

__all__ = ["STREAMING"]


def streaming(
    stack: Stack,
    batch: Batch,
    hx: State | None,
    *,
    window: int,
    hop: int | None = None,
    carry: bool = True,
) -> tuple[Output, State]:
    """Run windows of the batch in turn; only a window's working memory is needed at a time.

    Parameters
    ----------
    window : int
        Steps of a window.
    hop : int, optional
        Steps from one window's start to the next one's; the window if not given.
    carry : bool
        True: a window begins with the state in which the one before has ended, and the results
        are those of the whole sequence. False: each begins anew with ``hx``, so a step's output
        depends on the ``window - hop`` to ``window - 1`` steps before it and on none further back.

    Raises
    ------
    ValueError
        A window or hop below 1, a hop above the window, or one other than
        the window where the state is carried: the steps in both windows would run twice.
    """
    hop = window if hop is None else hop
    if not 1 <= hop <= window:
        raise ValueError(f"expected 1 <= hop <= window, got window={window} and hop={hop}")
    if carry and hop != window:
        raise ValueError(
            f"hop={hop} is not the window, {window}: with the state carried, windows follow one "
            "another; carry=False is for windows that overlap"
        )
    data, batch_first = batch.padded()
    axis = 1 if batch_first else 0
    lengths = batch.lengths
    initial = stack.zero_state(len(lengths)) if hx is None else hx
    state = take(initial, slice(None))
    whole = None
    seen = window - hop  # steps of a window that the one before has had
    for start in range(0, max(int(lengths.max()) - seen, 1), hop):
        skip = seen if start else 0
        piece = data[(slice(None),) * axis + (slice(start, start + window),)]
        left = np.clip(lengths - start, 0, piece.shape[axis])
        output, ended = stack.run_padded(piece, left, state if carry else initial, batch_first)
        if whole is None:
            whole = np.zeros((*data.shape[:2], output.shape[2]), output.dtype)
        new = slice(start + skip, start + piece.shape[axis])
        whole[(slice(None),) * axis + (new,)] = output[(slice(None),) * axis + (slice(skip, None),)]
        if carry:
            state = ended
        else:
            reached = left > skip
            put(state, reached, take(ended, reached))
    assert whole is not None
    return batch.from_padded(whole), state


def _work(case: Case, shape: LayerShape, window: int) -> Work:
    into, out, held = step_nbytes(shape)
    n, longest = len(case.lengths), int(case.lengths[0])
    starts = range(0, longest, window)
    # the sequences that have ended stay in the batch: threads do not share one row's steps
    runs = [np.clip(case.lengths - start, 0, window) for start in starts]
    steps = case.steps if case.form == "padded" else longest
    whole = steps * n * out
    # a window of a batch that has its sequences first is copied
    into_copy = 0 if case.form in ("list", "packed") else into
    sizes = [min(window, steps - start) * n for start in starts]
    peak = max(sizes[0] * (into_copy + held), sizes[0] * out + whole)
    for before, size in pairwise(sizes):  # the last output is there until this one's is
        peak = max(peak, whole + before * out + size * (into_copy + held))
    if case.form != "padded":
        back = whole + sizes[-1] * out + back_nbytes(case, shape)
        peak = steps * n * into + max(peak, back)
    return Work(runs, peak)


def _reason(case: Case, done: Work) -> str:
    windows = "1 window" if len(done.runs) == 1 else f"{len(done.runs)} windows"
    return f"{windows} one after another, a window's working memory at a time"


def _same_as(longest: int, options: Mapping[str, int]) -> str | None:
    """One window that holds all steps is the padded strategy."""
    return "padded" if options["window"] >= longest else None


STREAMING: Final = Strategy(
    "streaming",
    streaming,
    _work,
    _reason,
    overheads={
        "list": Overhead(4.14e-05, 1.08e-06, 0.0, 0.0, 0.0),
        "padded": Overhead(9.4e-06, 0.0, 0.0, 0.0, 0.0),
        "packed": Overhead(4.51e-05, 0.0, 0.0, 0.0, 0.0),
        "masked": Overhead(7.16e-05, 3.63e-06, 1e-08, 0.0, 0.0),
    },
    options=tuple({"window": n} for n in (256, 64, 16, 4)),
    small={"window": 5},
    forward_only=True,
    same_as=_same_as,
)
