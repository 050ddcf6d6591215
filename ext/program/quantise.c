/* Numbers to bytes and back, rounded as the Python operators round, and bytes by a table. */
#include "integer.h"

#include <math.h>

void vl_dynamic_scale(const float *bounds, float *scale, float *zero)
{
    float low = bounds[0] < 0 ? bounds[0] : 0, high = bounds[1] > 0 ? bounds[1] : 0;
    *scale = 1;
    *zero = 0;
    if (bounds[0] != bounds[0] || !isfinite((high - low) / 255))
        *scale = NAN;
    else if (high > low && (high - low) / 255 > 0) { /* not flushed to 0 */
        *scale = (high - low) / 255;
        *zero = fminf(rintf(-low / *scale), 255);
    }
}

/* ChooseQuantizationParams of torch's aten/src/ATen/native/quantized/cpu/QuantUtils.h: what is computed in double there
 * is here, and what is float there. */
void vl_torchs_scale(const float *bounds, int64_t steps, vl_quantising *quantising)
{
    static const float smallest = 6.1e-5f; /* SMALL_SCALE_THRESHOLD */
    float low = bounds[0] < 0 ? bounds[0] : 0, high = bounds[1] > 0 ? bounds[1] : 0;
    double scale = ((double)high - low) / (double)steps;
    if ((float)scale == 0 || isinf(1 / (float)scale))
        scale = 0.1;
    if (scale < smallest) {
        float larger = smallest / (float)scale;
        if (low == 0)
            high = smallest * (float)steps;
        else if (high == 0)
            low = -smallest * (float)steps;
        else
            low *= larger, high *= larger;
        scale = smallest;
    }
    double from_low = -low / scale, from_high = (double)steps - high / scale;
    double zero = -fabs(low / scale) < (double)steps - fabs(high / scale) ? from_low : from_high;
    quantising->scale = bounds[0] != bounds[0] || !isfinite(scale) ? NAN : (float)scale;
    quantising->inverse = 1 / quantising->scale;
    quantising->zero = (float)(zero >= 0 ? fmin(nearbyint(zero), (double)steps) : 0);
    quantising->low = 0;
    quantising->high = 255;
}

/* Elements without gaps or repetition, in any order of axes */
static int is_dense(const vl_tensor *t)
{
    int8_t order[VL_MOST_AXES];
    vl_order_of(t, order);
    int64_t step = (int64_t)vl_size_of(t->type);
    for (int a = t->axes - 1; a >= 0; a--) {
        if (t->shape[order[a]] != 1 && t->strides[order[a]] != step)
            return 0;
        step *= t->shape[order[a]];
    }
    return 1;
}

/* How many of n elements the piece has that begins at the k-th. */
static int64_t piece_of(int64_t n, int64_t k) { return n - k < VL_PIECE ? n - k : VL_PIECE; }

/* n elements from x to out by one scale and zero point, in pieces */
static void quantise(const vl_frame *f, vl_quantising all, vl_pace *pace)
{
    vl_quantising piece = all;
    for (int64_t k = 0; k < all.n; k += piece.n) {
        piece.n = piece_of(all.n, k);
        piece.x = all.x + k;
        piece.out = all.out + k;
        if (!vl_goes_on(pace, piece.n))
            return;
        f->kernels->quantise(&piece);
    }
}

