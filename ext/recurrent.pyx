"""The time loops: whole sequences of different lengths through the weights of one layer.

Sequences are sorted by falling length, so that the live ones at step t are rows
``0 … batch_sizes[t]``. Element (t, row) of the input stands at ``x_time[t] + x_rows[row]`` and of
the output likewise, which fits packed rows and padded arrays in either axis order: nothing is
copied to be computed.

A direction walks its steps in chunks. A chunk's input is projected for all its rows at once, into a
buffer that stays in the cache; then the steps of the chunk run one by one. The state alternates
between two buffers, both filled with h_0 at first, so that in a reverse walk a sequence that joins
finds its own initial state.

Threads either take slices of the sequences, with nothing to wait for, or, for one long sequence,
share the hidden blocks of every step and meet at a barrier. Each output element is computed by the
same operations in the same order whatever the slices, so results do not depend on threads.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX, PTRDIFF_MAX, SIZE_MAX, int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp
import numpy as np

from vledge.machine import threads as thread_settings
from vledge._ext.arrays cimport batch_sizes_of, has_shape, is_plain, product_of, shaped
from vledge._ext.isa cimport vl_independent, vl_product, vl_step
from vledge._ext.weights cimport (
    GRU,
    GRU_RESET_BEFORE,
    INDRNN_TANH,
    LSTM,
    RNN,
    RNN_RELU,
    RNN_TANH,
    Direction,
    Weights,
    made,
)

cdef extern from "Python.h":
    int PyContextVar_Get(PyObject *var, PyObject *default, PyObject **value)

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

cdef extern from "threads.h" nogil:
    int VL_MOST_THREADS
    void vl_parallel(int threads, void (*task)(void *, int, int) noexcept nogil, void *context)
    int vl_wait(vl_barrier *barrier, int members)
    int64_t vl_nanoseconds()
    int vl_take(int *counter)
    void *vl_scratch(size_t bytes)
    void vl_scratch_trim(size_t keep)

cnp.import_array()

cdef object threads_of_call = thread_settings._of_call

# Bytes of projected input that a chunk holds: small enough to stay in the second-level cache
# beside the weights, large enough that W_ih is seldom read anew. Where
# W_ih is large, half as many as it has: from 1 MB on it comes from beyond that cache.
cdef ptrdiff_t CHUNK_BYTES = 256 * 1024
cdef ptrdiff_t MOST_CHUNK_BYTES = 2 * 1024 * 1024
# What a thread keeps of its scratch memory between calls.
cdef size_t KEEP_BYTES = 4 * 1024 * 1024
# What rows of a step cost, in quarters of a row of a full tile (benchmarks/kernels.py): a single row is bound by
# reading the weights, where they are more than the nearest cache holds, and three take little more.
cdef enum:
    FIRST_ROW = 10
    NEXT_ROWS = 2
    FIRST_SMALL_ROW = 6
    ROW = 4
cdef ptrdiff_t SMALL_STEP_BYTES = 64 * 1024
# What meeting at every step costs: as much as a quarter of a row, times this, by the step's bytes of weights.
cdef ptrdiff_t BARRIER_BYTES = 1024 * 1024
# Recurrent weights of one step beyond which few cores' second-level cache holds them: threads that share a
# step read a part of them each.
cdef ptrdiff_t NEAR_STEP_BYTES = 1024 * 1024
# Recurrent weights of one step below which sharing it between threads costs more than it saves, and
# how many bytes of weights a call must read in all to be worth waking a thread.
cdef ptrdiff_t SHARED_STEP_BYTES = 256 * 1024
cdef ptrdiff_t SHARED_CALL_BYTES = 4 * 1024 * 1024
# Naps at the barrier of a shared step after which the caller goes on alone, and for how long no step
# is shared after that: the other threads' cores are busy with something else.
cdef int MOST_NAPS = 4
cdef int64_t REST_NANOSECONDS = 100_000_000
cdef int64_t rest_until = 0
cdef bint turn = False
# Steps or sequences beyond which a call takes the long way, which checks that sizes have products.
cdef ptrdiff_t MOST_USUAL = 1 << 24
# Tables of so many numbers stand on the stack, so that a short call allocates nothing.
cdef enum:
    FEW_NUMBERS = 256
# An output as large as this comes as untouched zeros from the system, and its padding is left so. Smaller ones come
# from memory that was in use: threads zero the padding of their own sequences, one thread leaves it to calloc.
cdef ptrdiff_t MAPPED_BYTES = 32 * 1024 * 1024


def limits(**changes) -> dict:
    """The thresholds above by name, after changing those given: tests force the paths that their
    small sizes would not take, benchmarks look for better values."""
    global CHUNK_BYTES, BARRIER_BYTES, SHARED_STEP_BYTES, SHARED_CALL_BYTES, MAPPED_BYTES, MOST_NAPS
    global rest_until
    rest_until = 0
    now = {"chunk_bytes": CHUNK_BYTES, "barrier_bytes": BARRIER_BYTES, "most_naps": MOST_NAPS,
           "shared_step_bytes": SHARED_STEP_BYTES, "shared_call_bytes": SHARED_CALL_BYTES,
           "mapped_bytes": MAPPED_BYTES}
    if not changes.keys() <= now.keys():
        raise ValueError(f"no limit named {', '.join(changes.keys() - now.keys())}")
    now.update(changes)
    CHUNK_BYTES, BARRIER_BYTES = now["chunk_bytes"], now["barrier_bytes"]
    SHARED_STEP_BYTES, SHARED_CALL_BYTES = now["shared_step_bytes"], now["shared_call_bytes"]
    MAPPED_BYTES, MOST_NAPS = now["mapped_bytes"], now["most_naps"]
    return now


cdef struct Job:
    const Weights *directions[2]
    int direction_count
    ptrdiff_t steps, sequences
    const int64_t *batch_sizes
    const char *x
    const ptrdiff_t *x_time
    const ptrdiff_t *x_rows
    const int64_t *places        # of the sorted sequences in the states' rows, NULL: the same order
    char *y                      # NULL: only the final states are wanted
    const ptrdiff_t *y_time
    const ptrdiff_t *y_rows
    ptrdiff_t padded_steps       # of the output, zeroed from each sequence's end on; 0: nothing to zero
    bint padded_batch_first
    ptrdiff_t *ranks             # by length, of the batch's sequences in their own order
    const char *h_0              # [D, B, width] rows, NULL = zeros
    const char *c_0
    char *h_n
    char *c_n
    # what threads share
    int slices                   # of the sequences; slice s is rows first_row[s] … first_row[s + 1]
    ptrdiff_t first_row[65]
    int next_task
    int out_of_memory
    bint turned                  # weights are read from the last to the first
    bint small_step              # its recurrent weights fit in the nearest cache
    bint share_steps             # one task for all threads instead of one thread a task
    bint alone                   # ... until the others turned out to have no core
    char *shared
    vl_barrier barrier


# ---- memory of one walk ------------------------------------------------------------------------

cdef struct Scratch:
    char *h[2]                   # [rows, ld_h] each
    char *c                      # [rows, ld_c]; gru_reset_before: as vl_step's
    char *gated                  # r * h, as h; or the LSTM's output before its projection, as c
    ptrdiff_t *state_offsets     # of the rows of `gated`
    char *pre                    # [chunk rows, ld_pre]
    ptrdiff_t *pre_inputs        # offsets of the chunk's input rows
    char *gathered               # those rows side by side, where BLAS projects them
    ptrdiff_t *live              # of the chunk's steps, for independent units: rows, ...
    ptrdiff_t *pre_steps         # ... where they begin in `pre` ...
    ptrdiff_t *out_steps         # ... and in the output


# 64 bits wide on every machine: on a 32-bit one a large batch of a wide layer would wrap around.
cdef inline uint64_t rounded(uint64_t bytes) noexcept nogil:
    return (bytes + 63) & ~<uint64_t>63


cdef ptrdiff_t chunk_rows(const Weights *w, ptrdiff_t rows, ptrdiff_t total) noexcept nogil:
    """Rows that a chunk may hold; one whole step always fits."""
    cdef ptrdiff_t row_bytes = w.vectors * w.kernels.lanes * w.itemsize
    cdef int64_t half = <int64_t>row_bytes * w.input_size // 2
    cdef ptrdiff_t most = max(CHUNK_BYTES, <ptrdiff_t>min(half, <int64_t>MOST_CHUNK_BYTES))
    return min(max(most // row_bytes, rows), total)


cdef uint64_t lay_out(const Weights *w, ptrdiff_t rows, ptrdiff_t chunk, char *memory,
                    Scratch *s) noexcept nogil:
    """Bytes needed; with memory given, the pointers too."""
    cdef uint64_t h = rounded(<uint64_t>rows * w.ld_h * w.itemsize)
    cdef uint64_t hidden = rounded(<uint64_t>rows * max(w.ld_c, w.ld_h) * w.itemsize)
    cdef uint64_t pre = rounded(<uint64_t>chunk * w.ld_pre * w.itemsize)
    cdef uint64_t c = hidden if w.cell == LSTM or w.cell == GRU_RESET_BEFORE else 0
    cdef uint64_t gated = hidden if w.w_hr != NULL or w.cell == GRU_RESET_BEFORE else 0
    cdef uint64_t offsets = rounded(<uint64_t>rows * sizeof(ptrdiff_t)) if w.w_hr != NULL else 0
    cdef uint64_t inputs = rounded(<uint64_t>chunk * sizeof(ptrdiff_t))
    cdef uint64_t steps = inputs if w.independent else 0   # no chunk has more steps than rows
    if memory != NULL:
        s.h[0] = memory
        s.h[1] = memory + h
        s.c = memory + 2 * h
        s.gated = s.c + c
        s.state_offsets = <ptrdiff_t *>(s.gated + gated)
        s.pre = s.gated + gated + offsets
        s.pre_inputs = <ptrdiff_t *>(s.pre + pre)
        s.live = <ptrdiff_t *>(s.pre + pre + inputs)
        s.pre_steps = <ptrdiff_t *>(s.pre + pre + inputs + steps)
        s.out_steps = <ptrdiff_t *>(s.pre + pre + inputs + 2 * steps)
        s.gathered = s.pre + pre + inputs + 3 * steps
    return (2 * h + c + gated + offsets + pre + inputs + 3 * steps
            + (<uint64_t>chunk * w.input_size * w.itemsize if w.gemm != NULL else 0))


# ---- one direction of some sequences -----------------------------------------------------------

cdef ptrdiff_t state_row(const Job *job, int d, ptrdiff_t r) noexcept nogil:
    """Where direction d's state of the r-th longest sequence stands in the caller's arrays."""
    return d * job.sequences + (r if job.places == NULL else job.places[r])


cdef void load_states(char *target, ptrdiff_t row_bytes, const char *source, ptrdiff_t source_bytes,
                      const Job *job, int d, ptrdiff_t first_row, ptrdiff_t rows) noexcept nogil:
    """Sequences' states from `first_row` on, or zeros where source is NULL, to rows padded with zeros."""
    cdef ptrdiff_t r
    if source == NULL or source_bytes < row_bytes:
        memset(target, 0, rows * row_bytes)
    if source != NULL:
        for r in range(rows):
            memcpy(target + r * row_bytes, source + state_row(job, d, first_row + r) * source_bytes,
                   source_bytes)


