/* Rows in small form times a group of small weights, kernels.h's vl_small_product: VL_SMALL(product), by who includes
 * this, for each way to multiply. He defines
 *
 *   VL_SMALL(name)          a name of this way's own
 *   VL_SMALL_ADD            the function that makes a block's sums
 *   VL_SMALL_WHOLE          terms of a block, as most are: the loop over so many is unrolled
 *   VL_SMALL_OFFSETS        0 or 1: whether blocks have the integers that undo an offset of x
 *   VL_SMALL_WIDE           whether there are weights of 16 bits
 *   VL_SMALL_TALLEST        rows of a tile, VL_SMALL_MOST_ROWS at most
 *
 * A block's sums are integers in registers; the float sums, which wait for the next block, are on the stack where they
 * do not fit beside them. One row is bound by reading w. More are by multiplying, where w is near: all tiles pass by
 * VL_SMALL_NEAR bytes of it before the next, and leave their sums in `sums` meanwhile. That is what the nearest cache holds
 * beside x; 256 terms of a full group are just within it.
 */
#ifndef VL_SMALL_NEAR
#define VL_SMALL_NEAR (20 << 10)
#define VL_SMALL_PASS 32 /* rows whose sums wait */
#endif

/* The terms [k, end) of rows [row, row + rows); sums are those of the terms before, and of rows from `row` on. */
VL_INLINE void VL_SMALL(tile)(const int wide, const int rows, const int vectors, const vl_small_product *p,
                              const char *w, ptrdiff_t row, ptrdiff_t k, ptrdiff_t end, vec (*sums)[VL_GROUP])
{
    const ptrdiff_t stride = vl_small_row_bytes(p->depth), plane = vl_small_plane(p->depth);
    const char *x[VL_SMALL_MOST_ROWS];
    vec sum[VL_SMALL_MOST_ROWS][VL_GROUP];
    for (int r = 0; r < rows; r++)
        x[r] = p->x + (row + r) * stride + VL_SMALL_HEAD;
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = k ? sums[i / vectors][i % vectors] : VL_SPLAT(0);
    for (; k < end; k += p->block) {
        const float *scales = (const float *)w;
        const ptrdiff_t terms = end - k < p->block ? end - k : p->block;
        veci part[VL_SMALL_MOST_ROWS][VL_GROUP];
        w += vectors * VL_BYTES * (1 + VL_SMALL_OFFSETS);
        if (terms == VL_SMALL_WHOLE)
            w = VL_SMALL_ADD(wide, 1, rows, vectors, part, x, w, k, VL_SMALL_WHOLE, plane);
        else
            w = VL_SMALL_ADD(wide, 0, rows, vectors, part, x, w, k, terms, plane);
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++) {
            const int r = i / vectors, v = i % vectors;
            veci total = part[r][v];
            if (VL_SMALL_OFFSETS)
                total += *(const vl_lanes *)(scales + (vectors + v) * L);
            sum[r][v] = VL_FMA(__builtin_convertvector(total, vec), vl_load(scales + v * L), sum[r][v]);
        }
    }
    if (end < p->depth) {
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            sums[i / vectors][i % vectors] = sum[i / vectors][i % vectors];
        return;
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

/* One row times all groups: a call for each would cost forty cycles beside a group's few hundred. */
VL_INLINE void VL_SMALL(row)(const int wide, const int vectors, const vl_small_product *p, ptrdiff_t all)
{
    vl_small_product one = *p;
    for (ptrdiff_t i = 0; i < p->groups; i++) {
        one.start = p->start + i * p->group_start;
        one.last = p->last ? p->last + i * p->group_last : NULL;
        one.out = p->out + i * p->group_out;
        VL_SMALL(tile)(wide, 1, vectors, &one, p->w + i * p->group_bytes, 0, 0, all, NULL);
    }
}

static __attribute__((noinline)) void VL_SMALL(row_product)(const vl_small_product *p, ptrdiff_t all)
{
    switch (p->wide * 8 + p->vectors) {
    case 1: VL_SMALL(row)(0, 1, p, all); break;
    case 2: VL_SMALL(row)(0, 2, p, all); break;
    case 3: VL_SMALL(row)(0, 3, p, all); break;
    case 4: VL_SMALL(row)(0, 4, p, all); break;
#if VL_SMALL_WIDE
    case 9: VL_SMALL(row)(1, 1, p, all); break;
    case 10: VL_SMALL(row)(1, 2, p, all); break;
    case 11: VL_SMALL(row)(1, 3, p, all); break;
    case 12: VL_SMALL(row)(1, 4, p, all); break;
#endif
    }
}

#define VL_SMALL_ONE(wide, rows, vectors)                                                                              \
    case (wide) * 64 + (vectors) * 8 + (rows):                                                                         \
        if (rows <= VL_SMALL_TALLEST)                                                                                  \
            VL_SMALL(tile)(wide, rows, vectors, p, w, row, k, end, sums + (row - first));                              \
        break;
/* clang-format off */
#define VL_SMALL_TILES(wide, vectors)                                                                                  \
    VL_SMALL_ONE(wide, 1, vectors) VL_SMALL_ONE(wide, 2, vectors) VL_SMALL_ONE(wide, 3, vectors)                       \
    VL_SMALL_ONE(wide, 4, vectors)
/* clang-format on */

/* Rows are split as equally as can be: a low tile multiplies slower. */
VL_SMALL_LINKAGE void VL_SMALL(product)(const vl_small_product *p)
{
    const ptrdiff_t all = (p->depth + VL_SMALL_STEP - 1) / VL_SMALL_STEP * VL_SMALL_STEP;
    if (p->rows == 1) {
        VL_SMALL(row_product)(p, all);
        return;
    }
    const ptrdiff_t block_bytes =
        p->vectors * L * (4 * (1 + VL_SMALL_OFFSETS) + p->block * (VL_SMALL_WIDE && p->wide ? 2 : 1));
    const ptrdiff_t blocks = p->rows > VL_SMALL_TALLEST ? VL_SMALL_NEAR / block_bytes : all / p->block + 1;
    vec sums[VL_SMALL_PASS][VL_GROUP];
    for (ptrdiff_t first = 0, pass; first < p->rows; first += pass) {
        const char *w = p->w;
        pass = p->rows - first < VL_SMALL_PASS ? p->rows - first : VL_SMALL_PASS;
        ptrdiff_t k = 0, end;
        do {
            end = all - k < blocks * p->block ? all : k + blocks * p->block;
            for (ptrdiff_t row = first, rows; row < first + pass; row += rows) {
                const ptrdiff_t left = first + pass - row, tiles = (left + VL_SMALL_TALLEST - 1) / VL_SMALL_TALLEST;
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
            w += blocks * block_bytes;
            k = end;
        } while (k < all);
    }
}
#undef VL_SMALL
#undef VL_SMALL_ADD
#undef VL_SMALL_WHOLE
#undef VL_SMALL_OFFSETS
#undef VL_SMALL_WIDE
#undef VL_SMALL_TALLEST
#undef VL_SMALL_LINKAGE
