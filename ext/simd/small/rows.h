/* Rows of x in their small form: small_kernels.h's vl_small. float only.
 *
 *   scale = max |x| / levels,   q = round(x * (levels / max |x|)), halves to even
 *
 * A row whose largest number is below VL_SMALL_NOTHING is zero: the factor would not be finite. NaN or an infinity make
 * the scale NaN, and with it all that comes of the row.
 */
#if !VL_F64

#define VL_SMALL_NOTHING 1e-30f

typedef int16_t vl_shorts __attribute__((vector_size(VL_BYTES / 2), aligned(2), may_alias));

/* Each lane's neighbour half a vector on, or a quarter, and so on. */
VL_INLINE veci vl_lanes_on(veci v, int lanes)
{
    veci on;
#pragma GCC unroll 16
    for (int i = 0; i < L; i++)
        on[i] = v[(i + lanes) % L];
    return on;
}

VL_INLINE int32_t vl_sum_of_lanes(veci v)
{
#pragma GCC unroll 4
    for (int lanes = L / 2; lanes; lanes /= 2)
        v += vl_lanes_on(v, lanes);
    return v[0];
}

VL_INLINE veci vl_larger(veci a, veci b)
{
#if defined(__x86_64__) && VL_BYTES == 64
    return (veci)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(__x86_64__) && VL_BYTES == 32
    return (veci)_mm256_max_epi32((__m256i)a, (__m256i)b);
#else
    const veci mask = a > b;
    return (a & mask) | (b & ~mask);
#endif
}

/* The bits of the largest magnitude of n numbers. Those of magnitudes are integers in the same order; infinity is larger
 * than all numbers, and NaN than that. */
VL_INLINE int32_t vl_largest(const float *x, ptrdiff_t n)
{
    const veci magnitude = (veci){0} + 0x7fffffff;
    veci most = {0}, most2 = {0};
    ptrdiff_t k = 0;
    for (; k + 2 * L <= n; k += 2 * L) {
        most = vl_larger((veci)vl_load(x + k) & magnitude, most);
        most2 = vl_larger((veci)vl_load(x + k + L) & magnitude, most2);
    }
    for (; k < n; k += L)
        most = vl_larger((veci)vl_load_first(x + k, n - k < L ? n - k : L) & magnitude, most);
    most = vl_larger(most, most2);
#pragma GCC unroll 4
    for (int lanes = L / 2; lanes; lanes /= 2)
        most = vl_larger(most, vl_lanes_on(most, lanes));
    return most[0];
}

/* The integers nearest to x * factor, |x * factor| < 2^22: in the low bits of the sum with VL_ROUNDER. */
VL_INLINE veci vl_nearest(vec x, vec factor)
{
    const vec rounder = VL_SPLAT(VL_ROUNDER);
    vec steps = x * factor;
    VL_KEEP(steps);
    steps += rounder;
    VL_KEEP(steps);
    return (veci)steps - (veci)rounder;
}

VL_INLINE void vl_store_shorts(int16_t *to, veci q) { *(vl_shorts *)to = __builtin_convertvector(q, vl_shorts); }

VL_INLINE void vl_small_store(const vl_small_form form, const vl_small *small, veci q, ptrdiff_t k, char *to,
                              uint8_t *upper)
{
    if (form == VL_ROW_INT16)
        vl_store_shorts((int16_t *)to + k, q);
    else if (form == VL_ROW_BYTES)
        vl_store_lowest_bytes((uint8_t *)to + k, q + small->offset);
    else {
        vl_store_lowest_bytes((uint8_t *)to + k, q);
        vl_store_lowest_bytes(upper + k, (q + 128) >> 8);
    }
}

/* What is written past the depth, to a whole vector, is within the row; up to a multiple of VL_SMALL_STEP it is zero. */
VL_INLINE void vl_small_integers(const vl_small_form form, const int weight_offset, const vl_small *small,
                                 const float *x, ptrdiff_t depth, float factor, char *to)
{
    const vec times = VL_SPLAT(factor);
    const ptrdiff_t plane = vl_small_plane(depth);
    uint8_t *upper = (uint8_t *)to + plane;
    int32_t *undo = (int32_t *)(to + 2 * plane);
    for (ptrdiff_t k = 0; k < depth; undo++) {
        const ptrdiff_t end = depth - k < small->block ? depth : k + small->block;
        veci sum = {0};
        for (; k + L <= end; k += L) {
            const veci q = vl_nearest(vl_load(x + k), times);
            sum += q;
            vl_small_store(form, small, q, k, to, upper);
        }
        if (k < end) {
            const veci q = vl_nearest(vl_load_first(x + k, end - k), times);
            sum += q;
            vl_small_store(form, small, q, k, to, upper);
            k = end;
        }
        if (weight_offset)
            *undo = (int32_t)((uint32_t)-weight_offset * (uint32_t)vl_sum_of_lanes(sum)); /* of NaN anything */
    }
}

static void vl_small_row_of(const vl_small *small, const float *x, ptrdiff_t depth, char *to)
{
    const int32_t bits = vl_largest(x, depth);
    const int apart = bits >= 0x7f800000; /* an infinity or NaN */
    const float levels = (float)small->levels;
    float largest;
    __builtin_memcpy(&largest, &bits, sizeof largest);
    const int is_something = largest >= VL_SMALL_NOTHING;
    const float factor = is_something && !apart ? levels / largest : 0;
    *(float *)to = apart ? __builtin_nanf("") : is_something ? largest / levels : 0;
    to += VL_SMALL_HEAD;
    switch (small->form) {
    case VL_ROW_INT16: vl_small_integers(VL_ROW_INT16, 0, small, x, depth, factor, to); break;
    case VL_ROW_PLANES: vl_small_integers(VL_ROW_PLANES, small->weight_offset, small, x, depth, factor, to); break;
    case VL_ROW_BYTES: vl_small_integers(VL_ROW_BYTES, small->weight_offset, small, x, depth, factor, to); break;
    }
}

#endif
