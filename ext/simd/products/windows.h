/* Windows that slide over channels-last memory, times packed weights: convolution without a matrix of its windows.
 *
 * A window of a channels-last array is a few segments of memory (for each of its rows kernel width * channels
 * elements, where it is not dilated), at the same distances for every place of the window. So a pixel of the output
 * is a row of a tile, and the loop over k goes from segment to segment, with nothing copied. Bound by FMA as tile.h's.
 *
 * A tile of one vector is higher than a product's: its sums are all that hide the FMA's latency.
 *
 * x[rows] on are the pixels of the next tile. They come nearer meanwhile: so much of each, `ahead`, after as much of its
 * own has been multiplied. Where a part of the sums is one segment, as in a 1 x 1 convolution, that is a cache line:
 * a layer's input is often larger than the second level, and a tile's pixels are too many short streams for what the
 * CPU fetches by itself. Windows of many short segments share most of what they read with the next ones; of these only
 * the beginning of a segment is fetched. And of windows whose segments are single elements, a list of places, nothing is
 * (`ahead` is 0): what begins and ends a segment would cost as much as its products.
 */
enum { VL_SLIDING_ROWS = VL_MOST_ROWS * 3 / 2, VL_SLIDING_BLOCK = VL_BLOCK_TILES * VL_SLIDING_ROWS };
#define VL_TALLEST_SLIDING(vectors) ((vectors) == 1 ? VL_TALLEST(1) * 3 / 2 : VL_TALLEST(vectors))

VL_INLINE void vl_slide(int rows, int vectors, real *out, ptrdiff_t ld_out, vl_start start, const real *const *x,
                        const real *w, const vl_segment *segment, const vl_segment *end, ptrdiff_t ahead)
{
    vec sum[VL_SLIDING_ROWS][VL_MOST_VECTORS];
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++) {
        __builtin_prefetch(out + i / vectors * ld_out + i % vectors * L, 1);
        sum[i / vectors][i % vectors] = VL_SPLAT(0);
    }
    if (!ahead)
        for (; segment < end; segment++)
            w = vl_add_terms(rows, vectors, sum, x, w, segment->offset, segment->offset + 1, 0);
    for (; segment < end; segment++)
        for (ptrdiff_t k = segment->offset, last = k + segment->length, next; k < last; k = next) {
            next = last - k < ahead ? last : k + ahead;
#pragma GCC unroll 16
            for (int r = 0; r < rows; r++)
                __builtin_prefetch(x[rows + r] + k);
            w = vl_add_terms(rows, vectors, sum, x, w, k, next, 0);
        }
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++) {
        int r = i / vectors, v = i % vectors;
        vl_store(out + r * ld_out + v * L, vl_load(vl_from(&start, r, v, vectors)) + sum[r][v]);
    }
}

typedef void vl_slide_function(real *out, ptrdiff_t ld_out, const vl_start *start, const real *const *x, const real *w,
                               const vl_segment *segment, const vl_segment *end, ptrdiff_t ahead);
#define VL_SLIDE(rows, vectors)                                                                                        \
    static __attribute__((noinline)) void vl_slide_##rows##x##vectors(                                                 \
        real *out, ptrdiff_t ld_out, const vl_start *start, const real *const *x, const real *w,                       \
        const vl_segment *segment, const vl_segment *end, ptrdiff_t ahead)                                             \
    {                                                                                                                  \
        if (rows <= VL_TALLEST_SLIDING(vectors))                                                                       \
            vl_slide(rows, vectors, out, ld_out, *start, x, w, segment, end, ahead);                                   \
    }
/* clang-format off */
#define VL_SLIDES_OF(vectors)                                                                     \
    VL_SLIDE(1, vectors) VL_SLIDE(2, vectors) VL_SLIDE(3, vectors) VL_SLIDE(4, vectors)           \
    VL_SLIDE(5, vectors) VL_SLIDE(6, vectors) VL_SLIDE(7, vectors) VL_SLIDE(8, vectors)
VL_SLIDES_OF(1)
VL_SLIDE(9, 1) VL_SLIDE(10, 1) VL_SLIDE(11, 1) VL_SLIDE(12, 1)
VL_SLIDES_OF(2)
VL_SLIDES_OF(3)
VL_SLIDES_OF(4)
/* clang-format on */
#define VL_SLIDE_ROW(v)                                                                                                \
    vl_slide_1x##v, vl_slide_2x##v, vl_slide_3x##v, vl_slide_4x##v, vl_slide_5x##v, vl_slide_6x##v, vl_slide_7x##v,    \
        vl_slide_8x##v
    static vl_slide_function *const vl_slide_of[VL_MOST_VECTORS][VL_SLIDING_ROWS] = {
        {VL_SLIDE_ROW(1), vl_slide_9x1, vl_slide_10x1, vl_slide_11x1, vl_slide_12x1},
        {VL_SLIDE_ROW(2)},
        {VL_SLIDE_ROW(3)},
        {VL_SLIDE_ROW(4)}};

