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

/* Lists of places in two vectors, for lane n and those after it. */
#define VL_EACH_2(place, n) place(n), place((n) + 1)
#define VL_EACH_4(place, n) VL_EACH_2(place, n), VL_EACH_2(place, (n) + 2)
#define VL_EACH_8(place, n) VL_EACH_4(place, n), VL_EACH_4(place, (n) + 4)
#define VL_EACH_16(place, n) VL_EACH_8(place, n), VL_EACH_8(place, (n) + 8)
#if VL_BYTES / (VL_F64 ? 8 : 4) == 2
#define VL_EACH VL_EACH_2
#elif VL_BYTES / (VL_F64 ? 8 : 4) == 4
#define VL_EACH VL_EACH_4
#elif VL_BYTES / (VL_F64 ? 8 : 4) == 8
#define VL_EACH VL_EACH_8
#else
#define VL_EACH VL_EACH_16
#endif
/* Element n of three rows in turns is row n % 3's number n / 3: first of rows 0 and 1, then of these and row 2. */
#define VL_OF_TWO(n) ((n) % 3 == 0 ? (n) / 3 : (n) % 3 == 1 ? L + (n) / 3 : 0)
#define VL_OF_THIRD(n) ((n) % 3 == 2 ? L + (n) / 3 : (n) % L)
#define VL_IN_TURNS(a, b, c, n) VL_ZIP(VL_ZIP(a, b, VL_EACH(VL_OF_TWO, n)), c, VL_EACH(VL_OF_THIRD, n))

/* Two to four rows in turns, without gaps: pictures with channels first. */
VL_INLINE void vl_take_turns(int rows, ptrdiff_t columns, const real *from, ptrdiff_t ld_from, real *to)
{
    ptrdiff_t c = 0;
    for (; c + L <= columns; c += L, to += rows * L) {
        vec a = vl_load(from + c), b = vl_load(from + ld_from + c);
        if (rows == 2) {
            vl_store(to, VL_ZIP(a, b, VL_ZIP_LOW));
            vl_store(to + L, VL_ZIP(a, b, VL_ZIP_HIGH));
            continue;
        }
        vec third = vl_load(from + 2 * ld_from + c);
        if (rows == 3) {
            vl_store(to, VL_IN_TURNS(a, b, third, 0));
            vl_store(to + L, VL_IN_TURNS(a, b, third, L));
            vl_store(to + 2 * L, VL_IN_TURNS(a, b, third, 2 * L));
            continue;
        }
        vec fourth = vl_load(from + 3 * ld_from + c);
        vec low = VL_ZIP(a, third, VL_ZIP_LOW), high = VL_ZIP(a, third, VL_ZIP_HIGH);
        vec other_low = VL_ZIP(b, fourth, VL_ZIP_LOW), other_high = VL_ZIP(b, fourth, VL_ZIP_HIGH);
        vl_store(to, VL_ZIP(low, other_low, VL_ZIP_LOW));
        vl_store(to + L, VL_ZIP(low, other_low, VL_ZIP_HIGH));
        vl_store(to + 2 * L, VL_ZIP(high, other_high, VL_ZIP_LOW));
        vl_store(to + 3 * L, VL_ZIP(high, other_high, VL_ZIP_HIGH));
    }
    for (; c < columns; c++)
        for (int r = 0; r < rows; r++)
            *to++ = from[r * ld_from + c];
}

static void vl_kernel_transpose(ptrdiff_t rows, ptrdiff_t columns, const void *from_, ptrdiff_t ld_from, void *to_,
                                ptrdiff_t ld_to)
{
    const real *from = from_;
    real *to = to_;
    if (ld_to == rows && rows >= 2 && rows <= 4) {
        switch (rows) {
        case 2: vl_take_turns(2, columns, from, ld_from, to); break;
        case 3: vl_take_turns(3, columns, from, ld_from, to); break;
        case 4: vl_take_turns(4, columns, from, ld_from, to); break;
        }
        return;
    }
    enum { LINE = 64 / sizeof(real), AHEAD = 2 * LINE }; /* more rows than the CPU fetches ahead by itself */
    for (ptrdiff_t c = 0; c < columns; c += L)
        for (ptrdiff_t r = 0; r < rows; r += L) {
            if (rows - r < L || columns - c < L) {
                vl_transpose_edge(rows - r < L ? rows - r : L, columns - c < L ? columns - c : L,
                                  from + r * ld_from + c, ld_from, to + c * ld_to + r, ld_to);
                continue;
            }
            vec block[L];
            if (c % LINE == 0)
#pragma GCC unroll 16
                for (int i = 0; i < L; i++)
                    __builtin_prefetch(from + (r + i) * ld_from + c + AHEAD);
#pragma GCC unroll 16
            for (int i = 0; i < L; i++)
                block[i] = vl_load(from + (r + i) * ld_from + c);
            vl_transpose_block(block);
#pragma GCC unroll 16
            for (int i = 0; i < L; i++)
                vl_store(to + (c + i) * ld_to + r, block[i]);
        }
}