ctypedef void (*gemm_f32)(char *, char *, int *, int *, int *, float *, const float *, int *,
                          const float *, int *, float *, float *, int *) noexcept nogil
ctypedef void (*gemm_f64)(char *, char *, int *, int *, int *, double *, const double *, int *,
                          const double *, int *, double *, double *, int *) noexcept nogil


cdef void project_by_blas(const Job *job, const Weights *w, Scratch *s,
                          ptrdiff_t count) noexcept nogil:
    """pre = bias + W_ih x in one product: BLAS wants the chunk's rows side by side."""
    cdef int columns = w.vectors * w.kernels.lanes, rows = count, depth = w.input_size
    cdef int ld_x = max(depth, 1), ld_pre = w.ld_pre
    cdef float one_f32 = 1
    cdef double one_f64 = 1
    cdef ptrdiff_t r, row_bytes = depth * w.itemsize
    cdef char *no_transpose = b"N"
    for r in range(count):
        memcpy(s.pre + r * w.ld_pre * w.itemsize, w.bias, columns * w.itemsize)
        memcpy(s.gathered + r * row_bytes, job.x + s.pre_inputs[r] * w.itemsize, row_bytes)
    # row-major pre = x w is column-major pre^T = w^T x^T
    if w.itemsize == 4:
        (<gemm_f32>w.gemm)(no_transpose, no_transpose, &columns, &rows, &depth, &one_f32,
                           <const float *>w.w_ih, &columns, <const float *>s.gathered, &ld_x,
                           &one_f32, <float *>s.pre, &ld_pre)
    else:
        (<gemm_f64>w.gemm)(no_transpose, no_transpose, &columns, &rows, &depth, &one_f64,
                           <const double *>w.w_ih, &columns, <const double *>s.gathered, &ld_x,
                           &one_f64, <double *>s.pre, &ld_pre)


cdef void lay_out_projection(const Job *job, const Weights *w, const Scratch *s, ptrdiff_t rows,
                             bint turned, int member, int members, vl_product *p) noexcept nogil:
    """pre = bias + W_ih x for the chunk's rows; of shared steps, this member's panels."""
    cdef ptrdiff_t first, last
    panel_share(w, member, members, &first, &last)
    p.rows = rows
    p.depth = w.input_size
    p.vectors = w.vectors
    p.first = first * w.gates
    p.last = min(last * w.gates, w.vectors)
    p.columns = w.vectors * w.kernels.lanes
    p.group = w.group
    p.turned = turned
    p.relu = False
    p.x = job.x
    p.x_rows = s.pre_inputs
    p.w = w.w_ih
    p.bias = w.bias
    p.out = s.pre
    p.ld_out = w.ld_pre


