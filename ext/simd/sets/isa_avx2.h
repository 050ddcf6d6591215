/* AVX2 and FMA: 16 registers of 32 bytes. */
#pragma GCC target("avx2,fma")
#ifdef __clang__
#define VL_CLANG_TARGET
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif
#include <immintrin.h>

#define VL_ISA "avx2"
#define VL_BYTES 32
#define VL_TALLEST(vectors) ((vectors) == 4 ? 3 : (vectors) == 3 ? 4 : 6)

/* The first n lanes, fewer than all, by whole stores that may overlap: AMD's CPUs take some 20 cycles for a masked one. */
#if VL_F64
static inline __attribute__((always_inline)) void vl_store_lanes(double *p, __m256d v, ptrdiff_t n)
{
    const __m128d low = _mm256_castpd256_pd128(v);
    if (n >= 2)
        _mm_storeu_pd(p, low);
    if (n & 1)
        _mm_store_sd(p + n - 1, n == 1 ? low : _mm256_extractf128_pd(v, 1));
}
#else
static inline __attribute__((always_inline)) void vl_store_lanes(float *p, __m256 v, ptrdiff_t n)
{
    const __m128 low = _mm256_castps256_ps128(v);
    if (n >= 4) {
        const __m256i last = _mm256_add_epi32(_mm256_set1_epi32((int)n - 4), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        _mm_storeu_ps(p, low);
        _mm_storeu_ps(p + n - 4, _mm256_castps256_ps128(_mm256_permutevar8x32_ps(v, last)));
        return;
    }
    if (n >= 2)
        _mm_storel_pi((__m64 *)p, low);
    if (n & 1)
        _mm_store_ss(p + n - 1, n == 1 ? low : _mm_movehl_ps(low, low));
}
#endif

/* min and max give their second operand when one is NaN */
#if VL_F64
#define VL_SPLAT(s) ((vec)_mm256_set1_pd(s))
#define VL_FMA(a, b, c) ((vec)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define VL_MIN(bound, x) ((vec)_mm256_min_pd((__m256d)(bound), (__m256d)(x)))
#define VL_MAX(bound, x) ((vec)_mm256_max_pd((__m256d)(bound), (__m256d)(x)))
#define VL_STORE_FIRST(p, v, n) vl_store_lanes(p, (__m256d)(v), n)
#define VL_LOAD_FIRST(p, n)                                                                                            \
    ((vec)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))))
#else
#define VL_SPLAT(s) ((vec)_mm256_set1_ps(s))
#define VL_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define VL_MIN(bound, x) ((vec)_mm256_min_ps((__m256)(bound), (__m256)(x)))
#define VL_MAX(bound, x) ((vec)_mm256_max_ps((__m256)(bound), (__m256)(x)))
#define VL_STORE_FIRST(p, v, n) vl_store_lanes(p, (__m256)(v), n)
#define VL_LOAD_FIRST(p, n)                                                                                            \
    ((vec)_mm256_maskload_ps(                                                                                          \
        p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))))
#endif
