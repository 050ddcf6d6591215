/* Products that are not recurrent: rows times packed weights. */

/* ---- product: out = bias + x . w ---------------------------------------------------------- */

VL_INLINE void vl_product_store(const vl_product *p, ptrdiff_t row, ptrdiff_t vector, vec value)
{
    real *out = (real *)p->out + row * p->ld_out + vector * L;
    ptrdiff_t left = p->columns - vector * L;
    if (p->relu)
        value = VL_MAX(VL_SPLAT(0), value);
    vl_store_first(out, value, left < L ? left : L);
}

VL_INLINE vl_start vl_product_start(const vl_product *p, ptrdiff_t vector)
{
    return (vl_start){p->bias ? (const real *)p->bias + vector * L : vl_zeros, 0, NULL};
}

VL_INLINE void vl_product_pair(int vectors, int second, const vl_product *p, ptrdiff_t row, ptrdiff_t vector)
{
    vl_sums acc[2];
    const real *w = (const real *)p->w + vector * p->depth * L;
    vl_start start = vl_product_start(p, vector), start2 = vl_product_start(p, vector + vectors);
    vl_row_pair_of(vectors, second, (p->last - p->first) * p->depth * L)(
        acc, &start, &start2, (const real *)p->x + p->x_rows[row], w,
        w + vectors * p->depth * L, p->depth);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vl_product_store(p, row, vector + v, acc[0][v]);
    for (int v = 0; v < second; v++)
        vl_product_store(p, row, vector + vectors + v, acc[1][v]);
}

VL_INLINE void vl_product_group(int vectors, const vl_product *p, ptrdiff_t vector)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const real *x[VL_BLOCK_ROWS], *w = (const real *)p->w + vector * p->depth * L;
    vl_start start = vl_product_start(p, vector);
    int as_it_is = !p->relu && (vector + vectors) * L <= p->columns;
    for (ptrdiff_t row = 0, rows; row < p->rows; row += rows) {
        rows = vl_block_rows(p->rows - row, vectors);
        for (ptrdiff_t r = 0; r < rows; r++)
            x[r] = (const real *)p->x + p->x_rows[row + r];
        if (as_it_is) {
            real *out = (real *)p->out + row * p->ld_out + vector * L;
            vl_block(rows, vectors, out, p->ld_out, start, x, w, p->depth);
            continue;
        }
        vl_block(rows, vectors, (real *)acc, VL_MOST_VECTORS * L, start, x, w, p->depth);
        for (ptrdiff_t r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                vl_product_store(p, row + r, vector + v, acc[r][v]);
    }
}

/* One row takes groups in pairs, so that the last, which may be narrow, is not alone. */
static void vl_kernel_product(const vl_product *p)
{
    const ptrdiff_t groups = (p->last - p->first + p->group - 1) / p->group;
    const ptrdiff_t pairs = p->rows == 1 ? groups / 2 : 0, units = groups - pairs;
    const ptrdiff_t single = units - pairs; /* groups by themselves: the first ones */
    for (ptrdiff_t i = 0; i < units; i++) {
        ptrdiff_t unit = p->turned ? units - 1 - i : i;
        ptrdiff_t vector = p->first + (unit < single ? unit : 2 * unit - single) * p->group;
        if (unit >= single) {
            ptrdiff_t second = p->last - vector - p->group;
            if (p->group == 3)
                vl_product_pair(3, second < 3 ? second : 3, p, 0, vector);
            else
                vl_product_pair(4, second < 4 ? second : 4, p, 0, vector);
            continue;
        }
        ptrdiff_t width = p->vectors - vector;
        switch (width < p->group ? width : p->group) {
        case 1: vl_product_group(1, p, vector); break;
        case 2: vl_product_group(2, p, vector); break;
        case 3: vl_product_group(3, p, vector); break;
        default: vl_product_group(4, p, vector); break;
        }
    }
}
