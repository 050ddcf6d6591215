/* ConvInteger and QLinearConv with known weights: windows as rows of bytes, times a matrix for each group.
 *
 * A sample is copied once as uint8 with channels last and its zero point around it, and windows are read where they lie:
 * as runs of bytes, a row of the kernel each, or where channels of other groups or gaps are between, a tap each. Results
 * go to the output, which has channels last. */
#include "integer.h"

enum { VL_SPATIAL = 3, VL_ROWS = 48 };      /* at a time: whole tiles of every height */

/* ints: how many spatial axes; auto_pad (0 given, 1 SAME_UPPER, 2 SAME_LOWER); for three axes each (leading ones are
 * neutral) spans, strides, pads before, pads after, dilations, kernel; whether each channel is a group by itself;
 * groups, channels in and out of a group; then the groups' matrices, [tap][channel] by [out]. objects: those of the matrices.
 * Channel by channel there is one group of all, whose ints are which of scales (2) and bias (4) there are, and whose
 * objects are w [tap][vectors][L] less the zero points, their sums, scales and bias. */
enum {
    VL_RANK,
    VL_AUTO_PAD,
    VL_SPANS,
    VL_STRIDES = VL_SPANS + 3,
    VL_BEFORE = VL_STRIDES + 3,
    VL_AFTER = VL_BEFORE + 3,
    VL_DILATIONS = VL_AFTER + 3,
    VL_KERNEL = VL_DILATIONS + 3,
    VL_BY_CHANNEL = VL_KERNEL + 3,
    VL_GROUPS,
    VL_IN,
    VL_OUT,
    VL_MATRICES
};

typedef struct {
    vl_frame *f;
    const vl_instruction *i;
    int64_t in[VL_SPATIAL], before[VL_SPATIAL], padded[VL_SPATIAL], out[VL_SPATIAL];
    int64_t channels, columns;  /* of all groups */
    int64_t element;            /* bytes of a result */
    int64_t whole;              /* columns of a group in whole vectors */
    uint8_t *sample;            /* [padded][channels] */
    int32_t *zeros, *sums;      /* [VL_ROWS], or NULL; by member [VL_ROWS] */
    ptrdiff_t *rows, *taps;     /* by member [VL_ROWS]; [tap_count]: where each tap or run begins in a window */
    int64_t tap_count;
    int32_t zero;
    float scale;
    const vl_requantising *requantised; /* or NULL */
    char *to;                   /* [out][columns] */
} vl_call;

/* Sizes with pads; 0 where the window does not fit. */
static int place(vl_call *call, const int64_t *ints)
{
    for (int a = 0; a < VL_SPATIAL; a++) {
        int64_t span = ints[VL_SPANS + a], stride = ints[VL_STRIDES + a];
        int64_t before = ints[VL_BEFORE + a], after = ints[VL_AFTER + a];
        if (ints[VL_AUTO_PAD]) {
            int64_t total = ((call->in[a] + stride - 1) / stride - 1) * stride + span - call->in[a];
            total = total > 0 ? total : 0;
            before = ints[VL_AUTO_PAD] == 2 ? total - total / 2 : total / 2;
            after = total - before;
        }
        if (call->in[a] > (int64_t)1 << 32 || before > (int64_t)1 << 32 || after > (int64_t)1 << 32)
            return 0;
        call->before[a] = before;
        call->padded[a] = call->in[a] + before + after;
        if (call->padded[a] < span)
            return 0;
        call->out[a] = (call->padded[a] - span) / stride + 1;
    }
    return 1;
}

/* x [channels, ...] of one sample, as uint8 inside the pads */
static void copy_sample(const vl_call *call, const vl_tensor *x)
{
    memset(call->sample, call->zero, (size_t)(call->padded[0] * call->padded[1] * call->padded[2] * call->channels));
    vl_tensor from = *x, to = {.type = VL_U8, .axes = 4};
    from.type = VL_U8;
    from.axes = 4;
    from.shape[0] = call->channels;
    int64_t step = call->channels;
    to.data = (char *)call->sample;
    to.strides[0] = 1;
    for (int a = VL_SPATIAL - 1; a >= 0; a--) {
        from.shape[1 + a] = call->in[a];
        to.strides[1 + a] = step;
        to.data += call->before[a] * step;
        step *= call->padded[a];
    }
    memcpy(to.shape, from.shape, sizeof to.shape);
    vl_copy(call->f, &to, &from);
    if (x->type != VL_I8)
        return;
    for (int64_t d = 0; d < call->in[0]; d++)
        for (int64_t h = 0; h < call->in[1]; h++) {
            char *row = to.data + d * to.strides[1] + h * to.strides[2];
            for (int64_t k = 0; k < call->in[2] * call->channels; k++)
                row[k] ^= (char)0x80;
        }
}

