/* MaxPool, of bytes too, AveragePool, and those over everything, channels last. */
#include "program.h"

enum { VL_POOL_AXES = 3 };

/* In how many windows an element may be on average: each looks at it anew here. The Python operator, which makes long
 * windows of short ones, takes a time that grows with their logarithm. */
enum { VL_MOST_WINDOWS = 256 };

/* Neighbours on the last axis whose windows have the same elements of the kernel: places [from, to), elements
 * [first, first + count), of which an average counts `counted`. */
typedef struct {
    int64_t from, to, first, count, counted;
} vl_alike;

typedef struct {
    const vl_kernels *kernels;
    vl_heed *heed;
    const char *x;
    char *out;
    int64_t item;                               /* bytes of an element */
    int is_signed;                              /* of a single byte */
    int64_t samples, channels, sample;          /* elements from sample to sample of x */
    int64_t size[VL_POOL_AXES], strides[VL_POOL_AXES]; /* of x; in elements */
    int64_t steps[VL_POOL_AXES];                /* of the output */
    int64_t kernel[VL_POOL_AXES], step[VL_POOL_AXES], dilation[VL_POOL_AXES];
    int64_t before[VL_POOL_AXES], after[VL_POOL_AXES];
    int greatest, count_pads;
    int64_t taps;
    /* What all rows of the output share: its pieces, and where each place reads and writes. */
    vl_alike *alike;
    int64_t alike_count;
    ptrdiff_t *x_rows, *out_rows;
    int parted;                                 /* first the kernel's rows over a whole row of x, then its columns */
    size_t line_bytes;                          /* of such a row; 0: not parted */
    char *scratch;                              /* of each member: offsets of taps, the line */
} vl_pooling;

/* The kernel's elements of place q that lie in [low, high): from *first, *count of them. */
static void reach(const vl_pooling *pooling, int axis, int64_t q, int64_t low, int64_t high, int64_t *first,
                  int64_t *count)
{
    int64_t start = q * pooling->step[axis] - pooling->before[axis], d = pooling->dilation[axis],
            k = pooling->kernel[axis];
    int64_t from = start >= low ? 0 : (low - start + d - 1) / d;
    int64_t to = start >= high ? 0 : (high - start + d - 1) / d;
    if (to > k)
        to = k;
    *first = from;
    *count = to > from ? to - from : 0;
}

static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }
static size_t taps_bytes(const vl_pooling *pooling) { return aligned((size_t)pooling->taps * sizeof(ptrdiff_t)); }
static size_t shared_bytes(const vl_pooling *pooling)
{
    return aligned((size_t)pooling->steps[2] * (sizeof(vl_alike) + 2 * sizeof(ptrdiff_t)));
}
static size_t scratch_bytes(const vl_pooling *pooling) { return taps_bytes(pooling) + pooling->line_bytes; }

#define VL_GREATEST(name, type)                                                                                        \
    static void name(const vl_pool *p)                                                                                 \
    {                                                                                                                  \
        for (ptrdiff_t r = 0; r < p->rows; r++) {                                                                      \
            const type *x = (const type *)p->x + p->x_rows[r];                                                         \
            type *restrict out = (type *)p->out + p->out_rows[r];                                                      \
            memcpy(out, x + p->x_taps[0], (size_t)p->channels);                                                        \
            for (ptrdiff_t t = 1; t < p->taps; t++) {                                                                  \
                const type *own = x + p->x_taps[t];                                                                    \
                for (ptrdiff_t c = 0; c < p->channels; c++)                                                            \
                    out[c] = own[c] > out[c] ? own[c] : out[c];                                                        \
            }                                                                                                          \
        }                                                                                                              \
    }
VL_GREATEST(greatest_unsigned, uint8_t)
VL_GREATEST(greatest_signed, int8_t)

