"""`PackedSequence`: sequences of different lengths, interleaved, and what makes one a sound one."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, TypeGuard, cast

import numpy as np

from vledge._ext.packing import are_batch_sizes, are_inverse, running_out
from vledge.array_like import ArrayLike
from vledge.packing.arguments import NUMBERS, PackingError, integers, inverse_of, numeric
from vledge.shown import MOST_LINES

__all__ = [
    "Output",
    "PackedSequence",
    "Sequences",
    "invert_permutation",
    "is_packed",
    "lengths_of",
    "validated",
]


class _Fields(NamedTuple):
    data: np.ndarray
    batch_sizes: np.ndarray
    sorted_indices: np.ndarray | None
    unsorted_indices: np.ndarray | None


class PackedSequence(_Fields):
    """Sequences of different lengths, interleaved step by step, without padding.

    Parameters
    ----------
    data : ndarray [sum(lengths), *]
        Step 0 of every sequence, longest sequence first, then step 1 of those that are still
        running, and so on. Any numeric dtype.
    batch_sizes : ndarray of int64 [max(lengths)]
        How many sequences are running at each step; never increases.
    sorted_indices, unsorted_indices : ndarray of int64 [B], or None
        The order from longest to shortest, and the way back (worked out if not given). None: the
        sequences were in that order already.

    Instead of ``data, batch_sizes`` one pair of them is accepted, as in torch. The fields are
    taken as they are; the functions that use a PackedSequence check it with :func:`validated`.

    Source: ``torch.nn.utils.rnn.PackedSequence``.

    >>> from vledge.packing import pack_sequence
    >>> pack_sequence([np.array([1, 2, 3]), np.array([4, 5])])
    PackedSequence(data=array([1, 4, 2, 5, 3]), batch_sizes=array([2, 2, 1]), \
sorted_indices=None, unsorted_indices=None)
    """

    __slots__ = ()

    def __new__(
        cls,
        data: ArrayLike | tuple[ArrayLike, ArrayLike],
        batch_sizes: ArrayLike | None = None,
        sorted_indices: ArrayLike | None = None,
        unsorted_indices: ArrayLike | None = None,
    ) -> PackedSequence:
        rows = cast(ArrayLike, data)
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise PackingError(
                    "PackedSequence needs batch_sizes, or data as a pair (data, batch_sizes)"
                )
            rows, batch_sizes = data
        if sorted_indices is not None:
            sorted_indices = integers(sorted_indices, "sorted_indices")
        if unsorted_indices is not None:
            unsorted_indices = integers(unsorted_indices, "unsorted_indices")
        elif sorted_indices is not None:
            unsorted_indices = inverse_of(sorted_indices, "sorted_indices")
        return super().__new__(
            cls,
            numeric(rows, "data"),
            integers(batch_sizes, "batch_sizes"),
            sorted_indices,
            unsorted_indices,
        )

    def __repr__(self) -> str:
        whole = super().__repr__()
        if whole.count("\n") < MOST_LINES:
            return whole
        return (
            f"PackedSequence({self.data.dtype} {list(self.data.shape)}, "
            f"{int(self.batch_sizes[0])} sequences, longest {len(self.batch_sizes)})"
        )

    # A tuple's == would ask for the truth of an array, and its hash for an array's
    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)


#: What a layer takes: an array, a list of arrays, or a PackedSequence.
Sequences: TypeAlias = ArrayLike | PackedSequence
#: What it gives back, in the form in which it was given.
Output: TypeAlias = np.ndarray | list[np.ndarray] | PackedSequence


def is_packed(sequence: object) -> TypeGuard[PackedSequence]:
    """Whether it is a PackedSequence: ours, or torch's, which has the same fields."""
    return isinstance(sequence, tuple) and getattr(sequence, "_fields", ()) == _Fields._fields