cdef void panel_share(const Weights *w, int member, int members, ptrdiff_t *first,
                      ptrdiff_t *last) noexcept nogil:
    """The panels that a member computes, in groups of four: what one-gate cells pack together."""
    cdef ptrdiff_t groups = (w.panels + 3) // 4
    first[0] = 4 * (groups * member // members)
    last[0] = min(4 * (groups * (member + 1) // members), w.panels)


cdef void run_independent(const Weights *w, const vl_independent *n) noexcept nogil:
    """Steps of independent units: the only place that chooses their kernel."""
    if w.cell == INDRNN_TANH:
        w.kernels.indrnn_tanh(n)
    else:
        w.kernels.indrnn_relu(n)


cdef void step(const Weights *w, vl_step *k, vl_barrier *barrier, int members) noexcept nogil:
    """One time step of one member's panels: the only place that chooses a cell's kernel."""
    if w.cell == LSTM:
        w.kernels.lstm(k)
    elif w.cell == GRU:
        w.kernels.gru(k)
    elif w.cell == RNN_TANH or w.cell == RNN:
        w.kernels.rnn_tanh(k)
    elif w.cell == RNN_RELU:
        w.kernels.rnn_relu(k)
    else:
        w.kernels.gru_gates(k)
        vl_wait(barrier, members)
        w.kernels.gru_candidate(k)


cdef void step_from_input(const Weights *w, vl_product *p, vl_step *k, vl_barrier *barrier,
                          int members) noexcept nogil:
    """The input's projection and the step, a few panels at a time: so both matrices are read as one, forth
    and back by turns, which begins with what the last step has left in the cache."""
    cdef ptrdiff_t first = k.first_panel, last = k.last_panel
    cdef ptrdiff_t runs = (last - first + 3) // 4, i
    if w.cell == GRU_RESET_BEFORE:  # all of a row's gates come before its first candidate
        w.kernels.product(p)
        step(w, k, barrier, members)
        return
    for i in range(runs):
        k.first_panel = first + 4 * (runs - 1 - i if k.turned else i)
        k.last_panel = min(k.first_panel + 4, last)
        p.first = k.first_panel * w.gates
        p.last = min(k.last_panel * w.gates, w.vectors)
        w.kernels.product(p)
        step(w, k, barrier, members)
    k.first_panel, k.last_panel = first, last


cdef void project_state(const Weights *w, Scratch *s, char *h_next, char *out,
                        const ptrdiff_t *out_rows, ptrdiff_t rows, bint turned) noexcept nogil:
    """h = W_hr (o tanh(c)): from `gated` to the next state and the output."""
    cdef vl_product p
    cdef ptrdiff_t r
    p.rows = rows
    p.depth = w.hidden_size
    p.first = 0
    p.last = p.vectors = (w.width + w.kernels.lanes - 1) // w.kernels.lanes
    p.columns = p.vectors * w.kernels.lanes
    p.group = 4
    p.turned = turned
    p.relu = False
    p.x = s.gated
    p.x_rows = s.state_offsets
    p.w = w.w_hr
    p.bias = NULL
    p.out = h_next
    p.ld_out = w.ld_h
    w.kernels.product(&p)
    if out != NULL:
        for r in range(rows):
            memcpy(out + out_rows[r] * w.itemsize, h_next + r * w.ld_h * w.itemsize,
                   w.width * w.itemsize)


cdef bint walk(Job *job, int d, ptrdiff_t first_row, ptrdiff_t last_row, int member,
               int members) noexcept nogil:
    """Runs direction d of sequences [first_row, last_row); False when memory is out."""
    cdef const Weights *w = job.directions[d]
    cdef ptrdiff_t rows = last_row - first_row, size = w.itemsize
    cdef ptrdiff_t steps = 0, total = 0, t, r, live, walked, chunk_end, filled, i, chunk
    cdef int current = 0, naps = 0
    cdef bint turned = job.turned, at_once
    cdef Scratch s
    cdef vl_product p
    cdef vl_step k
    cdef uint64_t needed
    cdef vl_independent n
    cdef char *memory
    cdef char *out
    cdef char *h_next

    while steps < job.steps and job.batch_sizes[steps] > first_row:
        total += min(<ptrdiff_t>job.batch_sizes[steps], last_row) - first_row
        steps += 1

    chunk = chunk_rows(w, rows, max(total, 1))
    needed = lay_out(w, rows, chunk, NULL, &s)
    if members > 1:
        memory = job.shared
    else:
        memory = NULL if needed > SIZE_MAX // 2 else <char *>vl_scratch(needed)
    if memory == NULL:
        return False
    lay_out(w, rows, chunk, memory, &s)

    if member == 0:
        for i in range(2):
            load_states(s.h[i], w.ld_h * size, job.h_0, w.width * size, job, d, first_row, rows)
        if w.cell == LSTM:
            load_states(s.c, w.ld_c * size, job.c_0, w.hidden_size * size, job, d, first_row, rows)
        if w.w_hr != NULL:
            for r in range(rows):
                s.state_offsets[r] = r * w.ld_c

    k.depth = w.width
    k.hidden_size = w.hidden_size
    k.w = w.w_hh
    k.w_candidate = w.w_candidate
    k.bias_candidate = w.bias_candidate
    k.ld_pre = w.ld_pre
    k.ld_h = w.ld_h
    k.c = s.c
    k.ld_c = w.ld_c
    k.gated = s.gated
    k.activations = w.activations
    k.out_rows = job.y_rows + first_row
    panel_share(w, member, members, &k.first_panel, &k.last_panel)
    n.rows = rows
    n.hidden_size = w.hidden_size
    n.live, n.pre_steps, n.out_steps, n.out_rows = s.live, s.pre_steps, s.out_steps, k.out_rows
    n.w = w.w_hh
    n.pre = s.pre
    n.ld_pre = w.ld_pre
    n.h = s.h[0]
    n.ld_h = w.ld_h
    n.out = NULL if job.y == NULL else job.y + d * w.width * size

    walked = 0
    while walked < steps:
        # ---- project a chunk of whole steps
        chunk_end = walked
        filled = 0
        if members > 1:
            vl_wait(&job.barrier, members)   # everyone has done with the last chunk's inputs
            if member == 0 and naps > MOST_NAPS:
                job.alone = True
            vl_wait(&job.barrier, members)
            if job.alone:
                if member != 0:
                    return True
                members = 1
                panel_share(w, 0, 1, &k.first_panel, &k.last_panel)
        while chunk_end < steps:
            t = steps - 1 - chunk_end if w.reverse else chunk_end
            live = min(<ptrdiff_t>job.batch_sizes[t], last_row) - first_row
            if filled + live > chunk:
                break
            if member == 0:
                for r in range(live):
                    s.pre_inputs[filled + r] = job.x_time[t] + job.x_rows[first_row + r]
                if w.independent:
                    i = chunk_end - walked
                    s.live[i], s.pre_steps[i] = live, filled * w.ld_pre
                    s.out_steps[i] = job.y_time[t]
            filled += live
            chunk_end += 1
        if members > 1:
            vl_wait(&job.barrier, members)
        lay_out_projection(job, w, &s, filled, turned, member, members, &p)
        turned = not turned
        at_once = steps == 1 and w.gemm == NULL and not w.independent
        if w.gemm != NULL:
            if member == 0:
                project_by_blas(job, w, &s, filled)
            vl_wait(&job.barrier, members)
        elif not at_once:
            w.kernels.product(&p)

        # ---- run its steps
        if w.independent:       # ... all at once: no unit waits for another
            n.steps = chunk_end - walked
            n.first_panel, n.last_panel = k.first_panel, k.last_panel
            run_independent(w, &n)
            walked = chunk_end
            naps += vl_wait(&job.barrier, members)
        k.pre = s.pre
        while walked < chunk_end:
            t = steps - 1 - walked if w.reverse else walked
            live = min(<ptrdiff_t>job.batch_sizes[t], last_row) - first_row
            out = NULL
            if job.y != NULL:
                out = job.y + (job.y_time[t] + d * w.width) * size
            h_next = s.h[1 - current]
            k.rows = live
            k.out_next = 0
            if live > 1 and job.y != NULL and walked + 1 < steps:   # a single row's the CPU foresees
                k.out_next = job.y_time[t - 1 if w.reverse else t + 1] - job.y_time[t]
            k.turned = (job.turned + walked) & 1
            k.h = s.h[current]
            if w.w_hr != NULL:
                k.h_next = s.gated
                k.ld_h_next = w.ld_c
                k.out = NULL
            else:
                k.h_next = h_next
                k.ld_h_next = w.ld_h
                k.out = out
            if at_once:
                step_from_input(w, &p, &k, &job.barrier, members)
            else:
                step(w, &k, &job.barrier, members)
            if w.w_hr != NULL:
                vl_wait(&job.barrier, members)
                if member == 0:
                    project_state(w, &s, h_next, out, k.out_rows, live, k.turned)
            naps += vl_wait(&job.barrier, members)
            k.pre = <const char *>k.pre + live * w.ld_pre * size
            current = 1 - current
            walked += 1

    # ---- final states: a sequence's last step left its state in the buffer of that step's parity;
    # independent units have one buffer
    if member == 0:
        t = steps
        for r in range(rows):
            while not w.reverse and t > 0 and job.batch_sizes[t - 1] <= first_row + r:
                t -= 1
            i = state_row(job, d, first_row + r)
            memcpy(job.h_n + i * w.width * size,
                   s.h[0 if w.independent else t & 1] + r * w.ld_h * size, w.width * size)
            if w.cell == LSTM:
                memcpy(job.c_n + i * w.hidden_size * size, s.c + r * w.ld_c * size,
                       w.hidden_size * size)
    return True


cdef void clear_padding(const Job *job, ptrdiff_t first_row, ptrdiff_t last_row) noexcept nogil:
    """Zeros for sequences [first_row, last_row) past their ends, in pieces as long as they come: long ones
    are written without being read first."""
    cdef ptrdiff_t r, t, b, live, begin, length = job.steps
    cdef ptrdiff_t row = job.direction_count * job.directions[0].width * job.directions[0].itemsize
    cdef ptrdiff_t size = job.directions[0].itemsize
    if job.padded_steps == 0:
        return
    if job.padded_batch_first:      # a sequence's steps are side by side
        for r in range(first_row, last_row):
            while length > 0 and job.batch_sizes[length - 1] <= r:
                length -= 1
            memset(job.y + job.y_rows[r] * size + length * row, 0, (job.padded_steps - length) * row)
        return
    for t in range(job.padded_steps):   # a step's sequences are
        live = max(<ptrdiff_t>job.batch_sizes[t] if t < job.steps else 0, first_row)
        b = 0
        while b < job.sequences:
            begin = b
            while b < job.sequences and live <= job.ranks[b] < last_row:
                b += 1
            memset(job.y + (t * job.sequences + begin) * row, 0, (b - begin) * row)
            b += 1


# ---- many threads ------------------------------------------------------------------------------

cdef void run_tasks(void *context, int member, int members) noexcept nogil:
    """What each thread does: all of its tasks, or its share of every step."""
    cdef Job *job = <Job *>context
    cdef uint64_t mode = vl_flush_subnormals()
    cdef int task, d
    cdef ptrdiff_t first, last
    if job.share_steps and members > 1:
        for d in range(job.direction_count):
            if not job.alone:
                walk(job, d, 0, job.sequences, member, members)
            elif member == 0 and not walk(job, d, 0, job.sequences, 0, 1):
                job.out_of_memory = True
            if d == 0:
                clear_padding(job, job.sequences * member // members,
                              job.sequences * (member + 1) // members)
            vl_wait(&job.barrier, members)
    else:
        task = vl_take(&job.next_task)
        while task < job.slices * job.direction_count:
            # slices of both directions alternate, the longest sequences first
            d = task % job.direction_count
            first = job.first_row[task // job.direction_count]
            last = job.first_row[task // job.direction_count + 1]
            if not walk(job, d, first, last, 0, 1):
                job.out_of_memory = True
            if d == 0:
                clear_padding(job, first, last)
            task = vl_take(&job.next_task)
        vl_scratch_trim(KEEP_BYTES)
    vl_restore_mode(mode)


cdef inline int64_t row_cost(bint small, ptrdiff_t place) noexcept nogil:
    """Of the place-th row of a slice, for every step that it takes part in."""
    if small:
        return FIRST_SMALL_ROW if place == 0 else ROW
    return FIRST_ROW if place == 0 else NEXT_ROWS if place < 4 else ROW


cdef int64_t slice_sequences(Job *job, const ptrdiff_t *lengths, int slices) noexcept nogil:
    """Cuts the sequences into slices of equal real work; returns the largest one's cost."""
    cdef int64_t low = 0, high = 0, middle
    cdef ptrdiff_t r
    for r in range(job.sequences):
        high += row_cost(job.small_step, r) * lengths[r]
    while low < high:                      # the smallest largest slice, by bisection
        middle = (low + high) // 2
        if cut(job, lengths, middle) <= slices:
            high = middle
        else:
            low = middle + 1
    job.slices = cut(job, lengths, high)
    return high


cdef int cut(Job *job, const ptrdiff_t *lengths, int64_t most) noexcept nogil:
    """Slices of at most that cost, from the longest sequence on; returns their number, or more than there
    may be where no cut is that cheap."""
    cdef int64_t cost = 0
    cdef ptrdiff_t r, first = 0
    cdef int used = 1
    job.first_row[0] = 0
    for r in range(job.sequences):
        if cost + row_cost(job.small_step, r - first) * lengths[r] > most and r > first:
            if used == VL_MOST_THREADS:
                return VL_MOST_THREADS + 1
            job.first_row[used] = first = r
            used += 1
            cost = 0
        cost += row_cost(job.small_step, r - first) * lengths[r]
        if cost > most:
            return VL_MOST_THREADS + 1
    job.first_row[used] = job.sequences
    return used


cdef bint worth_sharing(int64_t step_bytes, int64_t shared, int64_t sliced) noexcept nogil:
    """Whether the threads should share every step of several sequences: slices are the surer way, for a
    thread that is late holds up nobody."""
    if step_bytes > NEAR_STEP_BYTES:
        return shared < sliced
    return shared < sliced // 5 * 4


cdef int execute(Job *job, int threads) except -1:
    """Runs the job, without the GIL."""
    cdef bint done
    with nogil:
        done = finished(job, threads)
    if not done:
        raise MemoryError("no memory for the working buffers of a recurrent layer")
    return 0


cdef bint finished(Job *job, int threads) noexcept nogil:
    """Shares the job between threads and runs it; False when memory is out."""
    cdef const Weights *w = job.directions[0]
    cdef Scratch s
    cdef ptrdiff_t t, r, total = 0
    cdef ptrdiff_t *lengths = NULL
    cdef ptrdiff_t few[FEW_NUMBERS]
    cdef uint64_t needed
    cdef char *shared_memory = NULL
    cdef int64_t whole = 0, sliced = 0, shared = INT64_MAX
    global rest_until
    # Independent units meet once a chunk, not at every step, and what they share is the projection.
    cdef ptrdiff_t depth = w.input_size if w.independent else w.width
    cdef int64_t step_bytes = w.vectors * w.kernels.lanes * depth * w.itemsize
    cdef int64_t projection_bytes = (0 if w.independent
                                     else w.vectors * w.kernels.lanes * w.input_size * w.itemsize)
    cdef int64_t call_bytes = step_bytes * job.steps + projection_bytes
    job.small_step = step_bytes <= SMALL_STEP_BYTES
    job.slices = 1
    job.first_row[0] = 0
    job.first_row[1] = job.sequences
    job.next_task = 0
    job.out_of_memory = False
    job.share_steps = job.alone = False
    job.shared = NULL
    memset(&job.barrier, 0, sizeof(vl_barrier))
    if threads > VL_MOST_THREADS:
        threads = VL_MOST_THREADS
    if threads > 1 and job.steps > 0:
        if job.sequences >= 2 and threads > job.direction_count:
            lengths = few
            if job.sequences > FEW_NUMBERS:
                lengths = <ptrdiff_t *>malloc(job.sequences * sizeof(ptrdiff_t))
            if lengths == NULL:
                return False
            t = job.steps
            for r in range(job.sequences):
                while t > 0 and job.batch_sizes[t - 1] <= r:
                    t -= 1
                lengths[r] = t
            sliced = slice_sequences(job, lengths,
                                     threads if threads % job.direction_count else
                                     threads // job.direction_count)
            for r in range(job.sequences):
                whole += row_cost(job.small_step, r) * lengths[r]
            if lengths != few:
                free(lengths)
            if not w.independent:
                shared = whole // threads + <int64_t>job.steps * BARRIER_BYTES // step_bytes
        if (threads > job.direction_count
                and (w.panels > 4 if w.independent else step_bytes >= SHARED_STEP_BYTES)
                and call_bytes >= SHARED_CALL_BYTES
                and (job.sequences == 1 or worth_sharing(step_bytes, shared, sliced))
                and vl_nanoseconds() >= rest_until):
            job.share_steps = True
            if w.independent:
                threads = min(threads, <int>((w.panels + 3) // 4))
        elif job.sequences == 1:
            threads = min(threads, job.direction_count)
    if job.share_steps:
        for t in range(job.steps):
            total += job.batch_sizes[t]
        needed = 0
        for t in range(job.direction_count):
            needed = max(needed, lay_out(
                job.directions[t], job.sequences,
                chunk_rows(job.directions[t], job.sequences, max(total, 1)), NULL, &s))
        shared_memory = NULL if needed > SIZE_MAX // 2 else <char *>malloc(needed + 64)
        if shared_memory == NULL:
            return False
        job.shared = <char *>((<size_t>shared_memory + 63) & ~<size_t>63)
    vl_parallel(threads if job.share_steps else min(threads, job.slices * job.direction_count),
                run_tasks, job)
    free(shared_memory)
    if job.alone:
        rest_until = vl_nanoseconds() + REST_NANOSECONDS
    return not job.out_of_memory


cdef bint run_sequences(const Sequences *s, int threads) noexcept nogil:
    cdef Job job
    cdef const Weights *w = s.directions[0]
    cdef ptrdiff_t b, t, r, size = w.itemsize, width = s.direction_count * w.width
    cdef ptrdiff_t steps = s.steps, count = s.sequences
    cdef ptrdiff_t *offsets
    cdef int64_t *sizes
    cdef int64_t *order = NULL
    cdef int64_t few[FEW_NUMBERS]
    cdef size_t bytes
    cdef bint done
    job.turned = next_turn()
    job.padded_steps = 0
    job.places = NULL
    job.direction_count = s.direction_count
    job.directions[0], job.directions[1] = s.directions[0], s.directions[1]
    job.sequences = count
    job.x, job.y = s.x, s.y
    job.h_0, job.c_0, job.h_n, job.c_n = s.h_0, s.c_0, s.h_n, s.c_n
    if count == 0:
        return True
    bytes = (2 * steps + 3 * count) * sizeof(ptrdiff_t) + (steps + count) * sizeof(int64_t) + 16
    offsets = <ptrdiff_t *>few if bytes <= sizeof(few) else <ptrdiff_t *>malloc(bytes)
    if offsets == NULL:
        return False
    sizes = <int64_t *>((<size_t>(offsets + 2 * steps + 3 * count) + 7) & ~<size_t>7)
    job.batch_sizes = sizes
    job.x_time, job.y_time = offsets, offsets + steps
    job.x_rows = offsets + 2 * steps
    job.y_rows = job.x_rows + count
    job.ranks = offsets + 2 * steps + 2 * count
    if s.lengths != NULL:
        order = sizes + steps
        job.steps = sort_by_length(s.lengths, count, order, sizes, offsets)
        job.places = order
        if s.y != NULL:     # what is past a length; the rest is written over
            for t in range(steps):
                for b in range(count):
                    if t >= s.lengths[b]:
                        memset(job.y + (t * s.y_time + b * s.y_row) * size, 0, width * size)
    else:
        job.steps = steps
        for t in range(steps):
            sizes[t] = count
    for t in range(job.steps):
        offsets[t] = t * s.x_time
        offsets[steps + t] = t * s.y_time
    for r in range(count):
        b = r if order == NULL else order[r]
        offsets[2 * steps + r] = b * s.x_row
        offsets[2 * steps + count + r] = b * s.y_row
        job.ranks[b] = r
    done = finished(&job, threads)
    if offsets != <ptrdiff_t *>few:
        free(offsets)
    return done


cdef ptrdiff_t sort_by_length(const int32_t *lengths, ptrdiff_t count, int64_t *order,
                              int64_t *batch_sizes, ptrdiff_t *following) noexcept nogil:
    """The sequences' places from the longest to the shortest, equal ones as they stand, and how many
    are left at each step; returns the longest length. ``following`` is memory for a number a step."""
    cdef ptrdiff_t b, t, place, length, longest = 0, empty = 0
    for b in range(count):
        longest = max(longest, <ptrdiff_t>lengths[b])
    for t in range(longest):
        batch_sizes[t] = 0
    for b in range(count):
        if lengths[b] > 0:
            batch_sizes[lengths[b] - 1] += 1
    for t in range(longest - 2, -1, -1):    # those of a length, and all that are longer
        batch_sizes[t] += batch_sizes[t + 1]
    for t in range(longest):                # where the next one of length t + 1 stands: behind all that are longer
        following[t] = batch_sizes[t + 1] if t + 1 < longest else 0
    if longest > 0:
        empty = batch_sizes[0]
    for b in range(count):
        length = lengths[b]
        if length > 0:
            place = following[length - 1]
            following[length - 1] += 1
        else:
            place = empty
            empty += 1
        order[place] = b
    return longest


cdef int thread_count() except -1:
    cdef PyObject *of_call = NULL
    if PyContextVar_Get(<PyObject *>threads_of_call, NULL, &of_call) < 0:
        raise RuntimeError("no context")
    given = <object>of_call
    Py_DECREF(given)        # the context has one
    if given is None:
        given = thread_settings._num_threads
    return thread_settings.get_num_threads() if given is None else given


cdef void parallel(int threads, task work, void *context) noexcept nogil:
    vl_parallel(threads, work, context)


# ---- from Python -------------------------------------------------------------------------------

cdef int typenum(Direction direction):
    return cnp.NPY_FLOAT64 if direction.weights.itemsize == 8 else cnp.NPY_FLOAT32


cdef char *data_of(cnp.ndarray array):
    return NULL if array is None else <char *>cnp.PyArray_DATA(array)


cdef cnp.ndarray optional(object array, str name, int number, tuple shape):
    """The array as `shaped` takes it, or None."""
    return None if array is None else shaped(array, name, number, shape)


cdef object empty(tuple shape, int type_number, bint zero=False):
    cdef cnp.npy_intp sizes[3]
    cdef int i
    for i in range(len(shape)):
        sizes[i] = shape[i]
    if zero:
        return cnp.PyArray_ZEROS(len(shape), sizes, type_number, False)
    return cnp.PyArray_EMPTY(len(shape), sizes, type_number, False)


cdef bint next_turn() noexcept nogil:
    """Every other call begins with the weights that the last one read last: the cache may hold them."""
    global turn
    turn = not turn
    return turn


cdef int set_directions(Job *job, list directions) except -1:
    """Checks that the directions are one layer's."""
    if not 1 <= len(directions) <= 2:
        raise ValueError("a layer has one direction or two")
    cdef Direction first = made(directions[0]), other
    cdef int d
    job.turned = next_turn()
    job.padded_steps = 0
    job.places = NULL
    job.direction_count = len(directions)
    for d in range(job.direction_count):
        other = made(directions[d])
        if (other.weights.cell != first.weights.cell or typenum(other) != typenum(first)
                or other.weights.width != first.weights.width
                or other.weights.input_size != first.weights.input_size
                or other.weights.hidden_size != first.weights.hidden_size):
            raise ValueError("the directions of a layer must have one cell, size and dtype")
        job.directions[d] = &other.weights
    return 0


cdef cnp.ndarray set_lengths(Job *job, object batch_sizes, ptrdiff_t sequences, ptrdiff_t *total):
    """Checks batch_sizes, which the caller keeps while the job runs."""
    cdef cnp.ndarray sizes = batch_sizes_of(batch_sizes, total)
    job.batch_sizes = <const int64_t *>cnp.PyArray_DATA(sizes)
    job.steps = cnp.PyArray_DIM(sizes, 0)
    job.sequences = max(sequences, job.batch_sizes[0] if job.steps else 0)
    return sizes


cdef tuple set_states(Job *job, int number, h_0, c_0):
    """Checks the initial states and makes the final ones: (h_n, c_n, what the job reads)."""
    cdef const Weights *w = job.directions[0]
    h_shape = (job.direction_count, job.sequences, w.width)
    c_shape = (job.direction_count, job.sequences, w.hidden_size)
    if c_0 is not None and w.cell != LSTM:
        raise ValueError("c_0 goes with an LSTM only")
    h_0, c_0 = optional(h_0, "h_0", number, h_shape), optional(c_0, "c_0", number, c_shape)
    job.h_0, job.c_0 = data_of(h_0), data_of(c_0)
    h_n = empty(h_shape, number)
    c_n = empty(c_shape, number) if w.cell == LSTM else None
    job.h_n, job.c_n = data_of(h_n), data_of(c_n)
    return h_n, c_n, (h_0, c_0)


cdef ptrdiff_t *set_offsets(Job *job) except NULL:
    """Memory for the four tables of offsets and the ranks; the caller fills and frees it."""
    cdef ptrdiff_t steps = product_of(job.steps, 2 * sizeof(ptrdiff_t))
    cdef ptrdiff_t rows = product_of(job.sequences, 3 * sizeof(ptrdiff_t))
    if steps > PTRDIFF_MAX - rows:
        raise MemoryError
    cdef ptrdiff_t *offsets = <ptrdiff_t *>PyMem_Malloc(steps + rows)
    if offsets == NULL:
        raise MemoryError
    job.x_time = offsets
    job.y_time = offsets + job.steps
    job.x_rows = offsets + 2 * job.steps
    job.y_rows = job.x_rows + job.sequences
    job.ranks = offsets + 2 * (job.steps + job.sequences)
    return offsets


def run(list directions not None, data, batch_sizes, h_0=None, c_0=None, threads=None):
    """Run one layer over packed sequences.

    Parameters
    ----------
    directions : list of one or two Direction
        All of one cell, size and dtype.
    data : ndarray [sum(batch_sizes), input_size]
    batch_sizes : ndarray of int64 [T], positive, non-increasing
    h_0 : ndarray [D, B, proj_size or hidden_size], or None for zeros
        Rows in the packed (sorted) order; B may exceed ``batch_sizes[0]``: sequences of length 0,
        whose final state is their initial one.
    c_0 : ndarray [D, B, hidden_size], or None for zeros; LSTM only
    threads : int, optional
        Default: :func:`vledge.get_num_threads`.

    Returns
    -------
    output : ndarray [sum(batch_sizes), D * (proj_size or hidden_size)]
    h_n, c_n : ndarrays shaped as h_0 and c_0; c_n is None for cells other than LSTM
    """
    cdef Job job
    set_directions(&job, directions)
    cdef const Weights *w = job.directions[0]
    cdef int number = typenum(directions[0])
    cdef ptrdiff_t t, r, in_row = w.input_size, out_row = job.direction_count * w.width
    cdef ptrdiff_t total, sequences = 0
    cdef ptrdiff_t *offsets
    if h_0 is not None:
        h_0 = shaped(h_0, "h_0", number, (job.direction_count, "sequences", w.width))
        sequences = cnp.PyArray_DIM(h_0, 1)
    cdef cnp.ndarray sizes = set_lengths(&job, batch_sizes, sequences, &total)
    cdef cnp.ndarray rows = shaped(data, "data", number, (total, in_row))
    job.x = <const char *>cnp.PyArray_DATA(rows)
    h_n, c_n, states = set_states(&job, number, h_0, c_0)
    output = empty((total, out_row), number)
    job.y = <char *>cnp.PyArray_DATA(output)
    if job.sequences == 0:
        return output, h_n, c_n
    offsets = set_offsets(&job)
    try:
        total = 0
        for t in range(job.steps):
            offsets[t] = total * in_row
            offsets[job.steps + t] = total * out_row
            total += job.batch_sizes[t]
        for r in range(job.sequences):
            offsets[2 * job.steps + r] = r * in_row
            offsets[2 * job.steps + job.sequences + r] = r * out_row
        execute(&job, thread_count() if threads is None else threads)
    finally:
        PyMem_Free(offsets)
    return output, h_n, c_n


def run_padded(list directions not None, data, batch_sizes, order=None, h_0=None, c_0=None,
               bint batch_first=False, threads=None):
    """Run one layer over a padded batch, without packing it and without working on the padding.

    Parameters
    ----------
    data : ndarray [T, B, input_size], or [B, T, input_size] with batch_first
    batch_sizes : ndarray of int64 [at most T]
        Live sequences at each step, as ``run`` takes them.
    order : ndarray of int64 [B], or None where the batch is already sorted by falling length
        A permutation: ``order[r]`` is the place in the batch of the r-th longest sequence.
    h_0, c_0, directions, threads : as for ``run``, but the states are in the batch's order.

    Returns
    -------
    output : ndarray [T, B, D * (proj_size or hidden_size)], axes as in data; zeros past each length
    h_n, c_n : as ``run``, in the batch's order
    """
    cdef Job job
    set_directions(&job, directions)
    cdef const Weights *w = job.directions[0]
    cdef int number = typenum(directions[0])
    cdef ptrdiff_t t, r, place, in_row = w.input_size, out_row = job.direction_count * w.width
    cdef ptrdiff_t steps, sequences, total
    cdef ptrdiff_t *offsets
    cdef cnp.ndarray rows = shaped(data, "data", number, ("B", "T", in_row) if batch_first
                                   else ("T", "B", in_row))
    cdef cnp.ndarray places = None
    sequences = cnp.PyArray_DIM(rows, 0 if batch_first else 1)
    steps = cnp.PyArray_DIM(rows, 1 if batch_first else 0)
    cdef cnp.ndarray sizes = set_lengths(&job, batch_sizes, sequences, &total)
    if job.sequences != sequences or job.steps > steps:
        raise ValueError(f"batch_sizes asks for more than the {steps} steps of {sequences} sequences")
    job.x = <const char *>cnp.PyArray_DATA(rows)
    if order is not None:
        places = shaped(order, "order", cnp.NPY_INT64, (sequences,))
        job.places = <const int64_t *>cnp.PyArray_DATA(places)
    h_n, c_n, states = set_states(&job, number, h_0, c_0)
    cdef int count = thread_count() if threads is None else threads
    cdef bint padded = total < product_of(steps, sequences)
    cdef bint zero = padded and (
        count == 1 or int(steps) * sequences * out_row * w.itemsize >= MAPPED_BYTES)
    output = empty((*(<object>rows).shape[:2], out_row), number, zero)
    job.padded_steps = steps if padded and not zero else 0
    job.padded_batch_first = batch_first
    job.y = <char *>cnp.PyArray_DATA(output)
    if sequences == 0:
        return output, h_n, c_n
    offsets = set_offsets(&job)
    try:
        for t in range(job.steps):
            offsets[t] = t * in_row if batch_first else t * sequences * in_row
            offsets[job.steps + t] = t * out_row if batch_first else t * sequences * out_row
        for r in range(sequences):
            job.ranks[r] = -1
        for r in range(sequences):
            place = r if job.places == NULL else job.places[r]
            if place < 0 or place >= sequences:
                raise ValueError(f"order[{r}] is {place}, the batch has {sequences} sequences")
            if job.ranks[place] != -1:
                raise ValueError(f"order is no permutation: it has {place} twice")
            job.ranks[place] = r
            if batch_first:
                place *= steps
            offsets[2 * job.steps + r] = place * in_row
            offsets[2 * job.steps + sequences + r] = place * out_row
        execute(&job, count)
    finally:
        PyMem_Free(offsets)
    return output, h_n, c_n


cdef inline object new_array(int number, int axes, ptrdiff_t a, ptrdiff_t b, ptrdiff_t c):
    """[a, b, c], [b, c] or [c]; uninitialised."""
    cdef cnp.npy_intp sizes[3]
    sizes[0], sizes[1], sizes[2] = a, b, c
    return cnp.PyArray_EMPTY(axes, sizes + 3 - axes, number, False)


cdef int run_whole(list directions, Sequences *s, int threads) except -1:
    """A layer's directions over sequences that are set."""
    cdef bint done
    cdef Direction direction
    cdef int d
    s.direction_count = len(directions)
    for d in range(s.direction_count):
        direction = directions[d]
        s.directions[d] = &direction.weights
    with nogil:
        done = run_sequences(s, threads)
    if not done:
        raise MemoryError("no memory for the working buffers of a recurrent layer")
    return 0


cdef class Stack:
    """Stacked layers as one call runs them, where its arrays lie as the kernels take them: what most calls
    are, and no Python in between. Safe to call from several threads at a time."""

    cdef list layers             # of lists of one or two directions
    cdef ptrdiff_t input_size, hidden_size, width
    cdef int number, directions
    cdef bint lstm

    def __init__(self, list layers not None):
        cdef Direction first, direction
        cdef Job job
        if not layers:
            raise ValueError("a stack has one layer at least")
        self.layers = [list(directions) for directions in layers]
        for index in range(len(layers)):
            set_directions(&job, self.layers[index])
            first, direction = self.layers[0][0], self.layers[index][0]
            if (direction.weights.cell != first.weights.cell or typenum(direction) != typenum(first)
                    or len(self.layers[index]) != len(self.layers[0])
                    or index and direction.weights.input_size != first.weights.width * len(self.layers[0])
                    or direction.weights.width != first.weights.width
                    or direction.weights.hidden_size != first.weights.hidden_size):
                raise ValueError("stacked layers must have one cell, size and dtype")
        self.directions = len(self.layers[0])
        self.input_size = first.weights.input_size
        self.hidden_size = first.weights.hidden_size
        self.width = first.weights.width
        self.number = typenum(first)
        self.lstm = first.weights.cell == LSTM

    def __reduce__(self):
        return Stack, (self.layers,)

    cdef bint takes(self, object state, int axes, ptrdiff_t sequences, ptrdiff_t width):
        """Whether a state is None or lies as it should."""
        cdef ptrdiff_t count = len(self.layers) * self.directions
        if state is None:
            return True
        if not is_plain(state, self.number):
            return False
        if axes == 2:
            return has_shape(state, 2, count, width, 0)
        return has_shape(state, 3, count, sequences, width)

    def run(self, x, h, c, bint batch_first):
        """``x [T, B, input_size]`` (``[B, T, …]`` with batch_first, or ``[T, input_size]``), the states or None
        for zeros -> ``(output, h_n, c_n)``; None where anything is not as usual, of which nothing is said."""
        cdef Sequences s
        cdef ptrdiff_t count = len(self.layers), out = self.directions * self.width, size, layer
        cdef int axes, number = self.number, threads
        cdef cnp.ndarray data, h_n, c_n = None
        cdef ptrdiff_t first, second
        if not is_plain(x, number):
            return None
        data = x
        axes = cnp.PyArray_NDIM(data)
        if axes < 2 or axes > 3 or cnp.PyArray_DIM(data, axes - 1) != self.input_size:
            return None
        batch_first = batch_first and axes == 3
        first, second = cnp.PyArray_DIM(data, 0), cnp.PyArray_DIM(data, 1) if axes == 3 else 1
        s.steps, s.sequences = (second, first) if batch_first else (first, second)
        if not (0 < s.steps <= MOST_USUAL and 0 < s.sequences <= MOST_USUAL
                and self.takes(h, axes, s.sequences, self.width)
                and self.takes(c, axes, s.sequences, self.hidden_size)) or c is not None and not self.lstm:
            return None
        threads = thread_count()
        size = cnp.PyArray_ITEMSIZE(data)
        h_n = self.state(axes, s.sequences, self.width)
        s.h_n = <char *>cnp.PyArray_DATA(h_n)
        s.h_0 = data_of(h)
        s.c_n, s.c_0 = NULL, data_of(c)
        if self.lstm:
            c_n = self.state(axes, s.sequences, self.hidden_size)
            s.c_n = <char *>cnp.PyArray_DATA(c_n)
        s.lengths = NULL
        for layer in range(count):
            s.x = <const char *>cnp.PyArray_DATA(data)
            s.x_row = cnp.PyArray_DIM(data, axes - 1)
            s.x_time = s.x_row if batch_first else s.x_row * s.sequences
            s.x_row *= s.steps if batch_first else 1
            s.y_time = out if batch_first else out * s.sequences
            s.y_row = out * s.steps if batch_first else out
            below, data = data, new_array(number, axes, first, second if axes == 3 else first, out)
            s.y = <char *>cnp.PyArray_DATA(data)
            run_whole(self.layers[layer], &s, threads)
            s.h_n += self.directions * s.sequences * self.width * size
            if s.h_0 != NULL:
                s.h_0 += self.directions * s.sequences * self.width * size
            if s.c_n != NULL:
                s.c_n += self.directions * s.sequences * self.hidden_size * size
            if s.c_0 != NULL:
                s.c_0 += self.directions * s.sequences * self.hidden_size * size
        return data, h_n, c_n

    cdef object state(self, int axes, ptrdiff_t sequences, ptrdiff_t width):
        cdef ptrdiff_t count = len(self.layers) * self.directions
        return new_array(self.number, axes, count, count if axes == 2 else sequences, width)


cdef class Stepper:
    """One time step through stacked layers of one direction: what streaming calls, so everything
    that can be is done once, here. Safe to call from several threads at a time."""

    cdef list layers             # of lists of one direction
    cdef ptrdiff_t input_size, hidden_size, width
    cdef int number
    cdef bint lstm

    def __init__(self, list layers not None):
        if not layers:
            raise ValueError("a stepper has one layer at least")
        cdef Direction first = made(layers[0]), layer
        for index in range(len(layers)):
            layer = made(layers[index])
            if (layer.weights.cell != first.weights.cell or typenum(layer) != typenum(first)
                    or layer.weights.input_size != (first.weights.width if index else
                                                    first.weights.input_size)
                    or layer.weights.width != first.weights.width
                    or layer.weights.hidden_size != first.weights.hidden_size):
                raise ValueError("stacked layers must have one cell, size and dtype")
        self.layers = [[layer] for layer in layers]
        self.input_size = first.weights.input_size
        self.hidden_size = first.weights.hidden_size
        self.width = first.weights.width
        self.number = typenum(first)
        self.lstm = first.weights.cell == LSTM

    def __reduce__(self):
        return Stepper, ([layer for layer, in self.layers],)

    def step(self, x, h, c=None):
        """``x [B, input_size]``, ``h [layers, B, width]``, ``c [layers, B, hidden_size]`` (LSTM), or
        None for zeros -> ``(y [B, width], h, c)`` in new arrays."""
        cdef Sequences s
        cdef ptrdiff_t count = len(self.layers), layer, size
        cdef int threads = thread_count()
        cdef cnp.ndarray rows, y, h_n, c_n = None
        if is_plain(x, self.number) and cnp.PyArray_NDIM(x) == 2 and cnp.PyArray_DIM(x, 1) == self.input_size:
            rows = x
        else:
            rows = shaped(x, "x", self.number, ("batch", self.input_size))
        s.steps, s.sequences = 1, cnp.PyArray_DIM(rows, 0)
        h = self.state(h, "h", count, s.sequences, self.width)
        if self.lstm:
            c = self.state(c, "c", count, s.sequences, self.hidden_size)
            c_n = new_array(self.number, 3, count, s.sequences, self.hidden_size)
        elif c is not None:
            raise ValueError("c goes with an LSTM only")
        y = new_array(self.number, 2, 0, s.sequences, self.width)
        h_n = new_array(self.number, 3, count, s.sequences, self.width)
        if s.sequences == 0:
            return y, h_n, c_n
        size = cnp.PyArray_ITEMSIZE(rows)
        s.x = <const char *>cnp.PyArray_DATA(rows)
        s.h_0, s.h_n = data_of(h), data_of(h_n)
        s.c_0, s.c_n = data_of(c), data_of(c_n)
        s.lengths = NULL
        s.x_time = s.y_time = 0
        s.x_row, s.y_row = self.input_size, self.width
        for layer in range(count):
            s.y = <char *>cnp.PyArray_DATA(y) if layer == count - 1 else NULL
            run_whole(self.layers[layer], &s, threads)
            s.x, s.x_row = s.h_n, self.width    # a layer reads its input where the one below has left its state
            s.h_n += s.sequences * self.width * size
            if s.h_0 != NULL:
                s.h_0 += s.sequences * self.width * size
            if s.c_n != NULL:
                s.c_n += s.sequences * self.hidden_size * size
            if s.c_0 != NULL:
                s.c_0 += s.sequences * self.hidden_size * size
        return y, h_n, c_n

    def cell(self, x, h, c=None):
        """The one layer as torch's cells: ``x [B, input_size]`` or ``[input_size]``, the states ``[B, width]`` or
        ``[width]`` or None for zeros -> ``(h, c)``; None where anything is not as usual, of which nothing is said."""
        cdef Sequences s
        cdef int axes, threads
        cdef cnp.ndarray h_n, c_n = None
        if not is_plain(x, self.number):
            return None
        axes = cnp.PyArray_NDIM(x)
        if axes < 1 or axes > 2 or cnp.PyArray_DIM(x, axes - 1) != self.input_size or len(self.layers) > 1:
            return None
        s.steps, s.sequences = 1, cnp.PyArray_DIM(x, 0) if axes == 2 else 1
        if not (0 < s.sequences <= MOST_USUAL and self.takes(h, axes, s.sequences, self.width)
                and self.takes(c, axes, s.sequences, self.hidden_size)) or c is not None and not self.lstm:
            return None
        threads = thread_count()
        h_n = new_array(self.number, axes, 0, s.sequences, self.width)
        s.x = data_of(x)
        s.h_0, s.h_n = data_of(h), data_of(h_n)
        s.c_0, s.c_n = data_of(c), NULL
        if self.lstm:
            c_n = new_array(self.number, axes, 0, s.sequences, self.hidden_size)
            s.c_n = data_of(c_n)
        s.lengths = NULL
        s.y = NULL
        s.x_time = s.y_time = s.y_row = 0
        s.x_row = self.input_size
        run_whole(self.layers[0], &s, threads)
        return h_n, c_n

    cdef bint takes(self, object state, int axes, ptrdiff_t sequences, ptrdiff_t width):
        """Whether a cell's state is None or lies as it should."""
        if state is None:
            return True
        return (is_plain(state, self.number) and cnp.PyArray_NDIM(state) == axes
                and cnp.PyArray_DIM(state, axes - 1) == width
                and (axes == 1 or cnp.PyArray_DIM(state, 0) == sequences))

    cdef object state(self, object given, str name, ptrdiff_t count, ptrdiff_t sequences, ptrdiff_t width):
        """A state as kernels may read it, or None."""
        if given is None or is_plain(given, self.number) and has_shape(given, 3, count, sequences, width):
            return given
        return shaped(given, name, self.number, (count, sequences, width))
