from libc.stdint cimport int64_t

from vledge._ext.pool cimport VL_MOST_THREADS, vl_barrier, vl_heed
from vledge._ext.weights cimport vl_direction


# One run of one layer over sequences of different lengths: what the doors fill in and the threads share.
#
# Sequences are sorted by falling length, so that the live ones at step t are rows 0 … batch_sizes[t]. Element
# (t, row) of the input stands at x_time[t] + x_rows[row] and of the output likewise, which fits packed rows and
# padded arrays in either axis order: nothing is copied to be computed.
cdef struct LayerRun:
    const vl_direction *directions[2]
    int direction_count
    ptrdiff_t steps, sequences
    const int64_t *batch_sizes
    const char *x
    const ptrdiff_t *x_time
    const ptrdiff_t *x_rows
    const int64_t *places       # of the sorted sequences in the states' rows, NULL: the same order
    char *y                     # NULL: only the final states are wanted
    const ptrdiff_t *y_time
    const ptrdiff_t *y_rows
    ptrdiff_t padded_steps      # of the output, zeroed from each sequence's end on; 0: nothing to zero
    bint padded_batch_first
    ptrdiff_t *ranks            # by length, of the batch's sequences in their own order
    const char *h_0             # [directions, sequences, width] rows, NULL = zeros
    const char *c_0
    char *h_n
    char *c_n
    bint turned                 # weights are read from the last to the first
    vl_heed *heed               # NULL: nobody ends it
    # what threads share: schedule.pyx sets it
    int slices                  # of the sequences; slice s is rows first_row[s] … first_row[s + 1]
    ptrdiff_t first_row[VL_MOST_THREADS + 1]
    int next_task
    bint out_of_memory
    ptrdiff_t end_before        # the step, counted through the directions, that members who share steps do not begin
    bint small_step             # its recurrent weights fit in the nearest cache
    bint share_steps            # one task for all threads instead of one thread a task
    bint alone                  # ... until the others turned out to have no core
    char *shared_memory
    vl_barrier barrier


# Runs direction `number` over sequences [first_row, last_row), or less where the call ends, as one of the members who
# share its steps; False when memory is out.
cdef bint walk(LayerRun *run, int number, ptrdiff_t first_row, ptrdiff_t last_row, int member,
               int members) noexcept nogil
