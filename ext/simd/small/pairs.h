/* A block's sums from products of 16-bit numbers, which every CPU has: weights of 8 bits are widened as they are read.
 * float only.
 *
 * x86: pmaddwd multiplies pairs of k that stand in a lane and adds the two, which are below 2^31 by far. Where VNNI does
 * that and the addition to the sum in one, who includes this has defined VL_ADD_PAIRS(sum, a, b) and VL_WORDS(name), a
 * name. Elsewhere lanes hold one k, which NEON multiplies and adds to 32 bits in one instruction (smlal).
 */
#if !VL_F64

#if defined(__x86_64__)
enum { VL_PAIR_TERMS = 2 };
#ifndef VL_ADD_PAIRS
#define VL_ADD_PAIRS(sum, a, b) ((sum) + VL_PAIRS(a, b))
#endif

VL_INLINE veci vl_pairs_of(const int wide, const char *w)
{
    if (wide)
        return *(const vl_lanes *)w;
#if VL_BYTES == 64
    return (veci)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
#elif VL_BYTES == 32
    return (veci)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
#else
    __m128i twice = _mm_loadl_epi64((const __m128i *)w);
    twice = _mm_unpacklo_epi8(twice, twice);
    return (veci)_mm_srai_epi16(twice, 8);
#endif
}

VL_INLINE veci vl_pair_of_x(const char *x)
{
    int32_t pair;
    __builtin_memcpy(&pair, x, 4);
    return (veci){0} + pair;
}

/* A pair of terms. More than two rows take two vectors of weights at a time, so that those and the sums fit in the
 * registers. */
VL_INLINE void vl_pair_add(const int wide, const int rows, const int vectors, veci (*sum)[VL_GROUP], const char **x,
                           const char *w, ptrdiff_t k)
{
    const int bytes = wide ? VL_BYTES : VL_BYTES / 2;
    if (rows <= 2) {
        veci xs[VL_SMALL_MOST_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            xs[r] = vl_pair_of_x(x[r] + 2 * k);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            veci own = vl_pairs_of(wide, w + v * bytes);
            if (rows > 1)
                VL_KEEP(own);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                sum[r][v] = VL_ADD_PAIRS(sum[r][v], own, xs[r]);
                if (rows == 1) /* here and now: put off, products would drive sums out of the registers */
                    VL_KEEP(sum[r][v]);
            }
        }
    } else
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v += 2) {
            veci own = vl_pairs_of(wide, w + v * bytes), next = own;
            VL_KEEP(own);
            if (v + 1 < vectors) {
                next = vl_pairs_of(wide, w + (v + 1) * bytes);
                VL_KEEP(next);
            }
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                /* read anew for every two vectors: kept for all, x would drive sums out of the registers */
                __asm__("" : "+r"(x[r]));
                veci xs = vl_pair_of_x(x[r] + 2 * k);
                sum[r][v] = VL_ADD_PAIRS(sum[r][v], own, xs);
                if (v + 1 < vectors)
                    sum[r][v + 1] = VL_ADD_PAIRS(sum[r][v + 1], next, xs);
            }
        }
}

VL_INLINE const char *vl_pairs_add(const int wide, const int whole, const int rows, const int vectors,
                                   veci (*sum)[VL_GROUP], const char *const *x, const char *w, ptrdiff_t k,
                                   ptrdiff_t terms, ptrdiff_t plane)
{
    const int bytes = vectors * (wide ? VL_BYTES : VL_BYTES / 2);
    const ptrdiff_t end = k + terms;
    const char *from[VL_SMALL_MOST_ROWS];
    (void)plane;
    for (int r = 0; r < rows; r++)
        from[r] = x[r];
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = (veci){0};
    if (whole && rows == 1)
#pragma GCC unroll 16
        for (; k < end; k += 2, w += bytes)
            vl_pair_add(wide, rows, vectors, sum, from, w, k);
    else
#pragma GCC unroll 2
        for (; k < end; k += 2, w += bytes)
            vl_pair_add(wide, rows, vectors, sum, from, w, k);
    return w;
}

