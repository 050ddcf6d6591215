"""The time loop: one direction of one layer over some of the sequences.

A walk takes its steps in chunks. A chunk's input is projected for all its rows at once, into a buffer that stays in
the cache; then the steps of the chunk run one by one. The state alternates between two buffers, both filled with
h_0 at first, so that in a reverse walk a sequence that joins finds its own initial state.

Each output element is computed by the same operations in the same order whatever the rows, so results do not depend
on how threads share the work.

It has more than 400 lines: what a walk calls at every step the compiler takes in, which it cannot from another module.
"""

from libc.stdint cimport SIZE_MAX, int64_t, uint64_t
from libc.string cimport memcpy, memset

from vledge._ext.isa cimport VL_IN_FLOAT32, vl_independent, vl_product, vl_step
from vledge._ext.pool cimport (
    VL_WORK_BETWEEN_LOOKS,
    chunk_rows,
    lay_out,
    limits_in_force,
    meet,
    project_state,
    run_step,
    scratch_memory,
    set_state_projection,
    step_from_input,
    vl_has_ended,
    vl_limits,
    vl_line,
    vl_panel_share,
    vl_scratch,
    vl_shall_end,
    vl_team,
)
from vledge._ext.weights cimport vl_direction, vl_has_cell_state

cdef extern from * nogil:
    enum: RELAXED "__ATOMIC_RELAXED"
    ptrdiff_t load "__atomic_load_n"(const ptrdiff_t *number, int order)
    void store "__atomic_store_n"(ptrdiff_t *number, ptrdiff_t value, int order)

cdef extern from "clock.h" nogil:
    int64_t vl_nanoseconds()

cdef const vl_limits *limit = limits_in_force()


cdef struct Walk:
    LayerRun *run
    const vl_direction *direction
    int number                  # of the direction in its layer
    ptrdiff_t first_row, rows   # of the layer's sequences, by falling length
    ptrdiff_t steps             # that the longest of them has
    ptrdiff_t chunk_rows        # that a chunk may hold
    ptrdiff_t walked, chunks    # steps and chunks so far
    vl_team team
    ptrdiff_t begun             # steps that its team's tasks before had, at the most
    int current                 # which of the two buffers holds the state
    int64_t began, waited       # a team's walk: when, and how long this member has waited for others since
    int64_t row_work, work      # multiply-adds: of a row and a term, and since signals were looked at
    vl_scratch scratch
    vl_product input_projection
    vl_product state_projection
    vl_step step
    vl_independent independent


cdef inline ptrdiff_t time_of(const Walk *w, ptrdiff_t n) noexcept nogil:
    """When the walk's n-th step is."""
    return w.steps - 1 - n if w.direction.reverse else n


cdef inline ptrdiff_t live_rows(const Walk *w, ptrdiff_t time) noexcept nogil:
    """The walk's rows that a step has: the first ones."""
    return min(<ptrdiff_t>w.run.batch_sizes[time] - w.first_row, w.rows)


cdef inline char *output_of(const Walk *w, ptrdiff_t time) noexcept nogil:
    """Where the output's numbers of a step begin, for this direction."""
    if w.run.y == NULL:
        return NULL
    return w.run.y + (w.run.y_time[time] + w.number * w.direction.width) * w.direction.number_bytes


cdef void meet_at_step(Walk *w) noexcept nogil:
    """Where members who share steps have done one. What the first one has found out before holds from here on for all:
    that the call is to end, or that the others have no cores to themselves."""
    cdef vl_line *line = w.team.lines
    cdef int64_t elapsed
    if w.team.members > 1 and w.team.member == 0 and line != NULL:
        if vl_shall_end(w.run.heed):
            store(&line.end_before, w.begun + w.walked, RELAXED)
        if w.waited > 0 or limit.most_waiting < 0:
            elapsed = vl_nanoseconds() - w.began
            if elapsed > limit.fair_trial_nanoseconds and w.waited * 100 > limit.most_waiting * elapsed:
                store(&line.alone_from, w.begun + w.walked, RELAXED)
    w.waited += meet(&w.team)


cdef bint ends(Walk *w) noexcept nogil:
    """Whether the call ends here, for all who share its steps, or for who has worked for some time alone."""
    if w.team.members > 1:
        return w.team.lines != NULL and w.begun + w.walked >= load(&w.team.lines.end_before, RELAXED)
    if w.work < VL_WORK_BETWEEN_LOOKS:
        return False
    w.work = 0
    return vl_shall_end(w.run.heed)


# ---- states ------------------------------------------------------------------------------------

cdef inline ptrdiff_t state_row(const Walk *w, ptrdiff_t r) noexcept nogil:
    """Where the state of the walk's r-th row stands among the caller's rows."""
    r += w.first_row
    return w.number * w.run.sequences + (r if w.run.places == NULL else <ptrdiff_t>w.run.places[r])


