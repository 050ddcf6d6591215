from libc.stdint cimport int64_t, uint64_t

from vledge._ext.isa cimport vl_product, vl_step
from vledge._ext.weights cimport vl_direction

cdef extern from "heed.h" nogil:
    int64_t VL_WORK_BETWEEN_LOOKS
    ctypedef struct vl_heed:
        void *error
    bint vl_has_ended(const vl_heed *h)
    bint vl_shall_end(vl_heed *h)

cdef extern from "named_limits.h" nogil:
    ctypedef struct vl_limits:
        int64_t mapped_bytes, most_usual, keep_scratch_bytes
        int64_t near_step_bytes, cores
        int64_t kernel_work, fewest_slice_rows
        int64_t most_waiting, fair_trial_nanoseconds, rest_nanoseconds, longest_rest_milliseconds
        int64_t slow_percent, slow_member, slowness
        int64_t block_bytes, least_block_rows, thread_work
        int64_t winograd_in_channels, winograd_out_channels, winograd_dilation
        int64_t most_idle_frames, hand_over_bytes, keep_frame_bytes, short_step_nanoseconds, most_long_steps
    ctypedef struct vl_named_limit:
        const char *name
        const char *unit
        int64_t *value

cdef extern from "recurrent/barrier.h" nogil:
    enum: VL_MOST_THREADS, VL_LINE_BYTES
    ctypedef struct vl_line:
        ptrdiff_t end_before, alone_from
    ctypedef struct vl_team:
        vl_line *lines
        int member, members

cdef extern from "recurrent/sharing.h" nogil:
    ctypedef struct vl_sharing:
        int members, team, slices
        ptrdiff_t first_row[VL_MOST_THREADS + 1]
        double nanoseconds
    ctypedef struct vl_rows:
        const ptrdiff_t *lengths
        ptrdiff_t sequences

cdef extern from "recurrent/scratch.h" nogil:
    ctypedef struct vl_scratch:
        char *h[2]
        char *c
        char *gated
        ptrdiff_t *gated_rows
        char *pre
        ptrdiff_t *input_rows
        char *gathered
        char *input_room
        char *state_room
        ptrdiff_t input_room_bytes, state_room_bytes
        ptrdiff_t *live
        ptrdiff_t *pre_steps
        ptrdiff_t *out_steps

cdef extern from "recurrent/step.h" nogil:
    void vl_panel_share(const vl_direction *d, int member, int members, ptrdiff_t *first, ptrdiff_t *last)

# ---- pool.h
ctypedef void (*task)(void *context, int member, int members) noexcept nogil

cdef void parallel(int threads, task work, void *context, vl_heed *heed) noexcept nogil
cdef int take(int *counter) noexcept nogil

# ---- barrier.h
cdef int64_t meet(const vl_team *team) noexcept nogil

# ---- sharing.h
cdef void choose_sharing(const vl_direction *const *directions, int direction_count, vl_rows rows, int threads,
                         int slices, vl_sharing *sharing) noexcept nogil

# ---- scratch.h
cdef void *scratch_memory(size_t bytes) noexcept nogil
cdef void scratch_trim(size_t keep) noexcept nogil
cdef ptrdiff_t chunk_rows(const vl_direction *d, ptrdiff_t rows, ptrdiff_t total) noexcept nogil
cdef uint64_t lay_out(const vl_direction *d, ptrdiff_t rows, ptrdiff_t chunk_rows, int members, char *memory,
                      vl_scratch *s) noexcept nogil

# ---- step.h
cdef void run_step(const vl_direction *d, const vl_step *step, const vl_team *team) noexcept nogil
cdef void step_from_input(const vl_direction *d, vl_product *projection, vl_step *step,
                          const vl_team *team) noexcept nogil
cdef void set_state_projection(const vl_direction *d, const void *gated, const ptrdiff_t *gated_rows, char *room,
                               vl_product *p) noexcept nogil
cdef void project_state(const vl_direction *d, vl_product *p, ptrdiff_t rows, bint turned, void *h_next, char *out,
                        const ptrdiff_t *out_rows) noexcept nogil

# ---- limit_list.h: as they are now; and by name, the last of which is NULL
cdef const vl_limits *limits_in_force() noexcept nogil
cdef const vl_named_limit *named_limits() noexcept nogil

# ---- calls
# What `vledge.get_num_threads` says.
cdef int thread_count() except -1

# Begins to heed Ctrl-C: before the GIL is let go. And afterwards: raises what a signal handler has raised.
cdef void heed(vl_heed *h) noexcept nogil
cdef int check_ended(vl_heed *h) except -1
