"""SmallMatrix: weights as small integers with scales, what layers hold and files carry of them.

A row of the matrix is cut into blocks of columns, and each block has a scale of its own::

    matrix[r, k] = values[r, k] * scales[r, k // block]

How large the values may be depends on the storage. Whatever inputs meet them, a block's sum of
products is exact in 32 bits:

``int8``
    8 bits, blocks of 32; inputs have 16 bits.
``int16``
    16 bits, but the magnitudes of a block of 32 sum to at most 65,538, which leaves about 14 bits
    to each; inputs have 16 bits.
``int8-fast``
    8 bits, blocks of 64; inputs have 8 bits, and x86 adds two products in 16 bits, so that two
    neighbours (columns 2j and 2j + 1) may not sum to more than 129.

Files of torch's dynamically quantised layers bring two more, which nobody rounds to here. All of a
row has one scale, and inputs become uint8 by one scale of the whole call, as torch does:

``int8-dynamic``
    inputs are spread over 256 steps, as the qnnpack engine does always.
``int8-dynamic-7``
    over 128 (torch's ``reduce_range``), as fbgemm, x86 and onednn do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from vledge.pieces import PIECE, spans

__all__ = [
    "DYNAMIC",
    "FORMS",
    "SmallForm",
    "SmallMatrix",
    "SmallTensor",
    "Weight",
    "is_dynamic",
    "rounded",
]


_CHECKED: Final = 1 << 16  # weights that are looked at together


class SmallForm(NamedTuple):
    """What the integers of a storage are."""

    dtype: np.dtype
    block: int  #: columns that share a scale
    largest: int  #: magnitude that rounding gives
    levels: int  #: of an input: its row's largest number becomes this
    pair: int | None  #: largest sum of two neighbours, in magnitude
    total: int | None  #: largest sum of a block's magnitudes


FORMS: Final = {
    "int8": SmallForm(np.dtype(np.int8), 32, 127, 127 * 256 + 127, None, None),
    "int8-fast": SmallForm(np.dtype(np.int8), 64, 127, 127, 129, None),
    # (2^31 - 1) / 32767
    "int16": SmallForm(np.dtype(np.int16), 32, 32767, 32767, None, 65538),
}

_WHOLE_ROW: Final = 1 << 31  # columns

#: Not in `FORMS`: torch's rounding makes them, and layers of their own run them.
DYNAMIC: Final = {
    "int8-dynamic": SmallForm(np.dtype(np.int8), _WHOLE_ROW, 128, 255, None, None),
    "int8-dynamic-7": SmallForm(np.dtype(np.int8), _WHOLE_ROW, 128, 127, None, None),
}


class SmallMatrix:
    """Weights ``[rows, columns]`` as integers with scales; arrays are made of it where one is
    wanted (``np.asarray(small)``, float32).

    Parameters
    ----------
    values : ndarray [rows, columns], int8 or int16 as the storage has them
    scales : ndarray of float32 [rows, blocks], none negative
    storage : {"int8", "int8-fast", "int16", "int8-dynamic", "int8-dynamic-7"}

    ValueError where they are not what the storage holds.
    """

    ndim = 2
    dtype = np.dtype(np.float32)  # what it stands for

    def __init__(self, values: np.ndarray, scales: np.ndarray, storage: str) -> None:
        form = FORMS.get(storage) or DYNAMIC.get(storage)
        if form is None:
            raise ValueError(f"storage {storage!r} is not one of {', '.join((*FORMS, *DYNAMIC))}")
        if values.dtype != form.dtype or values.ndim != 2:
            raise ValueError(
                f"weights stored as {storage} are {form.dtype} [rows, columns], got "
                f"{values.dtype} {list(values.shape)}"
            )
        blocks = (values.shape[0], -(-values.shape[1] // form.block))
        if scales.dtype != np.float32 or scales.shape != blocks:
            raise ValueError(
                f"weights {list(values.shape)} stored as {storage} have scales float32 "
                f"{list(blocks)}, got {scales.dtype} {list(scales.shape)}"
            )
        if not (np.isfinite(scales) & (scales >= 0)).all():
            raise ValueError("a scale of small weights is negative or no finite number")
        self.values, self.scales, self.storage = values, scales, storage
        self._check(form)

    def _check(self, form: SmallForm) -> None:
        """That sums stay exact, some rows at a time: a mapped file need not be in memory."""
        if not self.values.size or (form.pair is None and form.total is None):
            return
        rows, columns = self.values.shape
        starts = np.arange(0, columns, form.block)
        some = max(_CHECKED // columns, 1)
        for begin in range(0, rows, some):
            part = self.values[begin : begin + some]
            if form.pair is not None:
                even = part[:, : columns // 2 * 2].astype(np.int16)
                sums, most = np.abs(even[:, ::2] + even[:, 1::2]), form.pair
                what = "two neighbours sum to"
            else:
                sums = np.add.reduceat(np.abs(part.astype(np.int64)), starts, axis=1)
                most = form.total or 0
                what = f"the magnitudes of a block of {form.block} sum to"
            worst = sums.max(axis=1, initial=0)
            wrong = np.flatnonzero(worst > most)
            if len(wrong):
                raise ValueError(
                    f"row {begin + wrong[0]} of weights stored as {self.storage}: {what} "
                    f"{worst[wrong[0]]}, at most {most} can be multiplied exactly"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """Of values and scales."""
        return self.values.nbytes + self.scales.nbytes

    @property
    def size(self) -> int:
        """How many weights there are."""
        return self.values.size

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> SmallMatrix:
        """Some of the rows."""
        part = SmallMatrix.__new__(SmallMatrix)
        part.values, part.scales = self.values[rows], self.scales[rows]
        part.storage = self.storage
        return part

    def taken(self, rows: np.ndarray) -> np.ndarray:
        """``rows [*]`` of the matrix as an array, float32 ``[*, columns]``."""
        if rows.size * self.shape[1] <= PIECE:
            return self._taken(rows)
        flat, columns = rows.reshape(-1), self.shape[1]
        array = np.empty((len(flat), columns), np.float32)
        for some in spans(len(flat), PIECE // columns):
            array[some] = self._taken(flat[some])
        return array.reshape(*rows.shape, columns)

    def _taken(self, rows: np.ndarray) -> np.ndarray:
        factors = self.scales[rows]
        if self.storage in FORMS:
            factors = np.repeat(factors, FORMS[self.storage].block, axis=-1)
        array: np.ndarray = self.values[rows] * factors[..., : self.shape[1]]
        return array

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("small weights become an array by a copy only")
        array = self.taken(np.arange(len(self)))  # float32, rounded once
        return array if dtype is None else array.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"SmallMatrix({self.storage}, {list(self.shape)})"


class SmallTensor(np.ndarray):
    """Floats ``[D, rows, columns]`` that know the small weights which they stand for, a matrix for
    each of the first axis: what a graph's constants are where a layer can multiply the integers.

    All that reads arrays reads floats. A view of the whole is one, too; any other is an array.
    """

    small: tuple[SmallMatrix, ...]

    @classmethod
    def of(cls, small: Sequence[SmallMatrix]) -> SmallTensor:
        """The floats of matrices of one shape."""
        made = np.stack([np.asarray(one) for one in small]).view(cls)
        made.small = tuple(small)
        return made

    def __array_finalize__(self, source: object) -> None:
        whole = (
            isinstance(source, SmallTensor)
            and self.shape == source.shape
            and self.ctypes.data == source.ctypes.data
            and self.strides == source.strides
        )
        self.small = getattr(source, "small", ()) if whole else ()


def is_dynamic(weight: object) -> bool:
    """Whether torch's dynamically quantised layers multiply it."""
    return isinstance(weight, SmallMatrix) and weight.storage in DYNAMIC


