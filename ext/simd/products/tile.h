/* The register tile: rows x vectors sums, kept in registers over the k loop.
 *
 *     out[r][v] = start[r][v] + sum of x[r][k] * w[k][v] over k        r < rows, v < vectors, k < depth
 *
 * The sum is made in parts of VL_TERMS terms, each in order of k by single FMAs from zero, and the parts
 * are added to start one after another: a long chain's rounding errors grow with its length, and one that
 * starts from a large bias rounds every term to the bias's grain (python -m benchmarks.fidelity). All
 * of that is the same whatever the tile's height, so a row's result does not depend on which rows it
 * is computed with.
 *
 * Registers: rows*vectors sums plus the smaller operand plus one. With 32 registers 6x4 or 8x3 leave
 * room; with 16, 3x4 (three broadcasts and one weight) or 4x3 (three weights and one broadcast) take
 * exactly all. Bound by FMA once rows >= 2; a single row is bound by reading w.
 */
enum { VL_MOST_ROWS = 8, VL_MOST_VECTORS = VL_GROUP };

typedef vec vl_sums[VL_MOST_VECTORS]; /* of one row */

/* What the sums of a tile or block begin with: rows at an address, ld elements apart (0: all the same),
 * but where `last` is given, the last vector of every row there. */
typedef struct {
    const real *rows;
    ptrdiff_t ld;
    const real *last;
} vl_start;

VL_INLINE const real *vl_from(const vl_start *start, int row, int v, int vectors)
{
    return start->last && v == vectors - 1 ? start->last : start->rows + row * start->ld + v * L;
}

static const real vl_zeros[VL_MOST_VECTORS * L] __attribute__((aligned(VL_BYTES)));

/* sum[r][v] += the terms of [k, end); returns the weights that follow theirs. */
VL_INLINE const real *vl_add_terms(int rows, int vectors, vec (*sum)[VL_MOST_VECTORS], const real *const *x,
                                   const real *w, ptrdiff_t k, ptrdiff_t end, int unroll)
{
#define VL_TERM                                                                                                        \
    if (rows < vectors) {                                                                                              \
        vec xs[VL_MOST_ROWS];                                                                                          \
        _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++) xs[r] = VL_SPLAT(x[r][k]);                              \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)                                                      \
        {                                                                                                              \
            vec wv = vl_load(w + v * L);                                                                               \
            if (rows > 1)                                                                                              \
                VL_KEEP(wv);                                                                                           \
            _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++) sum[r][v] = VL_FMA(xs[r], wv, sum[r][v]);           \
        }                                                                                                              \
    } else {                                                                                                           \
        vec ws[VL_MOST_VECTORS];                                                                                       \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)                                                      \
        {                                                                                                              \
            ws[v] = vl_load(w + v * L);                                                                                \
            if (rows > 1)                                                                                              \
                VL_KEEP(ws[v]);                                                                                        \
        }                                                                                                              \
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)                                                        \
        {                                                                                                              \
            vec xr = VL_SPLAT(x[r][k]);                                                                                \
            _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) sum[r][v] = VL_FMA(xr, ws[v], sum[r][v]);        \
        }                                                                                                              \
    }
    if (unroll) {
#pragma GCC unroll VL_UNROLL
        for (; k < end; k++, w += vectors * L) {
            VL_TERM
        }
    } else
        for (; k < end; k++, w += vectors * L) {
            VL_TERM
        }
#undef VL_TERM
    return w;
}

/* The terms of [k, end), which is one part. */
VL_INLINE void vl_tile(int rows, int vectors, real *out, ptrdiff_t ld_out, vl_start start, const real *const *x,
                       const real *w, ptrdiff_t k, ptrdiff_t end)
{
    vec sum[VL_MOST_ROWS][VL_MOST_VECTORS];
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = VL_SPLAT(0);
    vl_add_terms(rows, vectors, sum, x, w, k, end, 1);
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++) {
        int r = i / vectors, v = i % vectors;
        vl_store(out + r * ld_out + v * L, vl_load(vl_from(&start, r, v, vectors)) + sum[r][v]);
    }
}

/* Splits rows into the fewest parts of at most `tallest`, as equal as can be: 7 rows are 4 + 3, not
 * 6 + 1, for a low tile waits on the FMA's latency. */
VL_INLINE ptrdiff_t vl_next_height(ptrdiff_t rows_left, ptrdiff_t tallest)
{
    ptrdiff_t tiles = (rows_left + tallest - 1) / tallest;
    return (rows_left + tiles - 1) / tiles;
}

