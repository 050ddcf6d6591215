/* Softmax over an axis and the norms of rows, of float32 and float64; those of channels and groups of channels, of
 * float32. */
#include "program.h"

#include <math.h>


/* Whether the tensor has no gaps in the order in which its axes lie. */
static int is_dense(const vl_tensor *t, const int8_t *order)
{
    int64_t step = (int64_t)vl_size_of(t->type);
    for (int k = t->axes - 1; k >= 0; k--) {
        int a = order[k];
        if (t->shape[a] != 1 && t->strides[a] != step)
            return 0;
        step *= t->shape[a];
    }
    return 1;
}

/* Whether it is of this type, float32 or float64, and aligned. */
static int is_of(const vl_tensor *t, int type)
{
    return t && t->type == type && (type == VL_F32 || type == VL_F64) && (uintptr_t)t->data % vl_size_of(type) == 0;
}

static int is_number(const vl_tensor *t) { return is_of(t, VL_F32); }

/* ---- softmax ------------------------------------------------------------------------------------------ */

typedef struct {
    const vl_kernels *kernels;
    vl_softmax s;                       /* of all rows, or of one of `outer` blocks */
    int64_t outer, block, each;         /* each: bytes of an element */
} vl_softmax_walk;

static void member_softmax(void *context, int member, int members)
{
    const vl_softmax_walk *walk = context;
    vl_softmax s = walk->s;
    int64_t whole = s.of_rows ? s.rows : walk->outer, begin = whole * member / members,
            end = whole * (member + 1) / members;
    if (s.of_rows && begin < end) {
        s.x = (const char *)s.x + begin * s.ld * walk->each;
        s.out = (char *)s.out + begin * s.ld_out * walk->each;
        s.rows = end - begin;
        walk->kernels->softmax(&s);
        return;
    }
    for (int64_t k = begin; k < end; k++) {
        s.x = (const char *)walk->s.x + k * walk->block * walk->each;
        s.out = (char *)walk->s.out + k * walk->block * walk->each;
        walk->kernels->softmax(&s);
    }
}

