/* Real numbers to bytes: the range of an array, and rounding to a scale. float only. */
#if !VL_F64

static void vl_kernel_range(ptrdiff_t n, const float *x, float *bounds)
{
    enum { SETS = 4 }; /* minima wait for one another */
    vec least[SETS], greatest[SETS];
    veci apart[SETS]; /* NaN among them */
    for (int s = 0; s < SETS; s++) {
        least[s] = VL_SPLAT(bounds[0]);
        greatest[s] = VL_SPLAT(bounds[1]);
        apart[s] = (veci){0};
    }
    ptrdiff_t k = 0;
    for (; k + SETS * L <= n; k += SETS * L)
#pragma GCC unroll 4
        for (int s = 0; s < SETS; s++) {
            vec v = vl_load(x + k + s * L);
            least[s] = VL_MIN(v, least[s]);
            greatest[s] = VL_MAX(v, greatest[s]);
            apart[s] |= v != v;
        }
    float low = bounds[0], high = bounds[1];
    int is_nan = low != low || high != high;
    for (; k < n; k++) {
        low = x[k] < low ? x[k] : low;
        high = x[k] > high ? x[k] : high;
        is_nan |= x[k] != x[k];
    }
    for (int s = 0; s < SETS; s++)
        for (int i = 0; i < L; i++) {
            low = least[s][i] < low ? least[s][i] : low;
            high = greatest[s][i] > high ? greatest[s][i] : high;
            is_nan |= apart[s][i] != 0;
        }
    bounds[0] = is_nan ? __builtin_nanf("") : low;
    bounds[1] = is_nan ? __builtin_nanf("") : high;
}

/* The lowest byte of each lane is the result. Clipped first, to whole numbers, so that what is rounded is small: the
 * nearest integer, halves to even, is in the low bits of the sum with VL_ROUNDER. NaN becomes 0. */
VL_INLINE veci vl_quantised(const vl_quantising *q, vec x)
{
    const vec rounder = VL_SPLAT(VL_ROUNDER);
    vec steps = q->inverse != 0 ? x * q->inverse : x / q->scale;
    veci is_number = steps == steps;
    steps = VL_MAX(VL_SPLAT(q->low - q->zero), VL_MIN(VL_SPLAT(q->high - q->zero), steps)) + rounder;
    VL_KEEP(steps);
    return ((veci)steps - (veci)rounder + (int32_t)q->zero) & is_number;
}

static int32_t vl_kernel_quantise(const vl_quantising *q)
{
    veci sum = {0};
    ptrdiff_t k = 0;
    for (; k + 4 * L <= q->n; k += 4 * L) {
        veci steps[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            steps[i] = vl_quantised(q, vl_load(q->x + k + i * L));
            sum += steps[i];
        }
        vl_store_bytes(q->out + k, steps);
    }
    for (; k < q->n; k += L) {
        ptrdiff_t left = q->n - k < L ? q->n - k : L;
        veci steps = vl_quantised(q, vl_load_first(q->x + k, left));
        for (ptrdiff_t i = 0; i < left; i++) {
            q->out[k + i] = (uint8_t)steps[i];
            sum[i] += steps[i];
        }
    }
    int32_t total = 0;
    for (int i = 0; i < L; i++)
        total += sum[i];
    return total;
}

static void vl_kernel_dequantise(ptrdiff_t n, const void *x, int is_signed, int32_t zero, float scale, float *y)
{
    const uint8_t *from = x;
    ptrdiff_t k = 0;
    for (; k + L <= n; k += L) {
        veci steps = vl_load_bytes(from + k, is_signed);
        vl_store(y + k, __builtin_convertvector(steps - zero, vec) * scale);
    }
    for (; k < n; k++)
        y[k] = (float)((is_signed ? (int8_t)from[k] : from[k]) - zero) * scale;
}

#endif