/* What all rows share. */
static void describe_columns(vl_pooling *pooling)
{
    const int64_t width = pooling->steps[2];
    pooling->alike_count = 0;
    for (int64_t i = 0; i < width; i++) {
        vl_alike own = {.from = i, .to = i + 1}, *last = pooling->alike + (i > 0 ? pooling->alike_count - 1 : 0);
        int64_t ignored;
        reach(pooling, 2, i, 0, pooling->size[2], &own.first, &own.count);
        reach(pooling, 2, i, -pooling->before[2], pooling->size[2] + pooling->after[2], &ignored, &own.counted);
        if (!pooling->count_pads)
            own.counted = own.count;
        if (i > 0 && last->first == own.first && last->count == own.count && last->counted == own.counted)
            last->to = own.to;
        else
            pooling->alike[pooling->alike_count++] = own;
        pooling->x_rows[i] = i * pooling->step[2] * pooling->strides[2];
        pooling->out_rows[i] = i * pooling->channels;
    }
}

/* A kernel's rows and then its columns, by which an element is looked at less often; each pass over a whole row of x
 * leaves no lanes idle, where few channels would. Channels of such a row are pixels and channels of x. */
static int in_parts(const vl_pooling *pooling, const vl_tensor *last)
{
    const double lanes = pooling->item == 1 ? 16 : pooling->kernels->lanes, channels = (double)pooling->channels;
    const double rows = (double)(pooling->kernel[0] * pooling->kernel[1]), columns = (double)pooling->kernel[2],
                 steps = (double)pooling->steps[2], width = (double)pooling->size[2];
    const int64_t stride = last->strides[last->axes - 1] / pooling->item;
    const int joined = pooling->step[2] == 1 && pooling->item != 1;
    const double vectors =
        joined ? channels / lanes : (double)((pooling->channels + (int64_t)lanes - 1) / (int64_t)lanes);
    const double at_once = rows * columns * steps * vectors,
                 by_parts = (rows + 1) * width * channels / lanes + columns * steps * vectors;
    return rows > 1 && stride == pooling->channels && by_parts < at_once;
}

static void run_kernel(const vl_pooling *pooling, const vl_pool *p)
{
    if (pooling->item != 1)
        pooling->kernels->pool(p);
    else if (pooling->is_signed)
        greatest_signed(p);
    else
        greatest_unsigned(p);
}

static void pool_rows(void *context, int member, int members)
{
    const vl_pooling *pooling = context;
    char *scratch = pooling->scratch + (size_t)member * scratch_bytes(pooling), *line = scratch + taps_bytes(pooling);
    ptrdiff_t *taps = (ptrdiff_t *)scratch;
    const ptrdiff_t zero = 0;
    const int64_t rows = pooling->samples * pooling->steps[0] * pooling->steps[1], width = pooling->steps[2];
    for (int64_t row = rows * member / members; row < rows * (member + 1) / members && !vl_shall_end(pooling->heed);
         row++) {
        int64_t y = row % pooling->steps[1], z = row / pooling->steps[1] % pooling->steps[0],
                n = row / pooling->steps[1] / pooling->steps[0];
        int64_t place[2] = {z, y}, first[2], count[2], counted = 1, offset = 0;
        for (int a = 0; a < 2; a++) {
            int64_t ignored, own;
            reach(pooling, a, place[a], 0, pooling->size[a], &first[a], &count[a]);
            reach(pooling, a, place[a], -pooling->before[a], pooling->size[a] + pooling->after[a], &ignored, &own);
            counted *= pooling->count_pads ? own : count[a];
            offset += (place[a] * pooling->step[a] - pooling->before[a] + first[a] * pooling->dilation[a]) *
                      pooling->strides[a];
        }
        const char *x = pooling->x + (n * pooling->sample + offset) * pooling->item;
        char *out = pooling->out + row * width * pooling->channels * pooling->item;
        ptrdiff_t t = 0;
        if (pooling->parted) {
            for (int64_t a = 0; a < count[0]; a++)
                for (int64_t b = 0; b < count[1]; b++)
                    taps[t++] =
                        a * pooling->dilation[0] * pooling->strides[0] + b * pooling->dilation[1] * pooling->strides[1];
            run_kernel(pooling, &(vl_pool){.rows = 1,
                                           .taps = t,
                                           .channels = pooling->size[2] * pooling->channels,
                                           .x_rows = &zero,
                                           .x_taps = taps,
                                           .out_rows = &zero,
                                           .x = x,
                                           .out = line,
                                           .divisor = pooling->greatest ? 0 : 1});
            x = line;
            count[0] = count[1] = 1;
        }
        for (int64_t k = 0; k < pooling->alike_count; k++) {
            const vl_alike *own = &pooling->alike[k];
            t = 0;
            for (int64_t a = 0; a < count[0]; a++)
                for (int64_t b = 0; b < count[1]; b++)
                    for (int64_t c = own->first; c < own->first + own->count; c++)
                        taps[t++] = a * pooling->dilation[0] * pooling->strides[0] +
                                    b * pooling->dilation[1] * pooling->strides[1] +
                                    (c * pooling->dilation[2] - pooling->before[2]) * pooling->strides[2];
            run_kernel(pooling, &(vl_pool){.rows = own->to - own->from,
                                           .taps = t,
                                           .channels = pooling->channels,
                                           .x_rows = pooling->x_rows + own->from,
                                           .x_taps = taps,
                                           .out_rows = pooling->out_rows + own->from,
                                           .x = x,
                                           .out = out,
                                           .divisor = pooling->greatest ? 0 : (double)(counted * own->counted)});
        }
    }
}

