"""Rows moved between a packed batch and the sequences it was made of.

Whether a sequence is a column of a ``[T, B, *]`` array, a row of ``[B, T, *]`` or an array of its
own, its step t lies at ``address + t * stride``; so one loop serves all of them, and no transposed
copy is ever made. The doors here check that each row lies within its array, and that elements are
plain numbers: rows are moved as bytes, which no reference to an object survives.
"""

cimport numpy as cnp
import numpy as np

from libc.stdint cimport SIZE_MAX, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from vledge._ext.arrays cimport batch_sizes_of, bounds_overlap, product_of, readable
from vledge._ext.pool cimport check_ended, heed, vl_heed, vl_shall_end

cnp.import_array()

cdef extern from "introsort.h" nogil:
    ctypedef struct vl_entry:
        int64_t length
        int64_t index
    void vl_sort_descending(vl_entry *entries, Py_ssize_t count)


cdef enum:
    BETWEEN_LOOKS = 1 << 22     # bytes that are moved, in rows anywhere in memory: some milliseconds


cdef inline void move(char *target, const char *source, size_t nbytes) noexcept nogil:
    # constant sizes become single moves: labels and token ids are rows of one element
    if nbytes == 4:
        memcpy(target, source, 4)
    elif nbytes == 8:
        memcpy(target, source, 8)
    else:
        memcpy(target, source, nbytes)


cdef const int64_t *numbers(cnp.ndarray array):
    return <const int64_t *>cnp.PyArray_DATA(array)


# ---- where sequences lie -----------------------------------------------------------------------

cdef class Sequences:
    """The first rows of a batch's sequences in memory, the longest sequence first.

    ``sequences`` is an array ``[B, T, *]`` whose rows ``[*]`` are contiguous, or a list of
    C-contiguous arrays ``[L, *]``. ``order[r]`` is the place of the r-th longest, None for their
    own order; ``starts[place]`` is the step that counts as a sequence's first, None for 0.
    """

    cdef char **rows
    cdef ptrdiff_t count, stride
    cdef size_t row_nbytes
    cdef object held        # what the rows lie in, whatever becomes of the caller's list

    def __dealloc__(self):
        free(self.rows)

    cdef int find(self, cnp.ndarray packed, object sequences, cnp.ndarray batch_sizes, object order,
                  object starts, bint write) except -1:
        """Find them, or ValueError for what does not fit the packed rows."""
        cdef ptrdiff_t steps = cnp.PyArray_DIM(batch_sizes, 0), live, place, length, start
        cdef ptrdiff_t r, t
        cdef const int64_t *sizes = numbers(batch_sizes)
        cdef const int64_t *places = NULL
        cdef const int64_t *firsts = NULL
        cdef bint rectangle = isinstance(sequences, cnp.ndarray)
        cdef cnp.ndarray array = None
        self.held = sequences if rectangle else tuple(sequences)
        cdef ptrdiff_t batch = len(self.held)
        self.row_nbytes = row_bytes(packed)
        self.stride = self.row_nbytes
        if rectangle:
            array = self.held
            check_rows(array, 2, packed, write)
            self.stride = cnp.PyArray_STRIDE(array, 1)
        live = sizes[0] if steps else 0
        self.count = batch
        if order is not None:
            order = readable(order, "order", cnp.NPY_INT64, 1)
            self.count = len(order)
            places = numbers(order)
        if self.count < live:
            raise ValueError(f"batch_sizes[0] is {live}, but there are {self.count} sequences")
        if starts is not None:
            starts = readable(starts, "starts", cnp.NPY_INT64, 1)
            if len(starts) != batch:
                raise ValueError(f"there are {len(starts)} starts for {batch} sequences")
            firsts = numbers(starts)
        self.rows = <char **>malloc(product_of(max(self.count, 1), sizeof(char *)))
        if self.rows == NULL:
            raise MemoryError(f"no memory for the places of {self.count} sequences")
        t = steps
        for r in range(self.count):
            while t > 0 and sizes[t - 1] <= r:
                t -= 1
            place = r if places == NULL else places[r]
            if place < 0 or place >= batch:
                raise ValueError(f"order[{r}] is {place}, but there are {batch} sequences")
            if not rectangle:
                array = self.held[place]
                check_rows(array, 1, packed, write)
            length = cnp.PyArray_DIM(array, 1 if rectangle else 0)
            start = 0 if firsts == NULL else firsts[place]
            if start < 0 or start > length or t > length - start:
                raise ValueError(
                    f"sequences[{place}] has {length} steps, not {t} from step {start} on")
            self.rows[r] = (<char *>cnp.PyArray_DATA(array) + start * self.stride
                            + (place * cnp.PyArray_STRIDE(array, 0) if rectangle else 0))
        return 0