/* ---- the kernel ------------------------------------------------------------------------------------- */

VL_INLINE ptrdiff_t vl_sliding_rows(ptrdiff_t rows_left, int vectors)
{
    ptrdiff_t rows = 0;
    for (int tile = 0; tile < VL_BLOCK_TILES && rows < rows_left; tile++)
        rows += vl_next_height(rows_left - rows, VL_TALLEST_SLIDING(vectors));
    return rows;
}

/* A block of rows against one group of vectors: all tiles pass by a part of the weights before the next part. */
static void vl_slide_block(const vl_windows *windows, ptrdiff_t rows, int vectors, real *out, ptrdiff_t ld_out,
                           const real *const *x, const real *w, const real *bias)
{
    ptrdiff_t ahead = windows->segment_count == windows->part_count ? 64 / (ptrdiff_t)sizeof(real) : PTRDIFF_MAX;
    if (windows->segment_count == windows->depth)
        ahead = 0;
    vl_start start = {bias ? bias : vl_zeros, 0, NULL};
    if (windows->part_count == 0)
        for (ptrdiff_t r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++)
                vl_store(out + r * ld_out + v * L, vl_load(start.rows + v * L));
    for (ptrdiff_t part = 0; part < windows->part_count; part++) {
        const vl_segment *first = windows->segments + windows->parts[part],
                         *end = windows->segments + windows->parts[part + 1];
        for (ptrdiff_t row = 0, height; row < rows; row += height) {
            vl_start own = start;
            own.rows += row * start.ld;
            height = vl_next_height(rows - row, VL_TALLEST_SLIDING(vectors));
            vl_slide_of[vectors - 1][height - 1](out + row * ld_out, ld_out, &own, x + row, w, first, end, ahead);
        }
        for (const vl_segment *segment = first; segment < end; segment++)
            w += segment->length * vectors * L;
        start = (vl_start){out, ld_out, NULL};
    }
}

/* The first columns of rows of sums to their places. Some CPUs store a part of a vector an order of magnitude slower than
 * a whole one (AMD's by AVX2), so the last of several vectors begins where it is whole; and where rows are side by side,
 * what a short row writes behind itself is what the next rows are written over. */
static void vl_store_columns(real *out, const ptrdiff_t *out_rows, ptrdiff_t rows, ptrdiff_t columns, const real *sums,
                             ptrdiff_t ld, int side_by_side)
{
    for (ptrdiff_t r = 0; r < rows; r++, sums += ld) {
        real *to = out + out_rows[r];
        for (ptrdiff_t c = 0; c + L <= columns; c += L)
            vl_store(to + c, vl_load(sums + c));
        if (columns > L)
            vl_store(to + columns - L, vl_load(sums + columns - L));
        else if (columns < L && side_by_side && (rows - r) * columns >= L)
            vl_store(to, vl_load(sums));
        else if (columns < L)
            vl_store_first(to, vl_load(sums), columns);
    }
}

static void vl_kernel_windows(const vl_windows *windows)
{
    real sums[VL_SLIDING_BLOCK * VL_MOST_VECTORS * L] __attribute__((aligned(VL_BYTES)));
    const real *x[VL_SLIDING_BLOCK + VL_SLIDING_ROWS];
    const int widest = windows->vectors < windows->group ? (int)windows->vectors : windows->group;
    for (ptrdiff_t row = 0, rows, done = 0; row < windows->rows; row += rows) {
        rows = vl_sliding_rows(windows->rows - row, widest);
        const ptrdiff_t *out_rows = windows->out_rows + row, equal = vl_equal_rows(out_rows, rows);
        for (ptrdiff_t r = 0; r < rows + VL_SLIDING_ROWS; r++) /* the last ones are fetched, and may be any */
            x[r] = (const real *)windows->x + windows->x_rows[row + r < windows->rows ? row + r : row];
        for (ptrdiff_t vector = 0; vector < windows->vectors; vector += windows->group) {
            const int vectors =
                windows->vectors - vector < windows->group ? (int)(windows->vectors - vector) : windows->group;
            const ptrdiff_t column = vector * L, ld = vectors * L;
            const ptrdiff_t columns = windows->columns - column < ld ? windows->columns - column : ld;
            const real *w = (const real *)windows->w + column * windows->depth,
                       *bias = windows->bias ? (const real *)windows->bias + column : NULL;
            real *out = (real *)windows->out + column;
            if (equal == rows && columns == ld) {
                vl_slide_block(windows, rows, vectors, out + out_rows[0], vl_row_distance(out_rows, rows), x, w, bias);
                continue;
            }
            vl_slide_block(windows, rows, vectors, sums, ld, x, w, bias);
            const int side_by_side = equal == rows && columns == windows->columns;
            vl_store_columns(out, out_rows, rows, columns, sums, ld,
                             side_by_side && vl_row_distance(out_rows, rows) == columns);
        }
        done = vl_finish_if_enough(windows->epilogue, done, row + rows, row + rows == windows->rows, windows->columns,
                                   windows->out, windows->out_rows);
    }
}
