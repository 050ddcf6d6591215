/* The time loop: one direction of one layer over some of the sequences.
 *
 * A walk takes its steps in chunks. A chunk's input is projected for all its rows at once, into a buffer that stays in
 * the cache; then the steps of the chunk run one by one. The state alternates between two buffers, both filled with
 * h_0 at first, so that in a reverse walk a sequence that joins finds its own initial state.
 *
 * Each output element is computed by the same operations in the same order whatever the rows, so results do not depend
 * on how threads share the work.
 */
#include <stdint.h>
#include <string.h>

#include "layer_run.h"
#include "limits_in_force.h"
#include "scratch.h"
#include "step.h"

typedef struct {
    vl_layer_run *run;
    const vl_direction *direction;
    int number;                     /* of the direction in its layer */
    ptrdiff_t first_row, rows;      /* of the layer's sequences, by falling length */
    ptrdiff_t steps;                /* that the longest of them has */
    ptrdiff_t chunk_rows;           /* that a chunk may hold */
    ptrdiff_t walked, chunks;       /* steps and chunks so far */
    int member, members;
    int current;                    /* which of the two buffers holds the state */
    int naps;                       /* at the barriers */
    int64_t row_work, work;         /* multiply-adds: of a row and a term, and since signals were looked at */
    vl_scratch scratch;
    vl_product input_projection, state_projection;
    vl_step step;
    vl_independent independent;
} walk;

/* When the walk's n-th step is. */
static ptrdiff_t time_of(const walk *w, ptrdiff_t n) { return w->direction->reverse ? w->steps - 1 - n : n; }

/* The walk's rows that a step has: the first ones. */
static ptrdiff_t live_rows(const walk *w, ptrdiff_t time)
{
    ptrdiff_t live = (ptrdiff_t)w->run->batch_sizes[time] - w->first_row;
    return live < w->rows ? live : w->rows;
}

/* Where the output's numbers of a step begin, for this direction. */
static char *output_of(const walk *w, ptrdiff_t time)
{
    const vl_layer_run *run = w->run;
    if (!run->y)
        return NULL;
    return run->y + (run->y_time[time] + w->number * w->direction->width) * w->direction->number_bytes;
}

/* Where members who share steps have done one: all leave before the same step if the call is to end. */
static void meet(walk *w)
{
    vl_layer_run *run = w->run;
    if (w->members > 1 && w->member == 0 && vl_shall_end(run->heed))
        __atomic_store_n(&run->end_before, w->number * run->steps + w->walked, __ATOMIC_RELAXED);
    w->naps += vl_wait(&run->barrier, w->members);
}

/* Whether the call ends here, for all who share its steps, or for who has worked for some time alone. */
static int ends(walk *w)
{
    if (w->members > 1)
        return w->number * w->run->steps + w->walked >= __atomic_load_n(&w->run->end_before, __ATOMIC_RELAXED);
    if (w->work < VL_WORK_BETWEEN_LOOKS)
        return 0;
    w->work = 0;
    return vl_shall_end(w->run->heed);
}

/* ---- states ---- */

/* Where the state of the walk's r-th row stands among the caller's rows. */
static ptrdiff_t state_row(const walk *w, ptrdiff_t r)
{
    const vl_layer_run *run = w->run;
    r += w->first_row;
    return w->number * run->sequences + (run->places ? run->places[r] : r);
}

/* The caller's rows of `columns` numbers, or zeros where there are none, to rows of ld numbers, padded with zeros. */
static void load_states(const walk *w, char *to, ptrdiff_t ld, const char *from, ptrdiff_t columns)
{
    const size_t to_bytes = (size_t)(ld * w->direction->number_bytes);
    const size_t from_bytes = (size_t)(columns * w->direction->number_bytes);
    if (!from || from_bytes < to_bytes)
        memset(to, 0, (size_t)w->rows * to_bytes);
    if (from)
        for (ptrdiff_t r = 0; r < w->rows; r++)
            memcpy(to + (size_t)r * to_bytes, from + (size_t)state_row(w, r) * from_bytes, from_bytes);
}