cdef void load_states(const Walk *w, char *to, ptrdiff_t ld, const char *source, ptrdiff_t columns) noexcept nogil:
    """The caller's rows of `columns` numbers, or zeros where there are none, to rows of ld numbers, padded with
    zeros."""
    cdef ptrdiff_t r, to_bytes = ld * w.direction.number_bytes, source_bytes = columns * w.direction.number_bytes
    if source == NULL or source_bytes < to_bytes:
        memset(to, 0, w.rows * to_bytes)
    if source != NULL:
        for r in range(w.rows):
            memcpy(to + r * to_bytes, source + state_row(w, r) * source_bytes, source_bytes)


cdef void begin_states(Walk *w) noexcept nogil:
    cdef const vl_direction *d = w.direction
    cdef ptrdiff_t r
    cdef int i
    for i in range(2):
        load_states(w, w.scratch.h[i], d.ld_h, w.run.h_0, d.width)
    if vl_has_cell_state(d):
        load_states(w, w.scratch.c, d.ld_c, w.run.c_0, d.hidden_size)
    if d.w_hr != NULL:
        for r in range(w.rows):
            w.scratch.gated_rows[r] = r * d.ld_c


cdef void store_states(const Walk *w) noexcept nogil:
    """A sequence's last step left its state in the buffer of that step's parity; independent units have one buffer."""
    cdef const vl_direction *d = w.direction
    cdef ptrdiff_t h_bytes = d.width * d.number_bytes, c_bytes = d.hidden_size * d.number_bytes
    cdef ptrdiff_t length = w.steps     # of row r; in a reverse walk the last step is every row's
    cdef ptrdiff_t r, place
    cdef const char *h
    for r in range(w.rows):
        while not d.reverse and length > 0 and w.run.batch_sizes[length - 1] <= w.first_row + r:
            length -= 1
        h = w.scratch.h[0 if d.independent else length & 1]
        place = state_row(w, r)
        memcpy(w.run.h_n + place * h_bytes, h + r * d.ld_h * d.number_bytes, h_bytes)
        if vl_has_cell_state(d):
            memcpy(w.run.c_n + place * c_bytes, w.scratch.c + r * d.ld_c * d.number_bytes, c_bytes)


# ---- a chunk's input ---------------------------------------------------------------------------

cdef ptrdiff_t list_chunk(Walk *w, ptrdiff_t *rows) noexcept nogil:
    """Lists the rows of the steps from `walked` on that fit in a chunk; returns the step that the next chunk begins
    with."""
    cdef const LayerRun *run = w.run
    cdef vl_scratch *s = &w.scratch
    cdef ptrdiff_t end = w.walked, listed = 0, time, live, r
    cdef bint lists = w.team.member == 0 or w.team.lines == NULL    # in a rehearsal nobody has done it for the others
    while end < w.steps:
        time = time_of(w, end)
        live = live_rows(w, time)
        if listed + live > w.chunk_rows:
            break
        if lists:
            for r in range(live):
                s.input_rows[listed + r] = run.x_time[time] + run.x_rows[w.first_row + r]
            if w.direction.independent:
                s.live[end - w.walked] = live
                s.pre_steps[end - w.walked] = listed * w.direction.ld_pre
                s.out_steps[end - w.walked] = run.y_time[time]
        listed += live
        end += 1
    rows[0] = listed
    return end


ctypedef void (*gemm_f32)(const char *, const char *, const int *, const int *, const int *, const float *,
                          const float *, const int *, const float *, const int *, const float *, float *,
                          const int *) noexcept nogil
ctypedef void (*gemm_f64)(const char *, const char *, const int *, const int *, const int *, const double *,
                          const double *, const int *, const double *, const int *, const double *, double *,
                          const int *) noexcept nogil


cdef void project_by_blas(const Walk *w, ptrdiff_t count) noexcept nogil:
    """pre = bias + W_ih x in one product: BLAS wants the chunk's rows side by side."""
    cdef const vl_direction *d = w.direction
    cdef const vl_scratch *s = &w.scratch
    cdef int columns = <int>(d.vectors * d.kernels.lanes), rows = <int>count, depth = <int>d.input_size
    cdef int ld_x = max(depth, 1), ld_pre = <int>d.ld_pre
    cdef ptrdiff_t r, number = d.number_bytes, row_bytes = depth * number
    cdef const char *plain = b"N"
    cdef float one_f32 = 1
    cdef double one_f64 = 1
    for r in range(count):
        memcpy(s.pre + r * d.ld_pre * number, d.bias, columns * number)
        memcpy(s.gathered + r * row_bytes, w.run.x + s.input_rows[r] * number, row_bytes)
    # row-major pre = x w is column-major pre^T = w^T x^T
    if d.kernels.arithmetic == VL_IN_FLOAT32:
        (<gemm_f32>d.gemm)(plain, plain, &columns, &rows, &depth, &one_f32, <const float *>d.w_ih, &columns,
                           <const float *>s.gathered, &ld_x, &one_f32, <float *>s.pre, &ld_pre)
    else:
        (<gemm_f64>d.gemm)(plain, plain, &columns, &rows, &depth, &one_f64, <const double *>d.w_ih, &columns,
                           <const double *>s.gathered, &ld_x, &one_f64, <double *>s.pre, &ld_pre)


