/* Convolutions of bytes with a channel each: byte_kernels.h's vl_byte_taps. float's table only.
 *
 * Four rows by one vector of channels at a time: their sums and the weights of a tap stay in registers, and a weight is
 * loaded once for four products. A lane holds one product, so that a tap costs a load that widens, a product and a sum.
 */
#if !VL_F64

enum { VL_BYTE_TAPS_ROWS = 4 };

/* sum + x w of a byte and a number below 2^15 */
#ifdef VL_PAIRS
VL_INLINE veci vl_add_product(veci sum, veci x, veci w) { return sum + VL_PAIRS(x, w); }
#else
VL_INLINE veci vl_add_product(veci sum, veci x, veci w) { return sum + x * w; }
#endif

VL_INLINE void vl_byte_taps_tile(const int rows, const vl_byte_taps *t, ptrdiff_t row, ptrdiff_t vector)
{
    const uint8_t *x[VL_BYTE_TAPS_ROWS];
    veci sums[VL_BYTE_TAPS_ROWS];
    const ptrdiff_t step = t->finish.vectors * L;
    const int32_t *w = t->w + vector * L;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        x[r] = t->x + t->x_rows[row + r] + vector * L;
        sums[r] = (veci){0};
    }
    for (ptrdiff_t tap = 0; tap < t->tap_count; tap++, w += step) {
        const ptrdiff_t at = t->taps[tap];
        const veci own = *(const vl_lanes *)w;
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            sums[r] = vl_add_product(sums[r], vl_load_bytes(x[r] + at, 0), own);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        vl_integer_results(1, &t->finish, row + r, vector, &sums[r]);
}

static void vl_kernel_byte_taps(const vl_byte_taps *t)
{
    ptrdiff_t row = 0;
    for (; row + VL_BYTE_TAPS_ROWS <= t->finish.rows; row += VL_BYTE_TAPS_ROWS)
        for (ptrdiff_t vector = 0; vector < t->finish.vectors; vector++)
            vl_byte_taps_tile(VL_BYTE_TAPS_ROWS, t, row, vector);
    for (; row < t->finish.rows; row++)
        for (ptrdiff_t vector = 0; vector < t->finish.vectors; vector++)
            vl_byte_taps_tile(1, t, row, vector);
}

#endif