/* Where the windows of some output pixels from `at` on begin in the sample */
static void place_windows(const vl_call *call, int64_t at, int64_t count, ptrdiff_t *rows)
{
    const int64_t *strides = call->i->ints + VL_STRIDES;
    int64_t w = at % call->out[2], h = at / call->out[2] % call->out[1], d = at / call->out[2] / call->out[1];
    for (int64_t k = 0; k < count; k++) {
        int64_t pixel = (d * strides[0] * call->padded[1] + h * strides[1]) * call->padded[2] + w * strides[2];
        rows[k] = pixel * call->channels;
        if (++w == call->out[2]) {
            w = 0;
            if (++h == call->out[1]) {
                h = 0;
                d++;
            }
        }
    }
}

/* Where each tap, or each run of them along the last axis, begins in a window */
static void place_taps(const vl_call *call, int in_runs, ptrdiff_t *taps)
{
    const int64_t *dilations = call->i->ints + VL_DILATIONS, *kernel = call->i->ints + VL_KERNEL;
    for (int64_t d = 0; d < kernel[0]; d++)
        for (int64_t h = 0; h < kernel[1]; h++)
            for (int64_t w = 0; w < (in_runs ? 1 : kernel[2]); w++)
                *taps++ =
                    ((d * dilations[0] * call->padded[1] + h * dilations[1]) * call->padded[2] + w * dilations[2]) *
                    call->channels;
}

static void convolve_by_channel(void *context, int member, int members)
{
    const vl_call *call = context;
    const int64_t *ints = call->i->ints;
    const int64_t pixels = call->out[0] * call->out[1] * call->out[2];
    const int64_t first = pixels * member / members, last = pixels * (member + 1) / members;
    ptrdiff_t *rows = call->rows + member * VL_ROWS;
    void *const *objects = call->i->objects;
    vl_byte_taps product = {.finish = {.columns = call->columns,
                                       .vectors = call->whole / call->f->kernels->lanes,
                                       .x_zeros = call->zeros,
                                       .sums = objects[1],
                                       .scales = ints[VL_MATRICES] & 2 ? objects[2] : NULL,
                                       .bias = ints[VL_MATRICES] & 4 ? objects[3] : NULL,
                                       .x_scale = call->scale,
                                       .requantised = call->requantised,
                                       .ld_out = call->columns},
                            .x = call->sample,
                            .x_rows = rows,
                            .tap_count = call->tap_count,
                            .taps = call->taps,
                            .w = objects[0]};
    for (int64_t at = first; at < last && !vl_shall_end(call->f->heed); at += product.finish.rows) {
        product.finish.rows = last - at < VL_ROWS ? last - at : VL_ROWS;
        place_windows(call, at, product.finish.rows, rows);
        product.finish.out = call->to + at * call->columns * call->element;
        call->f->kernels->byte_taps(&product);
    }
}

/* The sums of some windows' bytes of a group */
static void sum_windows(const vl_call *call, const vl_integer_matrix *matrix, const uint8_t *x, const ptrdiff_t *rows,
                        int64_t count, int32_t *sums)
{
    const int64_t depth = matrix->depth / matrix->runs;
    for (int64_t r = 0; r < count; r++) {
        int32_t sum = 0;
        for (int64_t run = 0; run < matrix->runs; run++)
            for (int64_t k = 0; k < depth; k++)
                sum += x[rows[r] + call->taps[run] + k];
        sums[r] = sum;
    }
}

static void convolve(void *context, int member, int members)
{
    const vl_call *call = context;
    const int64_t *ints = call->i->ints;
    const int64_t pixels = call->out[0] * call->out[1] * call->out[2], out = ints[VL_OUT];
    const int64_t first = pixels * member / members, last = pixels * (member + 1) / members;
    int32_t *sums = call->sums + member * VL_ROWS;
    ptrdiff_t *rows = call->rows + member * VL_ROWS;
    for (int64_t at = first, count; at < last && !vl_shall_end(call->f->heed); at += count) {
        void *const *objects = call->i->objects;
        count = last - at < VL_ROWS ? last - at : VL_ROWS;
        place_windows(call, at, count, rows);
        for (int64_t g = 0; g < ints[VL_GROUPS]; g++) {
            vl_integer_matrix matrix;
            objects += vl_read_matrix(ints + VL_MATRICES + g * VL_MATRIX_INTS, objects, &matrix);
            const uint8_t *x = call->sample + g * ints[VL_IN];
            if (matrix.zeros)
                sum_windows(call, &matrix, x, rows, count, sums);
            vl_requantising own = {.steps = NULL};
            if (call->requantised) { /* of the group's columns */
                own = *call->requantised;
                own.steps += g * call->whole;
                own.added += g * call->whole;
            }
            vl_byte_product product = {.rows = count,
                                       .run_starts = call->taps,
                                       .x = x,
                                       .x_rows = rows,
                                       .x_zeros = call->zeros,
                                       .x_sums = sums,
                                       .x_scale = call->scale,
                                       .requantised = call->requantised ? &own : NULL,
                                       .ld_out = call->columns,
                                       .out = call->to + (at * call->columns + g * out) * call->element};
            vl_multiply_here(call->f->kernels, &matrix, &product);
        }
    }
}