cdef void set_input_projection(Walk *w, ptrdiff_t rows) noexcept nogil:
    """The arguments of pre = bias + W_ih x for the chunk's rows; of shared steps, for this member's panels."""
    cdef const vl_direction *d = w.direction
    cdef vl_product *p = &w.input_projection
    p.rows = rows
    p.turned = (w.run.turned + w.chunks) & 1
    p.first = w.step.first_panel * d.gates
    p.last = min(w.step.last_panel * d.gates, d.vectors)


cdef bint project(Walk *w) noexcept nogil:
    """The chunk's projection, in as many runs of groups as there are looks at signals; False where the call ends."""
    cdef const vl_direction *d = w.direction
    cdef vl_product *p = &w.input_projection
    cdef ptrdiff_t first = p.first, last = p.last
    cdef int64_t group_work = <int64_t>p.rows * p.depth * d.kernels.lanes * p.group
    cdef int64_t groups = limit.kernel_work // (group_work if group_work > 0 else 1)
    cdef int64_t width = p.group * (groups if groups > 1 else 1)
    if w.team.members > 1 or last - first <= width:
        d.run.product(p)
        return w.team.members > 1 or not vl_has_ended(w.run.heed)
    p.last = first
    while p.last < last and not vl_shall_end(w.run.heed):
        p.first = p.last
        p.last = min(p.first + <ptrdiff_t>width, last)
        d.run.product(p)
    return not vl_has_ended(w.run.heed)


# ---- what stays the same from chunk to chunk ---------------------------------------------------

cdef void set_arguments(Walk *w) noexcept nogil:
    cdef const vl_direction *d = w.direction
    cdef const LayerRun *run = w.run
    cdef const vl_scratch *s = &w.scratch
    cdef const ptrdiff_t *out_rows = run.y_rows + w.first_row
    cdef vl_product *p = &w.input_projection
    cdef vl_step *step = &w.step
    cdef vl_independent *units = &w.independent
    p.depth = d.input_size
    p.vectors = d.vectors
    p.columns = d.vectors * d.kernels.lanes
    p.group = d.group
    p.relu = False
    p.x, p.x_rows = run.x, s.input_rows
    p.w, p.bias = d.w_ih, d.bias
    p.out, p.ld_out = s.pre, d.ld_pre
    p.small = step.small = d.run.small
    p.room = s.input_room + w.team.member * s.input_room_bytes
    step.room = s.state_room + w.team.member * s.state_room_bytes
    p.in_room = step.in_room = False

    vl_panel_share(d, w.team.member, w.team.members, &step.first_panel, &step.last_panel)
    step.depth = d.width
    step.hidden_size = d.hidden_size
    step.w = d.w_hh
    step.w_candidate = d.w_candidate
    step.bias_candidate = d.bias_candidate
    step.ld_pre = d.ld_pre
    step.ld_h = d.ld_h
    step.c, step.ld_c = s.c, d.ld_c
    step.gated = s.gated
    step.out_rows = out_rows
    step.activations = d.activations

    if d.independent:
        units.rows = w.rows
        units.hidden_size = d.hidden_size
        units.live, units.pre_steps, units.out_steps = s.live, s.pre_steps, s.out_steps
        units.out_rows = out_rows
        units.w = d.w_hh
        units.pre, units.ld_pre = s.pre, d.ld_pre
        units.h, units.ld_h = s.h[0], d.ld_h
        units.out = NULL if run.y == NULL else run.y + w.number * d.width * d.number_bytes
    if d.w_hr != NULL:
        set_state_projection(d, s.gated, s.gated_rows, step.room, &w.state_projection)


# ---- steps -------------------------------------------------------------------------------------