#: As layers hold it, and files carry it. Small ones stand in for arrays in weights by name, whose
#: type says ndarray all the same, as nearly all that reads them takes them for one.
Weight: TypeAlias = np.ndarray | SmallMatrix


def rounded(matrix: np.ndarray, storage: str) -> SmallMatrix:
    """The nearest small weights of ``[rows, columns]`` floats, by the largest scales that a block
    needs. ValueError for weights that are no finite numbers."""
    form = FORMS[storage]
    rows, columns = matrix.shape
    values = np.empty(matrix.shape, form.dtype)
    scales = np.empty((rows, -(-columns // form.block)), np.float32)
    for some in spans(rows, PIECE // max(columns, 1)):
        values[some], scales[some] = _rounded_rows(matrix[some], storage)
    return SmallMatrix(values, scales, storage)


def _rounded_rows(matrix: np.ndarray, storage: str) -> tuple[np.ndarray, np.ndarray]:
    if not np.isfinite(matrix).all():
        raise ValueError("weights that are NaN or infinite cannot be stored small")
    form = FORMS[storage]
    scales = scales_for(matrix, storage)
    factors = np.repeat(scales, form.block, axis=1)[:, : matrix.shape[1]]
    values = np.divide(
        matrix, factors, out=np.zeros(matrix.shape, np.float32), where=factors > 0, casting="unsafe"
    )
    np.clip(np.rint(values, out=values), -form.largest, form.largest, out=values)
    return values, scales


def scales_for(matrix: np.ndarray, storage: str) -> np.ndarray:
    """The scales ``[rows, blocks]``, by which rounded weights keep to what the storage allows."""
    form = FORMS[storage]
    rows, columns = matrix.shape
    blocks = -(-columns // form.block)
    whole = np.zeros((rows, blocks, form.block), np.float64)
    whole.reshape(rows, blocks * form.block)[:, :columns] = matrix
    scales = np.abs(whole).max(axis=2, initial=0) / form.largest
    if form.pair is not None:  # each of the two may be rounded up by a half
        pairs = np.abs(whole[..., ::2] + whole[..., 1::2]).max(axis=2, initial=0)
        scales = np.maximum(scales, pairs / (form.pair - 1))
    if form.total is not None:
        magnitudes = np.abs(whole).sum(axis=2)
        scales = np.maximum(scales, magnitudes / (form.total - form.block / 2 - 1))
    # a block of nothing that float32 can scale is nothing
    scales[scales < np.finfo(np.float32).tiny] = 0
    rounded_scales: np.ndarray = scales.astype(np.float32)
    return rounded_scales