#elif defined(VL_NEON)
enum { VL_PAIR_TERMS = 1 };

/* The weights of one k, L of each vector. */
VL_INLINE void vl_weights_of(const int wide, const int vectors, const char *w, int16x4_t *own)
{
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        if (wide)
            own[v] = vld1_s16((const int16_t *)w + v * L);
        else if (v % 2)
            continue;
        else if (v + 1 < vectors) {
            int16x8_t both = vmovl_s8(vld1_s8((const int8_t *)w + v * L));
            own[v] = vget_low_s16(both);
            own[v + 1] = vget_high_s16(both);
        } else {
            uint32_t bytes;
            __builtin_memcpy(&bytes, w + v * L, 4);
            own[v] = vget_low_s16(vmovl_s8(vcreate_s8(bytes)));
        }
    }
}

VL_INLINE const char *vl_pairs_add(const int wide, const int whole, const int rows, const int vectors,
                                   veci (*sum)[VL_GROUP], const char *const *x, const char *w, ptrdiff_t k,
                                   ptrdiff_t terms, ptrdiff_t plane)
{
    const int bytes = vectors * L * (wide ? 2 : 1);
    int32x4_t total[VL_SMALL_MOST_ROWS][VL_GROUP];
    (void)whole, (void)plane;
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        total[i / vectors][i % vectors] = vdupq_n_s32(0);
    for (ptrdiff_t end = k + terms; k < end; k += VL_SMALL_STEP, w += VL_SMALL_STEP * bytes) {
        int16x4_t xs[VL_SMALL_MOST_ROWS];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            xs[r] = vld1_s16((const int16_t *)x[r] + k);
#define VL_OF_LANE(i)                                                                                                  \
    {                                                                                                                  \
        int16x4_t own[VL_GROUP];                                                                                       \
        vl_weights_of(wide, vectors, w + (i) * bytes, own);                                                            \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)                                                      \
            _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) total[r][v] =                                       \
                vmlal_lane_s16(total[r][v], own[v], xs[r], i);                                                         \
    }
        VL_OF_LANE(0)
        VL_OF_LANE(1)
        VL_OF_LANE(2)
        VL_OF_LANE(3)
#undef VL_OF_LANE
    }
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = (veci)total[i / vectors][i % vectors];
    return w;
}

#else
enum { VL_PAIR_TERMS = 1 };
typedef int8_t vl_small_bytes __attribute__((vector_size(VL_BYTES / 4), aligned(1), may_alias));

VL_INLINE const char *vl_pairs_add(const int wide, const int whole, const int rows, const int vectors,
                                   veci (*sum)[VL_GROUP], const char *const *x, const char *w, ptrdiff_t k,
                                   ptrdiff_t terms, ptrdiff_t plane)
{
    const int bytes = L * (wide ? 2 : 1);
    (void)whole, (void)plane;
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = (veci){0};
    for (ptrdiff_t end = k + terms; k < end; k++, w += vectors * bytes)
        for (int v = 0; v < vectors; v++) {
            veci own = wide ? __builtin_convertvector(*(const vl_shorts *)(w + v * bytes), veci)
                            : __builtin_convertvector(*(const vl_small_bytes *)(w + v * bytes), veci);
            for (int r = 0; r < rows; r++)
                sum[r][v] += own * ((const int16_t *)x[r])[k];
        }
    return w;
}
#endif

#ifdef VL_WORDS
#define VL_SMALL(name) VL_WORDS(name)
#define VL_SMALL_LINKAGE
#else
#define VL_SMALL(name) vl_pairs_##name
#define VL_SMALL_LINKAGE static
#endif
#define VL_SMALL_ADD vl_pairs_add
#define VL_SMALL_WHOLE VL_INT8_BLOCK
#define VL_SMALL_OFFSETS 0
#define VL_SMALL_WIDE 1
#if VL_BYTES == 64 || defined(__aarch64__)
#define VL_SMALL_TALLEST 4
#elif VL_BYTES == 32
#define VL_SMALL_TALLEST 3
#else
#define VL_SMALL_TALLEST 2
#endif
#include "simd/small/tile.h"

#endif
