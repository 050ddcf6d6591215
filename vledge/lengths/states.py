"""States of many sequences: made, taken apart, put together, carried from call to call.

A state is what a layer takes as ``hx``: one array ``[num_layers * D, B, width]``, or a tuple of two
for an LSTM, or a list of states for a layer made of layers. Sequences are always in the caller's
order, whatever a strategy sorts inside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from vledge.array_like import array_of
from vledge.nn.dtype import wrong_dtype
from vledge.nn.recurrent import RecurrentBase
from vledge.nn.recurrent_parts import RecurrentParts

__all__ = [
    "arrays_of",
    "checked",
    "initial_state",
    "keep_states",
    "like",
    "mapped",
    "put",
    "side_by_side",
    "take",
]


def arrays_of(hx: Any) -> tuple[np.ndarray, ...]:
    """The state's arrays, of which an LSTM has two."""
    return tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)


def like(hx: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Arrays in the form of another state."""
    return tuple(arrays) if isinstance(hx, (tuple, list)) else arrays[0]


def mapped(function: Callable[[np.ndarray], Any], hx: Any) -> Any:
    """The function of each array of a state, in the state's form."""
    if isinstance(hx, (tuple, list)):
        return tuple(mapped(function, part) for part in hx)
    return function(hx)


def take(hx: Any, rows: Any) -> Any:
    """The state of some of the sequences, copied; None for None."""
    return None if hx is None else mapped(lambda array: array[:, rows].copy(), hx)


def put(hx: Any, rows: Any, part: Any) -> None:
    """Write the state of some of the sequences into that of all."""
    if isinstance(hx, (tuple, list)):
        for everyone, some in zip(hx, part, strict=True):
            put(everyone, rows, some)
    else:
        hx[:, rows] = part


def checked(layer: RecurrentBase, hx: Any, sequences: int) -> Any:
    """The state, if the layer can begin with it; None for None.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        Not as many arrays as the layer has, another dtype, another shape; as torch raises them.
    """
    if hx is None:
        return None
    like = arrays_of(layer.zero_state(sequences))
    arrays = tuple(array_of(array, "hx", stack=True) for array in arrays_of(hx))
    if len(arrays) != len(like):
        raise TypeError(
            f"{type(layer).__name__}: hx must be "
            + ("a tuple (h_0, c_0)" if len(like) == 2 else "one array")
        )
    for name, array, expected in zip(("h_0", "c_0"), arrays, like, strict=False):
        if array.shape != expected.shape:
            raise RuntimeError(f"Expected {name} size {expected.shape}, got {list(array.shape)}")
        if array.dtype != expected.dtype:
            raise ValueError(wrong_dtype(name, array.dtype, expected.dtype))
    return arrays if len(arrays) > 1 else arrays[0]


def side_by_side(states: Sequence[Any], rows: Sequence[int]) -> Any:
    """One state of many, None standing for zeros of so many rows; None where all are."""
    example = next((state for state in states if state is not None), None)
    if example is None:
        return None
    if isinstance(example, (tuple, list)):
        parts = [state or [None] * len(example) for state in states]
        return tuple(side_by_side(same, rows) for same in zip(*parts, strict=True))
    layers, _, width = example.shape
    return np.concatenate(
        [
            np.zeros((layers, count, width), example.dtype) if state is None else state
            for state, count in zip(states, rows, strict=True)
        ],
        axis=1,
    )


def initial_state(
    layer: RecurrentBase | RecurrentParts,
    sequences: int | None = None,
    given: Any = None,
    *,
    learned: Any = None,
    from_length: Callable[[int], Any] | None = None,
    lengths: Any = None,
    ids: Sequence[Hashable] | None = None,
    carried: Mapping[Hashable, Any] | None = None,
) -> Any:
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
    if isinstance(layer, RecurrentParts):
        return _of_parts(layer, sequences, given, learned, from_length, lengths, ids, carried)
    sources = {
        "given": given is not None,
        "learned": learned is not None,
        "from_length": from_length is not None,
        "ids": ids is not None,
    }
    named = [name for name, used in sources.items() if used]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)}: a state comes from one of them")
    if (from_length is None) != (lengths is None) or (ids is None) != (carried is None):
        raise ValueError("from_length goes with lengths, and ids with carried")
    rows: list[Any] | None = None
    if from_length is not None:
        rows = [from_length(int(length)) for length in lengths]
    elif ids is not None and carried is not None:
        _refuse_repeated(ids)
        rows = [carried.get(stream) for stream in ids]
    count = len(rows) if rows is not None else sequences
    if count is None:
        raise ValueError("initial_state: how many sequences?")
    if sequences is not None and sequences != count:
        raise ValueError(f"sequences is {sequences}, but there are {count} of them")
    state = layer.zero_state(count)
    if given is not None:
        dtype = arrays_of(state)[0].dtype
        copies = [np.array(_numbers(a, "given"), dtype) for a in arrays_of(given)]
        return checked(layer, like(given, copies), count)
    if learned is not None:
        _write(layer, state, slice(None), learned, "learned")
    for b, row in enumerate(rows or ()):
        if row is not None:
            _write(layer, state, slice(b, b + 1), row, f"the state of sequence {b}")
    return state


def _of_parts(
    layer: RecurrentParts,
    sequences: int | None,
    given: Any,
    learned: Any,
    from_length: Callable[[int], Any] | None,
    lengths: Any,
    ids: Sequence[Hashable] | None,
    carried: Mapping[Hashable, Any] | None,
) -> list[Any]:
    """A state for each part, out of what has one for each."""
    rows = None if from_length is None else {n: from_length(n) for n in map(int, lengths)}

    def own(state: Any, place: int) -> Any:
        return layer.states(state)[place]

    def of_length(place: int) -> Callable[[int], Any] | None:
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


def keep_states(carried: MutableMapping[Hashable, Any], ids: Sequence[Hashable], hx: Any) -> None:
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


def _numbers(given: Any, name: str) -> np.ndarray:
    array = array_of(given, name, stack=True)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}, expected real numbers")
    return array


def _refuse_repeated(ids: Sequence[Hashable]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(stream for i, stream in enumerate(ids) if stream in ids[:i])
        raise ValueError(f"id {twice!r} is given twice: one stream cannot have two next states")


def _write(layer: RecurrentBase, state: Any, rows: slice, row: Any, name: str) -> None:
    """Set one sequence's state, or all of them alike."""
    targets, sources = arrays_of(state), arrays_of(row)
    if len(sources) != len(targets):
        raise TypeError(
            f"{name} has {len(sources)} array(s), a {type(layer).__name__} has {len(targets)}"
        )
    for target, source in zip(targets, sources, strict=True):
        source = _numbers(source, name)
        expected = (target.shape[0], target.shape[2])
        if source.shape != expected and not (expected[0] == 1 and source.shape == expected[1:]):
            raise ValueError(f"{name} has shape {list(source.shape)}, expected {list(expected)}")
        target[:, rows] = source.reshape(expected[0], 1, expected[1])
