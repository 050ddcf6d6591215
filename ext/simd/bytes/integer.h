/* Products of bytes with packed weights, in int32: byte_kernels.h's vl_byte_product. float's table only.
 *
 * A tile is rows x a group of up to four vectors; its sums stay in registers for the whole depth. Integers have no
 * rounding, so their order is free, and a single row has several sums for each vector, as many as hide the latency.
 *
 * By pairs: a lane holds four bytes of a column, k to k + 3. As 16-bit numbers they are the even ones, and, shifted,
 * the odd ones; so are x's. Both are unsigned: a pair of products is below 2 * 255 * 255, and nothing saturates.
 * By dots: the instruction multiplies x's unsigned bytes by signed ones and adds all four to the lane. It does not
 * saturate either (the one that does is vpdpbusds). By bytes: the same from two instructions, where the weights are such
 * that the first of them does not saturate. Arm's instruction takes both unsigned, and x's four bytes from a lane of
 * sixteen, VL_DOT_LANE, so that four times four are loaded at once.
 */
#if !VL_F64

typedef int32_t vl_lanes __attribute__((vector_size(VL_BYTES), aligned(4), may_alias));

#ifdef VL_DOT
typedef veci vl_fours;
enum { VL_INTEGER_SETS = VL_DOT_SETS };
VL_INLINE vl_fours vl_fours_of(veci bytes) { return bytes; }
VL_INLINE veci vl_add_products(veci sum, vl_fours x, vl_fours w) { return VL_DOT(sum, x, w); }
#define VL_INTEGER_NAME VL_DOT_NAME
#else
typedef struct {
    veci even, odd;
} vl_fours;
enum { VL_INTEGER_SETS = 1 };
typedef uint16_t vl_halves __attribute__((vector_size(VL_BYTES), may_alias));

VL_INLINE vl_fours vl_fours_of(veci bytes) { return (vl_fours){bytes & 0x00ff00ff, (veci)((vl_halves)bytes >> 8)}; }

/* sum += the products of pairs of 16-bit numbers below 256 */
#if defined(__x86_64__)
#if VL_BYTES == 64
#define VL_PAIRS(a, b) ((veci)_mm512_madd_epi16((__m512i)(a), (__m512i)(b)))
#elif VL_BYTES == 32
#define VL_PAIRS(a, b) ((veci)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#else
#define VL_PAIRS(a, b) ((veci)_mm_madd_epi16((__m128i)(a), (__m128i)(b)))
#endif
VL_INLINE veci vl_add_pairs(veci sum, veci a, veci b) { return sum + VL_PAIRS(a, b); }
#elif defined(VL_NEON)
VL_INLINE veci vl_add_pairs(veci sum, veci a, veci b)
{
    return (veci)vpadalq_u16((uint32x4_t)sum, vmulq_u16((uint16x8_t)a, (uint16x8_t)b));
}
#else
VL_INLINE veci vl_add_pairs(veci sum, veci a, veci b)
{
    typedef uint32_t whole __attribute__((vector_size(VL_BYTES), may_alias));
    whole products = (whole)((vl_halves)a * (vl_halves)b);
    return sum + (veci)(products & 0xffff) + (veci)(products >> 16);
}
#endif
VL_INLINE veci vl_add_products(veci sum, vl_fours x, vl_fours w)
{
    return vl_add_pairs(vl_add_pairs(sum, x.even, w.even), x.odd, w.odd);
}
#define VL_INTEGER_NAME vl_kernel_integers
#endif

/* Rows of a tile: sums of four vectors, x's four bytes of each row, and the weights of one vector in registers. */
enum {
#if VL_BYTES == 64
    VL_INTEGER_ROWS = VL_INTEGER_SETS == 2 ? 6 : 4,
#elif defined(__aarch64__)
    VL_INTEGER_ROWS = 4,
#else
    VL_INTEGER_ROWS = VL_INTEGER_SETS == 2 ? 3 : 2,
#endif
    VL_INTEGER_MOST = 6
};

VL_INLINE veci vl_four_bytes(const uint8_t *x)
{
    int32_t bytes;
    __builtin_memcpy(&bytes, x, 4);
    return (veci){0} + bytes;
}

