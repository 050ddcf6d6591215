/* Convolution of 3x3 windows that move by one, by Winograd's F(2x2, 3x3): Lavin and Gray, "Fast algorithms for
 * convolutional neural networks", 2016.
 *
 *     Y = A^T [(G g G^T) * (B^T d B)] A         d a tile of 4x4 inputs, g the kernel, Y 2x2 outputs
 *
 * The products in the middle, summed over the channels, are 16 products of matrices [tiles, C] [C, M]: 16
 * multiplications for four outputs instead of 36. U = G g G^T comes packed. B and A only add and subtract:
 *
 *     B^T d: d0 - d2, d1 + d2, d2 - d1, d1 - d3         A^T m: m0 + m1 + m2, m1 - m2 - m3
 *
 * Below, v is the transformed inputs B^T d B of all sixteen elements e and tiles t, u the kernel's U, m their products.
 *
 * The sums of the transforms cancel, so that errors of the products grow. Parts of VL_WINOGRAD_TERMS terms keep the
 * whole smaller than a direct convolution's in one chain (benchmarks/convolutions.py prints both).
 */
enum { VL_WINOGRAD_TERMS = 16 };

VL_INLINE void vl_winograd_inward(vec *d0, vec *d1, vec *d2, vec *d3)
{
    vec a = *d0 - *d2, b = *d1 + *d2, c = *d2 - *d1, d = *d1 - *d3;
    *d0 = a, *d1 = b, *d2 = c, *d3 = d;
}

/* v[e][t][channel] = (B^T d B)[e] */
static void vl_winograd_inputs(const vl_winograd *winograd, ptrdiff_t tile, ptrdiff_t tiles, real *v)
{
    const ptrdiff_t C = winograd->channels, step = VL_WINOGRAD_TILES * C;
    for (ptrdiff_t t = 0; t < tiles; t++) {
        const real *x = (const real *)winograd->x + winograd->x_tiles[tile + t];
        real *to = v + t * C;
        for (ptrdiff_t c = 0; c < C; c += L) {
            ptrdiff_t n = C - c < L ? C - c : L;
            vec d[4][4];
            if (n == L) {
#pragma GCC unroll 16
                for (int e = 0; e < 16; e++)
                    d[e / 4][e % 4] = vl_load(x + e / 4 * winograd->x_row + e % 4 * winograd->x_pixel + c);
            } else
#pragma GCC unroll 16
                for (int e = 0; e < 16; e++)
                    d[e / 4][e % 4] = vl_load_first(x + e / 4 * winograd->x_row + e % 4 * winograd->x_pixel + c, n);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                vl_winograd_inward(&d[0][j], &d[1][j], &d[2][j], &d[3][j]);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                vl_winograd_inward(&d[i][0], &d[i][1], &d[i][2], &d[i][3]);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++)
                    vl_store_first(to + (4 * i + j) * step + c, d[i][j], n);
            }
        }
    }
}

/* Parts end so often that a tile makes all of them, one after another. Where there are registers enough their totals
 * stay there and tiles are half as high; else they are in memory, and at the end of a part each is read and written. */
enum { VL_TOTALS_FIT = VL_TALLEST(4) > 3 };
#define VL_TALLEST_TOTALS(vectors) (VL_TALLEST_SLIDING(vectors) / (VL_TOTALS_FIT ? 2 : 1))

/* Terms of the part that begins at k: the last one takes what would be less than half a part. */
VL_INLINE ptrdiff_t vl_winograd_end(ptrdiff_t k, ptrdiff_t depth)
{
    return depth - k < VL_WINOGRAD_TERMS * 3 / 2 ? depth : k + VL_WINOGRAD_TERMS;
}

