"""Initial states: zeros, given, learned, by length, or carried from call to call."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Protocol, SupportsInt, runtime_checkable

import numpy as np

from vledge.array_like import array_of
from vledge.recurrent.shape import LayerShape
from vledge.recurrent.states import AnyState, GivenState, State, arrays_of, checked, like, take

__all__ = ["initial_state", "keep_states"]


class HasParts(Protocol):
    """A layer of `vledge.nn` that is made of layers: its state has one of each."""

    def children(self) -> Iterator[HasShape | HasParts]:
        """The layers."""

    def states(self, hx: GivenState) -> Sequence[GivenState]:
        """A state for each of them."""


@runtime_checkable
class HasShape(Protocol):
    """A recurrent layer of `vledge.nn`, its weights loaded or not, or a Stack."""

    @property
    def shape(self) -> LayerShape:
        """Its sizes."""


def initial_state(
    layer: HasShape | HasParts,
    sequences: int | None = None,
    given: GivenState = None,
    *,
    learned: GivenState = None,
    from_length: Callable[[int], GivenState] | None = None,
    lengths: Iterable[SupportsInt] | None = None,
    ids: Sequence[Hashable] | None = None,
    carried: Mapping[Hashable, GivenState] | None = None,
) -> AnyState:
    """An initial state for a batch, in the caller's order: pass it to the layer as ``hx``.

    Parameters
    ----------
    layer : the recurrent layer that begins with it, or a RecurrentStack or Bidirectional, whose
            state, and every state that is given, is a list of one for each of its layers
    sequences : int
        B; not needed where ``lengths`` or ``ids`` tell.
    given : ``hx``
        A state for all sequences; it is checked and converted to the layer's dtype. None: zeros.
    learned : array [num_layers * D, width], or [width] for a layer with one of them, or a tuple of
              two for an LSTM
        One state that every sequence begins with, such as a trained vector.
    from_length : callable, with ``lengths`` [B]
        Gives the state of a sequence of so many steps, shaped as ``learned``; None for zeros.
    ids, carried : one hashable for each sequence, and a mapping of them to states
        The state in which each stream has ended before (:func:`keep_states` puts it there), zeros
        for a stream that is new.

    Returns
    -------
    hx : ndarray [num_layers * D, B, width], or a tuple of two for an LSTM; never a view of what
         is given

    Raises
    ------
    TypeError, ValueError, RuntimeError
        More than one source of states, no number of sequences, an id given twice, or a state that
        does not fit the layer.

    >>> from vledge import nn
    >>> initial_state(nn.GRU(3, 4), 2).shape
    (1, 2, 4)
    >>> initial_state(nn.GRU(3, 4), ids=["a", "b"], carried={"b": [[1, 2, 3, 4]]})
    array([[[0., 0., 0., 0.],
            [1., 2., 3., 4.]]], dtype=float32)
    """
    if not isinstance(layer, HasShape):
        return _of_parts(layer, sequences, given, learned, from_length, lengths, ids, carried)
    sources = {
        "given": given is not None,
        "learned": learned is not None,
        "from_length": from_length is not None,
        "ids": ids is not None,
    }
    named = [name for name, used in sources.items() if used]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are given: a state comes from one of them")
    if (from_length is None) != (lengths is None) or (ids is None) != (carried is None):
        raise ValueError(
            "from_length=function goes with lengths=, and ids= with carried=: give both or neither"
        )
    rows: list[GivenState] | None = None
    if from_length is not None and lengths is not None:
        rows = [from_length(length) for length in map(int, lengths)]
    elif ids is not None and carried is not None:
        _refuse_repeated(ids)
        rows = [carried.get(stream) for stream in ids]
    count = len(rows) if rows is not None else sequences
    if count is None:
        raise ValueError(
            "initial_state: say for how many sequences, initial_state(layer, sequences)"
        )
    if sequences is not None and sequences != count:
        raise ValueError(f"sequences is {sequences}, but there are {count} of them")
    shape = layer.shape
    state = shape.zero_state(count)
    if given is not None:
        dtype = arrays_of(state)[0].dtype
        copies = [np.array(_numbers(a, "given"), dtype) for a in arrays_of(given)]
        state = checked(shape, like(given, copies), count)
    elif learned is not None:
        _write(shape, state, slice(None), learned, "learned")
    for b, row in enumerate(rows or ()):
        if row is not None:
            _write(shape, state, slice(b, b + 1), row, f"the state of sequence {b}")
    return state


def _of_parts(
    layer: HasParts,
    sequences: int | None,
    given: GivenState,
    learned: GivenState,
    from_length: Callable[[int], GivenState] | None,
    lengths: Iterable[SupportsInt] | None,
    ids: Sequence[Hashable] | None,
    carried: Mapping[Hashable, GivenState] | None,
) -> list[AnyState]:
    """A state for each part, out of what has one for each."""
    rows = (
        None
        if from_length is None or lengths is None
        else {n: from_length(n) for n in map(int, lengths)}
    )

    def own(state: GivenState, place: int) -> GivenState:
        return layer.states(state)[place]

    def of_length(place: int) -> Callable[[int], GivenState] | None:
        return None if rows is None else lambda length: own(rows[length], place)

    return [
        initial_state(
            part,
            sequences,
            own(given, place),
            learned=own(learned, place),
            from_length=of_length(place),
            lengths=lengths,
            ids=ids,
            carried=carried and {name: own(state, place) for name, state in carried.items()},
        )
        for place, part in enumerate(layer.children())
    ]


def keep_states(
    carried: MutableMapping[Hashable, GivenState], ids: Sequence[Hashable], hx: AnyState
) -> None:
    """Put each stream's final state into the mapping, for :func:`initial_state` to begin with.

    ``hx`` is what the layer has returned, ``ids`` one hashable for each of its sequences. Raises
    ValueError for another number of ids, or one given twice.
    """
    first = hx
    while isinstance(first, (tuple, list)):
        first = first[0]
    if len(ids) != first.shape[1]:
        raise ValueError(f"{len(ids)} ids for the states of {first.shape[1]} sequences")
    _refuse_repeated(ids)
    for b, stream in enumerate(ids):
        carried[stream] = take(hx, b)


def _numbers(given: GivenState, name: str) -> np.ndarray:
    array = array_of(given, name, stack=True)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
    return array


def _refuse_repeated(ids: Sequence[Hashable]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(stream for i, stream in enumerate(ids) if stream in ids[:i])
        raise ValueError(f"id {twice!r} is given twice: one stream cannot have two next states")


def _write(shape: LayerShape, state: State, rows: slice, row: GivenState, name: str) -> None:
    """Set one sequence's state, or all of them alike."""
    targets, sources = arrays_of(state), arrays_of(row)
    if len(sources) != len(targets):
        raise TypeError(
            f"{name} has {len(sources)} array(s), the {shape.kind.name} has {len(targets)}"
        )
    for target, source in zip(targets, sources, strict=True):
        source = _numbers(source, name)
        expected = (target.shape[0], target.shape[2])
        if source.shape != expected and not (expected[0] == 1 and source.shape == expected[1:]):
            raise ValueError(f"{name} has shape {list(source.shape)}, expected {list(expected)}")
        target[:, rows] = source.reshape(expected[0], 1, expected[1])