/* x -> y, scale, zero point: x over the range of all its numbers and 0, as uint8 */
static int dynamic_quantize(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    if (!x || x->type != VL_F32 || !vl_wants(i, 0) || !vl_wants(i, 1) || !vl_wants(i, 2))
        return VL_DECLINED;
    int64_t count = vl_count(x->axes, x->shape);
    vl_tensor from = *x, copy = {.block = NULL};
    if (!is_dense(x)) {
        const vl_tensor *laid = vl_contiguous(f, x, &copy);
        if (!laid)
            return VL_NO_MEMORY;
        from = *laid;
    }
    float bounds[2] = {0, 0}, scale, zero;
    vl_pace pace = vl_pace_of(f);
    for (int64_t k = 0; k < count && vl_goes_on(&pace, VL_PIECE); k += VL_PIECE)
        f->kernels->range(piece_of(count, k), (const float *)from.data + k, bounds);
    vl_dynamic_scale(bounds, &scale, &zero);
    if (scale != scale) {
        vl_block_drop(f, copy.block);
        return VL_DECLINED;
    }
    int8_t order[VL_MOST_AXES];
    vl_order_of(&from, order);
    vl_tensor *y = vl_new_in_order(f, i, 0, VL_U8, from.axes, from.shape, order);
    vl_tensor *y_scale = vl_new(f, i, 1, VL_F32, 0, NULL), *y_zero = vl_new(f, i, 2, VL_U8, 0, NULL);
    if (!y || !y_scale || !y_zero) {
        vl_block_drop(f, copy.block);
        return VL_NO_MEMORY;
    }
    *(float *)y_scale->data = scale;
    *(uint8_t *)y_zero->data = (uint8_t)zero;
    vl_quantising quantising = {.n = count,
                                .x = (const float *)from.data,
                                .scale = scale,
                                .zero = zero,
                                .high = 255,
                                .out = (uint8_t *)y->data};
    quantise(f, quantising, &pace);
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

/* What is along one axis with one scale and zero point each: `outer` runs of `channels` runs of `inner` elements. */
typedef struct {
    int64_t outer, channels, inner;
    int64_t scale_step, zero_step; /* bytes from one to the next; 0: one for all */
} vl_channels;

/* The scales and zero points of x; 0 where they are spread otherwise. `zero` may be NULL. */
static int read_channels(const vl_tensor *x, const vl_tensor *scale, const vl_tensor *zero, int64_t axis,
                         vl_channels *along)
{
    int64_t count = vl_count(x->axes, x->shape);
    int one = vl_is_number(scale, VL_F32) && scale->axes <= 1;
    *along = (vl_channels){1, 1, count, 0, 0};
    if (one && (!zero || (vl_count(zero->axes, zero->shape) == 1 && zero->axes <= 1)))
        return 1;
    int at = vl_axis(axis, x->axes);
    if (!scale || scale->type != VL_F32 || at < 0 || scale->axes != 1)
        return 0;
    along->channels = x->shape[at];
    along->outer = vl_count(at, x->shape);
    along->inner = vl_count(x->axes - at - 1, x->shape + at + 1);
    if (scale->shape[0] != along->channels || (zero && (zero->axes != 1 || zero->shape[0] != along->channels)))
        return 0;
    along->scale_step = along->channels > 1 ? scale->strides[0] : 0;
    along->zero_step = zero && along->channels > 1 ? zero->strides[0] : 0;
    return 1;
}

/* The output, of that type and laid out as x is where its elements are one run (with along: a contiguous one),
 * else as a copy of x that *x becomes, whose block the caller drops; NULL when memory is out. */
static vl_tensor *beside(vl_frame *f, const vl_instruction *i, const vl_channels *along, int type, vl_tensor *x,
                         vl_tensor *copy)
{
    copy->block = NULL;
    if (along->channels > 1 ? !vl_is_contiguous(x) : !is_dense(x)) {
        const vl_tensor *laid = vl_contiguous(f, x, copy);
        if (!laid)
            return NULL;
        *x = *laid;
    }
    int8_t order[VL_MOST_AXES];
    vl_order_of(x, order);
    vl_tensor *y = vl_new_in_order(f, i, 0, type, x->axes, x->shape, order);
    if (!y)
        vl_block_drop(f, copy->block);
    return y;
}

/* x, scale, zero point or none; ints: axis, the type without a zero point */
static int quantize_linear(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *scale = vl_in(f, i, 1), *zero = vl_in(f, i, 2);
    vl_channels along;
    if (!x || x->type != VL_F32 || (vl_has_in(i, 2) && !vl_is_bytes(zero)) ||
        !read_channels(x, scale, zero, i->ints[0], &along))
        return VL_DECLINED;
    const int type = zero ? zero->type : (int)i->ints[1];
    vl_tensor from = *x, copy, s = *scale, z = zero ? *zero : *scale;
    vl_tensor *y = beside(f, i, &along, type, &from, &copy);
    if (!y)
        return VL_NO_MEMORY;
    vl_quantising quantising = {.n = along.inner,
                                .x = (const float *)from.data,
                                .out = (uint8_t *)y->data,
                                .low = type == VL_I8 ? -128 : 0,
                                .high = type == VL_I8 ? 127 : 255};
    vl_pace pace = vl_pace_of(f);
    for (int64_t o = 0; o < along.outer; o++)
        for (int64_t k = 0; k < along.channels; k++, quantising.x += along.inner, quantising.out += along.inner) {
            quantising.scale = *(const float *)(s.data + k * along.scale_step);
            quantising.zero = zero ? (float)vl_byte_at(&z, k * along.zero_step) : 0;
            quantise(f, quantising, &pace);
        }
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

/* x, scale, zero point or none -> float; ints: axis */
static int dequantize_linear(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0), *scale = vl_in(f, i, 1), *zero = vl_in(f, i, 2);
    vl_channels along;
    if (!vl_is_bytes(x) || (vl_has_in(i, 2) && (!zero || zero->type != x->type)) ||
        !read_channels(x, scale, zero, i->ints[0], &along))
        return VL_DECLINED;
    vl_tensor from = *x, copy, s = *scale, z = zero ? *zero : *scale;
    vl_tensor *y = beside(f, i, &along, VL_F32, &from, &copy);
    if (!y)
        return VL_NO_MEMORY;
    const char *at = from.data;
    float *to = (float *)y->data;
    vl_pace pace = vl_pace_of(f);
    for (int64_t o = 0; o < along.outer; o++)
        for (int64_t k = 0; k < along.channels; k++, at += along.inner, to += along.inner)
            for (int64_t at_once = 0; at_once < along.inner && vl_goes_on(&pace, VL_PIECE); at_once += VL_PIECE)
                f->kernels->dequantise(piece_of(along.inner, at_once), at + at_once, from.type == VL_I8,
                                       zero ? vl_byte_at(&z, k * along.zero_step) : 0,
                                       *(const float *)(s.data + k * along.scale_step), to + at_once);
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

/* x of bytes -> for each the element of a table [256] that it is the place of; ints: the table's type; objects: it */
static int byte_table(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *x = vl_in(f, i, 0);
    const int type = (int)i->ints[0];
    const vl_channels one = {1, 1, 1, 0, 0};
    if (!vl_is_bytes(x) || (vl_size_of(type) != 1 && vl_size_of(type) != sizeof(float)))
        return VL_DECLINED;
    const int64_t count = vl_count(x->axes, x->shape);
    vl_tensor from = *x, copy;
    vl_tensor *y = beside(f, i, &one, type, &from, &copy);
    if (!y)
        return VL_NO_MEMORY;
    const uint8_t *at = (const uint8_t *)from.data;
    vl_pace pace = vl_pace_of(f);
    if (vl_size_of(type) == 1) {
        const uint8_t *table = i->objects[0];
        uint8_t *to = (uint8_t *)y->data;
        for (int64_t begin = 0; begin < count && vl_goes_on(&pace, VL_PIECE); begin += VL_PIECE)
            for (int64_t k = begin; k < begin + piece_of(count, begin); k++)
                to[k] = table[at[k]];
    } else {
        const uint32_t *table = i->objects[0];
        uint32_t *to = (uint32_t *)y->data;
        for (int64_t begin = 0; begin < count && vl_goes_on(&pace, VL_PIECE); begin += VL_PIECE)
            for (int64_t k = begin; k < begin + piece_of(count, begin); k++)
                to[k] = table[at[k]];
    }
    vl_block_drop(f, copy.block);
    return VL_DONE;
}

const vl_named_handler vl_quantise_handlers[] = {
    {"dynamic_quantize", dynamic_quantize},
    {"quantize_linear", quantize_linear},
    {"dequantize_linear", dequantize_linear},
    {"byte_table", byte_table},
    {NULL, NULL},
};
