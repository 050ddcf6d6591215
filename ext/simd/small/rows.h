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

/* The largest magnitude of n numbers, and whether one of them is no finite number. */
VL_INLINE float vl_largest(const float *x, ptrdiff_t n, int *apart)
{
    const veci magnitude = (veci){0} + 0x7fffffff, infinity = (veci){0} + 0x7f800000;
    vec most = VL_SPLAT(0), most2 = most;
    veci beyond = {0}, beyond2 = {0};
    ptrdiff_t k = 0;
    for (; k + 2 * L <= n; k += 2 * L) {
        veci a = (veci)vl_load(x + k) & magnitude, b = (veci)vl_load(x + k + L) & magnitude;
        beyond |= a >= infinity;
        beyond2 |= b >= infinity;
        most = VL_MAX(most, (vec)a);
        most2 = VL_MAX(most2, (vec)b);
    }
    for (; k < n; k += L) {
        veci a = (veci)vl_load_first(x + k, n - k < L ? n - k : L) & magnitude;
        beyond |= a >= infinity;
        most = VL_MAX(most, (vec)a);
    }
    beyond |= beyond2;
    float largest = 0;
    *apart = 0;
    for (int i = 0; i < L; i++) {
        largest = most[i] > largest ? most[i] : largest;
        largest = most2[i] > largest ? most2[i] : largest;
        *apart |= beyond[i];
    }
    return largest;
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
VL_INLINE void vl_store_low_bytes(uint8_t *to, veci q) { *(vl_bytes *)to = __builtin_convertvector(q, vl_bytes); }

/* What is written past the depth, to a whole vector, is within the row; up to a multiple of VL_SMALL_STEP it is zero. */
VL_INLINE void vl_small_integers(const vl_small_form form, int offset, const float *x, ptrdiff_t depth, float factor,
                                 char *to)
{
    const vec times = VL_SPLAT(factor);
    uint8_t *upper = (uint8_t *)to + vl_small_plane(depth);
    for (ptrdiff_t k = 0; k < depth; k += L) {
        const ptrdiff_t left = depth - k;
        veci q = vl_nearest(vl_load_first(x + k, left < L ? left : L), times);
        if (form == VL_ROW_INT16)
            vl_store_shorts((int16_t *)to + k, q);
        else if (form == VL_ROW_BYTES)
            vl_store_low_bytes((uint8_t *)to + k, q + offset);
        else {
            vl_store_low_bytes((uint8_t *)to + k, q);
            vl_store_low_bytes(upper + k, (q >> 8) + offset);
        }
    }
}

static void vl_small_row_of(const vl_small *small, const float *x, ptrdiff_t depth, char *to)
{
    int apart;
    const float largest = vl_largest(x, depth, &apart), levels = (float)small->levels;
    const int is_something = largest >= VL_SMALL_NOTHING;
    const float factor = is_something ? levels / largest : 0;
    *(float *)to = apart ? __builtin_nanf("") : is_something ? largest / levels : 0;
    to += VL_SMALL_HEAD;
    switch (small->form) {
    case VL_ROW_INT16: vl_small_integers(VL_ROW_INT16, 0, x, depth, factor, to); break;
    case VL_ROW_BYTES: vl_small_integers(VL_ROW_BYTES, small->offset, x, depth, factor, to); break;
    case VL_ROW_PLANES: vl_small_integers(VL_ROW_PLANES, small->offset, x, depth, factor, to); break;
    }
}

#endif
