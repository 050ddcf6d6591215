/* Every channel by itself over a window's taps: depthwise convolution, and pools.
 *
 * Several rows (pixels) at a time, so that a tap's weights are read once for all of them and the chains of sums hide
 * the FMA's latency. Bound by loads: one of x for each product.
 */
enum { VL_TAP_ROWS = 6 };

/* Terms [t, end): sums of `rows` rows and one vector of n channels, from zero. */
VL_INLINE void vl_tap_tile(int rows, const vl_taps *p, const real *const *x, ptrdiff_t c, ptrdiff_t n,
                           ptrdiff_t t, ptrdiff_t end, vec *sum)
{
    const real *w = (const real *)p->w + c;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sum[r] = VL_SPLAT(0);
    if (n == L)
        for (; t < end; t++) {
            vec wt = vl_load(w + t * p->channels);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sum[r] = VL_FMA(vl_load(x[r] + p->x_taps[t] + c), wt, sum[r]);
        }
    else
        for (; t < end; t++) {
            vec wt = vl_load_first(w + t * p->channels, n);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                sum[r] = VL_FMA(vl_load_first(x[r] + p->x_taps[t] + c, n), wt, sum[r]);
        }
}

VL_INLINE void vl_tap_rows(int rows, const vl_taps *p, ptrdiff_t row)
{
    const real *x[VL_TAP_ROWS];
    for (int r = 0; r < rows; r++)
        x[r] = (const real *)p->x + p->x_rows[row + r];
    for (ptrdiff_t c = 0; c < p->channels; c += L) {
        ptrdiff_t n = p->channels - c < L ? p->channels - c : L, t = 0;
        vec total[VL_TAP_ROWS], sum[VL_TAP_ROWS], bias = VL_SPLAT(0);
        if (p->bias)
            bias = vl_load_first((const real *)p->bias + c, n);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            total[r] = bias;
        while (t < p->taps) {
            ptrdiff_t end = p->taps - t < VL_TERMS ? p->taps : t + VL_TERMS;
            vl_tap_tile(rows, p, x, c, n, t, end, sum);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
                total[r] += sum[r];
            t = end;
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            vl_store_first((real *)p->out + p->out_rows[row + r] + c, total[r], n);
    }
    vl_finish_rows(p->epilogue, rows, p->channels, (real *)p->out, p->out_rows + row);
}

static void vl_kernel_taps(const vl_taps *p)
{
    ptrdiff_t row = 0;
    for (; row + VL_TAP_ROWS <= p->rows; row += VL_TAP_ROWS)
        vl_tap_rows(VL_TAP_ROWS, p, row);
    for (; row + 2 <= p->rows; row += 2)
        vl_tap_rows(2, p, row);
    if (row < p->rows)
        vl_tap_rows(1, p, row);
}

/* ---- pools ------------------------------------------------------------------------------------------- */

VL_INLINE vec vl_pooled(const vl_pool *p, const real *x, ptrdiff_t n)
{
    vec result = vl_load_first(x + p->x_taps[0], n);
    if (p->divisor != 0) {
        for (ptrdiff_t t = 1; t < p->taps; t++)
            result += vl_load_first(x + p->x_taps[t], n);
        return result / VL_SPLAT((real)p->divisor);
    }
    veci unordered = result != result; /* VL_MAX forgets the first operand's NaN */
    for (ptrdiff_t t = 1; t < p->taps; t++) {
        vec v = vl_load_first(x + p->x_taps[t], n);
        unordered |= v != v;
        result = VL_MAX(result, v);
    }
    return vl_select(unordered, VL_SPLAT((real)NAN), result);
}

static void vl_kernel_pool(const vl_pool *p)
{
    for (ptrdiff_t row = 0; row < p->rows; row++) {
        const real *x = (const real *)p->x + p->x_rows[row];
        real *out = (real *)p->out + p->out_rows[row];
        ptrdiff_t c = 0;
        for (; c + L <= p->channels; c += L)
            vl_store(out + c, vl_pooled(p, x + c, L));
        if (c < p->channels)
            vl_store_first(out + c, vl_pooled(p, x + c, p->channels - c), p->channels - c);
    }
}
