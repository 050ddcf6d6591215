/* MaxPool, of bytes too, AveragePool, and those over everything, channels last. */
#include "program.h"

enum { VL_POOL_AXES = 3 };

/* In how many windows an element may be on average: each looks at it anew here. The Python operator, which makes long
 * windows of short ones, takes a time that grows with their logarithm. */
enum { VL_MOST_WINDOWS = 256 };

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
    char *scratch;                              /* of each member: offsets of taps, of rows of x and of the output */
    int64_t taps;
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

static size_t scratch_bytes(const vl_pooling *pooling)
{
    return ((size_t)(pooling->taps + 2 * pooling->steps[2]) * sizeof(ptrdiff_t) + 63) & ~(size_t)63;
}

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

static void pool_rows(void *context, int member, int members)
{
    const vl_pooling *pooling = context;
    ptrdiff_t *taps = (ptrdiff_t *)(pooling->scratch + (size_t)member * scratch_bytes(pooling)),
              *x_rows = taps + pooling->taps;
    ptrdiff_t *out_rows = x_rows + pooling->steps[2];
    const int64_t rows = pooling->samples * pooling->steps[0] * pooling->steps[1], width = pooling->steps[2];
    for (int64_t row = rows * member / members; row < rows * (member + 1) / members && !vl_shall_end(pooling->heed);
         row++) {
        int64_t y = row % pooling->steps[1], z = row / pooling->steps[1] % pooling->steps[0],
                n = row / pooling->steps[1] / pooling->steps[0];
        int64_t place[VL_POOL_AXES] = {z, y, 0}, first[VL_POOL_AXES], count[VL_POOL_AXES], counted = 1;
        for (int a = 0; a < 2; a++) {
            int64_t ignored, own;
            reach(pooling, a, place[a], 0, pooling->size[a], &first[a], &count[a]);
            reach(pooling, a, place[a], -pooling->before[a], pooling->size[a] + pooling->after[a], &ignored, &own);
            counted *= pooling->count_pads ? own : count[a];
        }
        const char *x = pooling->x + n * pooling->sample * pooling->item;
        char *out = pooling->out + row * width * pooling->channels * pooling->item;
        for (int64_t i = 0, end; i < width; i = end) { /* places that have the same elements of the kernel */
            int64_t ignored, own, own_counted, next_first, next_count;
            reach(pooling, 2, i, 0, pooling->size[2], &first[2], &count[2]);
            reach(pooling, 2, i, -pooling->before[2], pooling->size[2] + pooling->after[2], &ignored, &own_counted);
            for (end = i + 1; end < width; end++) {
                reach(pooling, 2, end, 0, pooling->size[2], &next_first, &next_count);
                reach(pooling, 2, end, -pooling->before[2], pooling->size[2] + pooling->after[2], &ignored, &own);
                if (next_first != first[2] || next_count != count[2] || own != own_counted)
                    break;
            }
            ptrdiff_t t = 0;
            for (int64_t a = 0; a < count[0]; a++)
                for (int64_t b = 0; b < count[1]; b++)
                    for (int64_t c = 0; c < count[2]; c++) {
                        int64_t at[VL_POOL_AXES] = {first[0] + a, first[1] + b, first[2] + c}, offset = 0;
                        for (int k = 0; k < VL_POOL_AXES; k++)
                            offset += ((k < 2 ? place[k] * pooling->step[k] : 0) - pooling->before[k] +
                                       at[k] * pooling->dilation[k]) *
                                      pooling->strides[k];
                        taps[t++] = offset;
                    }
            for (int64_t k = i; k < end; k++) {
                x_rows[k - i] = k * pooling->step[2] * pooling->strides[2];
                out_rows[k - i] = k * pooling->channels;
            }
            void (*kernel)(const vl_pool *) = pooling->kernels->pool;
            if (pooling->item == 1)
                kernel = pooling->is_signed ? greatest_signed : greatest_unsigned;
            kernel(&(vl_pool){
                .rows = end - i,
                .taps = t,
                .channels = pooling->channels,
                .x_rows = x_rows,
                .x_taps = taps,
                .out_rows = out_rows,
                .x = x,
                .out = out,
                .divisor = pooling->greatest ? 0 : (double)(counted * (pooling->count_pads ? own_counted : count[2]))});
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
        for (int64_t q = 0; q < pooling.steps[a]; q++) { /* a window of nothing but pads */
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
    scratch = vl_block_new(f, (size_t)members * scratch_bytes(&pooling));
    int status = VL_NO_MEMORY;
    if (out && scratch) {
        pooling.x = last.data;
        pooling.out = out->data;
        pooling.scratch = scratch->data;
        pooling.sample = last.strides[0] / item;
        for (int a = 0; a < VL_POOL_AXES; a++)
            pooling.strides[a] = a < missing ? 0 : last.strides[2 + a - missing] / item;
        if (count && members > 1)
            f->parallel(members, pool_rows, &pooling, f->heed);
        else if (count)
            pool_rows(&pooling, 0, 1);
        status = VL_DONE;
    }
    vl_block_drop(f, scratch);
    vl_block_drop(f, copied);
    return status;
}

const vl_named_handler vl_pool_handlers[] = {{"pool", pool}, {NULL, NULL}};