/* "softmax": ints: axis, whether it is over all axes from there on, whether its logarithm is wanted. */
static int softmax(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int flattened = (int)i->ints[1];
    if (!t || !is_of(t, t->type))
        return VL_DECLINED;
    const int type = t->type;
    const int64_t n = vl_count(t->axes, t->shape);
    int axis = t->axes == 0 && (i->ints[0] == 0 || i->ints[0] == -1) ? 0 : vl_axis(i->ints[0], t->axes);
    if (flattened && i->ints[0] == t->axes)
        return VL_DECLINED;
    if (n <= 0 || axis < 0)
        return VL_DECLINED;

    vl_tensor copy = {.block = NULL}, from = *t;
    int8_t order[VL_MOST_AXES];
    vl_order_of(&from, order);
    if (flattened ? !vl_is_contiguous(&from) : !is_dense(&from, order)) {
        const vl_tensor *dense = vl_contiguous(f, t, &copy);
        if (!dense)
            return VL_NO_MEMORY;
        from = *dense;
        vl_order_of(&from, order);
    }
    int64_t outer = 1, size = 1, inner = 1;
    for (int k = 0, seen = 0; k < from.axes; k++) {
        int a = order[k];
        if (flattened ? a >= axis : a == axis) {
            size *= from.shape[a];
            seen = 1;
        } else
            *(seen ? &inner : &outer) *= from.shape[a];
    }
    vl_tensor *out = vl_new_in_order(f, i, 0, type, from.axes, from.shape, order);
    if (out) {
        vl_softmax_walk walk = {.kernels = vl_kernels_for(f, type),
                                .outer = outer,
                                .block = size * inner,
                                .each = (int64_t)vl_size_of(type)};
        walk.s = (vl_softmax){.of_rows = inner == 1, .log = (int)i->ints[2], .x = from.data, .out = out->data};
        walk.s.rows = inner == 1 ? outer : size;
        walk.s.columns = inner == 1 ? size : inner;
        walk.s.ld = walk.s.ld_out = walk.s.columns;
        const int members = n >= f->limits->norm_thread_work && outer > 1 ? f->threads : 1;
        vl_run_pieces(f, members, vl_piece_count(f, members, 4 * n), member_softmax, &walk);
    }
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

/* ---- norms of rows ------------------------------------------------------------------------------------- */

typedef struct {
    const vl_kernels *kernels;
    vl_norm s;
    int64_t each;                       /* bytes of an element */
} vl_norm_walk;

static void member_norm(void *context, int member, int members)
{
    const vl_norm_walk *walk = context;
    vl_norm s = walk->s;
    int64_t begin = s.rows * member / members, end = s.rows * (member + 1) / members;
    if (begin == end)
        return;
    const int64_t each = walk->each;
    s.x = (const char *)s.x + begin * s.ld * each;
    s.out = (char *)s.out + begin * s.columns * each;
    s.mean = s.mean ? (char *)s.mean + begin * each : NULL;
    s.inverse = s.inverse ? (char *)s.inverse + begin * each : NULL;
    s.rows = end - begin;
    walk->kernels->norm(&s);
}

/* Whether a parameter is one number for each element of the axes from `axis` on. */
static int is_of_row(const vl_tensor *p, const vl_tensor *t, int axis)
{
    if (!is_of(p, t->type) || !vl_is_contiguous(p))
        return 0;
    int own = 0;
    while (own < p->axes && p->axes - own > t->axes - axis && p->shape[own] == 1)
        own++;
    if (p->axes - own != t->axes - axis || p->axes > t->axes)
        return 0;
    for (; own < p->axes; own++, axis++)
        if (p->shape[own] != t->shape[axis])
            return 0;
    return 1;
}

/* "row_norm": ints: axis, whether the mean is taken off; floats: epsilon. Inputs: x, scale, bias or none; outputs: y,
 * means, inverse deviations. Over all axes from `axis` on. */
static int row_norm(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0), *scale = vl_in(f, i, 1), *bias = vl_in(f, i, 2);
    if (!t || !is_of(t, t->type))
        return VL_DECLINED;
    const int type = t->type;
    const int axis = vl_axis(i->ints[0], t->axes);
    const int64_t n = vl_count(t->axes, t->shape);
    if (axis < 0 || n <= 0 || !is_of_row(scale, t, axis) || (vl_has_in(i, 2) && !is_of_row(bias, t, axis)))
        return VL_DECLINED;
    const char *scales = scale->data, *biases = bias ? bias->data : NULL;
    int64_t rows = 1, means[VL_MOST_AXES];
    for (int a = 0; a < t->axes; a++) {
        means[a] = a < axis ? t->shape[a] : 1;
        rows *= means[a];
    }
    vl_tensor copy, *out, *mean = NULL, *inverse = NULL;
    const vl_tensor *from = vl_contiguous(f, t, &copy);
    if (!from)
        return VL_NO_MEMORY;
    const vl_tensor x = *from;
    out = vl_new(f, i, 0, type, x.axes, x.shape);
    int fits = out != NULL;
    if (fits && vl_wants(i, 1))
        fits = (mean = vl_new(f, i, 1, type, x.axes, means)) != NULL;
    if (fits && vl_wants(i, 2))
        fits = (inverse = vl_new(f, i, 2, type, x.axes, means)) != NULL;
    if (fits) {
        vl_norm_walk walk = {.kernels = vl_kernels_for(f, type), .each = (int64_t)vl_size_of(type)};
        walk.s = (vl_norm){.rows = rows,
                           .columns = n / rows,
                           .ld = n / rows,
                           .centred = (int)i->ints[1],
                           .epsilon = i->floats[0],
                           .x = x.data,
                           .scale = scales,
                           .bias = biases,
                           .out = out->data,
                           .mean = mean ? mean->data : NULL,
                           .inverse = inverse ? inverse->data : NULL};
        const int members = n >= f->limits->norm_thread_work && rows > 1 ? f->threads : 1;
        vl_run_pieces(f, members, vl_piece_count(f, members, 4 * n), member_norm, &walk);
    }
    vl_block_drop(f, copy.block);
    return fits ? VL_DONE : VL_NO_MEMORY;
}

/* ---- norms of channels ----------------------------------------------------------------------------------- */

typedef struct {
    const vl_kernels *kernels;
    const float *x, *scale, *bias;
    float *out, *memory;                /* memory: three vectors of C for each sample */
    int64_t samples, channels, groups, pixels;
    float epsilon;
    int channels_last, of_groups;       /* of_groups: scale and bias have an element a group */
} vl_channel_norm;

/* The statistics of one sample's channels: mean, and what (x - mean) is multiplied with. */
static void channel_statistics(const vl_channel_norm *norm, const float *x, float *mean, float *factor)
{
    const int64_t each = norm->channels / norm->groups, n = each * norm->pixels;
    vl_reduction s = {.x = x, .out = mean};
    if (norm->channels_last) {
        s.rows = norm->pixels;
        s.columns = s.ld = norm->channels;
    } else {
        s.of_rows = 1;
        s.rows = norm->groups;
        s.columns = s.ld = n;
    }
    for (int squares = 0; squares < 2; squares++) {
        float *sums = squares ? factor : mean;
        s.kind = squares ? VL_SUM_CENTRED_SQUARES : VL_SUM;
        s.shift = squares ? mean : NULL;
        s.out = sums;
        if (squares && !norm->channels_last) /* a group's rows, not the channels' */
            for (int64_t g = 0; g < norm->groups; g++) {
                vl_reduction one = s;
                one.rows = 1;
                one.x = x + g * n;
                one.shift = mean + g * each;
                one.out = factor + g;
                norm->kernels->reduce(&one);
            }
        else
            norm->kernels->reduce(&s);
        for (int64_t g = norm->groups - 1; g >= 0; g--) { /* from the last: channels spread out to the right */
            double total = 0;
            if (norm->channels_last)
                for (int64_t c = 0; c < each; c++)
                    total += sums[g * each + c];
            else
                total = sums[g];
            float value = (float)(total / (double)n);
            if (squares)
                value = 1 / sqrtf(value + norm->epsilon);
            for (int64_t c = 0; c < each; c++)
                sums[g * each + c] = value;
        }
    }
}

