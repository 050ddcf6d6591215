from libc.stdint cimport int32_t, int64_t

from vledge._ext.pool cimport vl_heed
from vledge._ext.walk cimport LayerRun
from vledge._ext.weights cimport vl_direction


# A layer over sequences whose elements [t, b] stand `x_time` and `x_row` numbers apart, and those of its output
# likewise; everything is checked. The states are [directions, sequences, width].
cdef struct Sequences:
    const vl_direction *directions[2]
    int direction_count
    ptrdiff_t steps, sequences
    const char *x
    ptrdiff_t x_time, x_row
    char *y                     # NULL: only the final states are wanted; zeros past each length
    ptrdiff_t y_time, y_row
    const int32_t *lengths      # in [0, steps], or NULL: all have every step
    const char *h_0             # NULL: zeros
    const char *c_0
    char *h_n
    char *c_n
    vl_heed *heed               # NULL: nobody ends it


# Every other run begins with the weights that the last one read last: the cache may hold them.
cdef bint next_turn() noexcept nogil

# Shares a run between threads. And a batch as compiled callers have it. False when memory is out.
cdef bint run_layer(LayerRun *run, int threads) noexcept nogil
cdef bint run_sequences(const Sequences *s, int threads) noexcept nogil

# What each member of each task's team would take, [task, member], measured on this thread.
cdef bint rehearse(LayerRun *run, int threads, int64_t *nanoseconds, int most) noexcept nogil

# The next call may share steps again, however lately that was no use.
cdef void end_rest() noexcept nogil

# How many tasks each thread did in the last call whose threads took slices.
cdef list tasks_done()
