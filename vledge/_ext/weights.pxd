from libc.stdint cimport int64_t

from vledge._ext.isa cimport vl_arithmetic, vl_cell, vl_cell_kernels, vl_kernels, vl_nonlinearity, vl_small

cdef extern from "recurrent/direction.h" nogil:
    ctypedef struct vl_direction:
        const vl_kernels *kernels
        const vl_cell_kernels *run
        vl_cell cell
        bint reverse
        bint independent
        ptrdiff_t number_bytes, weight_bytes
        ptrdiff_t input_size, hidden_size, width
        ptrdiff_t gates, panels, vectors
        ptrdiff_t ld_h, ld_c, ld_pre
        int group
        void *gemm
        const void *w_ih
        const void *bias
        const void *w_hh
        const void *w_candidate
        const void *bias_candidate
        const void *w_hr
        vl_nonlinearity functions[3]
        const vl_nonlinearity *activations

    bint vl_has_cell_state(const vl_direction *d)
    int64_t vl_recurrent_bytes(const vl_direction *d)
    int64_t vl_input_bytes(const vl_direction *d)


cdef class Direction:
    cdef vl_direction c
    cdef dict matrices       # name -> the packed array that `c` points into
    cdef object bias_parts   # (bias_ih, bias_hh) as they were given, for unpacking
    cdef readonly str cell
    cdef readonly str storage            # what the weights are stored as
    cdef readonly object dtype           # what they are computed in
    cdef readonly tuple activations      # (name, alpha, beta) each, or None
    cdef readonly Py_ssize_t input_size, hidden_size, proj_size
    cdef readonly bint reverse
    cdef object packed(self, matrix, gates, lanes, group)
    cdef object unpacked(self, str name, gates, hidden_size, depth, group)


cdef Direction made(object direction)
cdef object layout_of(const vl_small *small)