VL_INLINE void vl_winograd_tile(int rows, int vectors, real *out, ptrdiff_t ld_out, const real *const *x, const real *w,
                                ptrdiff_t depth)
{
    vec total[VL_SLIDING_ROWS][VL_MOST_VECTORS], sum[VL_SLIDING_ROWS][VL_MOST_VECTORS];
    if (VL_TOTALS_FIT)
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            total[i / vectors][i % vectors] = VL_SPLAT(0);
    for (ptrdiff_t k = 0, begin = 0, end; k < depth; begin = k = end) {
        end = vl_winograd_end(k, depth);
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            sum[i / vectors][i % vectors] = VL_SPLAT(0);
        w = vl_add_terms(rows, vectors, sum, x, w, k, end, 0);
        if (VL_TOTALS_FIT)
#pragma GCC unroll 32
            for (int i = 0; i < rows * vectors; i++)
                total[i / vectors][i % vectors] += sum[i / vectors][i % vectors];
        else if (begin == 0)
#pragma GCC unroll 32
            for (int i = 0; i < rows * vectors; i++)
                vl_store(out + i / vectors * ld_out + i % vectors * L, sum[i / vectors][i % vectors]);
        else
#pragma GCC unroll 32
            for (int i = 0; i < rows * vectors; i++) {
                real *o = out + i / vectors * ld_out + i % vectors * L;
                vl_store(o, vl_load(o) + sum[i / vectors][i % vectors]);
            }
    }
    if (VL_TOTALS_FIT)
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            vl_store(out + i / vectors * ld_out + i % vectors * L, total[i / vectors][i % vectors]);
}

typedef void vl_winograd_function(real *out, ptrdiff_t ld_out, const real *const *x, const real *w, ptrdiff_t depth);
#define VL_WINOGRAD(rows, vectors)                                                                                     \
    static __attribute__((noinline)) void vl_winograd_##rows##x##vectors(                                              \
        real *out, ptrdiff_t ld_out, const real *const *x, const real *w, ptrdiff_t depth)                             \
    {                                                                                                                  \
        if (rows <= VL_TALLEST_TOTALS(vectors))                                                                        \
            vl_winograd_tile(rows, vectors, out, ld_out, x, w, depth);                                                 \
    }
/* clang-format off */
VL_WINOGRAD(1, 1) VL_WINOGRAD(2, 1) VL_WINOGRAD(3, 1) VL_WINOGRAD(4, 1) VL_WINOGRAD(5, 1) VL_WINOGRAD(6, 1)
VL_WINOGRAD(7, 1) VL_WINOGRAD(8, 1) VL_WINOGRAD(9, 1)
VL_WINOGRAD(1, 2) VL_WINOGRAD(2, 2) VL_WINOGRAD(3, 2) VL_WINOGRAD(4, 2) VL_WINOGRAD(5, 2) VL_WINOGRAD(6, 2)
VL_WINOGRAD(1, 3) VL_WINOGRAD(2, 3) VL_WINOGRAD(3, 3) VL_WINOGRAD(4, 3)
VL_WINOGRAD(1, 4) VL_WINOGRAD(2, 4) VL_WINOGRAD(3, 4)
    /* clang-format on */
    static vl_winograd_function *const vl_winograd_of[VL_MOST_VECTORS][9] = {
        {vl_winograd_1x1, vl_winograd_2x1, vl_winograd_3x1, vl_winograd_4x1, vl_winograd_5x1, vl_winograd_6x1,
         vl_winograd_7x1, vl_winograd_8x1, vl_winograd_9x1},
        {vl_winograd_1x2, vl_winograd_2x2, vl_winograd_3x2, vl_winograd_4x2, vl_winograd_5x2, vl_winograd_6x2},
        {vl_winograd_1x3, vl_winograd_2x3, vl_winograd_3x3, vl_winograd_4x3},
        {vl_winograd_1x4, vl_winograd_2x4, vl_winograd_3x4}};