cdef size_t row_bytes(cnp.ndarray packed) except? 0:
    cdef ptrdiff_t nbytes = cnp.PyArray_ITEMSIZE(packed)
    cdef int axis
    for axis in range(1, cnp.PyArray_NDIM(packed)):
        nbytes = product_of(nbytes, cnp.PyArray_DIM(packed, axis))
    return nbytes


cdef int check_rows(cnp.ndarray array, int axes, cnp.ndarray packed, bint write) except -1:
    """ValueError unless an array holds, behind so many axes, rows as the packed one's."""
    cdef int axis, ndim
    cdef ptrdiff_t stride
    if array is None:
        raise ValueError("a sequence is None, expected an array")
    ndim = cnp.PyArray_NDIM(array)
    stride = cnp.PyArray_ITEMSIZE(array)
    cdef bint nothing = cnp.PyArray_SIZE(array) == 0    # whose strides mean nothing
    cdef bint fits = (ndim == axes - 1 + cnp.PyArray_NDIM(packed)
                      and cnp.PyArray_EquivArrTypes(array, packed))
    axis = ndim - 1
    while fits and axis >= axes:
        fits = (cnp.PyArray_DIM(array, axis) == cnp.PyArray_DIM(packed, axis - axes + 1)
                and (cnp.PyArray_STRIDE(array, axis) == stride or cnp.PyArray_DIM(array, axis) == 1
                     or nothing))
        stride *= cnp.PyArray_DIM(array, axis)
        axis -= 1
    if fits and axes == 1:      # a sequence of its own has its rows side by side
        fits = cnp.PyArray_IS_C_CONTIGUOUS(array)
    if not fits:
        raise ValueError(
            f"sequences are {(<object>array).dtype} {list((<object>array).shape)}, which has no rows as "
            f"{(<object>packed).dtype} {list((<object>packed).shape)} side by side")
    if write and not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("a sequence to be written to is read-only")
    if not nothing and bounds_overlap(array, packed):
        raise ValueError("sequences and packed rows share memory: rows would be read after they were written")
    return 0


cdef cnp.ndarray checked_packed(object packed, cnp.ndarray batch_sizes, ptrdiff_t total):
    """Packed rows ``[sum(batch_sizes), *]`` of plain numbers."""
    if not isinstance(packed, cnp.ndarray) or cnp.PyArray_NDIM(packed) < 1:
        raise ValueError(f"packed is {type(packed).__name__}, expected an array [rows, *]")
    if packed.dtype.hasobject:
        raise ValueError(f"packed rows are {packed.dtype}, expected numbers")
    if not cnp.PyArray_IS_C_CONTIGUOUS(packed):
        raise ValueError("packed rows must be C-contiguous")
    if cnp.PyArray_DIM(packed, 0) != total:
        raise ValueError(f"batch_sizes sum up to {total}, but there are {len(packed)} packed rows")
    return packed


