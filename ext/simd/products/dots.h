/* Windows times the weights of few output channels: lanes are terms of one sum, not columns.
 *
 * A tile is L rows and one column, whose L sums of L lanes are transposed and added, so that a vector has the sums of
 * all rows. Bound by loads: one of x for each product.
 */
VL_INLINE vec vl_dot_tile(int rows, const vl_windows *p, const real *const *x, const real *w)
{
    vec sum[L];
#pragma GCC unroll 16
    for (int r = 0; r < L; r++)
        sum[r] = VL_SPLAT(0);
    for (const vl_segment *s = p->segments; s < p->segments + p->segment_count; s++) {
        ptrdiff_t k = s->offset, left = s->length;
        for (; left >= L; left -= L, k += L, w += L) {
            vec wv = vl_load(w);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                sum[r] = VL_FMA(vl_load(x[r] + k), wv, sum[r]);
        }
        if (left) {
            vec wv = vl_load_first(w, left);
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                sum[r] = VL_FMA(vl_load_first(x[r] + k, left), wv, sum[r]);
            w += left;
        }
    }
    vl_transpose_block(sum);
#pragma GCC unroll 4
    for (int half = L / 2; half; half /= 2)
#pragma GCC unroll 8
        for (int r = 0; r < half; r++)
            sum[r] += sum[r + half];
    return sum[0];
}

static __attribute__((noinline)) vec vl_dots_of_many(const vl_windows *p, const real *const *x, const real *w)
{
    return vl_dot_tile(L, p, x, w);
}
static __attribute__((noinline)) vec vl_dots_of_one(const vl_windows *p, const real *const *x, const real *w)
{
    return vl_dot_tile(1, p, x, w);
}

static void vl_kernel_dots(const vl_windows *p)
{
    const real *x[L], *bias = p->bias;
    real *out = p->out;
    for (ptrdiff_t row = 0, rows, done = 0; row < p->rows; row += rows) {
        rows = p->rows - row < L ? 1 : L;
        for (ptrdiff_t r = 0; r < rows; r++)
            x[r] = (const real *)p->x + p->x_rows[row + r];
        for (ptrdiff_t c = 0; c < p->columns; c++) {
            const real *w = (const real *)p->w + c * p->depth;
            vec sums = (rows == L ? vl_dots_of_many(p, x, w) : vl_dots_of_one(p, x, w)) + (bias ? bias[c] : 0);
            for (ptrdiff_t r = 0; r < rows; r++)
                out[p->out_rows[row + r] + c] = sums[r];
        }
        done = vl_finish_if_enough(p->epilogue, done, row + rows, row + rows == p->rows, p->columns, out, p->out_rows);
    }
}