static void begin_states(walk *w)
{
    const vl_direction *d = w->direction;
    for (int i = 0; i < 2; i++)
        load_states(w, w->scratch.h[i], d->ld_h, w->run->h_0, d->width);
    if (vl_has_cell_state(d))
        load_states(w, w->scratch.c, d->ld_c, w->run->c_0, d->hidden_size);
    if (d->w_hr)
        for (ptrdiff_t r = 0; r < w->rows; r++)
            w->scratch.gated_rows[r] = r * d->ld_c;
}

/* A sequence's last step left its state in the buffer of that step's parity; independent units have one buffer. */
static void store_states(const walk *w)
{
    const vl_direction *d = w->direction;
    const size_t h_bytes = (size_t)(d->width * d->number_bytes), c_bytes = (size_t)(d->hidden_size * d->number_bytes);
    ptrdiff_t length = w->steps; /* of row r; in a reverse walk the last step is every row's */
    for (ptrdiff_t r = 0; r < w->rows; r++) {
        while (!d->reverse && length > 0 && w->run->batch_sizes[length - 1] <= w->first_row + r)
            length--;
        const char *h = w->scratch.h[d->independent ? 0 : length & 1];
        const size_t place = (size_t)state_row(w, r);
        memcpy(w->run->h_n + place * h_bytes, h + r * d->ld_h * d->number_bytes, h_bytes);
        if (vl_has_cell_state(d))
            memcpy(w->run->c_n + place * c_bytes, w->scratch.c + r * d->ld_c * d->number_bytes, c_bytes);
    }
}

/* ---- a chunk's input ---- */

/* Lists the rows of the steps from `walked` on that fit in a chunk; returns the step that the next chunk begins with. */
static ptrdiff_t list_chunk(walk *w, ptrdiff_t *rows)
{
    const vl_layer_run *run = w->run;
    vl_scratch *s = &w->scratch;
    ptrdiff_t end = w->walked, listed = 0;
    for (; end < w->steps; end++) {
        const ptrdiff_t time = time_of(w, end), live = live_rows(w, time);
        if (listed + live > w->chunk_rows)
            break;
        if (w->member == 0) {
            for (ptrdiff_t r = 0; r < live; r++)
                s->input_rows[listed + r] = run->x_time[time] + run->x_rows[w->first_row + r];
            if (w->direction->independent) {
                s->live[end - w->walked] = live;
                s->pre_steps[end - w->walked] = listed * w->direction->ld_pre;
                s->out_steps[end - w->walked] = run->y_time[time];
            }
        }
        listed += live;
    }
    *rows = listed;
    return end;
}

typedef void gemm_f32(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                      const int *, const float *, const int *, const float *, float *, const int *);
typedef void gemm_f64(const char *, const char *, const int *, const int *, const int *, const double *, const double *,
                      const int *, const double *, const int *, const double *, double *, const int *);

/* pre = bias + W_ih x in one product: BLAS wants the chunk's rows side by side. */
static void project_by_blas(const walk *w, ptrdiff_t count)
{
    const vl_direction *d = w->direction;
    const vl_scratch *s = &w->scratch;
    const int columns = (int)(d->vectors * d->kernels->lanes), rows = (int)count, depth = (int)d->input_size;
    const int ld_x = depth > 0 ? depth : 1, ld_pre = (int)d->ld_pre;
    const size_t number = (size_t)d->number_bytes, row_bytes = (size_t)depth * number;
    for (ptrdiff_t r = 0; r < count; r++) {
        memcpy(s->pre + (size_t)(r * d->ld_pre) * number, d->bias, (size_t)columns * number);
        memcpy(s->gathered + (size_t)r * row_bytes, w->run->x + s->input_rows[r] * d->number_bytes, row_bytes);
    }
    /* row-major pre = x w is column-major pre^T = w^T x^T */
    if (d->kernels->arithmetic == VL_IN_FLOAT32) {
        const float one = 1;
        ((gemm_f32 *)d->gemm)("N", "N", &columns, &rows, &depth, &one, d->w_ih, &columns, (const float *)s->gathered,
                              &ld_x, &one, (float *)s->pre, &ld_pre);
    } else {
        const double one = 1;
        ((gemm_f64 *)d->gemm)("N", "N", &columns, &rows, &depth, &one, d->w_ih, &columns, (const double *)s->gathered,
                              &ld_x, &one, (double *)s->pre, &ld_pre);
    }
}