/* How many places the window has on an axis; negative where the input is too small. pads: auto_pad is applied. */
static int64_t places_of(vl_pooling *pooling, int axis, int64_t auto_pad, int ceil_mode)
{
    const int64_t size = pooling->size[axis], stride = pooling->step[axis],
                  span = (pooling->kernel[axis] - 1) * pooling->dilation[axis] + 1;
    if (auto_pad) {
        int64_t total = ((size + stride - 1) / stride - 1) * stride + span - size, less;
        if (total < 0)
            total = 0;
        less = total / 2;
        pooling->before[axis] = auto_pad == 1 ? less : total - less;
        pooling->after[axis] = total - pooling->before[axis];
        ceil_mode = 0;
    }
    int64_t room = size + pooling->before[axis] + pooling->after[axis] - span;
    if (room < 0)
        return -1;
    if (!ceil_mode)
        return room / stride + 1;
    int64_t count = (room + stride - 1) / stride + 1;
    return (count - 1) * stride >= size + pooling->before[axis] ? count - 1 : count;
}

/* "pool": x; ints: the number of spatial axes, or 0: all that there are, over everything; whether the greatest, else the
 * average; auto_pad (0: none, 1: SAME_UPPER, 2: SAME_LOWER); ceil_mode; count_include_pad; then for three axes each
 * (leading ones have kernels and strides of 1) kernel, strides, dilations, pads before, pads after. */
