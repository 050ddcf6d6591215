"""Rows moved between a packed batch and the sequences it was made of.

Whether a sequence is a column of a ``[T, B, *]`` array, a row of ``[B, T, *]`` or an array of its
own, its step t lies at ``address + t * stride``; so one loop serves all of them, and no transposed
copy is ever made. Arguments have been checked in ``vledge.packing``; nothing here checks them.
"""

cimport numpy as cnp
import numpy as np

from libc.stdint cimport SIZE_MAX, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from "introsort.h" nogil:
    ctypedef struct vl_entry:
        int64_t length
        int64_t index
    void vl_sort_descending(vl_entry *entries, Py_ssize_t count)


cdef inline void move(char *target, const char *source, size_t nbytes) noexcept nogil:
    # constant sizes become single moves: labels and token ids are rows of one element
    if nbytes == 4:
        memcpy(target, source, 4)
    elif nbytes == 8:
        memcpy(target, source, 8)
    else:
        memcpy(target, source, nbytes)


def gather(size_t packed, cnp.ndarray[int64_t, mode="c"] addresses, Py_ssize_t stride,
           cnp.ndarray[int64_t, mode="c"] batch_sizes, size_t row_nbytes):
    """Write the packed rows at ``packed``: step by step, the sequences that are still running.

    ``addresses`` are the first rows of the sequences, longest first; ``stride`` is the distance in
    bytes from one step to the next.
    """
    cdef Py_ssize_t t, b, n
    cdef char *target = <char *>packed
    cdef const int64_t *sequences = &addresses[0]
    with nogil:
        for t in range(batch_sizes.shape[0]):
            n = batch_sizes[t]
            for b in range(n):
                move(target, <const char *><size_t>(sequences[b] + t * stride), row_nbytes)
                target += row_nbytes


def scatter(size_t packed, cnp.ndarray[int64_t, mode="c"] addresses, Py_ssize_t stride,
            cnp.ndarray[int64_t, mode="c"] batch_sizes, size_t row_nbytes, Py_ssize_t steps, size_t padding):
    """Write the packed rows back to their sequences, and ``padding``'s row behind their ends.

    The inverse of :func:`gather`; every sequence gets ``steps`` rows, or its own number where
    ``padding`` is 0.
    """
    cdef Py_ssize_t t, b, n, batch = addresses.shape[0]
    cdef const char *source = <const char *>packed
    cdef const int64_t *sequences = &addresses[0]
    with nogil:
        for t in range(steps):
            n = batch_sizes[t] if t < batch_sizes.shape[0] else 0
            for b in range(n):
                move(<char *><size_t>(sequences[b] + t * stride), source, row_nbytes)
                source += row_nbytes
            if padding:
                for b in range(n, batch):
                    move(<char *><size_t>(sequences[b] + t * stride), <const char *>padding, row_nbytes)


def sort_descending(cnp.ndarray[int64_t, mode="c"] lengths):
    """Indices that sort lengths from the longest, equal ones in the order that torch gives them."""
    cdef Py_ssize_t i, count = lengths.shape[0]
    cdef vl_entry *entries = NULL
    if <size_t>count <= SIZE_MAX // sizeof(vl_entry):
        entries = <vl_entry *>malloc(max(count, 1) * sizeof(vl_entry))
    if entries == NULL:
        raise MemoryError(f"no memory to sort {count} lengths")
    order = np.empty(count, np.int64)
    cdef cnp.ndarray[int64_t, mode="c"] indices = order
    with nogil:
        for i in range(count):
            entries[i].length = lengths[i]
            entries[i].index = i
        vl_sort_descending(entries, count)
        for i in range(count):
            indices[i] = entries[i].index
        free(entries)
    return order


def are_batch_sizes(cnp.ndarray[int64_t] batch_sizes, Py_ssize_t rows):
    """Whether these are positive, never increase and sum up to ``rows``."""
    cdef Py_ssize_t t
    cdef int64_t left = rows, before = rows
    for t in range(batch_sizes.shape[0]):
        if batch_sizes[t] < 1 or batch_sizes[t] > before or batch_sizes[t] > left:
            return False
        before = batch_sizes[t]
        left -= before
    return left == 0


def are_inverse(cnp.ndarray[int64_t] permutation, cnp.ndarray[int64_t] inverse):
    """Whether two arrays of one length are permutations, the inverse of each other."""
    cdef Py_ssize_t i, count = permutation.shape[0]
    for i in range(count):
        if permutation[i] < 0 or permutation[i] >= count or inverse[permutation[i]] != i:
            return False
    return True


def running_out(cnp.ndarray[int64_t] falling, Py_ssize_t size):
    """How many of ``falling``, which never increase, are above 0, above 1, ... above size - 1.

    Turns lengths, longest first, into batch sizes, and batch sizes into lengths.
    """
    counts = np.empty(size, np.int64)
    cdef cnp.ndarray[int64_t, mode="c"] above = counts
    cdef Py_ssize_t i, left = falling.shape[0]
    for i in range(size):
        while left and falling[left - 1] <= i:
            left -= 1
        above[i] = left
    return counts