/* A function for each shape, called and not inlined: what surrounds a tile has no say in what the
 * compiler keeps in registers over the k loop. */
typedef void vl_tile_function(real *out, ptrdiff_t ld_out, const vl_start *start, const real *const *x, const real *w,
                              ptrdiff_t k, ptrdiff_t end);
#define VL_TILE(rows, vectors)                                                                                         \
    static __attribute__((noinline)) void vl_tile_##rows##x##vectors(real *out, ptrdiff_t ld_out,                      \
                                                                     const vl_start *start, const real *const *x,      \
                                                                     const real *w, ptrdiff_t k, ptrdiff_t end)        \
    {                                                                                                                  \
        if (rows <= VL_TALLEST(vectors))                                                                               \
            vl_tile(rows, vectors, out, ld_out, *start, x, w, k, end);                                                 \
    }
/* clang-format off */
#define VL_TILES_OF(vectors)                                                                      \
    VL_TILE(1, vectors) VL_TILE(2, vectors) VL_TILE(3, vectors) VL_TILE(4, vectors)               \
    VL_TILE(5, vectors) VL_TILE(6, vectors) VL_TILE(7, vectors) VL_TILE(8, vectors)
VL_TILES_OF(1)
VL_TILES_OF(2)
VL_TILES_OF(3)
VL_TILES_OF(4)
/* clang-format on */
#define VL_TILE_ROW(v)                                                                                                 \
    {vl_tile_1x##v, vl_tile_2x##v, vl_tile_3x##v, vl_tile_4x##v,                                                       \
     vl_tile_5x##v, vl_tile_6x##v, vl_tile_7x##v, vl_tile_8x##v}
static vl_tile_function *const vl_tile_of[VL_MOST_VECTORS][VL_MOST_ROWS] = {VL_TILE_ROW(1), VL_TILE_ROW(2),
                                                                            VL_TILE_ROW(3), VL_TILE_ROW(4)};

/* A block of rows, a few tiles, against one group: as a tile, of any height and depth. All tiles pass by
 * a part of the group, which stays in the nearest cache meanwhile, before the next part. */
enum { VL_BLOCK_TILES = 4, VL_BLOCK_ROWS = VL_BLOCK_TILES * VL_MOST_ROWS };

VL_INLINE void vl_block(ptrdiff_t rows, int vectors, real *out, ptrdiff_t ld_out, vl_start start, const real *const *x,
                        const real *w, ptrdiff_t depth)
{
    ptrdiff_t k = 0, end;
    do {
        end = depth - k < VL_TERMS ? depth : k + VL_TERMS;
        for (ptrdiff_t row = 0, height; row < rows; row += height) {
            vl_start first = start;
            first.rows += row * start.ld;
            height = vl_next_height(rows - row, VL_TALLEST(vectors));
            vl_tile_of[vectors - 1][height - 1](out + row * ld_out, ld_out, &first, x + row, w + k * vectors * L, k,
                                                end);
        }
        start = (vl_start){out, ld_out, NULL};
        k = end;
    } while (k < depth);
}

/* For widths that are not known when this is compiled. */
static void vl_block_of(ptrdiff_t rows, int vectors, real *out, ptrdiff_t ld_out, vl_start start, const real *const *x,
                        const real *w, ptrdiff_t depth)
{
    vl_block(rows, vectors, out, ld_out, start, x, w, depth);
}

/* The rows of the next block: the next tiles of those that all rows are split into. */
VL_INLINE ptrdiff_t vl_block_rows(ptrdiff_t rows_left, int vectors)
{
    ptrdiff_t rows = 0;
    for (int tile = 0; tile < VL_BLOCK_TILES && rows < rows_left; tile++)
        rows += vl_next_height(rows_left - rows, VL_TALLEST(vectors));
    return rows;
}

/* The end of a part of one row: its sums and what they began with, which is what the next part begins with. */
VL_INLINE void vl_end_part(int vectors, vec *out, vl_start *start, const vec *sum)
{
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++)
        out[v] = vl_load(vl_from(start, 0, v, vectors)) + sum[v];
    *start = (vl_start){(const real *)out, 0, NULL};
}

