/* Casts between all element types: C's conversions, as NumPy's astype; to bool is "not 0", float16 rounds to even. */
#include "program.h"

/* Without branches, for loops of it to be vectors: a normal half's exponent grows by 112 once its bits lie where a float's
 * do; a subnormal's mantissa, put behind 1/2, is 2^-24 for each once the 1/2 is gone. */
static inline float from_half(uint16_t h)
{
    const uint32_t magnitude = h & 0x7fff, sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t normal_bits = (magnitude << 13) + ((uint32_t)0xe0 << 23), small_bits = magnitude | 0x3f000000;
    uint32_t bits, small_as;
    float normal, small;
    memcpy(&normal, &normal_bits, 4);
    memcpy(&small, &small_bits, 4);
    normal *= 0x1p-112f; /* infinities and NaNs have the greatest exponent before and after */
    small -= 0.5f;
    memcpy(&bits, &normal, 4);
    memcpy(&small_as, &small, 4);
    bits = (magnitude < 0x400 ? small_as : bits) | sign;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* The nearest half of a float, without branches as well: adding a number 2^13 times as large as the last bit that a half
 * has of x rounds it there. */
static inline uint16_t half_of_single(float x)
{
    uint32_t bits, based, bias;
    memcpy(&bits, &x, 4);
    const uint32_t magnitude = bits & 0x7fffffff;
    float base = __builtin_fabsf(x) * 0x1p+112f * 0x1p-110f, rounder; /* beyond 2^16 by way of infinity */
    bias = magnitude & 0x7f800000;
    bias = bias < 0x38800000 ? 0x38800000 : bias; /* below 2^-14 a half's last bit is 2^-24 */
    bias += 0x07800000;
    memcpy(&rounder, &bias, 4);
    base += rounder;
    memcpy(&based, &base, 4);
    const uint32_t number = (based >> 13 & 0x7c00) + (based & 0xfff);
    return (uint16_t)((bits >> 16 & 0x8000) | (magnitude > 0x7f800000 ? 0x7e00 | (bits >> 13 & 0x1ff) : number));
}

/* The nearest half of a double, which float32 and integers are too: rounded once. */
static inline uint16_t to_half(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    uint16_t sign = (uint16_t)(bits >> 48 & 0x8000);
    uint64_t magnitude = bits & 0x7fffffffffffffff;
    if (magnitude > 0x7ff0000000000000)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 42 & 0x1ff));
    if (magnitude >= 0x40f0000000000000) /* 2^16 */
        return sign | 0x7c00;
    int exponent = (int)(magnitude >> 52) - 1023;
    if (exponent < -26)
        return sign;
    uint64_t mantissa = (magnitude & 0xfffffffffffff) | (uint64_t)1 << 52;
    int shift = exponent < -14 ? 42 + (-14 - exponent) : 42;
    uint64_t kept = mantissa >> shift, rest = mantissa & (((uint64_t)1 << shift) - 1),
             half = (uint64_t)1 << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    /* an overflowing mantissa moves into the exponent, where it belongs */
    return (uint16_t)(sign | (exponent < -14 ? kept : kept + ((uint64_t)(exponent + 14) << 10)));
}

/* A cast goes by way of the widest number of its source's kind, a block at a time: integers and bool by int64 (uint64's
 * bits), reals by double. */
enum { VL_CAST_BLOCK = 256 };
typedef union {
    int64_t whole[VL_CAST_BLOCK];
    double real[VL_CAST_BLOCK];
} vl_cast_block;

static inline int is_real(int type) { return type <= VL_F16; }