cdef void walk_step(Walk *w, const char *pre, bint from_input) noexcept nogil:
    """The next step, from a chunk's projected input at `pre` or, where the walk is of one step, straight from the
    input."""
    cdef const vl_direction *d = w.direction
    cdef LayerRun *run = w.run
    cdef vl_step *step = &w.step
    cdef ptrdiff_t time = time_of(w, w.walked)
    cdef char *out = output_of(w, time)
    cdef char *h_next = w.scratch.h[1 - w.current]
    step.rows = live_rows(w, time)
    step.turned = (run.turned + w.walked) & 1
    step.pre = pre
    step.h = w.scratch.h[w.current]
    if d.w_hr == NULL:
        step.h_next, step.ld_h_next = h_next, d.ld_h
        step.out = out
    else:
        step.h_next, step.ld_h_next = w.scratch.gated, d.ld_c
        step.out = NULL
    step.out_next = 0
    if step.rows > 1 and out != NULL and w.walked + 1 < w.steps:    # a single row's the CPU foresees
        step.out_next = run.y_time[time_of(w, w.walked + 1)] - run.y_time[time]
    if from_input:
        step_from_input(d, &w.input_projection, step, &w.team)
    else:
        run_step(d, step, &w.team)
    if d.w_hr != NULL:
        meet(&w.team)
        if w.team.member == 0:
            project_state(d, &w.state_projection, step.rows, step.turned, h_next, out, step.out_rows)
    w.work += step.rows * w.row_work * d.width
    w.current = 1 - w.current
    w.walked += 1
    meet_at_step(w)


cdef bint leaves(Walk *w) noexcept nogil:
    """Whether this member is not needed any more, for the first one goes on alone."""
    if w.team.members == 1 or w.team.lines == NULL or w.begun + w.walked < load(&w.team.lines.alone_from, RELAXED):
        return False
    if w.team.member > 0:
        return True
    w.team.members = 1
    vl_panel_share(w.direction, 0, 1, &w.step.first_panel, &w.step.last_panel)
    return False


cdef bint walk_chunk(Walk *w) noexcept nogil:
    """False: the call ends."""
    cdef const vl_direction *d = w.direction
    cdef ptrdiff_t rows, end = list_chunk(w, &rows)
    # one step alone: both matrices are read as one
    cdef bint from_input = w.steps == 1 and d.gemm == NULL and not d.independent
    cdef const char *pre = w.scratch.pre
    meet(&w.team)     # member 0 has listed the rows
    set_input_projection(w, rows)
    w.work += rows * w.row_work * d.input_size
    if d.gemm != NULL:
        if w.team.member == 0:
            project_by_blas(w, rows)
        meet(&w.team)
    elif not from_input and not project(w):
        return False
    w.chunks += 1

    if d.independent:       # all of its steps at once: no unit waits for another
        w.independent.steps = end - w.walked
        w.independent.first_panel = w.step.first_panel
        w.independent.last_panel = w.step.last_panel
        d.run.independent(&w.independent)
        w.walked = end
        w.work += rows * w.row_work
        if w.team.members == 1 and ends(w):
            return False
        meet_at_step(w)
        return not ends(w) and not leaves(w)
    while w.walked < end:
        walk_step(w, pre, from_input)
        if ends(w) or leaves(w):
            return False
        pre += w.step.rows * d.ld_pre * d.number_bytes
    return True


cdef bint walk(LayerRun *run, int number, ptrdiff_t first_row, ptrdiff_t last_row, const vl_team *team, int ordinal,
               char *memory) noexcept nogil:
    cdef Walk w     # a short call does not zero what it does not read
    cdef ptrdiff_t rows_of_all = 0
    cdef uint64_t needed
    w.run = run
    w.direction = run.directions[number]
    w.number = number
    w.first_row = first_row
    w.rows = last_row - first_row
    w.team = team[0]
    w.begun = ordinal * run.steps
    w.steps = w.walked = w.chunks = 0
    w.current = 0
    w.waited = 0
    w.began = vl_nanoseconds() if team.members > 1 else 0
    w.work = 0
    w.row_work = <int64_t>w.direction.vectors * w.direction.kernels.lanes
    while w.steps < run.steps and run.batch_sizes[w.steps] > first_row:
        rows_of_all += live_rows(&w, w.steps)
        w.steps += 1
        if w.team.members == 1 and w.steps % VL_WORK_BETWEEN_LOOKS == 0 and vl_shall_end(run.heed):
            return True
    w.chunk_rows = chunk_rows(w.direction, w.rows, max(rows_of_all, 1))

    if memory == NULL:
        needed = lay_out(w.direction, w.rows, w.chunk_rows, 1, NULL, &w.scratch)
        memory = NULL if needed > SIZE_MAX // 2 else <char *>scratch_memory(needed)
    if memory == NULL:
        return False
    lay_out(w.direction, w.rows, w.chunk_rows, w.team.members, memory, &w.scratch)
    if w.team.member == 0:
        begin_states(&w)
    set_arguments(&w)
    while w.walked < w.steps:
        if w.team.members > 1 and ends(&w):
            return True
        if not walk_chunk(&w):
            return True
    if w.team.member == 0:
        store_states(&w)
    return True