/* Not inlined: a loop whose count is not known here would keep the tile's own from being unrolled, and its sums from
 * registers. */
static __attribute__((noinline)) void vl_store_first_bytes(uint8_t *out, veci totals, ptrdiff_t count)
{
    uint8_t bytes[L];
    vl_store_lowest_bytes(bytes, totals);
    __builtin_memcpy(out, bytes, (size_t)count);
}

/* Numbers between whole ones [low, high], near to 0, as bytes: rounded, halves to even, and zero added. Of each lane
 * the lowest byte is the result. */
VL_INLINE veci vl_requantised(const vl_requantising *r, ptrdiff_t at, veci total)
{
    const vec rounder = VL_SPLAT(VL_ROUNDER);
    const vec low = VL_SPLAT(r->low - (float)r->zero), high = VL_SPLAT(r->high - (float)r->zero);
    vec steps = __builtin_convertvector(total + *(const vl_lanes *)(r->added + at), vec) * vl_load(r->steps + at);
    steps = VL_MAX(low, VL_MIN(high, steps)) + rounder;
    VL_KEEP(steps);
    return (veci)steps + (r->zero - ((veci)rounder)[0]);
}

/* Sums of some vectors side by side, of one row, to what is stored of them. */
VL_INLINE void vl_integer_results(const int vectors, const vl_byte_product *p, ptrdiff_t row, ptrdiff_t vector,
                                  veci *totals)
{
    const ptrdiff_t first = vector * L, left = p->columns - first;
    const vl_requantising *r = p->requantised;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const ptrdiff_t at = first + v * L;
        if (p->x_zeros)
            totals[v] -= p->x_zeros[row] * *(const vl_lanes *)(p->sums + at);
        if (p->zeros)
            totals[v] -= p->x_sums[row] * *(const vl_lanes *)(p->zeros + at);
    }
    if (r) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            totals[v] = vl_requantised(r, first + v * L, totals[v]);
        uint8_t *out = (uint8_t *)p->out + row * p->ld_out + first;
        if (vectors == 4 && left >= 4 * L) {
            vl_store_bytes(out, totals);
            return;
        }
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            if (left >= (v + 1) * L)
                vl_store_lowest_bytes(out + v * L, totals[v]);
            else if (left > v * L)
                vl_store_first_bytes(out + v * L, totals[v], left - v * L);
        return;
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        const ptrdiff_t at = first + v * L, own = left - v * L < L ? left - v * L : L;
        vec result = (vec)totals[v];
        if (p->scales) {
            result = __builtin_convertvector(totals[v], vec) * (p->x_scale * vl_load(p->scales + at));
            if (p->bias)
                result += vl_load(p->bias + at);
            if (p->add)
                result += vl_load_first(p->add + row * p->ld_add + at, own);
        }
        vl_store_first((float *)p->out + row * p->ld_out + at, result, own);
    }
}

/* The products of four bytes of each row, at x[row] + at, with four weights of each column */
VL_INLINE void vl_integer_four(const int rows, const int vectors, const uint8_t *const *x, ptrdiff_t at,
                               const uint8_t *w, veci (*sums)[4])
{
    vl_fours fours[VL_INTEGER_MOST];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        fours[r] = vl_fours_of(vl_four_bytes(x[r] + at));
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        vl_fours own = vl_fours_of(*(const vl_lanes *)(w + v * VL_BYTES));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            sums[r][v] = vl_add_products(sums[r][v], fours[r], own);
    }
}

#ifdef VL_DOT_LANE
/* The same for sixteen bytes of each row */
VL_INLINE void vl_integer_sixteen(const int rows, const int vectors, const uint8_t *const *x, ptrdiff_t at,
                                  const uint8_t *w, veci (*sums)[4])
{
    veci xs[VL_INTEGER_MOST];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        xs[r] = *(const vl_lanes *)(x[r] + at);
#define VL_OF_LANE(lane)                                                                                               \
    _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)                                                          \
    {                                                                                                                  \
        const veci own = *(const vl_lanes *)(w + ((lane) * vectors + v) * VL_BYTES);                                   \
        _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++) sums[r][v] = VL_DOT_LANE(sums[r][v], xs[r], lane, own); \
    }
    VL_OF_LANE(0)
    VL_OF_LANE(1)
    VL_OF_LANE(2)
    VL_OF_LANE(3)
