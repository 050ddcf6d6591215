/* What becomes of finished sums: activations, and chains of whatever follows a convolution. */

/* How many rows from the first on are equally far apart, and how far. */
VL_INLINE ptrdiff_t vl_row_distance(const ptrdiff_t *places, ptrdiff_t count)
{
    return count > 1 ? places[1] - places[0] : 0;
}

VL_INLINE ptrdiff_t vl_equal_rows(const ptrdiff_t *places, ptrdiff_t count)
{
    ptrdiff_t n = count < 2 ? count : 2;
    while (n < count && places[n] - places[n - 1] == places[1] - places[0])
        n++;
    return n;
}

/* Rows of `columns` at out + out_rows[r], in place, unless a chain has made them. */
static void vl_finish_rows(const vl_epilogue *e, ptrdiff_t rows, ptrdiff_t columns, real *out,
                           const ptrdiff_t *out_rows)
{
    if (e->kind == VL_AS_IT_IS || e->kind == VL_CHAINED)
        return;
    const vec low = VL_SPLAT((real)e->low), high = VL_SPLAT((real)e->high), zero = VL_SPLAT(0);
    const real *slopes = e->slopes ? (const real *)e->slopes + e->channel : NULL;
    for (ptrdiff_t r = 0; r < rows; r++) {
        real *o = out + out_rows[r];
        for (ptrdiff_t c = 0; c < columns; c += L) {
            ptrdiff_t n = columns - c < L ? columns - c : L;
            vec s = vl_load_first(o + c, n);
            if (e->kind == VL_BOUND)
                s = VL_MIN(high, VL_MAX(low, s));
            else
                s = VL_IF_LESS(s, zero, s * (slopes ? vl_load_first(slopes + c, n) : VL_SPLAT((real)e->slope)), s);
            vl_store_first(o + c, s, n);
        }
    }
}

/* Sums of columns [column, column + columns) of the kernel's, rows ld apart, through the chain to out + out_rows[r]. */
static void vl_finish_chained(const vl_epilogue *e, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t column, real *sums,
                              ptrdiff_t ld, real *out, const ptrdiff_t *out_rows)
{
#if !VL_F64
    vl_chain c = *e->chain;
    vl_chain_array arrays[VL_CHAIN_ARRAYS];
    c.columns = columns;
    c.arrays = arrays;
    for (ptrdiff_t row = 0; row < rows; row += c.rows) {
        c.rows = vl_equal_rows(out_rows + row, rows - row);
        ptrdiff_t distance = vl_row_distance(out_rows + row, c.rows);
        real *to = out + out_rows[row] + column;
        arrays[0] = (vl_chain_array){sums + row * ld, ld, 1, 0};
        for (int k = 1; k < c.operands; k++) {
            vl_chain_array a = e->chain->arrays[k];
            ptrdiff_t offset = a.row ? to - (const real *)e->out : (e->channel + column) * a.column;
            a.data = (char *)a.data + offset * (ptrdiff_t)(a.element ? 1 : sizeof(real));
            arrays[k] = a.row ? (vl_chain_array){a.data, distance, 1, a.element} : a;
        }
        arrays[c.operands] = (vl_chain_array){to, distance, 1, 0};
        vl_kernel_chain(&c);
    }
#else
    (void)e, (void)rows, (void)columns, (void)column, (void)sums, (void)ld, (void)out, (void)out_rows;
#endif
}
