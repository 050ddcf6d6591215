"""``run``: a recurrent layer over sequences of different lengths, by the strategy that is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, Final

import numpy as np

from vledge.lengths.batch import Batch, MaskedBatch, PaddedBatch, batch_of
from vledge.lengths.bucketed import bucketed
from vledge.lengths.lanes import lanes
from vledge.lengths.masked import masked
from vledge.lengths.packed import packed
from vledge.lengths.padded import padded
from vledge.lengths.semantics import Semantics, fill_places, resolve
from vledge.lengths.states import arrays_of, checked, put, take
from vledge.lengths.streaming import streaming
from vledge.nn.recurrent import RecurrentBase
from vledge.packing import is_packed

__all__ = ["FORWARD_ONLY", "STRATEGIES", "check_options", "options_of", "run"]

Strategy = Callable[..., tuple[Any, Any]]

#: Each takes (layer, batch, hx, **options), where no sequence is empty, and gives the output in the
#: batch's form and the final state, both in the caller's order.
STRATEGIES: Final[dict[str, Strategy]] = {
    "padded": padded,
    "packed": packed,
    "masked": masked,
    "bucketed": bucketed,
    "lanes": lanes,
    "streaming": streaming,
}

#: Those that begin before they have seen a sequence's end.
FORWARD_ONLY: Final = ("lanes", "streaming")


def run(
    layer: RecurrentBase,
    input: Any,
    hx: Any = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    strategy: str | None = None,
    semantics: str | Semantics | None = None,
    zero_output_for_mask: bool = False,
    **options: Any,
) -> tuple[Any, Any]:
    """Run a layer over sequences of different lengths; ``layer(input, hx, …)`` calls this.

    Parameters
    ----------
    layer : RNN, LSTM, GRU or IndRNN
    input : ndarray [T, B, input_size], or [B, T, input_size] if the layer is ``batch_first``, with
            ``lengths`` or ``mask``; or PackedSequence; or list of ndarray [L, input_size]
    hx : the initial state, in the caller's order of sequences, or None for zeros
    lengths : integers [B], each from 0 to T
    mask : ndarray of bool [B, T], True where data are; holes may be anywhere
    strategy : a name in STRATEGIES, or "auto"
        How it is computed; all give the same numbers. None: packed for a PackedSequence and a
        list, padded for lengths, masked for a mask. "auto": what :func:`vledge.plan` ranks first,
        with its one option ``memory_limit``.
    semantics : "torch", "onnx", "tf1", "keras" or Semantics
        What stands where no data are. None: keras for a mask, else torch.
    zero_output_for_mask : bool
        Keras' name for ``Semantics.fill="zero"``, whatever the preset says.
    options : the strategy's own

    Returns
    -------
    output : in the form of ``input``, with the layer's output features
    hx : the final state of each sequence at its own end

    Raises
    ------
    ValueError
        An unknown strategy or preset, lengths that do not fit, an empty sequence where the
        semantics have none, or a bidirectional layer where the strategy runs forwards only.
    MemoryError
        "auto", and no strategy stays within its ``memory_limit``.
    """
    if isinstance(input, (list, tuple)) and not is_packed(input):
        input = layer.checked_sequences(input)
    batch = batch_of(input, lengths, mask, layer.batch_first)
    hx = checked(layer, hx, len(batch.lengths))
    rules = resolve(semantics or ("keras" if mask is not None else "torch"), layer.bidirectional)
    if zero_output_for_mask:
        rules = replace(rules, fill="zero")
    if mask is not None and rules.steps == "longest":
        raise ValueError('steps="longest" cuts off the padding of lengths; a mask has none')
    named = _named(batch.natural if strategy is None else strategy)
    output, state = _without_empty(layer, batch, hx, rules, named, options)
    if isinstance(batch, (PaddedBatch, MaskedBatch)):
        output = _filled(layer, batch, hx, rules, output)
    return output, state


def options_of(strategy: str) -> list[str]:
    """The names of a strategy's options; ValueError for an unknown strategy."""
    parameters = signature(_named(strategy)).parameters.values()
    return [one.name for one in parameters if one.kind is Parameter.KEYWORD_ONLY]


def check_options(strategy: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for options that the strategy has not, or lacks; ValueError as above."""
    try:
        signature(_named(strategy)).bind(None, None, None, **options)
    except TypeError as error:
        raise TypeError(f"strategy={strategy!r}: {error}") from None


def _named(strategy: str) -> Strategy:
    if strategy == "auto":
        return auto
    if strategy not in STRATEGIES:
        raise ValueError(
            f"strategy is {strategy!r}, expected one of "
            + ", ".join(map(repr, [*STRATEGIES, "auto"]))
        )
    return STRATEGIES[strategy]


def auto(
    layer: RecurrentBase, batch: Batch, hx: Any, *, memory_limit: int | None = None
) -> tuple[Any, Any]:
    """Run by what a plan ranks first."""
    # Plans know the strategies, and are imported only by who wants one.
    from vledge.planning.choice import choose

    strategy, options = choose(layer, batch, memory_limit=memory_limit)
    return STRATEGIES[strategy](layer, batch, hx, **options)


def _without_empty(
    layer: RecurrentBase,
    batch: Batch,
    hx: Any,
    rules: Semantics,
    strategy: Strategy,
    options: dict[str, Any],
) -> tuple[Any, Any]:
    """Run the sequences that have steps; the others' final states are as the rules say."""
    live = np.flatnonzero(batch.lengths)
    if 0 < len(live) == len(batch.lengths):
        return strategy(layer, batch, hx, **options)
    if not len(batch.lengths):
        raise ValueError("the batch has no sequences")
    if rules.empty == "error":
        raise ValueError(
            f"sequence {int(np.argmin(batch.lengths))} is empty, which torch refuses: semantics "
            'with empty="zero" or "initial" say what its final state is'
        )
    state = layer.zero_state(len(batch.lengths))
    if hx is not None and rules.empty == "initial":
        state = take(hx, slice(None))
    h = arrays_of(state)[0]
    output = None
    if len(live):
        output, ran = strategy(layer, batch.select(live), take(hx, live), **options)
        put(state, live, ran)
    width = h.shape[2] * (2 if layer.bidirectional else 1)
    return batch.expand(live, output, width, h.dtype), state


def _filled(
    layer: RecurrentBase, batch: PaddedBatch | MaskedBatch, hx: Any, rules: Semantics, output: Any
) -> np.ndarray:
    """A padded output with what the rules put where no data are, and of as many steps."""
    if rules.fill != "zero" or rules.order != "original":
        rows = output if batch.batch_first else output.swapaxes(0, 1)
        h_0 = arrays_of(layer.zero_state(len(rows)) if hx is None else hx)[0]
        directions = 2 if layer.bidirectional else 1
        fill_places(rows, batch.valid(), rules, np.asarray(h_0)[-directions:])
    if rules.steps == "longest":
        longest = int(batch.lengths.max())
        return output[:, :longest] if batch.batch_first else output[:longest]
    return output
