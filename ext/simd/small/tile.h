/* Rows in small form times a group of small weights, kernels.h's vl_small_product: VL_SMALL(product), by who includes
 * this, for each way to multiply. He defines
 *
 *   VL_SMALL(name)          a name of this way's own
 *   VL_SMALL_ADD            the function that makes a block's sums
 *   VL_SMALL_OFFSETS        0 or 1: whether blocks have the integers that undo an offset
 *   VL_SMALL_WIDE           whether there are weights of 16 bits
 *   VL_SMALL_TALLEST(vectors)   rows of a tile, VL_SMALL_MOST_ROWS at most
 *
 * A block's sums are integers in registers; the float sums, which wait for the next block, are on the stack where they
 * do not fit beside them. One row is bound by reading w, more are by multiplying.
 */
VL_INLINE void VL_SMALL(tile)(const int wide, const int rows, const int vectors, const vl_small_product *p,
                              ptrdiff_t row)
{
    const ptrdiff_t stride = vl_small_row_bytes(p->depth), plane = vl_small_plane(p->depth);
    const ptrdiff_t all = (p->depth + VL_SMALL_STEP - 1) / VL_SMALL_STEP * VL_SMALL_STEP;
    const char *w = p->w, *x[VL_SMALL_MOST_ROWS];
    vec sum[VL_SMALL_MOST_ROWS][VL_GROUP];
    for (int r = 0; r < rows; r++)
        x[r] = p->x + (row + r) * stride + VL_SMALL_HEAD;
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = VL_SPLAT(0);
    for (ptrdiff_t k = 0; k < all; k += p->block) {
        const float *scales = (const float *)w;
        veci part[VL_SMALL_MOST_ROWS][VL_GROUP];
        w = VL_SMALL_ADD(wide, rows, vectors, part, x, w + vectors * VL_BYTES * (1 + VL_SMALL_OFFSETS), k,
                         all - k < p->block ? all - k : p->block, plane);
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++) {
            const int r = i / vectors, v = i % vectors;
            veci total = part[r][v];
            if (VL_SMALL_OFFSETS)
                total += *(const vl_lanes *)(scales + (vectors + v) * L);
            sum[r][v] = VL_FMA(__builtin_convertvector(total, vec), vl_load(scales + v * L), sum[r][v]);
        }
    }
    for (int r = 0; r < rows; r++) {
        const vec scale = VL_SPLAT(*(const float *)(x[r] - VL_SMALL_HEAD));
        float *out = p->out + (row + r) * p->ld_out;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            const float *from = p->last && v == vectors - 1 ? p->last : p->start + (row + r) * p->ld_start + v * L;
            vl_store(out + v * L, VL_FMA(sum[r][v], scale, vl_load(from)));
        }
    }
}

#define VL_SMALL_ONE(wide, rows, vectors)                                                                              \
    case (wide) * 64 + (vectors) * 8 + (rows):                                                                         \
        if (rows <= VL_SMALL_TALLEST)                                                                                  \
            VL_SMALL(tile)(wide, rows, vectors, p, row);                                                               \
        break;
/* clang-format off */
#define VL_SMALL_TILES(wide, vectors)                                                                                  \
    VL_SMALL_ONE(wide, 1, vectors) VL_SMALL_ONE(wide, 2, vectors) VL_SMALL_ONE(wide, 3, vectors)                       \
    VL_SMALL_ONE(wide, 4, vectors)
/* clang-format on */

/* Rows are split as equally as can be: a low tile multiplies slower. */
VL_SMALL_LINKAGE void VL_SMALL(product)(const vl_small_product *p)
{
    for (ptrdiff_t row = 0, rows; row < p->rows; row += rows) {
        const ptrdiff_t left = p->rows - row, tiles = (left + VL_SMALL_TALLEST - 1) / VL_SMALL_TALLEST;
        rows = (left + tiles - 1) / tiles;
        switch (p->wide * 64 + p->vectors * 8 + (int)rows) {
            VL_SMALL_TILES(0, 1)
            VL_SMALL_TILES(0, 2)
            VL_SMALL_TILES(0, 3)
            VL_SMALL_TILES(0, 4)
#if VL_SMALL_WIDE
            VL_SMALL_TILES(1, 1)
            VL_SMALL_TILES(1, 2)
            VL_SMALL_TILES(1, 3)
            VL_SMALL_TILES(1, 4)
#endif
        }
    }
}
#undef VL_SMALL
#undef VL_SMALL_ADD
#undef VL_SMALL_OFFSETS
#undef VL_SMALL_WIDE
#undef VL_SMALL_TALLEST
#undef VL_SMALL_LINKAGE
