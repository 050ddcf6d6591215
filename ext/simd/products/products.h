/* Products that are not recurrent: rows times packed weights. */

/* ---- product: out = bias + x . w ---------------------------------------------------------- */

VL_INLINE void vl_product_store(const vl_product *product, ptrdiff_t row, ptrdiff_t vector, vec value)
{
    real *out = (real *)product->out + row * product->ld_out + vector * L;
    ptrdiff_t left = product->columns - vector * L;
    if (product->relu)
        value = VL_MAX(VL_SPLAT(0), value);
    vl_store_first(out, value, left < L ? left : L);
}

VL_INLINE vl_start vl_product_start(const vl_product *product, ptrdiff_t vector)
{
    return (vl_start){product->bias ? (const real *)product->bias + vector * L : vl_zeros, 0, NULL};
}

VL_INLINE void vl_product_pair(int vectors, int second, const vl_product *product, ptrdiff_t row, ptrdiff_t vector)
{
    vl_sums acc[2];
    const real *w = (const real *)product->w + vector * product->depth * L;
    vl_start start = vl_product_start(product, vector), start2 = vl_product_start(product, vector + vectors);
    vl_row_pair_of(vectors, second, (product->last - product->first) * product->depth * L)(
        acc, &start, &start2, (const real *)product->x + product->x_rows[row], w, w + vectors * product->depth * L,
        product->depth);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        vl_product_store(product, row, vector + v, acc[0][v]);
    for (int v = 0; v < second; v++)
        vl_product_store(product, row, vector + vectors + v, acc[1][v]);
}

VL_INLINE void vl_product_group(int vectors, const vl_product *product, ptrdiff_t vector)
{
    vl_sums acc[VL_BLOCK_ROWS];
    const real *x[VL_BLOCK_ROWS], *w = (const real *)product->w + vector * product->depth * L;
    vl_start start = vl_product_start(product, vector);
    int as_it_is = !product->relu && (vector + vectors) * L <= product->columns;
    for (ptrdiff_t row = 0, rows; row < product->rows; row += rows) {
        rows = vl_block_rows(product->rows - row, vectors);
        for (ptrdiff_t r = 0; r < rows; r++)
            x[r] = (const real *)product->x + product->x_rows[row + r];
        if (as_it_is) {
            real *out = (real *)product->out + row * product->ld_out + vector * L;
            vl_block(rows, vectors, out, product->ld_out, start, x, w, product->depth);
            continue;
        }
        vl_block(rows, vectors, (real *)acc, VL_MOST_VECTORS * L, start, x, w, product->depth);
        for (ptrdiff_t r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                vl_product_store(product, row + r, vector + v, acc[r][v]);
    }
}

/* One row takes groups in pairs, so that the last, which may be narrow, is not alone. */
static void vl_kernel_product(const vl_product *product)
{
    const ptrdiff_t groups = (product->last - product->first + product->group - 1) / product->group;
    const ptrdiff_t pairs = product->rows == 1 ? groups / 2 : 0, units = groups - pairs;
    const ptrdiff_t single = units - pairs; /* groups by themselves: the first ones */
    for (ptrdiff_t i = 0; i < units; i++) {
        ptrdiff_t unit = product->turned ? units - 1 - i : i;
        ptrdiff_t vector = product->first + (unit < single ? unit : 2 * unit - single) * product->group;
        if (unit >= single) {
            ptrdiff_t second = product->last - vector - product->group;
            if (product->group == 3)
                vl_product_pair(3, second < 3 ? second : 3, product, 0, vector);
            else
                vl_product_pair(4, second < 4 ? second : 4, product, 0, vector);
            continue;
        }
        ptrdiff_t width = product->vectors - vector;
        switch (width < product->group ? width : product->group) {
        case 1: vl_product_group(1, product, vector); break;
        case 2: vl_product_group(2, product, vector); break;
        case 3: vl_product_group(3, product, vector); break;
        default: vl_product_group(4, product, vector); break;
        }
    }
}
