"""``run``: a recurrent layer over sequences of different lengths, by the strategy that is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from vledge.lengths.batch import (
    Batch,
    ListBatch,
    MaskedBatch,
    PackedBatch,
    PaddedBatch,
    batch_of,
    refuse_lengths,
)
from vledge.lengths.semantics import Semantics, fill_places, resolve
from vledge.lengths.strategies import AUTO, STRATEGIES, named, natural
from vledge.packing import is_packed
from vledge.packing.sequence import Output, Sequences
from vledge.recurrent.inputs import checked_features, checked_packed, checked_sequences
from vledge.recurrent.stack import Stack
from vledge.recurrent.states import GivenState, State, arrays_of, checked, put, take

Run = Callable[..., tuple[Output, State]]  # (stack, batch, hx, **options), as Strategy.run

__all__ = ["HasStack", "check_options", "misplaced", "options_of", "run"]


class HasStack(Protocol):
    """A recurrent layer of `vledge.nn`, or a Stack itself."""

    batch_first: bool

    @property
    def stack(self) -> Stack:
        """What runs."""


def run(
    layer: HasStack,
    input: Sequences,
    hx: GivenState = None,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    strategy: str | None = None,
    semantics: str | Semantics | None = None,
    zero_output_for_mask: bool = False,
    **options: object,
) -> tuple[Any, State]:
    """Run a layer over sequences of different lengths; ``layer(input, hx, …)`` calls this.

    Parameters
    ----------
    layer : RNN, LSTM, GRU or IndRNN, or a Stack
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
    stack = layer.stack
    batch: Batch
    if isinstance(input, (list, tuple)) and not is_packed(input):
        refuse_lengths(lengths, mask)
        batch = ListBatch(*checked_sequences(stack.shape, input))
    else:
        batch = batch_of(input, lengths, mask, layer.batch_first)
    if isinstance(batch, PackedBatch):
        batch = PackedBatch(checked_packed(stack.shape, batch.data))
    elif isinstance(batch, (PaddedBatch, MaskedBatch)):
        checked_features(stack.shape, batch.data, "input")
    hx = checked(stack.shape, hx, len(batch.lengths))
    bidirectional = stack.shape.bidirectional
    rules = resolve(semantics or ("keras" if mask is not None else "torch"), bidirectional)
    if zero_output_for_mask:
        rules = replace(rules, fill="zero")
    if mask is not None and rules.steps == "longest":
        raise ValueError('steps="longest" cuts off the padding of lengths; a mask has none')
    run_batch: Run = auto
    if strategy != AUTO:
        chosen = natural(batch.form) if strategy is None else named(strategy)
        chosen.refuse_backwards(stack.shape)
        run_batch, strategy = chosen.run, chosen.name
    if options:
        check_options(strategy, options)
    output, state = _without_empty(stack, batch, hx, rules, run_batch, options)
    if isinstance(batch, (PaddedBatch, MaskedBatch)):
        assert isinstance(output, np.ndarray)  # as it was given
        output = _filled(stack, batch, hx, rules, output)
    return output, state


def options_of(strategy: str) -> list[str]:
    """The names of a strategy's options; ValueError for an unknown strategy."""
    parameters = signature(_run_of(strategy)).parameters.values()
    return [one.name for one in parameters if one.kind is Parameter.KEYWORD_ONLY]


def check_options(strategy: str, options: Mapping[str, object]) -> None:
    """Raise TypeError for options that the strategy has not, or lacks; ValueError as above."""
    known = options_of(strategy)
    unknown = [name for name in options if name not in known]
    if unknown:
        told = f"which has {', '.join(known)}" if known else "which has none"
        raise TypeError(f"{', '.join(unknown)}: not an option of strategy={strategy!r}, {told}")
    try:
        signature(_run_of(strategy)).bind(None, None, None, **options)
    except TypeError as error:
        raise TypeError(f"strategy={strategy!r}: {error}") from None


def misplaced(options: Iterable[str]) -> str:
    """What is wrong with these keywords of a call without lengths, a mask or a strategy."""
    known = {"semantics", "zero_output_for_mask"}.union(*map(options_of, (AUTO, *STRATEGIES)))
    unknown = [name for name in options if name not in known]
    if unknown:
        return f"{', '.join(unknown)}: a recurrent layer's call has no such keyword"
    return f"{', '.join(options)}: these go with lengths, a mask or a strategy, and none is given"


def _run_of(strategy: str) -> Run:
    return auto if strategy == AUTO else named(strategy).run


def auto(
    stack: Stack, batch: Batch, hx: State | None, *, memory_limit: int | None = None
) -> tuple[Output, State]:
    """Run by what a plan ranks first, and a call that is short for any plan as it is."""
    if memory_limit is None and batch.most_steps <= stack.short_steps:
        return natural(batch.form).run(stack, batch, hx)
    from vledge.planning.choice import choose, short_steps

    stack.short_steps = short_steps(stack.shape)
    strategy, options = choose(stack.shape, batch, memory_limit=memory_limit)
    return STRATEGIES[strategy].run(stack, batch, hx, **options)


def _without_empty(
    stack: Stack,
    batch: Batch,
    hx: State | None,
    rules: Semantics,
    run: Run,
    options: Mapping[str, object],
) -> tuple[Output, State]:
    """Run the sequences that have steps; the others' final states are as the rules say."""
    live = np.flatnonzero(batch.lengths)
    if 0 < len(live) == len(batch.lengths):
        return run(stack, batch, hx, **options)
    if not len(batch.lengths):
        raise ValueError("the batch has no sequences")
    if rules.empty == "error":
        raise ValueError(
            f"sequence {int(np.argmin(batch.lengths))} is empty, which torch refuses: semantics "
            'with empty="zero" or "initial" say what its final state is'
        )
    state = stack.zero_state(len(batch.lengths))
    if hx is not None and rules.empty == "initial":
        state = take(hx, slice(None))
    output = None
    if len(live):
        output, ran = run(stack, batch.select(live), take(hx, live), **options)
        put(state, live, ran)
    return batch.expand(live, output, stack.shape.output_size, stack.shape.dtype), state


def _filled(
    stack: Stack,
    batch: PaddedBatch | MaskedBatch,
    hx: State | None,
    rules: Semantics,
    output: np.ndarray,
) -> np.ndarray:
    """A padded output with what the rules put where no data are, and of as many steps."""
    if rules.fill != "zero" or rules.order != "original":
        rows = output if batch.batch_first else output.swapaxes(0, 1)
        h_0 = arrays_of(stack.zero_state(len(rows)) if hx is None else hx)[0]
        fill_places(rows, batch.valid(), rules, h_0[-stack.shape.directions :])
    if rules.steps == "longest":
        longest = int(batch.lengths.max())
        return output[:, :longest] if batch.batch_first else output[:longest]
    return output
