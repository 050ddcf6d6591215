from libc.stdint cimport int32_t, int64_t

from vledge._ext.isa cimport vl_independent, vl_product, vl_step
from vledge._ext.weights cimport Weights

cdef extern from "threads.h" nogil:
    ctypedef struct vl_barrier:
        pass

cdef extern from "heed.h" nogil:
    ctypedef struct vl_heed:
        void *error

# The pool of threads lives with the time loops; other kernels run on the same one.
ctypedef void (*task)(void *context, int member, int members) noexcept nogil

cdef void parallel(int threads, task work, void *context, vl_heed *heed) noexcept nogil

# Begins to heed Ctrl-C: before the GIL is let go. And afterwards: raises what a signal handler has raised.
cdef void heed(vl_heed *h) noexcept nogil
cdef int check_ended(vl_heed *h) except -1

# What `vledge.get_num_threads` says.
cdef int thread_count() except -1

# One time step of a layer from its input; with one member nobody waits at the barrier.
cdef void step_from_input(const Weights *w, vl_product *p, vl_step *k, vl_barrier *barrier,
                          int members) noexcept nogil

# The steps of a layer of independent units, with the state in place.
cdef void run_independent(const Weights *w, const vl_independent *n) noexcept nogil

# A layer over sequences whose elements [t, b] stand `x_time` and `x_row` elements apart, and those of its
# output likewise; everything is checked. The states are [directions, sequences, width].
ctypedef struct Sequences:
    const Weights *directions[2]
    int direction_count
    ptrdiff_t steps, sequences
    const char *x
    ptrdiff_t x_time, x_row
    char *y                      # NULL: only the final states are wanted; zeros past each length
    ptrdiff_t y_time, y_row
    const int32_t *lengths       # in [0, steps], or NULL: all have every step
    const char *h_0              # NULL: zeros
    const char *c_0
    char *h_n
    char *c_n
    vl_heed *heed                # NULL: nobody ends it

# False when memory is out.
cdef bint run_sequences(const Sequences *s, int threads) noexcept nogil
