/* DynamicQuantizeLSTM, and torch's dynamically quantised LSTM and GRU: products of bytes, and the float cells' equations.
 *
 *   gates(t) = W q(x(t)) + Wb + R q(h(t - 1)) + Rb
 *
 * x is quantised at once with one scale, h anew at each step. Of onnxruntime's operator that scale is one for all
 * sequences that ran in the step before, and of x for all that is given; of torch's layers, which run a packed batch, for
 * the sequences of this step, and of x for all steps of sequences. Columns of W and R are in panels,
 * [panel][gate i, f, g, o or r, z, n][L], so the sums are what the cell reads.
 *
 * It has more than 400 lines: one idea, whose memory, steps and arguments nothing else uses.
 */
#include "integer.h"

enum { VL_X, VL_LENGTHS, VL_H_0, VL_C_0 }; /* inputs */
enum { VL_Y, VL_H_N, VL_C_N };

typedef struct {
    vl_integer_matrix w, r;
    int reverse;
    char *memory;
} vl_quantised_direction;

typedef struct {
    const vl_kernels *kernels;
    const vl_limits *limits;
    vl_heed *heed;
    vl_quantised_direction directions[2];
    int count, gates;
    int64_t torchs; /* steps of torch's quantising, 0 for onnxruntime's */
    int64_t sequences, hidden_size, padded, longest;
    const int64_t *order, *lengths; /* of sequences, the longest first, and their lengths */
    const uint8_t *x; /* quantised, [time][sequence][x_bytes] */
    const int32_t *x_sums;
    int64_t x_bytes;
    float x_scale, x_zero;
    float *y;
    int64_t y_time, y_row; /* elements */
    vl_tensor h_0, c_0, h_n, c_n; /* in the order [direction, sequence, unit]; absent: no data */
} vl_quantised_call;

/* What a direction works in; `sizes` walks the same way twice, to count and to give out. */
typedef struct {
    float *pre, *gates, *h, *c;
    uint8_t *q;
    ptrdiff_t *x_rows, *q_rows, *out_rows;
    int32_t *x_zeros, *x_sums, *q_zeros, *q_sums;
} vl_quantised_memory;

static int64_t chunk_rows(const vl_quantised_call *call)
{
    int64_t rows = call->limits->byte_chunk_bytes / (4 * call->gates * call->padded);
    rows = rows < call->limits->least_byte_chunk_rows ? call->limits->least_byte_chunk_rows : rows;
    return rows > call->sequences ? rows : call->sequences;
}