/* One row against two neighbouring groups, the second perhaps narrower: twice the chains hide the FMA's latency, and
 * the loop is bound by reading w alone. Weights that the second-level cache does not hold are fetched ahead, which
 * measured a sixth on an EPYC with AVX2 and nothing on a Xeon. By a quarter of a kilobyte: a CPU that fetches well by
 * itself (EPYC, Zen 4) loses nothing by it, by half of one it loses 4 to 20 %. Those that the cache holds are not: the
 * CPU fetches them by itself, and 8 to 20 % faster. */
VL_INLINE void vl_row_pair(int vectors, int second, int far, vl_sums *out, vl_start start, vl_start start2,
                           const real *x, const real *w, const real *w2, ptrdiff_t depth)
{
    const ptrdiff_t ahead = 256 / sizeof(real);
    ptrdiff_t k = 0, end;
    do {
        vec sum[VL_MOST_VECTORS], sum2[VL_MOST_VECTORS];
        end = depth - k < VL_TERMS ? depth : k + VL_TERMS;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[v] = sum2[v] = VL_SPLAT(0);
#pragma GCC unroll 2
        for (ptrdiff_t j = k; j < end; j++, w += vectors * L, w2 += second * L) {
            vec xs = VL_SPLAT(x[j]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) { /* by turns: both groups are read at one pace */
                if (far && v * VL_BYTES % 64 == 0) {
                    __builtin_prefetch(w + v * L + ahead);
                    if (v < second)
                        __builtin_prefetch(w2 + v * L + ahead);
                }
                sum[v] = VL_FMA(xs, vl_load(w + v * L), sum[v]);
                if (v < second)
                    sum2[v] = VL_FMA(xs, vl_load(w2 + v * L), sum2[v]);
            }
        }
        vl_end_part(vectors, out[0], &start, sum);
        vl_end_part(second, out[1], &start2, sum2);
        k = end;
    } while (k < depth);
}

typedef void vl_row_pair_function(vl_sums *out, const vl_start *start, const vl_start *start2, const real *x,
                                  const real *w, const real *w2, ptrdiff_t depth);
#define VL_ROW_PAIR(name, vectors, second, far)                                                                        \
    static __attribute__((noinline)) void name(vl_sums *out, const vl_start *start, const vl_start *start2,            \
                                               const real *x, const real *w, const real *w2, ptrdiff_t depth)          \
    {                                                                                                                  \
        vl_row_pair(vectors, second, far, out, *start, *start2, x, w, w2, depth);                                      \
    }
VL_ROW_PAIR(vl_near_pair_2x1, 2, 1, 0)
VL_ROW_PAIR(vl_near_pair_2x2, 2, 2, 0)
VL_ROW_PAIR(vl_near_pair_3x1, 3, 1, 0)
VL_ROW_PAIR(vl_near_pair_3x2, 3, 2, 0)
VL_ROW_PAIR(vl_near_pair_3x3, 3, 3, 0)
VL_ROW_PAIR(vl_near_pair_4x1, 4, 1, 0)
VL_ROW_PAIR(vl_near_pair_4x2, 4, 2, 0)
VL_ROW_PAIR(vl_near_pair_4x3, 4, 3, 0)
VL_ROW_PAIR(vl_near_pair_4x4, 4, 4, 0)
VL_ROW_PAIR(vl_far_pair_2x2, 2, 2, 1)
VL_ROW_PAIR(vl_far_pair_3x3, 3, 3, 1)
VL_ROW_PAIR(vl_far_pair_4x4, 4, 4, 1)

/* The last pair of many may be uneven: not worth a function that fetches ahead. */
VL_INLINE vl_row_pair_function *vl_row_pair_of(int vectors, int second, ptrdiff_t weights)
{
    static vl_row_pair_function *const near[VL_MOST_VECTORS + 1][VL_MOST_VECTORS + 1] = {
        [2] = {NULL, vl_near_pair_2x1, vl_near_pair_2x2},
        [3] = {NULL, vl_near_pair_3x1, vl_near_pair_3x2, vl_near_pair_3x3},
        [4] = {NULL, vl_near_pair_4x1, vl_near_pair_4x2, vl_near_pair_4x3, vl_near_pair_4x4}};
    static vl_row_pair_function *const far[VL_MOST_VECTORS + 1] = {
        [2] = vl_far_pair_2x2, [3] = vl_far_pair_3x3, [4] = vl_far_pair_4x4};
    int fetched = vectors == second && weights > (ptrdiff_t)(VL_NEAR_BYTES / sizeof(real));
    return fetched ? far[vectors] : near[vectors][second];
}
