"""Moving whole rows between padded and packed layouts; values are bytes here, never numbers.

A padded batch is addressed by a byte offset for each step and one for each sequence, so time-major
and batch-first arrays, contiguous or not in those two axes, take the same loop. Packed rows follow
one another: the live sequences of step 0, then those of step 1, ...

The caller has checked everything: batch_sizes do not increase, indices are a permutation.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

cimport numpy as cnp

cnp.import_array()


cdef void move_rows(char *padded, ptrdiff_t step_bytes, ptrdiff_t sequence_bytes, char *packed,
                    ptrdiff_t row_bytes, const int64_t *batch_sizes, ptrdiff_t steps,
                    const int64_t *order, bint gather) noexcept nogil:
    cdef ptrdiff_t t, r
    cdef char *row
    for t in range(steps):
        for r in range(batch_sizes[t]):
            row = padded + t * step_bytes + (order[r] if order != NULL else r) * sequence_bytes
            if gather:
                memcpy(packed, row, row_bytes)
            else:
                memcpy(row, packed, row_bytes)
            packed += row_bytes


cdef const int64_t *indices(cnp.ndarray array) except? NULL:
    if cnp.PyArray_TYPE(array) != cnp.NPY_INT64 or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise TypeError("indices must be contiguous int64")
    return <const int64_t *>cnp.PyArray_DATA(array)


cdef move(cnp.ndarray padded, cnp.ndarray packed, cnp.ndarray batch_sizes, cnp.ndarray order,
          bint batch_first, bint gather):
    cdef int time_axis = 1 if batch_first else 0
    cdef ptrdiff_t step_bytes = cnp.PyArray_STRIDE(padded, time_axis)
    cdef ptrdiff_t sequence_bytes = cnp.PyArray_STRIDE(padded, 1 - time_axis)
    cdef ptrdiff_t row_bytes = cnp.PyArray_ITEMSIZE(packed), steps = len(batch_sizes)
    cdef char *padded_data = <char *>cnp.PyArray_DATA(padded)
    cdef char *packed_data = <char *>cnp.PyArray_DATA(packed)
    cdef const int64_t *sizes = indices(batch_sizes)
    cdef const int64_t *rows = NULL if order is None else indices(order)
    cdef int axis
    for axis in range(1, cnp.PyArray_NDIM(packed)):
        row_bytes *= cnp.PyArray_DIM(packed, axis)
    with nogil:
        move_rows(padded_data, step_bytes, sequence_bytes, packed_data, row_bytes, sizes, steps,
                  rows, gather)


def gather(cnp.ndarray padded, cnp.ndarray packed, cnp.ndarray batch_sizes, cnp.ndarray order,
           bint batch_first):
    """padded [T, B, *] or [B, T, *], its trailing axes contiguous -> packed [sum(batch_sizes), *].

    order[r] is the place in the batch of packed sequence r, or None for the same order.
    """
    move(padded, packed, batch_sizes, order, batch_first, True)


def scatter(cnp.ndarray packed, cnp.ndarray padded, cnp.ndarray batch_sizes, cnp.ndarray order,
            bint batch_first):
    """The way back; what lies past a sequence's end is left as it is."""
    move(padded, packed, batch_sizes, order, batch_first, False)
