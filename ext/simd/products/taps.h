/* Every channel by itself over a window's taps: depthwise convolution, and pools.
 *
 * Several rows (pixels) at a time, so that a tap's weights are read once for all of them and the chains of sums hide
 * the FMA's latency. Bound by loads: one of x for each product.
 */
enum { VL_TAP_ROWS = 6 };

/* Terms [t, end): sums of `rows` rows and one vector of n channels, from zero. */
VL_INLINE void vl_tap_tile(int rows, const vl_taps *p, const real *const *x, ptrdiff_t c, ptrdiff_t n, ptrdiff_t t,
                           ptrdiff_t end, vec *sum)
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

/* Vectors of channels whose sums wait for a chain. */
enum { VL_TAP_VECTORS = 8 };

VL_INLINE void vl_tap_rows(int rows, const vl_taps *p, ptrdiff_t row)
{
    const real *x[VL_TAP_ROWS];
    real waiting[VL_TAP_ROWS * VL_TAP_VECTORS * L] __attribute__((aligned(VL_BYTES)));
    const ptrdiff_t *out_rows = p->out_rows + row, most = VL_TAP_VECTORS * L;
    const int chained = p->epilogue->kind == VL_CHAINED;
    for (int r = 0; r < rows; r++)
        x[r] = (const real *)p->x + p->x_rows[row + r];
    for (ptrdiff_t c = 0; c < p->channels; c += L) {
        ptrdiff_t n = p->channels - c < L ? p->channels - c : L, t = 0, begin = c / most * most;
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
            if (chained)
                vl_store(waiting + r * most + c - begin, total[r]);
            else
                vl_store_first((real *)p->out + out_rows[r] + c, total[r], n);
        if (chained && (c + L - begin == most || c + L >= p->channels))
            vl_finish_chained(p->epilogue, rows, c + n - begin, begin, waiting, most, p->out, out_rows);
    }
    vl_finish_rows(p->epilogue, rows, p->channels, p->out, out_rows);
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

/* `vectors` vectors of channels, the last of n; the sum in parts, as tile.h's. */
VL_INLINE void vl_pooled(int vectors, const vl_pool *p, const real *x, real *out, ptrdiff_t n)
{
    vec result[VL_MOST_VECTORS], part[VL_MOST_VECTORS];
#define VL_POOL_LOAD(t, v)                                                                                             \
    ((v) == vectors - 1 ? vl_load_first(x + p->x_taps[t] + (v) * L, n) : vl_load(x + p->x_taps[t] + (v) * L))
    if (p->divisor != 0) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] = VL_SPLAT(0);
        for (ptrdiff_t t = 0; t < p->taps;) {
            ptrdiff_t end = p->taps - t < VL_TERMS ? p->taps : t + VL_TERMS;
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                part[v] = VL_POOL_LOAD(t, v);
            for (t++; t < end; t++)
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    part[v] += VL_POOL_LOAD(t, v);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                result[v] += part[v];
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] /= VL_SPLAT((real)p->divisor);
    } else {
        veci unordered[VL_MOST_VECTORS]; /* VL_MAX forgets the first operand's NaN */
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            result[v] = VL_POOL_LOAD(0, v);
            unordered[v] = result[v] != result[v];
        }
        for (ptrdiff_t t = 1; t < p->taps; t++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                vec next = VL_POOL_LOAD(t, v);
                unordered[v] |= next != next;
                result[v] = VL_MAX(result[v], next);
            }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            result[v] = vl_select(unordered[v], VL_SPLAT((real)NAN), result[v]);
    }
#undef VL_POOL_LOAD
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vl_store_first(out + v * L, result[v], v == vectors - 1 ? n : L);
}

static void vl_kernel_pool(const vl_pool *p)
{
    for (ptrdiff_t row = 0; row < p->rows; row++) {
        const real *x = (const real *)p->x + p->x_rows[row];
        real *out = (real *)p->out + p->out_rows[row];
        ptrdiff_t c = 0;
        for (; c + 4 * L <= p->channels; c += 4 * L)
            vl_pooled(4, p, x + c, out + c, L);
        for (; c < p->channels; c += L)
            vl_pooled(1, p, x + c, out + c, p->channels - c < L ? p->channels - c : L);
    }
}
