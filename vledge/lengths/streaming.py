"""The streaming strategy: windows of a few steps one after another, the state carried or reset."""

from __future__ import annotations

from typing import Any

import numpy as np

from vledge.lengths.batch import Batch
from vledge.lengths.lanes import refuse_backwards
from vledge.lengths.states import put, take
from vledge.nn.recurrent import RecurrentBase

__all__ = ["streaming"]


def streaming(
    layer: RecurrentBase,
    batch: Batch,
    hx: Any,
    *,
    window: int,
    hop: int | None = None,
    carry: bool = True,
) -> tuple[Any, Any]:
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
        A bidirectional layer; a window or hop below 1, a hop above the window, or one other than
        the window where the state is carried: the steps in both windows would run twice.
    """
    refuse_backwards(layer, "streaming")
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
    initial = layer.zero_state(len(lengths)) if hx is None else hx
    state = take(initial, slice(None))
    whole = None
    seen = window - hop  # steps of a window that the one before has had
    for start in range(0, max(int(lengths.max()) - seen, 1), hop):
        skip = seen if start else 0
        piece = data[(slice(None),) * axis + (slice(start, start + window),)]
        left = np.clip(lengths - start, 0, piece.shape[axis])
        output, ended = layer.run_padded(piece, left, state if carry else initial, batch_first)
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
