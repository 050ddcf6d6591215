/* DynamicQuantizeLSTM: products of bytes, and the float LSTM's equations.
 *
 *   gates(t) = W q(x(t)) + Wb + R q(h(t - 1)) + Rb
 *
 * x is quantised at once with one scale, h anew at each step, with one scale for all sequences that ran in the step
 * before. Columns of W and R are in panels, [panel][gate i, f, g, o][L], so the sums are what the cell reads.
 */
#include "integer.h"

enum { VL_X, VL_LENGTHS, VL_H_0, VL_C_0 };  /* inputs */
enum { VL_Y, VL_H_N, VL_C_N };

typedef struct {
    vl_integer_matrix w, r;
    int reverse;
    char *memory;
} vl_lstm_direction;

typedef struct {
    const vl_kernels *kernels;
    const vl_limits *limits;
    vl_heed *heed;
    vl_lstm_direction directions[2];
    int count;
    int64_t sequences, hidden_size, padded, longest;
    const int64_t *order, *lengths;         /* of sequences, the longest first, and their lengths */
    const uint8_t *x;                       /* quantised, [time][sequence][x_bytes] */
    const int32_t *x_sums;
    int64_t x_bytes;
    float x_scale, x_zero;
    float *y;
    int64_t y_time, y_row;                  /* elements */
    vl_tensor h_0, c_0, h_n, c_n;           /* in the order [direction, sequence, unit]; absent: no data */
} vl_lstm_call;

/* What a direction works in; `sizes` walks the same way twice, to count and to give out. */
typedef struct {
    float *pre, *gates, *h, *c;
    uint8_t *q;
    ptrdiff_t *x_rows, *q_rows, *out_rows;
    int32_t *x_zeros, *x_sums, *q_zeros, *q_sums;
} vl_lstm_memory;

static int64_t chunk_rows(const vl_lstm_call *c)
{
    int64_t rows = c->limits->byte_chunk_bytes / (16 * c->padded);
    rows = rows < c->limits->least_byte_chunk_rows ? c->limits->least_byte_chunk_rows : rows;
    return rows > c->sequences ? rows : c->sequences;
}

static size_t lay_out(const vl_lstm_call *c, const vl_lstm_direction *d, vl_lstm_memory *m, char *memory)
{
    size_t at = 0;
    const size_t rows = (size_t)chunk_rows(c), sequences = (size_t)c->sequences, wide = 4 * (size_t)c->padded;
#define VL_GIVE(field, count)                                                                                          \
    (m->field = (void *)(memory + at), at = (at + (size_t)(count) * sizeof *m->field + 63) & ~(size_t)63)
    VL_GIVE(pre, rows * wide);
    VL_GIVE(gates, sequences * wide);
    VL_GIVE(h, sequences * (size_t)c->padded);
    VL_GIVE(c, sequences * (size_t)c->padded);
    VL_GIVE(q, sequences * (size_t)vl_row_bytes(&d->r));
    VL_GIVE(x_rows, rows);
    VL_GIVE(q_rows, sequences);
    VL_GIVE(out_rows, sequences);
    VL_GIVE(x_zeros, rows);
    VL_GIVE(x_sums, rows);
    VL_GIVE(q_zeros, sequences);
    VL_GIVE(q_sums, sequences);
#undef VL_GIVE
    return at;
}

/* Rows of a state in the order of the sequences in the call, from or to [sequence, unit] of one direction. */
static void copy_state(const vl_lstm_call *c, const vl_tensor *t, int direction, float *rows, int out)
{
    for (int64_t b = 0; b < c->sequences; b++) {
        char *at = t->data + direction * t->strides[0] + c->order[b] * t->strides[1];
        float *row = rows + b * c->padded;
        for (int64_t k = 0; k < c->hidden_size; k++, at += t->strides[2])
            if (out)
                *(float *)at = row[k];
            else
                row[k] = *(const float *)at;
    }
}

/* R q(h) + Rb + add to gates, for the first n rows; the scale is that of `ran` rows. Every other step is turned: it
 * begins with the weights that the one before has left in the nearest caches. */