static int pool(vl_frame *f, const vl_instruction *i)
{
    const int64_t *ints = i->ints;
    const vl_tensor *x = vl_in(f, i, 0);
    const int64_t item = x ? (int64_t)vl_size_of(x->type) : 0;
    const int is_byte = x && (x->type == VL_U8 || x->type == VL_I8);
    const int whole = ints[0] == 0, rank = whole && x ? x->axes - 2 : (int)ints[0];
    if (!x || (x->type != VL_F32 && !(is_byte && ints[1])) || rank < 1 || rank > VL_POOL_AXES || x->axes != 2 + rank ||
        (uintptr_t)x->data % (size_t)item)
        return VL_DECLINED;
    const int missing = VL_POOL_AXES - rank;
    vl_pooling pooling = {.kernels = f->kernels,
                          .heed = f->heed,
                          .samples = x->shape[0],
                          .channels = x->shape[1],
                          .item = item,
                          .is_signed = x->type == VL_I8,
                          .greatest = (int)ints[1],
                          .count_pads = (int)ints[4],
                          .taps = 1};
    const int empty = !x->shape[0] || !x->shape[1]; /* in however many places */
    int64_t shape[VL_MOST_AXES] = {x->shape[0], x->shape[1]};
    int8_t order[VL_MOST_AXES] = {0};
    for (int a = 0; a < VL_POOL_AXES; a++) {
        int own = 2 + a - missing;
        pooling.size[a] = a < missing ? 1 : x->shape[own];
        pooling.kernel[a] = whole ? pooling.size[a] : ints[5 + a];
        pooling.step[a] = whole ? 1 : ints[8 + a];
        pooling.dilation[a] = whole ? 1 : ints[11 + a];
        pooling.before[a] = whole ? 0 : ints[14 + a];
        pooling.after[a] = whole ? 0 : ints[17 + a];
        pooling.steps[a] = pooling.size[a] ? places_of(&pooling, a, ints[2], (int)ints[3]) : -1;
        if (pooling.steps[a] < 0 || __builtin_mul_overflow(pooling.taps, pooling.kernel[a], &pooling.taps) ||
            pooling.taps > 1 << 24)
            return VL_DECLINED;
        for (int64_t q = 0; q < pooling.steps[a] && !empty; q++) { /* a window of nothing but pads */
            int64_t first, count;
            reach(&pooling, a, q, 0, pooling.size[a], &first, &count);
            if (!count)
                return VL_DECLINED;
        }
        if (a >= missing) {
            shape[own] = pooling.steps[a];
            order[own - 1] = (int8_t)own;
        }
    }
    const double places = (double)pooling.steps[0] * (double)pooling.steps[1] * (double)pooling.steps[2];
    if (places * (double)pooling.taps >
        VL_MOST_WINDOWS * (double)pooling.size[0] * (double)pooling.size[1] * (double)pooling.size[2])
        return VL_DECLINED;
    order[1 + rank] = 1;
    const int64_t count = vl_count(2 + rank, shape);
    if (count < 0)
        return VL_DECLINED;
    if (!count)
        return vl_new_in_order(f, i, 0, x->type, 2 + rank, shape, order) ? VL_DONE : VL_NO_MEMORY;

    /* channels last: what is not is copied */
    vl_tensor last = *x, *out;
    int64_t step = item;
    for (int k = 1 + rank; k >= 0; k--) {
        last.strides[order[k]] = step;
        step *= x->shape[order[k]] > 0 ? x->shape[order[k]] : 1;
    }
    int readable = x->shape[1] == 1 || x->strides[1] == item;
    for (int a = 0; a < x->axes; a++)
        readable &= x->shape[a] == 1 || x->strides[a] % item == 0;
    vl_block *copied = NULL, *scratch = NULL;
    if (readable)
        last = *x;
    else {
        copied = vl_block_new(f, (size_t)step);
        if (!copied)
            return VL_NO_MEMORY;
        last.data = copied->data;
        vl_copy(f, &last, x);
    }
    int members = 1;
    if (f->threads > 1 && count * pooling.taps >= f->limits->pool_thread_work)
        members = f->threads;
    const int type = last.type;
    out = vl_new_in_order(f, i, 0, type, 2 + rank, shape, order);
    if (in_parts(&pooling, &last)) {
        pooling.parted = 1;
        pooling.line_bytes = aligned((size_t)(pooling.size[2] * pooling.channels * item));
    }
    scratch = vl_block_new(f, shared_bytes(&pooling) + (size_t)members * scratch_bytes(&pooling));
    int status = VL_NO_MEMORY;
    if (out && scratch) {
        pooling.x = last.data;
        pooling.out = out->data;
        pooling.alike = (vl_alike *)scratch->data;
        pooling.x_rows = (ptrdiff_t *)(pooling.alike + pooling.steps[2]);
        pooling.out_rows = pooling.x_rows + pooling.steps[2];
        pooling.scratch = scratch->data + shared_bytes(&pooling);
        pooling.sample = last.strides[0] / item;
        for (int a = 0; a < VL_POOL_AXES; a++)
            pooling.strides[a] = a < missing ? 0 : last.strides[2 + a - missing] / item;
        describe_columns(&pooling);
        if (members > 1)
            f->parallel(members, pool_rows, &pooling, f->heed);
        else
            pool_rows(&pooling, 0, 1);
        status = VL_DONE;
    }
    vl_block_drop(f, scratch);
    vl_block_drop(f, copied);
    return status;
}

const vl_named_handler vl_pool_handlers[] = {{"pool", pool}, {NULL, NULL}};
