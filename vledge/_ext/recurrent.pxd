from libc.stdint cimport int32_t, int64_t

cimport numpy as cnp

from vledge._ext.isa cimport number_of, vl_product, vl_step
from vledge._ext.weights cimport Direction, vl_direction

cdef extern from "heed.h" nogil:
    ctypedef struct vl_heed:
        void *error
    void vl_heed_begin(vl_heed *h, int (*look)(vl_heed *) noexcept nogil)

ctypedef void (*task)(void *context, int member, int members) noexcept nogil

cdef extern from "recurrent/pool.h" nogil:
    ctypedef struct vl_barrier:
        pass
    void vl_parallel(int threads, task work, void *context, vl_heed *heed)

cdef extern from "recurrent/layer_run.h" nogil:
    ctypedef struct vl_sequences:
        const vl_direction *directions[2]
        int direction_count
        ptrdiff_t steps, sequences
        const char *x
        ptrdiff_t x_time, x_row
        char *y
        ptrdiff_t y_time, y_row
        const int32_t *lengths
        const char *h_0
        const char *c_0
        char *h_n
        char *c_n
        vl_heed *heed

cdef extern from "named_limits.h" nogil:
    ctypedef struct vl_limits:
        int64_t mapped_bytes, most_usual
        int64_t block_bytes, least_block_rows, thread_work
        int64_t winograd_in_channels, winograd_out_channels, winograd_dilation
        int64_t most_idle_frames, hand_over_bytes, keep_frame_bytes, short_step_nanoseconds, most_long_steps

# The pool of threads lives with the time loops; other kernels run on the same one.
cdef void parallel(int threads, task work, void *context, vl_heed *heed) noexcept nogil

# Begins to heed Ctrl-C: before the GIL is let go. And afterwards: raises what a signal handler has raised.
cdef void heed(vl_heed *h) noexcept nogil
cdef int check_ended(vl_heed *h) except -1

# What `vledge.get_num_threads` says.
cdef int thread_count() except -1

# The thresholds of limit_list.h as they are now.
cdef const vl_limits *limits_in_force() noexcept nogil

# A layer over sequences; False when memory is out.
cdef bint run_sequences(const vl_sequences *s, int threads) noexcept nogil

# step.h's functions, for who has a layout of its own.
cdef void step_from_input(const vl_direction *d, vl_product *projection, vl_step *step, vl_barrier *barrier,
                          int members) noexcept nogil
cdef void set_state_projection(const vl_direction *d, const void *gated, const ptrdiff_t *gated_rows,
                               vl_product *p) noexcept nogil
cdef void project_state(const vl_direction *d, vl_product *p, ptrdiff_t rows, bint turned, void *h_next, char *out,
                        const ptrdiff_t *out_rows) noexcept nogil


cdef inline int typenum(Direction direction):
    """NumPy's number of what a direction computes in."""
    return number_of(direction.c.kernels.arithmetic)


cdef inline char *data_of(cnp.ndarray array):
    return NULL if array is None else <char *>cnp.PyArray_DATA(array)


# Whether the directions are one layer's: a ValueError says where they are not.
cdef int check_layer(list directions) except -1
