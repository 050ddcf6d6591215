/* The register tile: rows x vectors accumulators, kept in registers over the whole k loop.
 *
 *     acc[r][v] += sum of x[r][k] * w[k][v] over k        r < rows, v < vectors, k < depth
 *
 * The sum is made in parts of VL_TERMS terms, each in order of k by single FMAs from zero, and the parts
 * are added to acc one after another: a long chain's rounding errors grow with its length, and one that
 * starts from a large bias rounds every term to the bias's grain (python -m benchmarks.fidelity). All
 * of that is the same whatever the tile's height, so a row's result does not depend on which rows it
 * is computed with.
 *
 * Registers: rows*vectors sums plus the smaller operand plus one. With 32 registers 6x4 or 8x3 leave
 * room; with 16, 3x4 (three broadcasts and one weight) or 4x3 (three weights and one broadcast) take
 * exactly all. Bound by FMA once rows >= 2; a single row is bound by reading w.
 */
enum { VL_MOST_ROWS = 8, VL_MOST_VECTORS = 4, VL_TERMS = 128 };

VL_INLINE void vl_tile(int rows, int vectors, vec (*acc)[VL_MOST_VECTORS], const real *const *x,
                       const real *w, ptrdiff_t depth)
{
    for (ptrdiff_t k = 0, end; k < depth; k = end) {
        vec sum[VL_MOST_ROWS][VL_MOST_VECTORS];
        end = depth - k < VL_TERMS ? depth : k + VL_TERMS;
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            sum[i / vectors][i % vectors] = VL_SPLAT(0);
        for (ptrdiff_t j = k; j < end; j++, w += vectors * L) {
            if (rows < vectors) {
                vec xs[VL_MOST_ROWS];
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++)
                    xs[r] = VL_SPLAT(x[r][j]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    vec wv = vl_load(w + v * L);
#pragma GCC unroll 8
                    for (int r = 0; r < rows; r++)
                        sum[r][v] = VL_FMA(xs[r], wv, sum[r][v]);
                }
            } else {
                vec ws[VL_MOST_VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    ws[v] = vl_load(w + v * L);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    vec xr = VL_SPLAT(x[r][j]);
#pragma GCC unroll 4
                    for (int v = 0; v < vectors; v++)
                        sum[r][v] = VL_FMA(xr, ws[v], sum[r][v]);
                }
            }
        }
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            acc[i / vectors][i % vectors] += sum[i / vectors][i % vectors];
    }
}

/* One row against two neighbouring panels: twice the chains hide the FMA's latency, and the loop is
 * bound by reading w alone. The explicit prefetch is worth a sixth where the weights come from the third
 * level; half a kilobyte ahead measured best, two kilobytes worse than none. */
VL_INLINE void vl_tile_row_pair(int vectors, vec *first, vec *second, const real *x, const real *w,
                                const real *w2, ptrdiff_t depth)
{
    const ptrdiff_t ahead = 512 / sizeof(real);
    for (ptrdiff_t k = 0, end; k < depth; k = end) {
        vec sum[VL_MOST_VECTORS], sum2[VL_MOST_VECTORS];
        end = depth - k < VL_TERMS ? depth : k + VL_TERMS;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] = sum2[v] = VL_SPLAT(0);
#pragma GCC unroll 2
        for (ptrdiff_t j = k; j < end; j++, w += vectors * L, w2 += vectors * L) {
            vec xs = VL_SPLAT(x[j]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                if (v * VL_BYTES % 64 == 0)
                    __builtin_prefetch(w + v * L + ahead);
                sum[v] = VL_FMA(xs, vl_load(w + v * L), sum[v]);
            }
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                if (v * VL_BYTES % 64 == 0)
                    __builtin_prefetch(w2 + v * L + ahead);
                sum2[v] = VL_FMA(xs, vl_load(w2 + v * L), sum2[v]);
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            first[v] += sum[v];
            second[v] += sum2[v];
        }
    }
}

/* Calls BODY(rows) with rows a constant, for a height only known at run time. */
#define VL_FOR_HEIGHT(height, BODY) \
    switch (height) {               \
    case 1: BODY(1); break;         \
    case 2: BODY(2); break;         \
    case 3: BODY(3); break;         \
    case 4: BODY(4); break;         \
    case 5: BODY(5); break;         \
    case 6: BODY(6); break;         \
    case 7: BODY(7); break;         \
    default: BODY(8); break;        \
    }

/* Splits rows into the fewest tiles of at most `tallest`, as equal as can be: 7 rows are 4 + 3, not
 * 6 + 1, for a low tile waits on the FMA's latency. */
VL_INLINE ptrdiff_t vl_next_height(ptrdiff_t rows_left, ptrdiff_t tallest)
{
    ptrdiff_t tiles = (rows_left + tallest - 1) / tallest;
    return (rows_left + tiles - 1) / tiles;
}