def validated(sequence: object) -> PackedSequence:
    """The PackedSequence, if its fields fit together: the one door for all who use one.

    torch's is made one of ours.

    Raises
    ------
    TypeError
        It is no PackedSequence, or a field is no array.
    PackingError
        A field has the wrong dtype or number of dimensions; ``batch_sizes`` is empty, increases,
        holds a value below 1 or does not sum up to ``len(data)``; an index array is not a
        permutation, not the inverse of the other one, or given without it.
    """
    if not is_packed(sequence):
        raise TypeError(f"expected a PackedSequence, got {type(sequence).__name__}")
    if not isinstance(sequence, PackedSequence):
        sequence = PackedSequence(*sequence)
    data, batch_sizes, sorted_indices, unsorted_indices = sequence
    for name, field in zip(sequence._fields, sequence, strict=True):
        if not isinstance(field, np.ndarray) and not (field is None and name.endswith("indices")):
            raise TypeError(f"PackedSequence.{name} is no ndarray but {type(field).__name__}")
        if name != "data" and field is not None and (field.dtype != np.int64 or field.ndim != 1):
            raise PackingError(
                f"PackedSequence.{name} must be 1-D int64, got {field.ndim}-D {field.dtype}"
            )
    if data.dtype.kind not in NUMBERS:
        raise PackingError(f"PackedSequence.data must hold numbers, got dtype {data.dtype}")
    if data.ndim < 1:
        raise PackingError("PackedSequence.data has no dimensions, expected [sum(lengths), *]")
    if not len(batch_sizes):
        raise PackingError("batch_sizes can not be empty")
    if not are_batch_sizes(batch_sizes, len(data)):
        raise PackingError(_misfit(batch_sizes, len(data)))
    if (sorted_indices is None) != (unsorted_indices is None):
        missing = "sorted_indices" if sorted_indices is None else "unsorted_indices"
        raise PackingError(f"{missing} is None but its counterpart is not: give both or neither")
    if sorted_indices is not None and unsorted_indices is not None:
        batch = int(batch_sizes[0])
        for name, indices in (
            ("sorted_indices", sorted_indices),
            ("unsorted_indices", unsorted_indices),
        ):
            if len(indices) != batch:
                raise PackingError(
                    f"{name} has {len(indices)} elements, but batch_sizes[0] is {batch}"
                )
        if not are_inverse(sorted_indices, unsorted_indices):
            inverse_of(sorted_indices, "sorted_indices")
            raise PackingError("unsorted_indices is not the inverse of sorted_indices")
    packed: PackedSequence = sequence
    return packed


def _misfit(batch_sizes: np.ndarray, rows: int) -> str:
    """Why these are no batch sizes of so many rows."""
    sizes = batch_sizes.tolist()
    for t, size in enumerate(sizes):
        if size < 1:
            return f"batch_sizes[{t}] is {size}, expected at least 1"
        if t and size > sizes[t - 1]:
            return (
                f"batch_sizes must not increase, but batch_sizes[{t}] is {size} "
                f"after {sizes[t - 1]}"
            )
    return f"batch_sizes sum up to {sum(sizes)}, but data has {rows} rows"


def invert_permutation(permutation: ArrayLike | None) -> np.ndarray | None:
    """The inverse of a permutation, or None for None.

    Parameters
    ----------
    permutation : int64 [B] or None
        Each of 0 ... B-1 once.

    Returns
    -------
    ndarray of int64 [B], or None

    Source: ``torch.nn.utils.rnn.invert_permutation``, which does not notice repeated indices;
    here they are an error.

    >>> invert_permutation(np.array([2, 0, 1]))
    array([1, 2, 0])
    """
    if permutation is None:
        return None
    return inverse_of(integers(permutation, "permutation"), "permutation")


def lengths_of(sequence: PackedSequence) -> np.ndarray:
    """int64 [B], in the order in which the sequences were given."""
    batch_sizes = sequence.batch_sizes
    lengths = running_out(batch_sizes, int(batch_sizes[0]))
    return lengths if sequence.unsorted_indices is None else lengths[sequence.unsorted_indices]