static size_t lay_out(const vl_quantised_call *call, const vl_quantised_direction *direction,
                      vl_quantised_memory *memory, char *begin)
{
    size_t at = 0;
    const size_t rows = (size_t)chunk_rows(call), sequences = (size_t)call->sequences,
                 wide = (size_t)(call->gates * call->padded);
#define VL_GIVE(field, count)                                                                                          \
    (memory->field = (void *)(begin + at), at = (at + (size_t)(count) * sizeof *memory->field + 63) & ~(size_t)63)
    VL_GIVE(pre, rows * wide);
    VL_GIVE(gates, sequences * wide);
    VL_GIVE(h, sequences * (size_t)call->padded);
    VL_GIVE(c, sequences * (size_t)call->padded);
    VL_GIVE(q, sequences * (size_t)vl_row_bytes(&direction->r));
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
static void copy_state(const vl_quantised_call *call, const vl_tensor *t, int direction, float *rows, int out)
{
    for (int64_t b = 0; b < call->sequences; b++) {
        char *at = t->data + direction * t->strides[0] + call->order[b] * t->strides[1];
        float *row = rows + b * call->padded;
        for (int64_t k = 0; k < call->hidden_size; k++, at += t->strides[2])
            if (out)
                *(float *)at = row[k];
            else
                row[k] = *(const float *)at;
    }
}

/* The scale for numbers within bounds */
static vl_quantising choose(const vl_quantised_call *call, const float *bounds)
{
    vl_quantising q = {.high = 255};
    if (call->torchs)
        vl_torchs_scale(bounds, call->torchs, &q);
    else
        vl_dynamic_scale(bounds, &q.scale, &q.zero);
    return q;
}

/* Torch walks a packed batch backwards from its last step, and sequences join as they begin; else all begin together. */
static int joining(const vl_quantised_call *call, const vl_quantised_direction *direction)
{
    return call->torchs && direction->reverse;
}

/* Where sequence b is at a step of the walk */
static int64_t time_of(const vl_quantised_call *call, const vl_quantised_direction *direction, int64_t b, int64_t step)
{
    if (!direction->reverse)
        return step;
    return (joining(call, direction) ? call->longest : call->lengths[b]) - 1 - step;
}

/* How many sequences run at a step, of which n ran in the one before */
static int64_t running(const vl_quantised_call *call, const vl_quantised_direction *direction, int64_t n, int64_t step)
{
    if (joining(call, direction))
        while (n < call->sequences && call->lengths[n] >= call->longest - step)
            n++;
    else
        while (n && call->lengths[n - 1] <= step)
            n--;
    return n;
}

/* R q(h) + Rb + add to gates, for the first n rows; the scale is that of `ran` rows. Every other step is turned: it
 * begins with the weights that the one before has left in the nearest caches. */
static void recur(const vl_quantised_call *call, const vl_quantised_direction *direction,
                  const vl_quantised_memory *memory, int64_t ran, int64_t n, const float *add, int turned)
{
    float bounds[2] = {0, 0};
    const int64_t bytes = vl_row_bytes(&direction->r), wide = call->gates * call->padded;
    for (int64_t b = 0; b < ran; b++)
        call->kernels->range(call->hidden_size, memory->h + b * call->padded, bounds);
    vl_quantising q = choose(call, bounds);
    q.n = call->hidden_size;
    for (int64_t b = 0; b < n; b++) {
        q.x = memory->h + b * call->padded;
        q.out = memory->q + b * bytes;
        memory->q_sums[b] = call->kernels->quantise(&q);
        memory->q_zeros[b] = (int32_t)q.zero;
    }
    vl_byte_product p = {.rows = n,
                         .turned = turned,
                         .x = memory->q,
                         .x_rows = memory->q_rows,
                         .x_zeros = memory->q_zeros,
                         .x_sums = memory->q_sums,
                         .x_scale = q.scale,
                         .add = add,
                         .ld_add = wide,
                         .out = memory->gates,
                         .ld_out = wide};
    vl_multiply_here(call->kernels, &direction->r, &p);
}

static void run_direction(const vl_quantised_call *call, int number)
{
    const vl_quantised_direction *direction = &call->directions[number];
    const int gru = call->gates == 3;
    vl_quantised_memory memory;
    size_t bytes = lay_out(call, direction, &memory, direction->memory);
    memset(memory.gates, 0, bytes - (size_t)((char *)memory.gates - direction->memory));
    if (call->h_0.data)
        copy_state(call, &call->h_0, number, memory.h, 0);
    if (call->c_0.data)
        copy_state(call, &call->c_0, number, memory.c, 0);
    for (int64_t b = 0; b < call->sequences; b++)
        memory.q_rows[b] = b * vl_row_bytes(&direction->r);
    const int64_t wide = call->gates * call->padded, most = chunk_rows(call);
    for (int64_t r = 0; r < most; r++)
        memory.x_zeros[r] = (int32_t)call->x_zero;
    int64_t n = joining(call, direction) ? 0 : call->sequences, step = 0;
    while (step < call->longest) {
        int64_t rows = 0, end = step, live = n;
        for (; end < call->longest; end++) {
            live = running(call, direction, live, end);
            if (rows + live > most)
                break;
            for (int64_t b = 0; b < live; b++, rows++) {
                int64_t row = time_of(call, direction, b, end) * call->sequences + call->order[b];
                memory.x_rows[rows] = row * call->x_bytes;
                memory.x_sums[rows] = call->x_sums[row];
            }
        }
        vl_byte_product p = {.rows = rows,
                             .x = call->x,
                             .x_rows = memory.x_rows,
                             .x_zeros = memory.x_zeros,
                             .x_sums = memory.x_sums,
                             .x_scale = call->x_scale,
                             .out = memory.pre,
                             .ld_out = wide};
        vl_multiply_here(call->kernels, &direction->w, &p);
        const float *pre = memory.pre;
        for (; step < end; step++) {
            if (vl_shall_end(call->heed))
                return;
            const int64_t ran = n;
            n = running(call, direction, n, step);
            recur(call, direction, &memory, call->torchs ? n : ran, n, gru ? NULL : pre, (int)(step & 1));
            for (int64_t b = 0; b < n; b++)
                memory.out_rows[b] = time_of(call, direction, b, step) * call->y_time + call->order[b] * call->y_row;
            vl_step s = {.rows = n,
                         .hidden_size = call->hidden_size,
                         .pre = gru ? pre : memory.gates,
                         .ld_pre = wide,
                         .h = memory.h,
                         .ld_h = call->padded,
                         .gated = memory.gates,
                         .h_next = memory.h,
                         .ld_h_next = call->padded,
                         .c = memory.c,
                         .ld_c = call->padded,
                         .out = call->y ? call->y + number * call->hidden_size : NULL,
                         .out_rows = memory.out_rows};
            if (gru)
                call->kernels->gru_cell(&s);
            else
                call->kernels->lstm_cell(&s);
            pre += n * wide;
        }
    }
    if (call->h_n.data)
        copy_state(call, &call->h_n, number, memory.h, 1);
    if (call->c_n.data)
        copy_state(call, &call->c_n, number, memory.c, 1);
}

static void run_directions(void *context, int member, int members)
{
    const vl_quantised_call *call = context;
    for (int k = member; k < call->count; k += members)
        run_direction(call, k);
}

/* The axes of sequences and of what is in front of it change places. */
static void swap_axes(vl_tensor *t)
{
    int64_t shape = t->shape[0], stride = t->strides[0];
    t->shape[0] = t->shape[1], t->shape[1] = shape;
    t->strides[0] = t->strides[1], t->strides[1] = stride;
}

/* A state that is given, as [direction, sequence, unit]; 0 where it is another thing. */
static int read_state(const vl_frame *f, const vl_instruction *i, int n, int layout, const vl_quantised_call *call,
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
    return to->shape[0] == call->count && to->shape[1] == call->sequences && to->shape[2] == call->hidden_size;
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
static void quantise_input(vl_quantised_call *call, const vl_tensor *x, uint8_t *bytes, int32_t *sums)
{
    float bounds[2] = {0, 0};
    const int64_t size = x->shape[2];
    for (int64_t b = 0; b < call->sequences; b++) {
        const char *row = x->data + call->order[b] * x->strides[1];
        const int64_t steps = call->torchs ? call->lengths[b] : call->longest;
        for (int64_t t = 0; t < steps; t++)
            call->kernels->range(size, (const float *)(row + t * x->strides[0]), bounds);
    }
    vl_quantising q = choose(call, bounds);
    call->x_scale = q.scale;
    call->x_zero = q.zero;
    q.n = size;
    for (int64_t t = 0; t < call->longest; t++)
        for (int64_t b = 0; b < call->sequences; b++, bytes += call->x_bytes) {
            q.x = (const float *)(x->data + t * x->strides[0] + b * x->strides[1]);
            q.out = bytes;
            *sums++ = call->kernels->quantise(&q);
            memset(bytes + size, 0, (size_t)(call->x_bytes - size));
        }
}

static int final_state(vl_frame *f, const vl_instruction *i, int n, int layout, const vl_quantised_call *call,
                       vl_tensor *to)
{
    int64_t shape[3] = {call->count, call->sequences, call->hidden_size};
    int8_t order[3] = {0, 1, 2};
    to->data = NULL;
    if (!vl_wants(i, n))
        return 1;
    if (layout) {
        shape[0] = call->sequences, shape[1] = call->count;
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
static void clear_empty(const vl_quantised_call *call, const vl_tensor *t)
{
    for (int64_t b = 0; t->data && b < call->sequences; b++)
        for (int64_t d = 0; call->lengths[b] == 0 && d < call->count; d++)
            memset(t->data + d * t->strides[0] + call->order[b] * t->strides[1], 0,
                   (size_t)call->hidden_size * sizeof(float));
}

/* X, sequence_lens, initial_h, initial_c -> Y, Y_h, Y_c; of a GRU, which has three gates, without the last. ints: layout,
 * ONNX's 0 or 1, or 2, where Y is [time, sequence, direction and unit] as torch has it; whether empty sequences end in zeros, hidden_size, directions, gates, steps of torch's quantising or 0; for each direction
 * whether it is reversed, and the matrices W and R; objects: those of the matrices. */
static int quantised_recurrent(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, VL_X), *lengths = vl_in(f, i, VL_LENGTHS);
    const int layout = i->ints[0] == 1, joined = i->ints[0] == 2, lanes = f->kernels->lanes;
    vl_quantised_call call = {.kernels = f->kernels,
                              .limits = f->limits,
                              .heed = f->heed,
                              .hidden_size = i->ints[2],
                              .count = (int)i->ints[3],
                              .gates = (int)i->ints[4],
                              .torchs = i->ints[5]};
    const int64_t *ints = i->ints + 6;
    void *const *objects = i->objects;
    for (int d = 0; d < call.count; d++) {
        call.directions[d].reverse = (int)*ints++;
        objects += vl_read_matrix(ints, objects, &call.directions[d].w);
        ints += VL_MATRIX_INTS;
        objects += vl_read_matrix(ints, objects, &call.directions[d].r);
        ints += VL_MATRIX_INTS;
    }
    call.padded = (call.hidden_size + lanes - 1) / lanes * lanes;
    if (!x || x->type != VL_F32 || x->axes != 3)
        return VL_DECLINED;
    vl_tensor source = *x, copy = {.block = NULL};
    if (layout)
        swap_axes(&source);
    const int64_t steps = source.shape[0], size = source.shape[2];
    call.sequences = source.shape[1];
    if (size != call.directions[0].w.depth || steps == 0 || call.sequences == 0 ||
        !read_state(f, i, VL_H_0, layout, &call, &call.h_0) || !read_state(f, i, VL_C_0, layout, &call, &call.c_0))
        return VL_DECLINED;
    if (vl_has_in(i, VL_LENGTHS) && (!lengths || (lengths->type != VL_I32 && lengths->type != VL_I64) ||
                                     lengths->axes != 1 || lengths->shape[0] != call.sequences))
        return VL_DECLINED;
    vl_block *sorted = vl_block_new(f, (size_t)(2 * call.sequences + steps + 1) * sizeof(int64_t));
    if (!sorted)
        return VL_NO_MEMORY;
    int64_t *order = (int64_t *)sorted->data;
    call.order = order;
    call.lengths = order + call.sequences;
    if (!sort_lengths(lengths, steps, call.sequences, order, order + call.sequences, order + 2 * call.sequences) ||
        call.lengths[0] == 0) {
        vl_block_drop(f, sorted);
        return VL_DECLINED;
    }
    call.longest = call.lengths[0];
    const int batch_first = source.strides[1] > source.strides[0] && call.sequences > 1 && steps > 1;
    vl_block *bytes = NULL, *own[2] = {NULL, NULL};
    int fine = size <= 1 || source.strides[2] == sizeof(float);
    if (!fine) {
        const vl_tensor *laid = vl_contiguous(f, &source, &copy);
        fine = laid != NULL;
        source = fine ? *laid : source;
    }
    call.x_bytes = vl_row_bytes(&call.directions[0].w);
    const size_t all = ((size_t)(call.longest * call.sequences * call.x_bytes) + 63) & ~(size_t)63;
    if (fine)
        bytes = vl_block_new(f, all + (size_t)(call.longest * call.sequences) * sizeof(int32_t));
    fine &= bytes != NULL;
    for (int d = 0; d < call.count && fine; d++) {
        vl_quantised_memory memory;
        own[d] = vl_block_new(f, lay_out(&call, &call.directions[d], &memory, NULL));
        fine = own[d] != NULL;
        call.directions[d].memory = fine ? own[d]->data : NULL;
    }
    if (fine && vl_wants(i, VL_Y)) {
        int64_t shape[4] = {steps, call.count, call.sequences, call.hidden_size};
        int8_t axes[4] = {0, 2, 1, 3};
        if (batch_first)
            axes[0] = 2, axes[1] = 0, axes[2] = 1;
        if (layout) {
            shape[0] = call.sequences, shape[1] = steps, shape[2] = call.count;
            axes[0] = !batch_first, axes[1] = batch_first, axes[2] = 2;
        }
        if (joined) {
            shape[1] = call.sequences, shape[2] = call.count * call.hidden_size;
            axes[0] = batch_first, axes[1] = !batch_first, axes[2] = 2;
        }
        vl_tensor *y = vl_new_in_order(f, i, VL_Y, VL_F32, joined ? 3 : 4, shape, axes);
        fine = y != NULL;
        if (fine) {
            call.y = (float *)y->data;
            call.y_time = y->strides[layout ? 1 : 0] / (int64_t)sizeof(float);
            call.y_row = y->strides[layout ? 0 : joined ? 1 : 2] / (int64_t)sizeof(float);
            if (call.lengths[call.sequences - 1] < steps)
                memset(y->data, 0, (size_t)vl_count(y->axes, y->shape) * sizeof(float));
        }
    }
    fine = fine && final_state(f, i, VL_H_N, layout, &call, &call.h_n) &&
           final_state(f, i, VL_C_N, layout, &call, &call.c_n);
    if (fine) {
        call.x = (const uint8_t *)bytes->data;
        call.x_sums = (const int32_t *)(bytes->data + all);
        quantise_input(&call, &source, (uint8_t *)bytes->data, (int32_t *)(bytes->data + all));
        if (f->threads > 1 && call.count > 1)
            f->parallel(2, run_directions, &call, f->heed);
        else
            run_directions(&call, 0, 1);
        if (i->ints[1]) {
            clear_empty(&call, &call.h_n);
            clear_empty(&call, &call.c_n);
        }
    }
    vl_block_drop(f, own[1]);
    vl_block_drop(f, own[0]);
    vl_block_drop(f, bytes);
    vl_block_drop(f, copy.block);
    vl_block_drop(f, sorted);
    return fine ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_quantised_recurrent_handlers[] = {{"quantised_recurrent", quantised_recurrent}, {NULL, NULL}};