/* n elements, step apart */
static void load(vl_cast_block *block, int64_t n, int type, const void *from, int64_t step)
{
#define VL_LOAD(member, kind, expression)                                                                              \
    for (int64_t k = 0; k < n; k++) {                                                                                  \
        const kind x = ((const kind *)from)[k * step];                                                                 \
        block->member[k] = expression;                                                                                 \
    }                                                                                                                  \
    break
    switch (type) {
    case VL_F32: VL_LOAD(real, float, x);
    case VL_F64: VL_LOAD(real, double, x);
    case VL_F16: VL_LOAD(real, uint16_t, from_half(x));
    case VL_I64: VL_LOAD(whole, int64_t, x);
    case VL_I32: VL_LOAD(whole, int32_t, x);
    case VL_I16: VL_LOAD(whole, int16_t, x);
    case VL_I8: VL_LOAD(whole, int8_t, x);
    case VL_U64: VL_LOAD(whole, uint64_t, (int64_t)x);
    case VL_U32: VL_LOAD(whole, uint32_t, x);
    case VL_U16: VL_LOAD(whole, uint16_t, x);
    case VL_U8: VL_LOAD(whole, uint8_t, x);
    default: VL_LOAD(whole, uint8_t, x != 0);
    }
}

static void store(const vl_cast_block *block, int64_t n, int real, int type, void *to)
{
#define VL_STORE(kind, of_real, of_whole)                                                                              \
    if (real)                                                                                                          \
        for (int64_t k = 0; k < n; k++) {                                                                              \
            const double x = block->real[k];                                                                           \
            ((kind *)to)[k] = (kind)(of_real);                                                                         \
        }                                                                                                              \
    else                                                                                                               \
        for (int64_t k = 0; k < n; k++) {                                                                              \
            const int64_t x = block->whole[k];                                                                         \
            ((kind *)to)[k] = (kind)(of_whole);                                                                        \
        }                                                                                                              \
    break
    switch (type) {
    case VL_F32: VL_STORE(float, x, x);
    case VL_F64: VL_STORE(double, x, x);
    case VL_F16: VL_STORE(uint16_t, to_half(x), to_half((double)x));
    case VL_I64: VL_STORE(int64_t, x, x);
    case VL_I32: VL_STORE(int32_t, x, x);
    case VL_I16: VL_STORE(int16_t, (int32_t)x, x);
    case VL_I8: VL_STORE(int8_t, (int32_t)x, x);
    case VL_U64: VL_STORE(uint64_t, x < 0 ? (uint64_t)(int64_t)x : (uint64_t)x, x);
    case VL_U32: VL_STORE(uint32_t, (int64_t)x, x);
    case VL_U16: VL_STORE(uint16_t, (int32_t)x, x);
    case VL_U8: VL_STORE(uint8_t, (int32_t)x, x);
    default: VL_STORE(uint8_t, x != 0, x != 0);
    }
}

/* What models cast in bulk, where elements lie side by side: masks and indices to numbers, wide to narrow indices and
 * back, halves. 0: by blocks. */
static int cast_in_bulk(int64_t n, int from_type, const void *from, int type, void *to)
{
#define VL_PAIR(from_type, type) ((from_type) * (VL_BOOL + 1) + (type))
#define VL_BULK(from_kind, kind, expression)                                                                           \
    for (int64_t k = 0; k < n; k++) {                                                                                  \
        const from_kind x = ((const from_kind *)from)[k];                                                              \
        ((kind *restrict)to)[k] = (kind)(expression);                                                                  \
    }                                                                                                                  \
    return 1
    switch (VL_PAIR(from_type, type)) {
    case VL_PAIR(VL_BOOL, VL_F32): VL_BULK(uint8_t, float, x != 0);
    case VL_PAIR(VL_BOOL, VL_I32): VL_BULK(uint8_t, int32_t, x != 0);
    case VL_PAIR(VL_BOOL, VL_I64): VL_BULK(uint8_t, int64_t, x != 0);
    case VL_PAIR(VL_U8, VL_F32): VL_BULK(uint8_t, float, x);
    case VL_PAIR(VL_I8, VL_F32): VL_BULK(int8_t, float, x);
    case VL_PAIR(VL_I16, VL_F32): VL_BULK(int16_t, float, x);
    case VL_PAIR(VL_I32, VL_F32): VL_BULK(int32_t, float, x);
    case VL_PAIR(VL_I32, VL_I64): VL_BULK(int32_t, int64_t, x);
    case VL_PAIR(VL_I64, VL_I32): VL_BULK(int64_t, int32_t, x);
    case VL_PAIR(VL_F16, VL_F32): VL_BULK(uint16_t, float, from_half(x));
    case VL_PAIR(VL_F32, VL_F16): VL_BULK(float, uint16_t, half_of_single(x));
    case VL_PAIR(VL_F32, VL_F64): VL_BULK(float, double, x);
    case VL_PAIR(VL_F64, VL_F32): VL_BULK(double, float, x);
    default: return 0;
    }
}