/* What the sums become, each group's columns from a whole vector on. */
static int read_groups(vl_frame *f, const vl_instruction *i, int64_t columns, int64_t of_group, int64_t *whole,
                       vl_requantising *finish, vl_block **block)
{
    int answer = vl_read_requantising(f, vl_in(f, i, 2), 1, vl_in(f, i, 3), vl_in(f, i, 4), vl_in(f, i, 5),
                                      vl_has_in(i, 6), vl_in(f, i, 6), columns, finish, block);
    *whole = (of_group + f->kernels->lanes - 1) / f->kernels->lanes * f->kernels->lanes;
    if (answer != VL_DONE || columns == of_group)
        return answer;
    const int64_t groups = columns / of_group, count = groups * *whole;
    vl_block *spread = vl_block_new(f, (size_t)count * (sizeof(float) + sizeof(int32_t)));
    if (!spread) {
        vl_block_drop(f, *block);
        return VL_NO_MEMORY;
    }
    float *steps = (float *)spread->data;
    int32_t *added = (int32_t *)(steps + count);
    memset(spread->data, 0, (size_t)count * (sizeof(float) + sizeof(int32_t)));
    for (int64_t g = 0; g < groups; g++) {
        memcpy(steps + g * *whole, finish->steps + g * of_group, (size_t)of_group * sizeof(float));
        memcpy(added + g * *whole, finish->added + g * of_group, (size_t)of_group * sizeof(int32_t));
    }
    vl_block_drop(f, *block);
    *block = spread;
    finish->steps = steps;
    finish->added = added;
    return VL_DONE;
}

/* What the input's zero point takes off each sum, into what is added to it. */
static void take_zero(const vl_call *call, vl_requantising *finish)
{
    const int64_t *ints = call->i->ints;
    void *const *objects = call->i->objects;
    if (ints[VL_BY_CHANNEL]) {
        vl_add_zero(finish, call->columns, objects[1], call->zero);
        return;
    }
    vl_requantising own = *finish;
    for (int64_t g = 0; g < ints[VL_GROUPS]; g++, own.added += call->whole) {
        vl_integer_matrix matrix;
        objects += vl_read_matrix(ints + VL_MATRICES + g * VL_MATRIX_INTS, objects, &matrix);
        vl_add_zero(&own, matrix.columns, matrix.sums, call->zero);
    }
}

/* Whether a sample is in memory as it would be copied. part: [channels, ...] */
static int lies_as_sample(const vl_call *call, const vl_tensor *part, int type)
{
    int64_t step = call->channels;
    int fine = type == VL_U8 && (call->channels == 1 || part->strides[0] == 1);
    for (int a = VL_SPATIAL - 1; a >= 0; a--) {
        fine &= call->padded[a] == call->in[a] && (call->in[a] == 1 || part->strides[1 + a] == step);
        step *= call->in[a];
    }
    return fine;
}