/* m[t][M] = v[t] . u, one of the sixteen products */
static void vl_winograd_product(const vl_winograd *winograd, ptrdiff_t tiles, const real *v, const real *u, real *m)
{
    const ptrdiff_t C = winograd->channels, M = winograd->vectors * L;
    const real *x[VL_WINOGRAD_TILES];
    for (ptrdiff_t t = 0; t < tiles; t++)
        x[t] = v + t * C;
    for (ptrdiff_t vector = 0; vector < winograd->vectors; vector += winograd->group) {
        int vectors =
            winograd->vectors - vector < winograd->group ? (int)(winograd->vectors - vector) : winograd->group;
        for (ptrdiff_t t = 0, height; t < tiles; t += height) {
            height = vl_next_height(tiles - t, VL_TALLEST_TOTALS(vectors));
            vl_winograd_of[vectors - 1][height - 1](m + t * M + vector * L, M, x + t, u + vector * C * L, C);
        }
    }
}

/* The two rows of outputs of neighbouring tiles, one after the other: each a run of pixels side by side. */
static void vl_winograd_outputs(const vl_winograd *winograd, ptrdiff_t tile, ptrdiff_t tiles, const real *m)
{
    const ptrdiff_t M = winograd->vectors * L, step = VL_WINOGRAD_TILES * M;
    const real *bias = winograd->bias;
    ptrdiff_t pixels[2][2 * VL_WINOGRAD_TILES], count[2] = {0, 0};
    for (ptrdiff_t t = 0; t < tiles; t++) {
        const int height = winograd->heights[tile + t], width = winograd->widths[tile + t];
        real *to[2][2];
        for (int i = 0; i < height; i++)
            for (int j = 0; j < width; j++) {
                ptrdiff_t n = count[i]++;
                pixels[i][n] = winograd->out_tiles[tile + t] + i * winograd->out_row + j * winograd->out_pixel;
                to[i][j] = (real *)winograd->out + pixels[i][n];
            }
        for (ptrdiff_t c = 0; c < winograd->columns; c += L) {
            ptrdiff_t n = winograd->columns - c < L ? winograd->columns - c : L;
            vec a[2][4], b = bias ? vl_load(bias + c) : VL_SPLAT(0);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const real *from = m + j * step + t * M + c;
                vec m0 = vl_load(from), m1 = vl_load(from + 4 * step), m2 = vl_load(from + 8 * step),
                    m3 = vl_load(from + 12 * step);
                a[0][j] = m0 + m1 + m2;
                a[1][j] = m1 - m2 - m3;
            }
            for (int i = 0; i < height; i++) {
                vl_store_first(to[i][0] + c, a[i][0] + a[i][1] + a[i][2] + b, n);
                if (width > 1)
                    vl_store_first(to[i][1] + c, a[i][1] - a[i][2] - a[i][3] + b, n);
            }
        }
    }
    for (int i = 0; i < 2; i++)
        vl_finish_rows(winograd->epilogue, count[i], winograd->columns, winograd->out, pixels[i]);
}

static void vl_kernel_winograd(const vl_winograd *winograd)
{
    real *v = winograd->scratch, *m = v + 16 * VL_WINOGRAD_TILES * winograd->channels;
    const ptrdiff_t matrix = winograd->channels * winograd->vectors * L;
    for (ptrdiff_t tile = 0; tile < winograd->tiles; tile += VL_WINOGRAD_TILES) {
        ptrdiff_t tiles = winograd->tiles - tile < VL_WINOGRAD_TILES ? winograd->tiles - tile : VL_WINOGRAD_TILES;
        vl_winograd_inputs(winograd, tile, tiles, v);
        for (int e = 0; e < 16; e++)
            vl_winograd_product(winograd, tiles, v + e * VL_WINOGRAD_TILES * winograd->channels,
                                (const real *)winograd->w + e * matrix,
                                m + e * VL_WINOGRAD_TILES * winograd->vectors * L);
        vl_winograd_outputs(winograd, tile, tiles, m);
    }
}
