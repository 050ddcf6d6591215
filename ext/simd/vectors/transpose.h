/* Transposition by blocks of L x L through registers: channels first to channels last, and back.
 *
 * Zipping row i with row i + L/2, log2(L) times, transposes the block: each round moves the highest bit of a
 * row's number to the lowest of an element's.
 */
#if VL_BYTES / (VL_F64 ? 8 : 4) == 2
#define VL_ZIP_LOW 0, 2
#define VL_ZIP_HIGH 1, 3
#elif VL_BYTES / (VL_F64 ? 8 : 4) == 4
#define VL_ZIP_LOW 0, 4, 1, 5
#define VL_ZIP_HIGH 2, 6, 3, 7
#elif VL_BYTES / (VL_F64 ? 8 : 4) == 8
#define VL_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define VL_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define VL_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define VL_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
#ifdef __clang__
#define VL_ZIP(a, b, places) __builtin_shufflevector(a, b, places)
#else
#define VL_ZIP(a, b, places) __builtin_shuffle(a, b, (veci){places})
#endif

VL_INLINE void vl_transpose_block(vec *rows)
{
#pragma GCC unroll 4
    for (int round = 1; round < L; round *= 2) {
        vec next[L];
#pragma GCC unroll 8
        for (int i = 0; i < L / 2; i++) {
            next[2 * i] = VL_ZIP(rows[i], rows[i + L / 2], VL_ZIP_LOW);
            next[2 * i + 1] = VL_ZIP(rows[i], rows[i + L / 2], VL_ZIP_HIGH);
        }
#pragma GCC unroll 16
        for (int i = 0; i < L; i++)
            rows[i] = next[i];
    }
}

/* r x c elements, at most L x L: what is beyond them is neither read nor written. */
static __attribute__((noinline)) void vl_transpose_edge(ptrdiff_t r, ptrdiff_t c, const real *from, ptrdiff_t ld_from,
                                                        real *to, ptrdiff_t ld_to)
{
    vec rows[L];
    for (int i = 0; i < L; i++)
        rows[i] = i < r ? vl_load_first(from + i * ld_from, c) : VL_SPLAT(0);
    vl_transpose_block(rows);
    for (int i = 0; i < c; i++)
        vl_store_first(to + i * ld_to, rows[i], r);
}

static void vl_kernel_transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from_, ptrdiff_t ld_from, void *to_,
                                ptrdiff_t ld_to)
{
    const real *from = from_;
    real *to = to_;
    for (ptrdiff_t c = 0; c < columns; c += L)
        for (ptrdiff_t r = 0; r < rows; r += L) {
            if (rows - r < L || columns - c < L) {
                vl_transpose_edge(rows - r < L ? rows - r : L, columns - c < L ? columns - c : L,
                                  from + r * ld_from + c, ld_from, to + c * ld_to + r, ld_to);
                continue;
            }
            vec block[L];
#pragma GCC unroll 16
            for (int i = 0; i < L; i++)
                block[i] = vl_load(from + (r + i) * ld_from + c);
            vl_transpose_block(block);
#pragma GCC unroll 16
            for (int i = 0; i < L; i++)
                vl_store(to + (c + i) * ld_to + r, block[i]);
        }
}