def gather(packed, sequences, batch_sizes, order=None, starts=None):
    """Write the packed rows: step by step, those of the sequences that are still running.

    Parameters
    ----------
    packed : ndarray [sum(batch_sizes), *], C-contiguous, to be written to
    sequences : ndarray [B, T, *], or list of ndarray [L, *]
        As `Sequences` has them.
    batch_sizes : ndarray of int64 [T]
    order : ndarray of int64 [B], or None
    starts : ndarray of int64 [B], or None

    Raises
    ------
    ValueError
        A row would lie outside of its array; dtypes or axes differ, or are not plain numbers.
    """
    cdef ptrdiff_t t, b, total
    cdef cnp.ndarray sizes = batch_sizes_of(batch_sizes, &total)
    cdef cnp.ndarray rows = checked_packed(packed, sizes, total)
    cdef Sequences places = Sequences()
    places.find(rows, sequences, sizes, order, starts, False)
    if not cnp.PyArray_ISWRITEABLE(rows):
        raise ValueError("packed is read-only")
    cdef char *target = <char *>cnp.PyArray_DATA(rows)
    cdef const int64_t *live = numbers(sizes)
    cdef ptrdiff_t steps = cnp.PyArray_DIM(sizes, 0), stride = places.stride
    cdef char **firsts = places.rows
    cdef size_t row_nbytes = places.row_nbytes
    cdef vl_heed call
    if row_nbytes == 0:
        return
    cdef ptrdiff_t most = max(<ptrdiff_t>(BETWEEN_LOOKS // row_nbytes), 1), left = most
    heed(&call)
    with nogil:
        for t in range(steps):
            for b in range(live[t]):
                move(target, firsts[b] + t * stride, row_nbytes)
                target += row_nbytes
                left -= 1
                if left == 0:
                    if vl_shall_end(&call):
                        break
                    left = most
            if left == 0:
                break
    check_ended(&call)


def scatter(packed, sequences, batch_sizes, order=None, starts=None, padding=None):
    """Write the packed rows back to their sequences; the inverse of :func:`gather`.

    ``padding``, a row ``[*]`` as the packed ones, is written behind the ends of the sequences of an
    array ``[B, T, *]``; None leaves what is there.
    """
    cdef ptrdiff_t t, b, n, total
    cdef cnp.ndarray sizes = batch_sizes_of(batch_sizes, &total)
    cdef cnp.ndarray rows = checked_packed(packed, sizes, total)
    cdef cnp.ndarray row = None
    cdef Sequences places = Sequences()
    places.find(rows, sequences, sizes, order, starts, True)
    cdef const char *source = <const char *>cnp.PyArray_DATA(rows)
    cdef const char *behind = NULL
    cdef const int64_t *live = numbers(sizes)
    cdef ptrdiff_t running = cnp.PyArray_DIM(sizes, 0), steps = running
    cdef ptrdiff_t stride = places.stride, batch = places.count
    cdef char **firsts = places.rows
    cdef size_t row_nbytes = places.row_nbytes
    if padding is not None:
        if not isinstance(sequences, cnp.ndarray) or starts is not None:
            raise ValueError("padding goes with an array [B, T, *] that is written from its start")
        row = padding
        if (not cnp.PyArray_EquivArrTypes(row, rows)
                or (<object>row).shape != (<object>rows).shape[1:]
                or not cnp.PyArray_IS_C_CONTIGUOUS(row)):
            raise ValueError("padding must be a row as the packed ones")
        if bounds_overlap(row, sequences):
            raise ValueError("padding is a part of the sequences that it is written to")
        behind = <const char *>cnp.PyArray_DATA(row)
        steps = cnp.PyArray_DIM(sequences, 1)
    cdef vl_heed call
    if row_nbytes == 0:     # nothing to move, in however many steps
        return
    cdef ptrdiff_t most = max(<ptrdiff_t>(BETWEEN_LOOKS // row_nbytes), 1), left = most
    heed(&call)
    with nogil:
        for t in range(steps):
            n = live[t] if t < running else 0
            for b in range(n if behind == NULL else batch):
                if b < n:
                    move(firsts[b] + t * stride, source, row_nbytes)
                    source += row_nbytes
                else:
                    move(firsts[b] + t * stride, behind, row_nbytes)
                left -= 1
                if left == 0:
                    if vl_shall_end(&call):
                        break
                    left = most
            if left == 0:
                break
    check_ended(&call)


# ---- lengths, batch sizes and orders -----------------------------------------------------------

def sort_descending(lengths):
    """Indices that sort lengths from the longest, equal ones in the order that torch gives them."""
    cdef cnp.ndarray array = readable(lengths, "lengths", cnp.NPY_INT64, 1)
    cdef const int64_t *given = numbers(array)
    cdef Py_ssize_t i, count = cnp.PyArray_DIM(array, 0)
    cdef vl_entry *entries = NULL
    if <size_t>count <= SIZE_MAX // sizeof(vl_entry):
        entries = <vl_entry *>malloc(max(count, 1) * sizeof(vl_entry))
    if entries == NULL:
        raise MemoryError(f"no memory to sort {count} lengths")
    cdef cnp.ndarray order = np.empty(count, np.int64)
    cdef int64_t *indices = <int64_t *>cnp.PyArray_DATA(order)
    with nogil:
        for i in range(count):
            entries[i].length = given[i]
            entries[i].index = i
        vl_sort_descending(entries, count)
        for i in range(count):
            indices[i] = entries[i].index
        free(entries)
    return order


def total(lengths) -> int:
    """The sum of lengths that are those of arrays."""
    cdef cnp.ndarray array = readable(lengths, "lengths", cnp.NPY_INT64, 1)
    cdef const int64_t *given = numbers(array)
    cdef uint64_t steps = 0     # whatever is given, it is defined
    cdef Py_ssize_t i
    for i in range(cnp.PyArray_DIM(array, 0)):
        steps += given[i]
    return <int64_t>steps


def are_batch_sizes(batch_sizes, Py_ssize_t rows):
    """Whether these are positive, never increase and sum up to ``rows``."""
    cdef cnp.ndarray array = readable(batch_sizes, "batch_sizes", cnp.NPY_INT64, 1, False)
    cdef Py_ssize_t t
    cdef int64_t left = rows, before = rows, size
    for t in range(cnp.PyArray_DIM(array, 0)):
        size = (<int64_t *>cnp.PyArray_GETPTR1(array, t))[0]
        if size < 1 or size > before or size > left:
            return False
        before = size
        left -= size
    return left == 0


def are_inverse(permutation, inverse):
    """Whether two arrays are permutations, the inverse of each other."""
    cdef cnp.ndarray one = readable(permutation, "permutation", cnp.NPY_INT64, 1, False)
    cdef cnp.ndarray other = readable(inverse, "inverse", cnp.NPY_INT64, 1, False)
    cdef int64_t i, place, count = cnp.PyArray_DIM(one, 0)
    if cnp.PyArray_DIM(other, 0) != count:
        return False
    for i in range(count):
        place = (<int64_t *>cnp.PyArray_GETPTR1(one, i))[0]
        if place < 0 or place >= count or (<int64_t *>cnp.PyArray_GETPTR1(other, place))[0] != i:
            return False
    return True


def running_out(falling, Py_ssize_t size):
    """How many of ``falling``, which never increase, are above 0, above 1, ... above size - 1.

    Turns lengths, longest first, into batch sizes, and batch sizes into lengths.
    """
    cdef cnp.ndarray array = readable(falling, "falling", cnp.NPY_INT64, 1, False)
    cdef cnp.ndarray counts = np.empty(size, np.int64)
    cdef int64_t *above = <int64_t *>cnp.PyArray_DATA(counts)
    cdef Py_ssize_t i, left = cnp.PyArray_DIM(array, 0)
    for i in range(size):
        while left and (<int64_t *>cnp.PyArray_GETPTR1(array, left - 1))[0] <= i:
            left -= 1
        above[i] = left
    return counts