static int run(vl_frame *f, const vl_instruction *i, int requantised)
{
    const vl_tensor *x = vl_in(f, i, 0), *zero = vl_in(f, i, 1), *scale = requantised ? NULL : vl_in(f, i, 2);
    const int64_t *ints = i->ints;
    const int rank = (int)ints[VL_RANK];
    vl_call call = {
        .f = f, .i = i, .channels = ints[VL_GROUPS] * ints[VL_IN], .columns = ints[VL_GROUPS] * ints[VL_OUT]};
    if (!vl_is_bytes(x) || x->axes != 2 + rank || x->shape[1] != call.channels || call.columns == 0 ||
        call.channels == 0)
        return VL_DECLINED;
    if (vl_has_in(i, 1) && !vl_is_number(zero, x->type))
        return VL_DECLINED;
    if (!requantised && vl_has_in(i, 2) && (!vl_is_number(scale, VL_F32) || scale->axes > 1))
        return VL_DECLINED;
    vl_tensor source = *x, part = *x;
    for (int a = 0; a < VL_SPATIAL; a++) {
        int own = a - (VL_SPATIAL - rank);
        call.in[a] = own < 0 ? 1 : source.shape[2 + own];
        part.strides[1 + a] = own < 0 ? 0 : source.strides[2 + own];
    }
    part.strides[0] = source.strides[1];
    if (!place(&call, ints))
        return VL_DECLINED;
    int64_t shape[VL_MOST_AXES] = {source.shape[0], call.columns};
    int8_t order[VL_MOST_AXES] = {0};
    for (int a = 0; a < rank; a++) {
        shape[2 + a] = call.out[VL_SPATIAL - rank + a];
        order[1 + a] = (int8_t)(2 + a);
    }
    order[1 + rank] = 1;
    const int64_t sizes[4] = {call.padded[0], call.padded[1], call.padded[2], call.channels};
    if (vl_count(2 + rank, shape) < 0 || vl_count(4, sizes) < 0)
        return VL_DECLINED;
    vl_requantising finish;
    vl_block *steps = NULL;
    int type = VL_F32;
    if (requantised) {
        int answer = read_groups(f, i, call.columns, ints[VL_OUT], &call.whole, &finish, &steps);
        if (answer != VL_DONE)
            return answer;
        call.requantised = &finish;
        type = vl_in(f, i, 5)->type;
    }
    call.zero = (zero ? vl_byte_at(zero, 0) : 0) + (source.type == VL_I8 ? 128 : 0);
    call.scale = scale ? *(const float *)scale->data : 1;
    const int by_channel = (int)ints[VL_BY_CHANNEL];
    vl_integer_matrix matrix = {.depth = ints[VL_KERNEL] * ints[VL_KERNEL + 1] * ints[VL_KERNEL + 2]};
    int scaled = (ints[VL_MATRICES] & 2) != 0;
    call.tap_count = matrix.depth;
    /* channel by channel whole vectors are read, and of a run whole fours: behind the sample, too */
    int as_it_is = !by_channel;
    if (by_channel)
        call.whole = (call.columns + f->kernels->lanes - 1) / f->kernels->lanes * f->kernels->lanes;
    else {
        vl_read_matrix(ints + VL_MATRICES, i->objects, &matrix);
        scaled = matrix.scales != NULL;
        as_it_is = matrix.depth / matrix.runs % 4 == 0;
        call.tap_count = matrix.runs;
    }
    if (requantised)
        take_zero(&call, &finish);
    const int64_t pixels = call.out[0] * call.out[1] * call.out[2];
    int64_t members = pixels * call.columns * matrix.depth / f->limits->thread_byte_work + 1;
    members = members < f->threads ? members : f->threads;
    /* where the input lies as the sample would, it is one */
    as_it_is = as_it_is && lies_as_sample(&call, &part, source.type);
    const size_t own = as_it_is ? 0 : ((size_t)vl_count(4, sizes) + 64 + 63) & ~(size_t)63;
    const size_t rows = (size_t)members * VL_ROWS;
    vl_block *block =
        vl_block_new(f, own + (rows + (size_t)call.tap_count) * sizeof(ptrdiff_t) + (rows + VL_ROWS) * sizeof(int32_t));
    vl_tensor *out = NULL;
    if (!requantised && !scaled)
        type = VL_I32;
    call.element = (int64_t)vl_size_of(type);
    if (block)
        out = vl_new_in_order(f, i, 0, type, 2 + rank, shape, order);
    if (!out) {
        vl_block_drop(f, block);
        vl_block_drop(f, steps);
        return VL_NO_MEMORY;
    }
    call.sample = (uint8_t *)block->data;
    call.rows = (ptrdiff_t *)(call.sample + own);
    call.taps = call.rows + rows;
    call.sums = (int32_t *)(call.taps + call.tap_count);
    place_taps(&call, !by_channel && matrix.runs == ints[VL_KERNEL] * ints[VL_KERNEL + 1], call.taps);
    if (!requantised) {
        call.zeros = call.sums + rows;
        for (int r = 0; r < VL_ROWS; r++)
            call.zeros[r] = call.zero;
    }
    call.to = out->data;
    void (*const task)(void *, int, int) = by_channel ? convolve_by_channel : convolve;
    for (int64_t n = 0; n < shape[0] && pixels && !vl_has_ended(f->heed); n++) {
        part.data = source.data + n * source.strides[0];
        if (as_it_is)
            call.sample = (uint8_t *)part.data;
        else
            copy_sample(&call, &part);
        if (members == 1)
            task(&call, 0, 1);
        else
            f->parallel((int)members, task, &call, f->heed);
        call.to += pixels * call.columns * call.element;
    }
    vl_block_drop(f, steps);
    vl_block_drop(f, block);
    return VL_DONE;
}

/* x, its zero point or none, its scale or none -> int32, or float where the matrices have scales */
static int conv_integer(vl_frame *f, const vl_instruction *i) { return run(f, i, 0); }

/* x, its zero point, x's, w's and y's scales, y's zero point, bias (int32) or none */
static int qlinear_conv(vl_frame *f, const vl_instruction *i) { return run(f, i, 1); }

const vl_named_handler vl_integer_convolution_handlers[] = {
    {"conv_integer", conv_integer},
    {"qlinear_conv", qlinear_conv},
    {NULL, NULL},
};