static void recur(const vl_lstm_call *c, const vl_lstm_direction *d, const vl_lstm_memory *m, int64_t ran, int64_t n,
                  const float *add, int turned)
{
    float bounds[2] = {0, 0}, scale, zero;
    const int64_t bytes = vl_row_bytes(&d->r), wide = 4 * c->padded;
    for (int64_t b = 0; b < ran; b++)
        c->kernels->range(c->hidden_size, m->h + b * c->padded, bounds);
    vl_dynamic_scale(bounds, &scale, &zero);
    for (int64_t b = 0; b < n; b++) {
        vl_quantising q = {c->hidden_size, m->h + b * c->padded, scale, zero, 0, 255, m->q + b * bytes};
        m->q_sums[b] = c->kernels->quantise(&q);
        m->q_zeros[b] = (int32_t)zero;
    }
    vl_byte_product p = {.rows = n,
                         .turned = turned,
                         .x = m->q,
                         .x_rows = m->q_rows,
                         .x_zeros = m->q_zeros,
                         .x_sums = m->q_sums,
                         .x_scale = scale,
                         .add = add,
                         .ld_add = wide,
                         .out = m->gates,
                         .ld_out = wide};
    vl_multiply_here(c->kernels, &d->r, &p);
}

static void run_direction(const vl_lstm_call *c, int number)
{
    const vl_lstm_direction *d = &c->directions[number];
    vl_lstm_memory m;
    size_t bytes = lay_out(c, d, &m, d->memory);
    memset(m.gates, 0, bytes - (size_t)((char *)m.gates - d->memory));
    if (c->h_0.data)
        copy_state(c, &c->h_0, number, m.h, 0);
    if (c->c_0.data)
        copy_state(c, &c->c_0, number, m.c, 0);
    for (int64_t b = 0; b < c->sequences; b++)
        m.q_rows[b] = b * vl_row_bytes(&d->r);
    const int64_t wide = 4 * c->padded, most = chunk_rows(c);
    for (int64_t r = 0; r < most; r++)
        m.x_zeros[r] = (int32_t)c->x_zero;
    int64_t ran = c->sequences, n = c->sequences, step = 0;
    while (step < c->longest) {
        int64_t rows = 0, end = step, live = n;
        for (; end < c->longest; end++) {
            while (live && c->lengths[live - 1] <= end)
                live--;
            if (rows + live > most)
                break;
            for (int64_t b = 0; b < live; b++, rows++) {
                int64_t time = d->reverse ? c->lengths[b] - 1 - end : end;
                int64_t row = time * c->sequences + c->order[b];
                m.x_rows[rows] = row * c->x_bytes;
                m.x_sums[rows] = c->x_sums[row];
            }
        }
        vl_byte_product p = {.rows = rows,
                             .x = c->x,
                             .x_rows = m.x_rows,
                             .x_zeros = m.x_zeros,
                             .x_sums = m.x_sums,
                             .x_scale = c->x_scale,
                             .out = m.pre,
                             .ld_out = wide};
        vl_multiply_here(c->kernels, &d->w, &p);
        const float *pre = m.pre;
        for (; step < end; step++) {
            if (vl_shall_end(c->heed))
                return;
            while (n && c->lengths[n - 1] <= step)
                n--;
            recur(c, d, &m, ran, n, pre, (int)(step & 1));
            for (int64_t b = 0; b < n; b++)
                m.out_rows[b] = (d->reverse ? c->lengths[b] - 1 - step : step) * c->y_time + c->order[b] * c->y_row;
            vl_step s = {.rows = n,
                         .hidden_size = c->hidden_size,
                         .pre = m.gates,
                         .ld_pre = wide,
                         .h_next = m.h,
                         .ld_h_next = c->padded,
                         .c = m.c,
                         .ld_c = c->padded,
                         .out = c->y ? c->y + number * c->hidden_size : NULL,
                         .out_rows = m.out_rows};
            c->kernels->lstm_cell(&s);
            pre += n * wide;
            ran = n;
        }
    }
    if (c->h_n.data)
        copy_state(c, &c->h_n, number, m.h, 1);
    if (c->c_n.data)
        copy_state(c, &c->c_n, number, m.c, 1);
}

static void run_directions(void *context, int member, int members)
{
    const vl_lstm_call *c = context;
    for (int k = member; k < c->count; k += members)
        run_direction(c, k);
}

/* The axes of sequences and of what is in front of it change places. */
static void swap_axes(vl_tensor *t)
{
    int64_t shape = t->shape[0], stride = t->strides[0];
    t->shape[0] = t->shape[1], t->shape[1] = shape;
    t->strides[0] = t->strides[1], t->strides[1] = stride;
}

/* A state that is given, as [direction, sequence, unit]; 0 where it is another thing. */
static int read_state(const vl_frame *f, const vl_instruction *i, int n, int layout, const vl_lstm_call *c,
                      vl_tensor *to)
{
    to->data = NULL;
    if (!vl_has_in(i, n))
        return 1;
    const vl_tensor *t = vl_in(f, i, n);
    if (!t || t->type != VL_F32 || t->axes != 3)
        return 0;
    *to = *t;
    if (layout)
        swap_axes(to);
    return to->shape[0] == c->count && to->shape[1] == c->sequences && to->shape[2] == c->hidden_size;
}