#undef VL_OF_LANE
}
#endif

VL_INLINE void vl_integer_tile(const int sets, const int rows, const int vectors, const vl_byte_product *p,
                               ptrdiff_t row, ptrdiff_t vector)
{
    veci sums[VL_INTEGER_MOST][4];
    const uint8_t *x[VL_INTEGER_MOST], *w = p->w;
    w += p->starts ? p->starts[vector / 4] : vector * L * 4 * p->runs * p->run_quads;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        x[r] = p->x + p->x_rows[row + r];
#pragma GCC unroll 16
    for (int r = 0; r < sets * rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sums[r][v] = (veci){0};
    for (ptrdiff_t run = 0; run < p->runs; run++) {
        ptrdiff_t at = p->run_starts[run];
        const ptrdiff_t end = at + 4 * p->run_quads;
#ifdef VL_DOT_LANE
        for (; at + 16 <= end; at += 16, w += 4 * vectors * VL_BYTES)
            vl_integer_sixteen(rows, vectors, x, at, w, sums);
#endif
        for (; at + 4 * sets <= end; at += 4 * sets)
#pragma GCC unroll 4
            for (int set = 0; set < sets; set++, w += vectors * VL_BYTES)
                vl_integer_four(rows, vectors, x, at + 4 * set, w, sums + set * rows);
        if (sets > 1 && at < end) {
            vl_integer_four(rows, vectors, x, at, w, sums);
            w += vectors * VL_BYTES;
        }
    }
    if (p->starts)
        for (int32_t k = p->extra_starts[vector / 4]; k < p->extra_starts[vector / 4 + 1];
             k++, w += vectors * VL_BYTES) {
            const ptrdiff_t four = p->extras[k], run = p->runs == 1 ? 0 : four / p->run_quads;
            vl_integer_four(rows, vectors, x, p->run_starts[run] + 4 * (four - run * p->run_quads), w, sums);
        }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        veci totals[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            totals[v] = sums[r][v];
#pragma GCC unroll 4
            for (int set = 1; set < sets; set++)
                totals[v] += sums[set * rows + r][v];
        }
        vl_integer_results(vectors, p, row + r, vector, totals);
    }
}

VL_INLINE void vl_integer_group(const int vectors, const vl_byte_product *p, ptrdiff_t vector)
{
    ptrdiff_t row = 0;
    for (; row + VL_INTEGER_ROWS <= p->rows; row += VL_INTEGER_ROWS)
        vl_integer_tile(1, VL_INTEGER_ROWS, vectors, p, row, vector);
    if (VL_INTEGER_ROWS > 3 && row + 3 <= p->rows) {
        vl_integer_tile(1, 3, vectors, p, row, vector);
        row += 3;
    }
    if (VL_INTEGER_ROWS > 2 && row + 2 <= p->rows) {
        vl_integer_tile(1, 2, vectors, p, row, vector);
        row += 2;
    }
    for (; row < p->rows; row++)
        vl_integer_tile(VL_INTEGER_SETS, 1, vectors, p, row, vector);
}

#ifndef VL_DOT
static
#endif
    void VL_INTEGER_NAME(const vl_byte_product *p)
{
    const ptrdiff_t groups = (p->last - p->first + 3) / 4;
    for (ptrdiff_t i = 0; i < groups; i++) {
        ptrdiff_t vector = p->first + 4 * (p->turned ? groups - 1 - i : i);
        ptrdiff_t width = p->vectors - vector;
        switch (width < 4 ? width : 4) {
        case 1: vl_integer_group(1, p, vector); break;
        case 2: vl_integer_group(2, p, vector); break;
        case 3: vl_integer_group(3, p, vector); break;
        default: vl_integer_group(4, p, vector); break;
        }
    }
}

#endif