/* The arguments of pre = bias + W_ih x for the chunk's rows; of shared steps, for this member's panels. */
static void set_input_projection(walk *w, ptrdiff_t rows)
{
    const vl_direction *d = w->direction;
    vl_product *p = &w->input_projection;
    ptrdiff_t first, last;
    vl_panel_share(d, w->member, w->members, &first, &last);
    p->rows = rows;
    p->turned = (w->run->turned + w->chunks) & 1;
    p->first = first * d->gates;
    p->last = last * d->gates < d->vectors ? last * d->gates : d->vectors;
}

/* The chunk's projection, in as many runs of groups as there are looks at signals; 0 where the call ends. */
static int project(walk *w)
{
    const vl_direction *d = w->direction;
    vl_product *p = &w->input_projection;
    const ptrdiff_t first = p->first, last = p->last;
    const int64_t group_work = (int64_t)p->rows * p->depth * d->kernels->lanes * p->group;
    const int64_t groups = vl_limit.kernel_work / (group_work > 0 ? group_work : 1);
    const int64_t width = p->group * (groups > 1 ? groups : 1);
    if (w->members > 1 || last - first <= width) {
        d->run->product(p);
        return w->members > 1 || !vl_has_ended(w->run->heed);
    }
    for (ptrdiff_t at = first; at < last && !vl_shall_end(w->run->heed); at = p->last) {
        p->first = at;
        p->last = at + (ptrdiff_t)width < last ? at + (ptrdiff_t)width : last;
        d->run->product(p);
    }
    return !vl_has_ended(w->run->heed);
}

/* ---- what stays the same from chunk to chunk ---- */

static void set_arguments(walk *w)
{
    const vl_direction *d = w->direction;
    const vl_layer_run *run = w->run;
    const vl_scratch *s = &w->scratch;
    const ptrdiff_t *out_rows = run->y_rows + w->first_row;
    w->input_projection = (vl_product){.depth = d->input_size,
                                       .vectors = d->vectors,
                                       .columns = d->vectors * d->kernels->lanes,
                                       .group = d->group,
                                       .x = run->x,
                                       .x_rows = s->input_rows,
                                       .w = d->w_ih,
                                       .bias = d->bias,
                                       .out = s->pre,
                                       .ld_out = d->ld_pre};
    w->step = (vl_step){.depth = d->width,
                        .hidden_size = d->hidden_size,
                        .w = d->w_hh,
                        .w_candidate = d->w_candidate,
                        .bias_candidate = d->bias_candidate,
                        .ld_pre = d->ld_pre,
                        .ld_h = d->ld_h,
                        .c = s->c,
                        .ld_c = d->ld_c,
                        .gated = s->gated,
                        .out_rows = out_rows,
                        .activations = d->activations};
    vl_panel_share(d, w->member, w->members, &w->step.first_panel, &w->step.last_panel);
    w->independent = (vl_independent){.rows = w->rows,
                                      .hidden_size = d->hidden_size,
                                      .live = s->live,
                                      .pre_steps = s->pre_steps,
                                      .out_steps = s->out_steps,
                                      .out_rows = out_rows,
                                      .w = d->w_hh,
                                      .pre = s->pre,
                                      .ld_pre = d->ld_pre,
                                      .h = s->h[0],
                                      .ld_h = d->ld_h,
                                      .out = run->y ? run->y + w->number * d->width * d->number_bytes : NULL};
    if (d->w_hr)
        vl_set_state_projection(d, s->gated, s->gated_rows, &w->state_projection);
}

/* ---- steps ---- */

/* The next step, from a chunk's projected input at `pre` or, where the walk is of one step, straight from the input. */
static void run_step(walk *w, const char *pre, int from_input)
{
    const vl_direction *d = w->direction;
    const vl_layer_run *run = w->run;
    const ptrdiff_t time = time_of(w, w->walked);
    vl_step *step = &w->step;
    char *out = output_of(w, time), *h_next = w->scratch.h[1 - w->current];
    step->rows = live_rows(w, time);
    step->turned = (run->turned + w->walked) & 1;
    step->pre = pre;
    step->h = w->scratch.h[w->current];
    step->h_next = d->w_hr ? w->scratch.gated : h_next;
    step->ld_h_next = d->w_hr ? d->ld_c : d->ld_h;
    step->out = d->w_hr ? NULL : out;
    step->out_next = 0;
    if (step->rows > 1 && out && w->walked + 1 < w->steps) /* a single row's the CPU foresees */
        step->out_next = run->y_time[time_of(w, w->walked + 1)] - run->y_time[time];
    if (from_input)
        vl_run_step_from_input(d, &w->input_projection, step, &w->run->barrier, w->members);
    else
        vl_run_step(d, step, &w->run->barrier, w->members);
    if (d->w_hr) {
        vl_wait(&w->run->barrier, w->members);
        if (w->member == 0)
            vl_project_state(d, &w->state_projection, step->rows, step->turned, h_next, out, step->out_rows);
    }
    w->work += step->rows * w->row_work * d->width;
    w->current = 1 - w->current;
    w->walked++;
    meet(w);
}

