"""A strict reader of HDF5 files out of mapped memory; knows nothing of what is inside.

The HDF5 library is asked for a file's structure only. Data are sliced out of the mapped bytes and
so are never read, allocated or decompressed by it; what would take them from elsewhere (external
links and storage, virtual datasets, filters) is refused.
Source: HDF5 File Format Specification 3.0; https://docs.h5py.org.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from vledge.budget import Budget
from vledge.errors import FormatError, cut, import_failure, placed, quoted
from vledge.formats.keras.hdf5_text import texts_of
from vledge.formats.tensor_view import DTYPES, checked_name, tensor_view

if TYPE_CHECKING:
    import h5py

__all__ = ["Hdf5Content", "read_hdf5"]

# A group or a dataset through h5py: its handle, its header, its name.
STEPS_OF_AN_OBJECT: Final = 250
BYTES_OF_AN_OBJECT: Final = 3_000
MAX_DEPTH: Final = 64
# What h5py raises over files that are damaged in one way or another.
_LIBRARY_ERRORS: Final = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
)


class Hdf5Content(NamedTuple):
    """What an HDF5 file holds, by path without a leading slash; ``""`` is the root group.

    ``arrays``: the datasets of numbers, read-only, views of the file where they are aligned.
    ``skipped``: path → reason, for the other datasets. ``texts``: the attributes of groups that
    are strings.
    """

    arrays: dict[str, np.ndarray]
    skipped: dict[str, str]
    texts: dict[str, dict[str, str]]


def read_hdf5(content: memoryview, budget: Budget) -> Hdf5Content:
    """Everything in the HDF5 file whose bytes these are."""
    contents = Hdf5Content({}, {}, {})
    unshared = len(content)
    with _opened(content) as file:
        for path, item in _objects(file, budget):
            if not hasattr(item, "shape"):
                contents.texts[path] = _texts(path, item, content, budget)
                continue
            try:
                array = _array(item, content, budget)
            except FormatError as error:
                raise placed(error, f"dataset {quoted(path)}") from None
            if isinstance(array, str):
                contents.skipped[path] = array
                continue
            unshared -= array.nbytes
            if unshared < 0 and array.nbytes:
                raise FormatError(f"dataset {path!r}: the datasets share their bytes in the file")
            contents.arrays[checked_name(path)] = array
    return contents


@contextmanager
def _opened(content: memoryview) -> Iterator[h5py.File]:
    try:
        import h5py
    except ImportError as error:
        raise import_failure(
            error, "h5py", "reading HDF5 files (Keras) needs h5py: pip install 'vledge[keras]'"
        ) from error
    try:
        with h5py.File(_Window(content), "r") as file:
            yield file
    except FormatError:
        raise
    except _LIBRARY_ERRORS as error:
        raise FormatError(
            f"the HDF5 file is damaged or truncated: {cut(str(error), 300)}"
        ) from None


class _Window(io.RawIOBase):
    """Bytes in memory as a file, which io.BytesIO would copy."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        part = self._content[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def _objects(file: h5py.File, budget: Budget) -> Iterator[tuple[str, h5py.HLObject]]:
    """(path, group or dataset), the root first; every object once, by hard links alone."""
    import h5py

    seen = set()
    waiting: list[tuple[str, h5py.HLObject]] = [("", file["/"])]
    while waiting:
        path, item = waiting.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            raise FormatError(f"{path!r} is linked in two places")
        seen.add(address)
        if path.count("/") >= MAX_DEPTH:
            raise FormatError(f"groups deeper than {MAX_DEPTH}")
        yield path, item
        if not isinstance(item, h5py.Group):
            continue
        inner = []
        for name in item:
            budget.step(STEPS_OF_AN_OBJECT, "the groups and datasets of the file")
            budget.take(BYTES_OF_AN_OBJECT + len(path), "the groups and datasets of the file")
            where = f"{path}/{name}" if path else name
            link = item.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise FormatError(
                    f"{where!r} is no part of the file but a {type(link).__name__}, "
                    "and links are not followed"
                )
            inner_item = item[name]
            if not isinstance(inner_item, (h5py.Group, h5py.Dataset)):
                raise FormatError(f"{where!r} is neither a group nor a dataset")
            inner.append((where, inner_item))
        waiting += reversed(inner)


def _array(dataset: h5py.Dataset, content: memoryview, budget: Budget) -> np.ndarray | str:
    """The array in a dataset, or why it cannot be one of the weights."""
    import h5py

    name = _dtype_name(dataset)
    if name is None:
        return f"an array of dtype {dataset.dtype}, which is none of numbers"
    if dataset.shape is None:
        return "an empty dataspace"
    if dataset.external is not None or dataset.is_virtual:
        raise FormatError("its data lie in other files, which are not opened")
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise FormatError(
            "it is stored in chunks or compressed, which Keras does not write: load the weights "
            "and save them again by Keras"
        )
    itemsize = np.dtype(DTYPES[name]).itemsize
    size = itemsize
    for length in dataset.shape:
        size *= length
    start = dataset.id.get_offset() if size else 0
    if start is None or start + size > len(content) or dataset.id.get_storage_size() != size:
        raise FormatError(
            f"shape {dataset.shape} of {name} makes {size:,} bytes, which the file does not hold"
        )
    order: Literal["<", ">"] = ">" if dataset.dtype.str[0] == ">" else "<"
    part = content[start : start + size]
    return tensor_view(part, name, dataset.shape, byte_order=order, budget=budget)


def _dtype_name(dataset: h5py.Dataset) -> str | None:
    """The dtype's name, when the bytes in the file are just as NumPy has them."""
    import h5py

    stored, dtype = dataset.id.get_type(), dataset.dtype
    if isinstance(stored, h5py.h5t.TypeOpaqueID):
        # Keras stores bfloat16 as opaque bytes and says so beside them.
        said = dataset.attrs.get("dtype") if stored.get_size() == 2 else None
        return "bfloat16" if said == "bfloat16" else None
    if dtype.kind not in "biufc" or dtype.name not in DTYPES:
        return None
    return dtype.name if stored.equal(h5py.h5t.py_create(dtype, logical=True)) else None


def _texts(path: str, group: h5py.Group, content: memoryview, budget: Budget) -> dict[str, str]:
    import h5py

    try:
        return texts_of(content, h5py.h5o.get_info(group.id).addr, budget)
    except FormatError as error:
        raise placed(error, f"group {quoted(path or '/')}") from None