static int64_t length_of(const vl_tensor *given, int64_t b, int64_t steps)
{
    if (!given)
        return steps;
    const char *at = given->data + b * given->strides[0];
    return given->type == VL_I32 ? *(const int32_t *)at : *(const int64_t *)at;
}

/* Lengths, the longest first, equal ones in their order; 0 where they are not lengths. places: [steps + 1] */
static int sort_lengths(const vl_tensor *given, int64_t steps, int64_t sequences, int64_t *order, int64_t *lengths,
                        int64_t *places)
{
    memset(places, 0, (size_t)(steps + 1) * sizeof *places);
    for (int64_t b = 0; b < sequences; b++) {
        int64_t length = length_of(given, b, steps);
        if (length < 0 || length > steps)
            return 0;
        places[length]++;
    }
    for (int64_t length = steps, place = 0; length >= 0; length--) {
        int64_t count = places[length];
        places[length] = place;
        place += count;
    }
    for (int64_t b = 0; b < sequences; b++) {
        int64_t length = length_of(given, b, steps), place = places[length]++;
        order[place] = b;
        lengths[place] = length;
    }
    return 1;
}

/* The bytes of x, [longest][sequences][x_bytes], and their sums; x is [time, sequence, feature], features side by side. */
static void quantise_input(vl_lstm_call *c, const vl_tensor *x, uint8_t *bytes, int32_t *sums)
{
    float bounds[2] = {0, 0};
    const int64_t size = x->shape[2];
    for (int64_t t = 0; t < c->longest; t++)
        for (int64_t b = 0; b < c->sequences; b++)
            c->kernels->range(size, (const float *)(x->data + t * x->strides[0] + b * x->strides[1]), bounds);
    vl_dynamic_scale(bounds, &c->x_scale, &c->x_zero);
    for (int64_t t = 0; t < c->longest; t++)
        for (int64_t b = 0; b < c->sequences; b++, bytes += c->x_bytes) {
            vl_quantising q = {
                size, (const float *)(x->data + t * x->strides[0] + b * x->strides[1]), c->x_scale, c->x_zero, 0, 255,
                bytes};
            *sums++ = c->kernels->quantise(&q);
            memset(bytes + size, 0, (size_t)(c->x_bytes - size));
        }
}

static int final_state(vl_frame *f, const vl_instruction *i, int n, int layout, const vl_lstm_call *c, vl_tensor *to)
{
    int64_t shape[3] = {c->count, c->sequences, c->hidden_size};
    int8_t order[3] = {0, 1, 2};
    to->data = NULL;
    if (!vl_wants(i, n))
        return 1;
    if (layout) {
        shape[0] = c->sequences, shape[1] = c->count;
        order[0] = 1, order[1] = 0;
    }
    vl_tensor *t = vl_new_in_order(f, i, n, VL_F32, 3, shape, order);
    if (!t)
        return 0;
    *to = *t;
    if (layout)
        swap_axes(to);
    return 1;
}

/* An empty sequence's final state */
static void clear_empty(const vl_lstm_call *c, const vl_tensor *t)
{
    for (int64_t b = 0; t->data && b < c->sequences; b++)
        for (int64_t d = 0; c->lengths[b] == 0 && d < c->count; d++)
            memset(t->data + d * t->strides[0] + c->order[b] * t->strides[1], 0,
                   (size_t)c->hidden_size * sizeof(float));
}

/* X, sequence_lens, initial_h, initial_c -> Y, Y_h, Y_c. ints: layout, whether empty sequences end in zeros, hidden_size,
 * directions; for each whether it is reversed, and the matrices W and R; objects: those of the matrices. */
