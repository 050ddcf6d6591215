"""NumPy's arrays and scalars among the records of a pickle, recognised by the names NumPy gives.

Only plain numbers are: arrays of objects, records, texts and dates stay what nobody asked for.
Nothing is called and nothing is copied here; `torch_tensors.TensorReader` makes the arrays.
Source: ``array_reduce`` and ``array_setstate`` in numpy/_core/src/multiarray/methods.c, ``scalar``
in multiarraymodule.c, ``arraydescr_reduce`` in descriptor.c, ``_frombuffer`` in numeric.py.
"""

import math
from typing import Final, Literal, NamedTuple

import numpy as np

from vledge.errors import FormatError, cut
from vledge.formats.tensor_view import DTYPES, MAX_DIMENSIONS, item_size
from vledge.formats.torch.pickle_records import Call, Global

__all__ = ["StoredArray", "as_array"]

# numpy.core was renamed in NumPy 2
_NAMES: Final = {
    f"numpy.{core}.{function}": function
    for core in ("core", "_core")
    for function in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
}
_DTYPES: Final = {np.dtype(name).str[1:]: name for name in DTYPES if name != "bfloat16"}
_BYTE_ORDERS: Final[dict[object, Literal["<", ">"]]] = {"<": "<", ">": ">", "|": "<"}
_OTHER: Final = "an array of what are no plain numbers"


class StoredArray(NamedTuple):
    """An array as a pickle describes it: elements as of a C array of ``sizes``, its ``axes`` moved.

    ``content`` is text where the pickle's protocol had no bytes.
    """

    dtype: str
    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    byte_order: Literal["<", ">"]
    content: bytes | str
    encoding: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's own."""
        return tuple(self.sizes[axis] for axis in self.axes)

    @property
    def strides(self) -> tuple[int, ...]:
        """The array's own, in elements."""
        return tuple(math.prod(self.sizes[axis + 1 :]) for axis in self.axes)

    @property
    def nbytes(self) -> int:
        """How many bytes the array claims to have."""
        return math.prod(self.sizes) * item_size(self.dtype)


def as_array(value: Call) -> StoredArray | str | None:
    """An array or a scalar; or why one cannot be read; or None for a call of something else.

    Raises FormatError for a shape that is none.
    """
    function = _NAMES.get(value.function.path) if isinstance(value.function, Global) else None
    match function, value.arguments, value.state:
        case None, _, _:
            return None
        case (
            "multiarray._reconstruct",
            (Global(path="numpy.ndarray"), _, _),
            (int(), tuple(shape), Call() as dtype, order, content),
        ):
            return _array(shape, dtype, "F" if order else "C", None, content)
        case "multiarray._reconstruct", (Global(path=path), _, _), _ if path != "numpy.ndarray":
            return f"an array of the class {cut(path)}"
        case "multiarray.scalar", (Call() as dtype, content), None:
            return _array((), dtype, "C", None, content)
        case "numeric._frombuffer", (content, Call() as dtype, tuple(shape), order, *axes), _:
            return _array(shape, dtype, order, axes[0] if axes else None, content)
    return _OTHER


def _array(
    shape: tuple[object, ...], dtype: Call, order: object, axes: object, content: object
) -> StoredArray | str:
    match dtype.function, dtype.arguments, dtype.state:
        case (
            Global(path="numpy.dtype"),
            (str(code), *_),
            (int(), str(byte_order), None, None, None, *_),
        ) if code in _DTYPES and byte_order in _BYTE_ORDERS:
            pass
        case _:
            return _OTHER
    stored = _content(content)
    if stored is None:
        return _OTHER
    if len(shape) > MAX_DIMENSIONS or (isinstance(axes, tuple) and len(axes) > MAX_DIMENSIONS):
        raise FormatError("the shape of an array is no short tuple of sizes")
    sizes = tuple(size for size in shape if type(size) is int and size >= 0)
    if len(sizes) != len(shape):
        raise FormatError("the shape of an array is no short tuple of sizes")
    places = tuple(range(len(sizes)))
    match order, axes:
        case "C", _:
            pass
        case "F", _:
            sizes, places = sizes[::-1], places[::-1]
        case "K", tuple() if all(type(n) is int for n in axes) and sorted(axes) == list(places):
            places = axes
        case _:
            return _OTHER
    return StoredArray(_DTYPES[code], sizes, places, _BYTE_ORDERS[byte_order], *stored)


def _content(value: object) -> tuple[bytes | str, str] | None:
    """The contents as the pickle has them, and how text among them is encoded."""
    match value:
        case bytes():
            return value, ""
        case str():
            return value, "utf-8"  # Python 2's bytes, where they happen to be UTF-8
        case Call(function=Global(path="_codecs.encode"), arguments=(str(text), "latin1")):
            return text, "latin-1"
        case Call(function=Global(path="builtins.bytes" | "__builtin__.bytes"), arguments=()):
            return b"", ""
    return None