static void member_channels(void *context, int member, int members)
{
    const vl_channel_norm *norm = context;
    const int64_t size = norm->channels * norm->pixels, each = norm->channels / norm->groups;
    for (int64_t k = norm->samples * member / members; k < norm->samples * (member + 1) / members; k++) {
        float *mean = norm->memory + 3 * k * norm->channels, *factor = mean + norm->channels,
              *offset = factor + norm->channels;
        channel_statistics(norm, norm->x + k * size, mean, factor);
        for (int64_t c = 0; c < norm->channels; c++) {
            int64_t own = norm->of_groups ? c / each : c;
            factor[c] *= norm->scale[own];
            offset[c] = norm->bias[own];
        }
        const int64_t row = norm->channels_last ? 0 : 1, column = norm->channels_last ? 1 : 0;
        const vl_chain_array arrays[] = {
            {(void *)(norm->x + k * size), norm->channels_last ? norm->channels : norm->pixels, 1, 0},
            {mean, row, column, 0},
            {factor, row, column, 0},
            {offset, row, column, 0},
            {norm->out + k * size, norm->channels_last ? norm->channels : norm->pixels, 1, 0}};
        static const int64_t micro[] = {VL_MICRO(VL_MICRO_subtract, 5, 0, 1, 0),
                                        VL_MICRO(VL_MICRO_multiply_add, 4, 5, 2, 3)};
        const vl_chain c = {.rows = norm->channels_last ? norm->pixels : norm->channels,
                            .columns = norm->channels_last ? norm->channels : norm->pixels,
                            .operands = 4,
                            .results = 1,
                            .scratch = 1,
                            .micros = 2,
                            .arrays = arrays,
                            .micro = micro};
        norm->kernels->chain(&c);
    }
}

/* "channel_norm": ints: groups of channels (0: each is one), whether scale and bias have an element a group; floats:
 * epsilon. Inputs: x [N, C, ...], scale, bias. */
static int channel_norm(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0), *scale = vl_in(f, i, 1), *bias = vl_in(f, i, 2);
    if (!is_number(t) || !is_number(scale) || !is_number(bias) || t->axes < 3)
        return VL_DECLINED;
    const int64_t n = vl_count(t->axes, t->shape), channels = t->shape[1];
    const int64_t groups = i->ints[0] ? i->ints[0] : channels, parameters = i->ints[1] ? groups : channels;
    if (n <= 0 || groups < 1 || channels % groups || scale->axes != 1 || bias->axes != 1 ||
        scale->shape[0] != parameters || bias->shape[0] != parameters || !vl_is_contiguous(scale) ||
        !vl_is_contiguous(bias))
        return VL_DECLINED;
    vl_tensor copy = {.block = NULL}, from = *t;
    int8_t order[VL_MOST_AXES];
    vl_order_of(&from, order);
    int channels_last =
        !vl_is_contiguous(&from) && is_dense(&from, order) && order[0] == 0 && order[from.axes - 1] == 1;
    if (!channels_last && !vl_is_contiguous(&from)) {
        const vl_tensor *dense = vl_contiguous(f, t, &copy);
        if (!dense)
            return VL_NO_MEMORY;
        from = *dense;
    }
    if (!channels_last)
        for (int a = 0; a < from.axes; a++)
            order[a] = (int8_t)a;
    vl_channel_norm norm = {.kernels = f->kernels,
                            .x = (const float *)from.data,
                            .scale = (const float *)scale->data,
                            .bias = (const float *)bias->data,
                            .samples = from.shape[0],
                            .channels = channels,
                            .groups = groups,
                            .pixels = n / from.shape[0] / channels,
                            .epsilon = i->floats[0],
                            .channels_last = channels_last,
                            .of_groups = (int)i->ints[1]};
    vl_block *memory = vl_block_new(f, (size_t)(3 * norm.samples * channels) * sizeof(float));
    vl_tensor *out = memory ? vl_new_in_order(f, i, 0, VL_F32, from.axes, from.shape, order) : NULL;
    if (out) {
        norm.memory = (float *)memory->data;
        norm.out = (float *)out->data;
        const int members = n >= f->limits->norm_thread_work && norm.samples > 1 ? f->threads : 1;
        vl_run_pieces(f, members, vl_piece_count(f, members, 4 * n), member_channels, &norm);
    }
    vl_block_drop(f, memory);
    vl_block_drop(f, copy.block);
    return out ? VL_DONE : VL_NO_MEMORY;
}

const vl_named_handler vl_norm_handlers[] = {
    {"softmax", softmax}, {"row_norm", row_norm}, {"channel_norm", channel_norm}, {NULL, NULL}};
