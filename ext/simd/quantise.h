/* Real numbers to bytes: the range of an array, and rounding to a scale. float only. */
#if !VL_F64

static void vl_kernel_range(ptrdiff_t n, const float *x, float *bounds)
{
    vec least = VL_SPLAT(bounds[0]), greatest = VL_SPLAT(bounds[1]);
    veci apart = {0}; /* NaN among them */
    ptrdiff_t k = 0;
    for (; k + L <= n; k += L) {
        vec v = vl_load(x + k);
        least = VL_MIN(v, least);
        greatest = VL_MAX(v, greatest);
        apart |= v != v;
    }
    float low = bounds[0], high = bounds[1];
    int is_nan = low != low || high != high;
    for (; k < n; k++) {
        low = x[k] < low ? x[k] : low;
        high = x[k] > high ? x[k] : high;
        is_nan |= x[k] != x[k];
    }
    for (int i = 0; i < L; i++) {
        low = least[i] < low ? least[i] : low;
        high = greatest[i] > high ? greatest[i] : high;
        is_nan |= apart[i] != 0;
    }
    bounds[0] = is_nan ? __builtin_nanf("") : low;
    bounds[1] = is_nan ? __builtin_nanf("") : high;
}

typedef uint8_t vl_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

/* The lowest byte of each lane is the result. */
VL_INLINE veci vl_quantised(const vl_quantising *q, vec x)
{
    vec steps = vl_round(x / q->scale) + q->zero;
    steps = VL_MAX(VL_SPLAT(q->low), VL_MIN(VL_SPLAT(q->high), steps));
    return __builtin_convertvector(vl_select(steps == steps, steps, VL_SPLAT(0)), veci);
}

static int32_t vl_kernel_quantise(const vl_quantising *q)
{
    veci sum = {0};
    ptrdiff_t k = 0;
    for (; k + L <= q->n; k += L) {
        veci steps = vl_quantised(q, vl_load(q->x + k));
        sum += steps;
        *(vl_bytes *)(q->out + k) = __builtin_convertvector(steps, vl_bytes);
    }
    if (k < q->n) {
        veci steps = vl_quantised(q, vl_load_first(q->x + k, q->n - k));
        for (ptrdiff_t i = 0; i < q->n - k; i++) {
            q->out[k + i] = (uint8_t)steps[i];
            sum[i] += steps[i];
        }
    }
    int32_t total = 0;
    for (int i = 0; i < L; i++)
        total += sum[i];
    return total;
}

typedef int8_t vl_signed_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

static void vl_kernel_dequantise(ptrdiff_t n, const void *x, int is_signed, int32_t zero, float scale, float *y)
{
    const uint8_t *from = x;
    ptrdiff_t k = 0;
    for (; k + L <= n; k += L) {
        veci steps = is_signed ? __builtin_convertvector(*(const vl_signed_bytes *)(from + k), veci)
                               : __builtin_convertvector(*(const vl_bytes *)(from + k), veci);
        vl_store(y + k, __builtin_convertvector(steps - zero, vec) * scale);
    }
    for (; k < n; k++)
        y[k] = (float)((is_signed ? (int8_t)from[k] : from[k]) - zero) * scale;
}

#endif