/* Before a chunk: everyone has done with the last one's inputs, and whoever has had to wait too often goes on alone. 0:
 * this member is not needed any more. */
static int go_on(walk *w)
{
    vl_wait(&w->run->barrier, w->members);
    if (w->member == 0 && w->naps > vl_limit.most_naps)
        w->run->alone = 1;
    vl_wait(&w->run->barrier, w->members);
    if (!w->run->alone)
        return 1;
    w->members = 1;
    vl_panel_share(w->direction, 0, 1, &w->step.first_panel, &w->step.last_panel);
    return w->member == 0;
}

/* 0: the call ends. */
static int walk_chunk(walk *w)
{
    const vl_direction *d = w->direction;
    ptrdiff_t rows;
    const ptrdiff_t end = list_chunk(w, &rows);
    /* one step alone: both matrices are read as one */
    const int from_input = w->steps == 1 && !d->gemm && !d->independent;
    vl_wait(&w->run->barrier, w->members); /* member 0 has listed the rows */
    set_input_projection(w, rows);
    w->work += rows * w->row_work * d->input_size;
    if (d->gemm) {
        if (w->member == 0)
            project_by_blas(w, rows);
        vl_wait(&w->run->barrier, w->members);
    } else if (!from_input && !project(w))
        return 0;
    w->chunks++;

    if (d->independent) { /* all of its steps at once: no unit waits for another */
        w->independent.steps = end - w->walked;
        w->independent.first_panel = w->step.first_panel;
        w->independent.last_panel = w->step.last_panel;
        d->run->independent(&w->independent);
        w->walked = end;
        w->work += rows * w->row_work;
        if (w->members == 1 && ends(w))
            return 0;
        meet(w);
        return 1;
    }
    const char *pre = w->scratch.pre;
    while (w->walked < end) {
        run_step(w, pre, from_input);
        if (ends(w))
            return 0;
        pre += w->step.rows * d->ld_pre * d->number_bytes;
    }
    return 1;
}

int vl_walk(vl_layer_run *run, int number, ptrdiff_t first_row, ptrdiff_t last_row, int member, int members)
{
    walk w; /* a short call does not zero what it does not read */
    w.run = run;
    w.direction = run->directions[number];
    w.number = number;
    w.first_row = first_row;
    w.rows = last_row - first_row;
    w.member = member;
    w.members = members;
    w.steps = w.walked = w.chunks = 0;
    w.current = w.naps = 0;
    w.work = 0;
    w.row_work = (int64_t)w.direction->vectors * w.direction->kernels->lanes;
    ptrdiff_t rows_of_all = 0;
    while (w.steps < run->steps && run->batch_sizes[w.steps] > first_row)
        rows_of_all += live_rows(&w, w.steps++);
    w.chunk_rows = vl_chunk_rows(w.direction, w.rows, rows_of_all > 1 ? rows_of_all : 1);

    char *memory = run->shared_memory;
    if (members == 1) {
        uint64_t needed = vl_lay_out(w.direction, w.rows, w.chunk_rows, NULL, &w.scratch);
        memory = needed > SIZE_MAX / 2 ? NULL : vl_scratch_memory((size_t)needed);
    }
    if (!memory)
        return 0;
    vl_lay_out(w.direction, w.rows, w.chunk_rows, memory, &w.scratch);
    if (member == 0)
        begin_states(&w);
    set_arguments(&w);
    while (w.walked < w.steps) {
        if (w.members > 1 && (ends(&w) || !go_on(&w)))
            return 1;
        if (!walk_chunk(&w))
            return 1;
    }
    if (member == 0)
        store_states(&w);
    return 1;
}