static int quantised_lstm(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, VL_X), *lengths = vl_in(f, i, VL_LENGTHS);
    const int layout = (int)i->ints[0], lanes = f->kernels->lanes;
    vl_lstm_call c = {.kernels = f->kernels,
                      .limits = f->limits,
                      .heed = f->heed,
                      .hidden_size = i->ints[2],
                      .count = (int)i->ints[3]};
    const int64_t *ints = i->ints + 4;
    void *const *objects = i->objects;
    for (int d = 0; d < c.count; d++) {
        c.directions[d].reverse = (int)*ints++;
        objects += vl_read_matrix(ints, objects, &c.directions[d].w);
        ints += VL_MATRIX_INTS;
        objects += vl_read_matrix(ints, objects, &c.directions[d].r);
        ints += VL_MATRIX_INTS;
    }
    c.padded = (c.hidden_size + lanes - 1) / lanes * lanes;
    if (!x || x->type != VL_F32 || x->axes != 3)
        return VL_DECLINED;
    vl_tensor source = *x, copy = {.block = NULL};
    if (layout)
        swap_axes(&source);
    const int64_t steps = source.shape[0], size = source.shape[2];
    c.sequences = source.shape[1];
    if (size != c.directions[0].w.depth || steps == 0 || c.sequences == 0 ||
        !read_state(f, i, VL_H_0, layout, &c, &c.h_0) || !read_state(f, i, VL_C_0, layout, &c, &c.c_0))
        return VL_DECLINED;
    if (vl_has_in(i, VL_LENGTHS) && (!lengths || (lengths->type != VL_I32 && lengths->type != VL_I64) ||
                                     lengths->axes != 1 || lengths->shape[0] != c.sequences))
        return VL_DECLINED;
    vl_block *sorted = vl_block_new(f, (size_t)(2 * c.sequences + steps + 1) * sizeof(int64_t));
    if (!sorted)
        return VL_NO_MEMORY;
    int64_t *order = (int64_t *)sorted->data;
    c.order = order;
    c.lengths = order + c.sequences;
    if (!sort_lengths(lengths, steps, c.sequences, order, order + c.sequences, order + 2 * c.sequences) ||
        c.lengths[0] == 0) {
        vl_block_drop(f, sorted);
        return VL_DECLINED;
    }
    c.longest = c.lengths[0];
    const int batch_first = source.strides[1] > source.strides[0] && c.sequences > 1 && steps > 1;
    vl_block *bytes = NULL, *own[2] = {NULL, NULL};
    int fine = size <= 1 || source.strides[2] == sizeof(float);
    if (!fine) {
        const vl_tensor *laid = vl_contiguous(f, &source, &copy);
        fine = laid != NULL;
        source = fine ? *laid : source;
    }
    c.x_bytes = vl_row_bytes(&c.directions[0].w);
    const size_t all = ((size_t)(c.longest * c.sequences * c.x_bytes) + 63) & ~(size_t)63;
    if (fine)
        bytes = vl_block_new(f, all + (size_t)(c.longest * c.sequences) * sizeof(int32_t));
    fine &= bytes != NULL;
    for (int d = 0; d < c.count && fine; d++) {
        vl_lstm_memory m;
        own[d] = vl_block_new(f, lay_out(&c, &c.directions[d], &m, NULL));
        fine = own[d] != NULL;
        c.directions[d].memory = fine ? own[d]->data : NULL;
    }
    if (fine && vl_wants(i, VL_Y)) {
        int64_t shape[4] = {steps, c.count, c.sequences, c.hidden_size};
        int8_t axes[4] = {0, 2, 1, 3};
        if (batch_first)
            axes[0] = 2, axes[1] = 0, axes[2] = 1;
        if (layout) {
            shape[0] = c.sequences, shape[1] = steps, shape[2] = c.count;
            axes[0] = !batch_first, axes[1] = batch_first, axes[2] = 2;
        }
        vl_tensor *y = vl_new_in_order(f, i, VL_Y, VL_F32, 4, shape, axes);
        fine = y != NULL;
        if (fine) {
            c.y = (float *)y->data;
            c.y_time = y->strides[layout ? 1 : 0] / (int64_t)sizeof(float);
            c.y_row = y->strides[layout ? 0 : 2] / (int64_t)sizeof(float);
            if (c.lengths[c.sequences - 1] < steps)
                memset(y->data, 0, (size_t)vl_count(4, shape) * sizeof(float));
        }
    }
    fine = fine && final_state(f, i, VL_H_N, layout, &c, &c.h_n) && final_state(f, i, VL_C_N, layout, &c, &c.c_n);
    if (fine) {
        c.x = (const uint8_t *)bytes->data;
        c.x_sums = (const int32_t *)(bytes->data + all);
        quantise_input(&c, &source, (uint8_t *)bytes->data, (int32_t *)(bytes->data + all));
        if (f->threads > 1 && c.count > 1)
            f->parallel(2, run_directions, &c, f->heed);
        else
            run_directions(&c, 0, 1);
        if (i->ints[1]) {
            clear_empty(&c, &c.h_n);
            clear_empty(&c, &c.c_n);
        }
    }
    vl_block_drop(f, own[1]);
    vl_block_drop(f, own[0]);
    vl_block_drop(f, bytes);
    vl_block_drop(f, copy.block);
    vl_block_drop(f, sorted);
    return fine ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_quantised_lstm_handlers[] = {{"quantised_lstm", quantised_lstm}, {NULL, NULL}};
