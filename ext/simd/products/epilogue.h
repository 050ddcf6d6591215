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

/* A run of neighbouring columns in place. `slopes`: of each, or NULL. */
VL_INLINE void vl_finish_run(const vl_epilogue *e, ptrdiff_t columns, real *out, const real *slopes)
{
    const vec low = VL_SPLAT((real)e->low), high = VL_SPLAT((real)e->high), zero = VL_SPLAT(0);
    const vec slope = VL_SPLAT((real)e->slope);
    ptrdiff_t c = 0;
    for (; c + L <= columns; c += L) {
        vec sum = vl_load(out + c);
        if (e->kind == VL_BOUND)
            sum = VL_MIN(high, VL_MAX(low, sum));
        else
            sum = VL_IF_LESS(sum, zero, sum * (slopes ? vl_load(slopes + c) : slope), sum);
        vl_store(out + c, sum);
    }
    if (c < columns) {
        const ptrdiff_t left = columns - c;
        vec sum = vl_load_first(out + c, left);
        if (e->kind == VL_BOUND)
            sum = VL_MIN(high, VL_MAX(low, sum));
        else
            sum = VL_IF_LESS(sum, zero, sum * (slopes ? vl_load_first(slopes + c, left) : slope), sum);
        vl_store_first(out + c, sum, left);
    }
}

/* Sums at out + out_rows[r] through the chain, in place. Rows as far apart as they are long are one run to the chain;
 * of a single column the rows are its columns. */
static void vl_finish_chained(const vl_epilogue *e, ptrdiff_t rows, ptrdiff_t columns, real *out,
                              const ptrdiff_t *out_rows)
{
#if !VL_F64
    vl_chain chain = *e->chain;
    vl_chain_array arrays[VL_CHAIN_ARRAYS];
    const int operands = chain.operands, single = columns == 1;
    chain.arrays = arrays;
    for (ptrdiff_t row = 0, equal; row < rows; row += equal) {
        equal = vl_equal_rows(out_rows + row, rows - row);
        const ptrdiff_t distance = vl_row_distance(out_rows + row, equal);
        chain.rows = single ? 1 : equal;
        chain.columns = single ? equal : columns;
        real *to = out + out_rows[row];
        const vl_chain_array own = {to, single ? 0 : distance, single ? distance : 1, 0};
        arrays[0] = arrays[operands] = own;
        for (int k = 1; k < operands; k++) {
            vl_chain_array other = e->chain->arrays[k];
            ptrdiff_t offset = other.row ? to - (const real *)e->out : e->channel * other.column;
            other.data = (char *)other.data + offset * (ptrdiff_t)(other.element ? 1 : sizeof(real));
            if (other.row)
                other.row = own.row, other.column = own.column;
            else if (single)
                other.column = 0;
            arrays[k] = other;
        }
        vl_kernel_chain(&chain);
    }
#else
    (void)e, (void)rows, (void)columns, (void)out, (void)out_rows;
#endif
}

/* Rows of `columns` at out + out_rows[r], in place. */
static void vl_finish_rows(const vl_epilogue *e, ptrdiff_t rows, ptrdiff_t columns, real *out,
                           const ptrdiff_t *out_rows)
{
    if (e->kind == VL_AS_IT_IS)
        return;
    if (e->kind == VL_CHAINED) {
        vl_finish_chained(e, rows, columns, out, out_rows);
        return;
    }
    const real *slopes = e->slopes ? (const real *)e->slopes + e->channel : NULL;
    for (ptrdiff_t row = 0, equal; row < rows; row += equal) {
        equal = vl_equal_rows(out_rows + row, rows - row);
        /* rows side by side are one run: few columns leave lanes idle */
        const int joined = !slopes && vl_row_distance(out_rows + row, equal) == columns;
        for (ptrdiff_t r = 0; r < (joined ? 1 : equal); r++)
            vl_finish_run(e, joined ? equal * columns : columns, out + out_rows[row + r], slopes);
    }
}

static void vl_kernel_finish(const vl_epilogue *e, ptrdiff_t rows, ptrdiff_t columns, void *out,
                             const ptrdiff_t *out_rows)
{
    vl_finish_rows(e, rows, columns, out, out_rows);
}

/* How many finished sums wait for what follows them: few enough for the nearest cache, so many that what a chain costs
 * to begin counts little. */
enum { VL_WAITING_SUMS = 2048 };

/* Rows [done, row) have their sums. Finishes them if they are enough, or `last`; the new `done`. */
VL_INLINE ptrdiff_t vl_finish_if_enough(const vl_epilogue *e, ptrdiff_t done, ptrdiff_t row, int last,
                                        ptrdiff_t columns, real *out, const ptrdiff_t *out_rows)
{
    if (!last && (row - done) * columns < VL_WAITING_SUMS)
        return done;
    vl_finish_rows(e, row - done, columns, out, out_rows + done);
    return row;
}
