from libc.stdint cimport int64_t

from vledge._ext.pool cimport VL_MOST_THREADS, vl_heed, vl_sharing, vl_team
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
    vl_sharing sharing
    int next_task
    int tasks[VL_MOST_THREADS]      # that each thread has done alone, ...
    int64_t paces[VL_MOST_THREADS]  # ... and what it took for a thousand rows' steps, in nanoseconds
    bint out_of_memory
    char *shared_memory         # of the teams: first their members' lines, then team_bytes for the walks of each
    ptrdiff_t team_bytes


# Runs direction `number` over sequences [first_row, last_row), or less where the call ends, as a member of a team, of
# which it is the `ordinal`-th task. A team works in `memory`, who is alone in memory of its own; False when there is
# none.
cdef bint walk(LayerRun *run, int number, ptrdiff_t first_row, ptrdiff_t last_row, const vl_team *team, int ordinal,
               char *memory) noexcept nogil