/* "cast": ints: the type to cast to. The result's axes lie in memory in the order of the input's. */
static int cast(vl_frame *f, const vl_instruction *i)
{
    const vl_tensor *t = vl_in(f, i, 0);
    const int to = (int)i->ints[0];
    if (!t)
        return VL_DECLINED;
    if (t->type == to) {
        vl_share(f, i, 0, t);
        return VL_DONE;
    }
    if (t->type == VL_U64 && is_real(to)) /* what int64 has not is rare */
        return VL_DECLINED;
    const size_t size = vl_size_of(t->type), to_size = vl_size_of(to);
    int64_t n = vl_count(t->axes, t->shape);
    if (n < 0 || (uintptr_t)t->data % size)
        return VL_DECLINED;
    for (int a = 0; a < t->axes; a++)
        if (t->strides[a] % (int64_t)size && t->shape[a] != 1)
            return VL_DECLINED;

    const vl_tensor from = *t;
    int8_t order[VL_MOST_AXES];
    vl_order_of(&from, order);
    vl_tensor *out = vl_new_in_order(f, i, 0, to, from.axes, from.shape, order);
    if (!out)
        return VL_NO_MEMORY;
    if (n == 0)
        return VL_DONE;

    int64_t shape[VL_MOST_AXES + 1] = {1}, steps[VL_MOST_AXES + 1] = {0};
    int axes = 0;
    for (int k = 0; k < from.axes; k++) {
        int a = order[k];
        int64_t step = from.strides[a] / (int64_t)size;
        if (from.shape[a] == 1)
            continue;
        if (!axes || steps[axes - 1] != step * from.shape[a])
            shape[axes++] = 1;
        shape[axes - 1] *= from.shape[a];
        steps[axes - 1] = step;
    }
    int last = axes ? axes - 1 : 0;
    int64_t index[VL_MOST_AXES + 1] = {0}, width = shape[last], at = 0;
    char *write = out->data;
    vl_cast_block block;
    vl_pace pace = vl_pace_of(f);
    for (int64_t row = 0; row < n / width; row++) {
        int64_t k = 0;
        for (int64_t count; k < width && steps[last] == 1; k += count) {
            count = width - k < VL_PIECE ? width - k : VL_PIECE;
            if (!vl_goes_on(&pace, count) ||
                !cast_in_bulk(count, from.type, from.data + (at + k) * (int64_t)size, to, write))
                break;
            write += count * (int64_t)to_size;
        }
        for (; k < width && vl_goes_on(&pace, VL_CAST_BLOCK); k += VL_CAST_BLOCK) {
            int64_t count = width - k < VL_CAST_BLOCK ? width - k : VL_CAST_BLOCK;
            load(&block, count, from.type, from.data + (at + k * steps[last]) * (int64_t)size, steps[last]);
            store(&block, count, is_real(from.type), to, write);
            write += count * (int64_t)to_size;
        }
        for (int a = last - 1; a >= 0; a--) {
            at += steps[a];
            if (++index[a] < shape[a])
                break;
            at -= steps[a] * shape[a];
            index[a] = 0;
        }
    }
    return VL_DONE;
}

const vl_named_handler vl_cast_handlers[] = {{"cast", cast}, {NULL, NULL}};
